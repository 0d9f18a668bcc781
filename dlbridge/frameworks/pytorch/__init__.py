"""PyTorch: read through ``torch.export``, written as ``nn.Module`` source, trained by a plain loop."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlbridge.decoding import Task
from dlbridge.frameworks import ModularFramework, Trains, option
from dlbridge.frameworks.options import EXAMPLE, CommonReadOptions, CommonWriteOptions, inputs_option
from dlbridge.frameworks.pytorch.files.folders import is_pretrained


@dataclass(frozen=True)
class ReadOptions(CommonReadOptions):
    """How a module or an exported program is read."""

    #: For a module: a tensor, a tuple of them, or a dict by parameter name, nested ones too. Instead of a tensor,
    #: "float32[batch,3,224,224]"; named sizes become dynamic, within bounds that are stated ("float32[2<=n<=16,3]").
    inputs: Any = inputs_option(
        "An input of a module, e.g. 'x:float32[batch,3,224,224]'; named sizes are dynamic, '2<=n<=16' within bounds; "
        "without a dtype it is float32, or that of an example."
    )
    example: Any = option(None, EXAMPLE, python_only=True)
    dynamic: Mapping[str, Mapping[int, str]] | None = option(
        None,
        "Where the inputs are tensors: input -> {axis: name} of the dynamic sizes. When None, axis 0 of each is "
        "'batch', where the model's code allows it.",
        python_only=True,
    )
    cache: bool = option(
        True,
        "Caches that a decoder returns are outputs, by their nested names ('past_key_values.0.key'; the default), or "
        "are left out.",
    )
    task: Task | None = option(
        None,
        "What a model of transformers is to do: 'generate' reads a decoder for prompts and steps, with its cache among "
        "the inputs; 'encode' and 'decode' are the parts of an encoder with a decoder.",
    )
    trust_code: bool = option(False, "Run the Python code that a file, a folder or a Lambda layer holds.")
    lift: bool = option(True, "Raise patterns of operations to layers (the default).")


@dataclass(frozen=True)
class WriteOptions(CommonWriteOptions):
    """How a module is written."""

    memory_format: Literal["channels_last", "channels_last_3d"] | None = option(
        None,
        "Memory format of the weights of images or volumes; what the module takes and gives stays (batch, channels, "
        "...).",
    )


class PyTorch(ModularFramework):
    name = "pytorch"
    title = "PyTorch"
    extra = "torch"
    packages = ("torch", "onnxscript")
    exporter = "torch.onnx"
    live_classes = ("torch.nn.Module", "torch.export.ExportedProgram")
    #: The pickles among them are refused, with what to do instead.
    suffixes = (".pt2", ".pt", ".pth")
    file_suffixes = (".pt2",)
    weights_file = "weights.pt"
    trains = Trains(precisions=None)

    def prepare_command_line(self) -> None:
        """transformers shows a progress bar where it loads weights, also where nobody looks at a terminal."""
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

    def accepts_folder(self, path: Path) -> bool:
        return is_pretrained(path)

    def parts(self, source: Any, task: str, *, trust_code: bool = False) -> dict[str, str]:
        return self.part("generation").parts(source, task, trust_code=trust_code)


FRAMEWORK = PyTorch()
