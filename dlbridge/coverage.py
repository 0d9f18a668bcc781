"""Lists the ops of a model that cannot be read, and those that a target cannot write, without converting it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dlbridge import api, frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import stand_ins
from dlbridge.ops.keys import op_key

__all__ = ["Report", "Support", "report"]


@dataclass(frozen=True)
class Support:
    """Whether a model can be read, or written in a framework.

    Attributes:
        supported: Whether all of it can.
        refused: What cannot, with its place in the model.
        reason: Why nothing is known: a framework that is not installed, an error that is not about single ops.
    """

    supported: bool
    refused: list[str] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True)
class Report:
    """What of a model is supported.

    Attributes:
        model: Its name.
        ops: How often each op occurs once the model is read.
        reading: What of it can be read.
        targets: Framework -> what of what was read can be written there.
    """

    model: str
    ops: dict[str, int]
    reading: Support
    targets: dict[str, Support]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return asdict(self)


def report(source: Any, **read: Any) -> Report:
    """What of a model is supported. Nothing is run but what reading it takes.

    Args:
        source: What ``dlbridge.load`` takes.
        read: Its options.

    Raises:
        DlbridgeError: When the model cannot be read at all, not even in part.
    """
    model = _load(source, read)
    ops = Counter(op_key(node) for node in model.graph.all_nodes() if node.domain != stand_ins.DOMAIN)
    unread = [stand_ins.note(node) for node in model.graph.all_nodes() if node.domain == stand_ins.DOMAIN]
    targets = {framework.name: _written(model, framework, set(unread)) for framework in frameworks.writers()}
    return Report(model.name, dict(sorted(ops.items())), Support(not unread, unread), targets)


def _load(source: Any, read: Mapping[str, Any]) -> Model:
    """The model; in part, where it cannot be read as a whole and its reader can do that."""
    try:
        return api.load(source, **read)
    except DlbridgeError as error:
        try:
            return api.load(source, **{**read, "partial": True})
        except DlbridgeError:
            raise error from None


def _written(model: Model, framework: frameworks.Framework, unread: set[str]) -> Support:
    """What of a model a framework can write; what was not read counts once."""
    if not framework.is_installed:
        return Support(False, reason=framework.not_installed)
    takes_parts = any(option.name == "partial" for option in frameworks.declared(framework.WriteOptions))
    try:
        written = framework.write(model.clone(), **({"partial": True} if takes_parts else {}))
    except DlbridgeError as error:
        return Support(False, reason=str(error))
    left = getattr(written, "stand_ins", {})
    return Support(not left, [what for what in left.values() if what not in unread])
