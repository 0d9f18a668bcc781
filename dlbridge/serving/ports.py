"""The inputs and outputs of a served version, as requests see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dlbridge.errors import FileError
from dlbridge.repository.datatypes import DATATYPES
from dlbridge.serving.tensors import Tensor

#: What an input of images is, and how many channels it has.
_IMAGE_TYPES, _CHANNELS = ("UINT8", "FP16", "FP32", "FP64"), (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Port:
    """An input, prepared for checking requests.

    Attributes:
        name: Its name.
        datatype: Its element type, as the protocol names it.
        shape: Its sizes, -1 for one that is free; with the rows of a batch.
        has_rows: Whether its first size is the rows of a batch.
        takes_images: Whether the worker makes its rows of encoded images, which come as ``BYTES``.
        sizes: (datatype, shape) of tensors that have been found to fit -> their bytes.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    has_rows: bool
    takes_images: bool = False
    sizes: dict[tuple[str, tuple[int, ...]], int] = field(default_factory=dict, compare=False, repr=False)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of that shape fits."""
        if len(shape) != len(self.shape):
            return False
        for size, wanted in zip(shape, self.shape, strict=True):
            if size != wanted and (wanted != -1 or size < 0):
                return False
        return True


@dataclass(frozen=True, slots=True)
class Reshape:
    """Turns tensors of one pattern of sizes into another; the free sizes (-1) of the two are the same, in order."""

    rows: int
    before: tuple[int, ...]
    after: tuple[int, ...]

    def __call__(self, tensor: Tensor) -> Tensor:
        inner = tensor.shape[self.rows :]
        free = iter([size for size, wanted in zip(inner, self.before, strict=True) if wanted == -1])
        sizes = [next(free) if size == -1 else size for size in self.after]
        return Tensor(tensor.datatype, (*tensor.shape[: self.rows], *sizes), tensor.data)


def reshapes(config: Any) -> dict[str, Reshape]:
    """Input or output -> how it is reshaped on its way to the model or from it (Triton's ``reshape``)."""
    rows = 1 if config.max_batch_size > 0 else 0
    found = {}
    for port in config.input:
        if port.HasField("reshape"):
            found[port.name] = Reshape(rows, tuple(port.dims), tuple(port.reshape.shape))
    for port in config.output:
        if port.HasField("reshape"):
            found[port.name] = Reshape(rows, tuple(port.reshape.shape), tuple(port.dims))
    return found


def ports(config: Any) -> list[Port]:
    """The inputs of a completed configuration."""
    rows = [-1] if config.max_batch_size > 0 else []
    found = []
    for p in config.input:
        kind, shape = datatype(p), (*rows, *p.dims)
        takes_images = kind in _IMAGE_TYPES and not p.HasField("reshape") and _is_of_images(shape)
        found.append(Port(p.name, kind, shape, bool(rows), takes_images))
    return found


def _is_of_images(shape: Sequence[int]) -> bool:
    """Whether an array of such a shape holds images: (batch, C, H, W), (batch, H, W, C), of 1, 3 or 4 channels."""
    return len(shape) == 4 and (shape[1] in _CHANNELS or shape[3] in _CHANNELS)


def datatype(port: Any) -> str:
    """The protocol's name of the type of an input or output of a configuration.

    Raises:
        FileError: When it has none.
    """
    names: Mapping[int, Any] = type(port).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    kind = names.get(port.data_type)
    if kind is None or kind.name not in DATATYPES:
        raise FileError(f"{port.data_type} is no data_type")
    return DATATYPES[kind.name]


def metadata(port: Any, rows: Sequence[int]) -> dict[str, Any]:
    """What the protocol shows of an input or output."""
    return {"name": port.name, "datatype": datatype(port), "shape": [*rows, *port.dims]}
