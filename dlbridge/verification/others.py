"""Other models as forms of a model: a file, a live model or written code that should compute the same function.

Their inputs and outputs are matched with the model's by what the caller says, by name, and then by position; an input
whose sizes are the model's in another order of the axes (channels last) is transposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from dlbridge.errors import DlbridgeError, SignatureError, WrittenModelError
from dlbridge.model import Model
from dlbridge.ops.evaluator import eps
from dlbridge.verification import judge as judges
from dlbridge.verification.measure import Arrays, is_float

#: The orders of axes that have names, for a number of axes: how an array of the model becomes one of the other.
_CHANNELS = ("channels_last", "channels_first")


@dataclass(frozen=True)
class Matching:
    """How other models' inputs and outputs are matched, beyond what their names and positions say.

    Attributes:
        names: Name in the model -> name in the other model, of inputs and outputs.
        layouts: Name in the model -> how the other model has its axes: ``"channels_last"``, ``"channels_first"``, or
            the order of the model's axes, ``(0, 2, 3, 1)``. The name ``""`` stands for all that have three or more.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, str | tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Port:
    """An input or output of the model, and its counterpart in the other model.

    Attributes:
        name: Its name in the model.
        other: Its name in the other model.
        order: The axes of the model's array in the order in which the other has them; None if they are the same.
        dtype: The type that the other model has; None if it is not known.
    """

    name: str
    other: str
    order: tuple[int, ...] | None
    dtype: ir.DataType | None


class Other:
    """Another model, run as it is, by the names of the model and in its layout.

    Args:
        model: The model that it is compared with.
        other: The other model.
        name: What reports call it.
        matching: How its inputs and outputs are matched.

    Attributes:
        note: What was matched by position, transposed or cast.
        eps: The eps of its coarsest float type, if that is coarser than the model's; else 0.

    Raises:
        SignatureError: When an input or output has none that it could be matched with.
    """

    def __init__(self, model: Model, other: Model, name: str, matching: Matching) -> None:
        self.name, self._other = name, other
        self._inputs = _matched("input", model.inputs, other.inputs, matching, name)
        moved = [port.order for port in self._inputs if port.order is not None]
        self._outputs = _matched("output", model.outputs, other.outputs, matching, name, moved)
        own, theirs = _coarsest(model), _coarsest(other)
        self.eps = theirs if theirs > own else 0.0
        self._types = {v.name or "": v.dtype for v in model.outputs}
        self.note = "; ".join(_notes((*self._inputs, *self._outputs)))
        self._run, self._opens = _runs(other)

    def run(self, arrays: Arrays) -> Arrays:
        """Run it: arrays by the model's input names -> arrays by its output names, in its layout.

        Raises:
            WrittenModelError: When it cannot be run.
        """
        try:
            return self._taken(self._run(self._given(arrays)))
        except DlbridgeError:
            raise
        except Exception as error:  # a framework can raise anything
            raise WrittenModelError(f"it cannot be run: {type(error).__name__}: {error}") from error

    def exact(self, cases: Sequence[Arrays], seen: list[np.ndarray] | None = None) -> list[Arrays] | None:
        """Run it in float64 on each set of inputs; None if it has no float64 run."""
        if self._opens is None:
            return None
        run = self._opens()
        return [self._taken(run(self._given(arrays), seen=seen)) for arrays in cases]

    def in_own_types(self, arrays: Arrays, seen: list[np.ndarray]) -> Arrays | None:
        """Run it in its own types; None if it does not show what it computes. ``seen`` gets each array on the way."""
        shows = getattr(self._opens() if self._opens is not None else None, "in_own_types", None)
        return None if shows is None else self._taken(shows(self._given(arrays), seen))

    def _given(self, arrays: Arrays) -> Arrays:
        found = {}
        for port in self._inputs:
            array = arrays[port.name] if port.order is None else np.transpose(arrays[port.name], port.order)
            with np.errstate(over="ignore"):
                found[port.other] = array if port.dtype is None else array.astype(port.dtype.numpy(), copy=False)
        return found

    def _taken(self, outputs: Mapping[str, np.ndarray]) -> Arrays:
        found = {}
        for port in self._outputs:
            array = np.asarray(outputs[port.other])
            array = array if port.order is None else np.transpose(array, np.argsort(port.order))
            wanted = self._types.get(port.name)
            if wanted is not None and _is_cast(array.dtype, wanted, port.dtype):
                array = array.astype(wanted.numpy())
            found[port.name] = array
        return found


def _is_cast(dtype: np.dtype, wanted: ir.DataType, declared: ir.DataType | None) -> bool:
    """Whether an output is of the wanted kind (floats, or integers) in another width. A run in float64 stays so."""
    is_wide_run = dtype == np.float64 and declared != ir.DataType.DOUBLE
    return not is_wide_run and dtype != wanted.numpy() and is_float(dtype) == wanted.is_floating_point()


def _runs(other: Model) -> tuple[Callable[[Arrays], Arrays], Callable[[], Any] | None]:
    """What runs another model in its own types, and what opens it in float64."""
    original = other.original
    if original is None:
        return judges.in_the_standard(other), lambda: judges.evaluator(other)
    opened = getattr(original, "opened", None)
    return (original if opened is None else opened()), getattr(original, "exact", None)


