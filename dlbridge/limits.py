"""How much work a file may ask for: a file of a few bytes can name more of it than a machine has time or memory for.

The limits are far beyond the models that there are. Who has a larger one raises them: ``dlbridge.load(model,
limits={"nodes": 1_000_000})``, ``dlbridge convert model.onnx --limit nodes=1000000``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from pathlib import Path

from dlbridge.errors import DlbridgeError, FileError, suggest

#: Growth below this many bytes is no harm.
HARMLESS = 64 << 20


@dataclass(frozen=True)
class Limits:
    """What a model may have.

    Attributes:
        nodes: Nodes of the graph, once its functions and repeated blocks are put where they are called.
        elements: Elements of one tensor.
        new_weights: Bytes of the weights that are made from a seed or an initializer, all together.
        values: Values of a description, where each use of an alias counts.
        text: Characters of a description, or bytes of the graph in a ``.pt2`` or of the configuration of a ``.keras``.
        name: Characters of a name.
        depth: Parts of a dotted path, and levels of nesting in a description or graph.
        growth: How many times its size an archive may have when it is unpacked, beyond 64 MiB.
    """

    nodes: int = 200_000
    elements: int = 1 << 32
    new_weights: int = 8 << 30
    values: int = 2_000_000
    text: int = 128 << 20
    name: int = 2_000
    depth: int = 60
    growth: int = 20


_LIMITS: ContextVar[Limits] = ContextVar("limits", default=Limits())  # noqa: B039 - it cannot be changed


def limits() -> Limits:
    """The limits that hold now."""
    return _LIMITS.get()


@contextmanager
def limited(given: Mapping[str, int] | None) -> Iterator[None]:
    """Let the limits that are given hold within the block; the others stay.

    Raises:
        DlbridgeError: When there is no limit of that name, or its number makes no sense.
    """
    known = [field.name for field in fields(Limits)]
    for name, number in (given or {}).items():
        if name not in known:
            hint = suggest(name, known) or f"limits: {', '.join(known)}"
            raise DlbridgeError(f"there is no limit '{name}'", hint=hint)
        if not isinstance(number, int) or number < 1:
            raise DlbridgeError(f"the limit '{name}' is a number of at least 1, not {number!r}")
    token = _LIMITS.set(replace(_LIMITS.get(), **(given or {})))
    try:
        yield
    finally:
        _LIMITS.reset(token)


def check_growth(size: int, path: Path, message: str) -> None:
    """Refuse a file that would grow to far more bytes than it has when it is opened.

    Raises:
        FileError: With this message.
    """
    if size > HARMLESS and size > limits().growth * path.stat().st_size:
        raise FileError(message, where=str(path), hint=raise_hint("growth"))


def raise_hint(name: str) -> str:
    """What to do where a model is larger than a limit, and right."""
    return f"if you trust who made it, raise the limit: --limit {name}=NUMBER (limits={{'{name}': NUMBER}})"
