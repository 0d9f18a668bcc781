"""``OnnxSource``: a written ONNX model. It is to ONNX what ``dlbridge.source.program.Source`` is to Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import Model as IrModel

from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.onnx import serialize
from dlbridge.frameworks.onnx.port_names import with_names
from dlbridge.model import Model
from dlbridge.ops import traits


@dataclass
class OnnxSource:
    """A model in standard ops at one opset.

    Attributes:
        model: The model that was written.
        ir: The graph in standard ops, with the inputs and outputs of ``model``. Its weights are those of ``model``,
            read when they are needed.
        opset: The opset of the default domain.
        framework: ``"onnx"``.
        loss: What was lost by less precision (``dlbridge.verification.loss.Loss``), where that was asked for and
            measured.
    """

    model: Model
    ir: ir.Model
    opset: int
    framework: str = "onnx"
    loss: Any = None

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def file_ir(self) -> IrModel:
        """The graph as the file has it: inputs and outputs are called as in the ONNX file that the model comes from."""
        return with_names(self.ir, traits.port_names(self.model.graph))

    @property
    def text(self) -> str:
        """The graph in ONNX' textual form, without the numbers of its weights."""
        return onnx.printer.to_text(serialize.without_weights(self.file_ir))

    @property
    def inputs(self) -> list[str]:
        return [v.name for v in self.ir.graph.inputs if not v.is_initializer()]  # type: ignore[misc]

    @property
    def outputs(self) -> list[str]:
        return [v.name for v in self.ir.graph.outputs]  # type: ignore[misc]

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, array) of every initializer, one at a time."""
        for value in serialize.initializers(self.ir):
            yield value.name, value.const_value.numpy()  # type: ignore[misc, union-attr]

    def check(self) -> None:
        """Run onnx' checker with full type and shape inference. The weights are not read.

        Raises:
            UnsupportedOpError: When the graph is not valid ONNX.
        """
        proto = serialize.without_weights(self.file_ir)
        # the checker wants a shape for every output; where inference knows none, there is none to check
        shaped = [o for o in proto.graph.output if o.type.tensor_type.HasField("shape")]
        del proto.graph.output[:]
        proto.graph.output.extend(shaped)
        try:
            onnx.checker.check_model(proto, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise UnsupportedOpError(
                f"the graph is not valid ONNX at opset {self.opset}: {error}", where=self.name
            ) from error

    def save(
        self, path: str | os.PathLike[str], *, force: bool = False, largest_file: int = serialize.LARGEST_FILE
    ) -> Path:
        """Write the ``.onnx`` file; when it would be larger than 2 GiB, its weights to ``<file>.data`` beside it.

        Args:
            path: The file.
            force: Replace files that are there.
            largest_file: From which size, in bytes, the weights go to a file of their own.

        Raises:
            FileError: When a file exists and ``force`` is not set.
        """
        serialize.save(self.file_ir, Path(path), force=force, largest_file=largest_file)
        return Path(path)
