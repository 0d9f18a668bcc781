"""ONNX: read from any opset, written in standard ops at a chosen one, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbridge.frameworks import CommonReadOptions, Flag, ModularFramework, option
from dlbridge.frameworks.options import inputs_option


@dataclass(frozen=True)
class ReadOptions(CommonReadOptions):
    """How an ONNX model is read."""

    inputs: Mapping[str, str] | None = inputs_option(
        "An input with other sizes than the file's, e.g. 'x[batch,3,224,224]': a name is free, a number fixed; refused "
        "where the graph does not allow it."
    )
    from_values: tuple[str, ...] = option(
        (), "Begin at this value: it becomes an input.", flag=Flag("from", "VALUE", tuple)
    )
    until_values: tuple[str, ...] = option(
        (), "End at this value: it becomes an output.", flag=Flag("until", "VALUE", tuple)
    )
    lift: bool = option(True, "Raise patterns of operations to layers (the default).")


@dataclass(frozen=True)
class WriteOptions:
    """How an ONNX model is written."""

    opset: int | None = option(None, "Opset of the file, from 13 on; one that most tools read otherwise.")
    metadata: bool = option(False, "Keep what dlbridge knows beyond the standard in the file's metadata.")


class Onnx(ModularFramework):
    name = "onnx"
    title = "ONNX"
    live_classes = ("onnx.ModelProto", "onnx_ir.Model")
    suffixes = (".onnx",)
    file_suffixes = (".onnx",)
    has_strings = True
    is_served = True

    def save(
        self, source: Any, target: Path, *, certificate: Mapping[str, Any] | None = None, force: bool = False
    ) -> Path:
        """Write a ``.onnx`` file, or a repository entry when ``target`` has no such ending."""
        target = Path(target)
        if target.suffix == ".onnx":
            return source.save(target, force=force)
        entry = self.part("entry")
        return entry.save_entry(source, target.parent, target.name, certificate=certificate, force=force)

    def devices(self) -> tuple[str, ...]:
        return self.part("runner").devices()

    def load_on(self, source: Any, device: str) -> Any:
        return self.part("runner").load_on(source, device)

    def quantize(
        self, source: Any, how: str, *, data: Sequence[Mapping[str, Any]] = (), keep: Sequence[str] = ()
    ) -> Any:
        """See ``dlbridge.frameworks.onnx.quantization``."""
        return self.part("quantization").quantize(source, how, data, keep)

    def add_version(self, source: Any, repository: Path, *, certificate: Mapping[str, Any] | None = None) -> Path:
        """See ``dlbridge.frameworks.onnx.entry.add_version``."""
        return self.part("entry").add_version(source, repository, certificate=certificate)


FRAMEWORK = Onnx()
