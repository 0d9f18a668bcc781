"""``Model``: a graph in the neutral form, its signature, its weights and its training specification."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeError, WeightsError, suggest
from dlbridge.garbage import fewer_searches
from dlbridge.ops import extension, stand_ins, traits

if TYPE_CHECKING:
    from dlbridge.source.program import Source

__all__ = ["Model"]


class Model:
    """A model in the neutral form: an ``onnx_ir`` graph at ``IR_OPSET``, plus what training needs to know.

    Readers keep these conventions, and writers rely on them:

    * A node's name is its dotted path (``layer1.0.conv1``), unique in the graph; the part before the last dot is the
      block that contains it. Class names of blocks are in ``traits.blocks(graph)``.
    * A weight is an initializer named by its state-dict key (``layer1.0.conv1.weight``), with ``traits.kind``.
    * Every value has a dtype and, as far as inference can tell, a shape; unknown sizes are named (``batch``).
    * Weights are lazy: reading the model does not read them; ``value.const_value.numpy()`` does, memory-mapped.

    Args:
        ir_model: The graph. The model keeps it, without a copy.
        training: The training specification (``dlbridge.training.TrainingSpec``), if the model has one.

    Attributes:
        processing: What is done with data before the model gets it and with its outputs
            (``dlbridge.processing.Processing``), where it was trained so. An exported ONNX file has it in its graph.
        original: Runs what the model was read from, in its own framework: arrays by input name -> arrays by output
            name. Verification compares with it, in float64 if it has a method ``exact()``, which returns a
            ``frameworks.Exact``. None if there is nothing to run, and for copies, because they may be changed.
    """

    def __init__(self, ir_model: ir.Model, *, training: Any = None) -> None:
        self.ir = ir_model
        self.training = training
        self.processing: Any = None
        self.original: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]] | None = None
        self.graph.opset_imports[""] = traits.IR_OPSET
        if any(node.domain == stand_ins.DOMAIN for node in self.graph.all_nodes()):
            self.graph.opset_imports[stand_ins.DOMAIN] = 1
        extension.attach_functions(ir_model)

    @classmethod
    def build(
        cls,
        name: str,
        inputs: Iterable[ir.Value],
        outputs: Iterable[ir.Value],
        nodes: Iterable[ir.Node],
        initializers: Iterable[ir.Value] = (),
        *,
        blocks: dict[str, str] | None = None,
        training: Any = None,
    ) -> Model:
        """Make a model from the parts of a graph. The nodes are sorted."""
        graph = ir.Graph(
            list(inputs),
            list(outputs),
            nodes=list(nodes),
            initializers=list(initializers),
            name=name,
            opset_imports={"": traits.IR_OPSET},
        )
        graph.sort()
        traits.set_blocks(graph, blocks or {})
        return cls(ir.Model(graph, ir_version=traits.IR_VERSION, producer_name="dlbridge"), training=training)

    # --- its parts --------------------------------------------------------------------------------------------------

    @property
    def graph(self) -> ir.Graph:
        return self.ir.graph

    @property
    def name(self) -> str:
        return self.graph.name or "model"

    @property
    def inputs(self) -> list[ir.Value]:
        """The inputs that a caller passes, as values with a name, dtype and shape."""
        return [v for v in self.graph.inputs if not v.is_initializer()]

    @property
    def outputs(self) -> list[ir.Value]:
        return list(self.graph.outputs)

    def in_order(self, made: Any) -> list[Any]:
        """What a call of a live form of the model returns, as a list in the order of the outputs."""
        if isinstance(made, Mapping):
            return [made[key] for key in traits.output_keys(self.graph) or made]
        return list(made) if isinstance(made, (list, tuple)) else [made]

    @property
    def parameters(self) -> list[ir.Value]:
        """The trained weights (``traits.kind`` 'parameter')."""
        return [v for v in self.graph.initializers.values() if traits.kind(v) == "parameter"]

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """Initializer name -> array. An array is read when it is looked up, memory-mapped if the source allows it."""
        return _Weights(self.graph)

    def set_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace the values of initializers.

        Args:
            arrays: Initializer name -> array of the same shape and dtype.

        Raises:
            WeightsError: When there is no such initializer, or a shape or dtype differs; none is replaced then.
        """
        made = {name: self._tensor(name, np.asarray(array, order="C")) for name, array in arrays.items()}
        for name, tensor in made.items():
            self.graph.initializers[name].const_value = tensor
        self.original = None

    def _tensor(self, name: str, array: np.ndarray) -> ir.TensorProtocol:
        """An array in the place of the numbers of an initializer."""
        value = self.graph.initializers.get(name)
        if value is None or value.const_value is None:
            hint = suggest(name, self.graph.initializers)
            raise WeightsError("no weight of that name in the model", where=name, hint=hint)
        old = value.const_value
        if tuple(array.shape) != tuple(old.shape.numpy()):
            raise WeightsError(f"shape {tuple(array.shape)} given, {tuple(old.shape.numpy())} expected", where=name)
        if array.dtype != old.dtype.numpy():
            raise WeightsError(f"dtype {array.dtype} given, {old.dtype.numpy()} expected", where=name)
        return ir.Tensor(array, dtype=old.dtype, name=name)

    def clone(self) -> Model:
        """A copy whose graph can be changed freely. The weights' memory is shared until they are replaced."""
        functions = [f.clone() if hasattr(f, "clone") else f for f in self.ir.functions.values()]
        copy = ir.Model(
            self.graph.clone(),
            ir_version=self.ir.ir_version,
            producer_name=self.ir.producer_name,
            functions=functions,
            metadata_props=dict(self.ir.metadata_props),
        )
        made = Model(copy, training=self.training)
        made.processing = self.processing
        return made

    def __repr__(self) -> str:
        def signature(values: list[ir.Value]) -> str:
            return ", ".join(f"{v.name}: {v.dtype}{v.shape}" for v in values)

        return f"<Model {self.name} ({signature(self.inputs)}) -> ({signature(self.outputs)}), {len(self.graph)} nodes>"

    def _repr_html_(self) -> str:
        """The layers as a table, for notebooks."""
        from dlbridge.summary import summarize, table

        return table(summarize(self))

    # --- other forms of it ------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Save as a folder: ``model.yaml`` (the canonical description) and ``weights.safetensors``.

        Raises:
            FileError: When the folder exists and ``force`` is not set.
        """
        from dlbridge.description import save

        return save(self, folder, force=force)

    @fewer_searches()
    def write(self, framework: str, **options: Any) -> Source:
        """The model as source code of a framework, with its weights.

        Args:
            framework: One of ``dlbridge.frameworks.names()``.
            options: The framework's ``WriteOptions``.

        Raises:
            UnsupportedOpError: When an op has no rule there; all such ops are named.
            DlbridgeError: When there is no such framework, or it takes no such option.
        """
        from dlbridge import frameworks

        return frameworks.get(framework).write(self, **options)

    @fewer_searches()
    def to(self, framework: str, **options: Any) -> Any:
        """The model as a live object of a framework: the written source, executed, with the weights loaded.

        ``to_pytorch`` and ``to_keras`` are short for it.

        Args:
            framework: One of ``dlbridge.frameworks.names()``.
            options: The framework's ``WriteOptions``.
        """
        from dlbridge import frameworks

        return frameworks.get(framework).load(self.write(framework, **options))

    def to_pytorch(self, **options: Any) -> Any:
        """The model as a ``torch.nn.Module`` in eval mode."""
        return self.to("pytorch", **options)

    def to_keras(self, **options: Any) -> Any:
        """The model as a ``keras.Model``."""
        return self.to("keras", **options)

    def to_onnx(
        self, path: str | os.PathLike[str] | None = None, *, opset: int | None = None, force: bool = False
    ) -> Any:
        """The model as an ``onnx_ir.Model`` in standard ops alone, and as a file if ``path`` is given.

        Args:
            path: The ``.onnx`` file to write. Weights beyond 2 GB are written to a file next to it.
            opset: The opset; when None, the newest up to ``EXPORT_OPSET`` at which onnxruntime runs the model.
            force: Replace an existing file.
        """
        source: Any = self.write("onnx", opset=opset)
        if path is not None:
            source.save(path, force=force)
        return source.file_ir


class _Weights(Mapping[str, np.ndarray]):
    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph

    def __getitem__(self, name: str) -> np.ndarray:
        tensor = self._graph.initializers[name].const_value
        if tensor is None:
            raise DlbridgeError("this weight has no numbers", where=name)
        return tensor.numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self._graph.initializers)

    def __len__(self) -> int:
        return len(self._graph.initializers)