def _coarsest(model: Model) -> float:
    """The eps of the coarsest float type among a model's weights, inputs and outputs."""
    values = (*model.graph.initializers.values(), *model.inputs, *model.outputs)
    types = {v.dtype for v in values if v.dtype is not None and v.dtype.is_floating_point()}
    return max((eps(t.numpy()) for t in types), default=0.0)


# --- matching ---------------------------------------------------------------------------------------------------------


def _matched(
    what: str,
    values: Sequence[ir.Value],
    others: Sequence[ir.Value],
    matching: Matching,
    name: str,
    likely: Sequence[tuple[int, ...]] = (),
) -> list[_Port]:
    """Match each input (or output) of the model with one of the other model.

    Args:
        what: ``"input"`` or ``"output"``.
        values: Those of the model.
        others: Those of the other model.
        matching: What the caller says.
        name: What reports call the other model.
        likely: Orders of axes that come first, where the sizes leave open which it is.
    """
    by_name = {v.name or "": v for v in others}
    pairs: dict[str, ir.Value] = {}
    for value in values:
        wanted = matching.names.get(value.name or "", value.name or "")
        if wanted in by_name:
            pairs[value.name or ""] = by_name.pop(wanted)
        elif value.name in matching.names:
            raise SignatureError(
                f"there is no {what} '{wanted}' to match '{value.name}'", where=name, hint=_has(others)
            )
    rest = list(by_name.values())
    open_values = [v for v in values if (v.name or "") not in pairs]
    if what == "output" and len(rest) > len(open_values):
        rest = rest[: len(open_values)] if not pairs else rest
    if len(open_values) > len(rest) or (what == "input" and len(open_values) != len(rest)):
        said = ", ".join(f"'{v.name}'" for v in open_values) or "nothing"
        left = ", ".join(f"'{v.name}'" for v in rest) or "nothing"
        raise SignatureError(
            f"the {what}s do not match: of the model {said}, of this {left}",
            where=name,
            hint=f"say which is which: --map NAME=OTHER; {_has(others)}",
        )
    pairs |= {v.name or "": o for v, o in zip(open_values, rest, strict=False)}
    return [_port(v, pairs[v.name or ""], matching, what, name, likely) for v in values]


def _has(values: Sequence[ir.Value]) -> str:
    return f"it has {', '.join(f'{v.name}: {v.dtype}{v.shape}' for v in values)}"


def _port(
    value: ir.Value,
    other: ir.Value,
    matching: Matching,
    what: str,
    name: str,
    likely: Sequence[tuple[int, ...]],
) -> _Port:
    own_name = value.name or ""
    rank = len(value.shape) if value.shape is not None else None
    said = matching.layouts.get(own_name, matching.layouts.get("") if (rank or 0) > 2 else None)
    if said is not None:
        return _Port(own_name, other.name or "", _order(said, rank, own_name), other.dtype)
    if value.shape is None or other.shape is None:
        return _Port(own_name, other.name or "", None, other.dtype)
    if len(value.shape) != len(other.shape):
        raise SignatureError(
            f"{what} '{own_name}' has the shape {value.shape}, '{other.name}' has {other.shape}", where=name
        )
    first = [order for order in likely if len(order) == len(value.shape)]
    for order in (*first, None, *_usual_orders(len(value.shape))):
        if _fits(value.shape, other.shape, order):
            return _Port(own_name, other.name or "", order, other.dtype)
    raise SignatureError(
        f"{what} '{own_name}' has the shape {value.shape}, '{other.name}' has {other.shape}",
        where=name,
        hint="if its axes are in another order, say so: --layout NAME=0231",
    )


def _usual_orders(rank: int) -> list[tuple[int, ...]]:
    """Channels moved to the end, and to the front, of a number of axes."""
    if rank < 3:
        return []
    return [(0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))]


def _order(said: str | tuple[int, ...], rank: int | None, name: str) -> tuple[int, ...]:
    if isinstance(said, str):
        if said not in _CHANNELS:
            raise SignatureError(f"'{said}' is no layout", where=name, hint=f"known: {', '.join(_CHANNELS)}")
        if rank is None or rank < 3:
            raise SignatureError(f"'{said}' is for arrays of three axes or more", where=name)
        return _usual_orders(rank)[_CHANNELS.index(said)]
    said = tuple(said)  # a list, where it was read from a certificate
    if sorted(said) != list(range(rank if rank is not None else len(said))):
        raise SignatureError(f"{list(said)} is no order of {rank} axes", where=name)
    return said


def _fits(shape: ir.Shape, other: ir.Shape, order: tuple[int, ...] | None) -> bool:
    """Whether the known sizes of two shapes are the same, the first one's axes being taken in an order."""
    sizes = list(shape) if order is None else [shape[axis] for axis in order]
    return all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(sizes, list(other), strict=True)
    )


def _notes(ports: Sequence[_Port]) -> list[str]:
    found = []
    for port in ports:
        if port.name != port.other:
            found.append(f"'{port.name}' is its '{port.other}'")
        if port.order is not None:
            found.append(f"'{port.name}' has the axes {''.join(map(str, port.order))} there")
    return found
