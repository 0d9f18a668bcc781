"""Where a call of an exported program is located: the modules around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Frame:
    """Where a call is located: the modules around it, outermost first, as (path, class), and how often each was called
    before."""

    modules: tuple[tuple[str, str], ...]
    repeats: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def path(self) -> str:
        return self.modules[-1][0] if self.modules else ""

    @property
    def code(self) -> str:
        """Path of the module whose code makes the call: one of torch's layers is a call in the module around it."""
        return next((path for path, kind in reversed(self.modules) if not kind.startswith("torch.nn.modules.")), "")


@dataclass
class Missing:
    """An op without a rule, and one place where it is called."""

    op: str
    module: str
    line: str
