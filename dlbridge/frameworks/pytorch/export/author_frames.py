"""Notes, while ``torch.export`` traces a module, whose code makes each call, and what it calls the tensors it is given.

``torch.export`` keeps the lines of the ``forward`` methods around a call, but neither those of the functions that they
call nor what their parameters are. Both are known while the call is made: they are in the frames of this thread.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

import torch
from torch.fx import config as fx_config

from dlbridge.frameworks.pytorch import compat

#: Key of an fx node's ``meta``: the author's frames around its call, outermost first (``AuthorFrame``).
FRAMES = "dlbridge.frames"
#: Key of an fx node's ``meta``: path of a module -> the parameter of its ``forward`` that the result is given to.
PARAMETERS = "dlbridge.parameters"
#: Key of an fx node's ``meta``: number of a frame -> the variables of that frame that have held the result.
VARIABLES = "dlbridge.variables"
#: Key of an fx node's ``meta``: what its result is called where code of ours stands for torch's.
NAME = "dlbridge.name"
#: Longer lists are not looked into.
_MOST_ITEMS = 64
#: How many traces are followed at the moment, in all threads; and whether torch looked for no frames before.
_followed, _torch_does_not, _LOCK = 0, False, threading.Lock()
#: What a function is that hands on whatever it is called with, as decorators make them.
_HANDS_ON = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS


@dataclass(frozen=True)
class AuthorFrame:
    """A frame of a module's code.

    Attributes:
        file: The file of the code.
        line: The line that is executed.
        path: The path of the module in whose ``forward`` that is.
        run: What a statement has in common while it is executed once, and no other time.
    """

    file: str
    line: int
    path: str
    run: tuple[int, int]


@dataclass
class _Seen:
    """A frame as it was at the last call."""

    frame: FrameType
    number: int
    path: str | None
    is_forward: bool
    is_of_author: bool
    lasti: int = -1
    child: int = -1
    run: int = 0
    line: int = -1


class AuthorFrames:
    """Follows the frames around the calls of one trace, within a block of its own.

    Torch does not look for them itself meanwhile: it would take a tenth of the export's time.

    Args:
        module: The module that is traced.
        is_foreign: Whether a file is none of the author's: torch's, or ours.
    """

    def __init__(self, module: torch.nn.Module, is_foreign: Callable[[str], bool]) -> None:
        self._paths = {id(part): path for path, part in reversed(list(module.named_modules()))}
        self._is_foreign = is_foreign
        self._seen: list[_Seen] = []
        self._count = 0

    def __enter__(self) -> Self:
        _follow(+1)
        return self

    def __exit__(self, *args: object) -> None:
        """Let go of the frames, and of what their code holds."""
        _follow(-1)
        self._seen.clear()

    def note(self, frame: FrameType | None, nodes: list[torch.fx.Node]) -> None:
        """Note the frames around the call that made these nodes."""
        stack = list(_outermost_first(frame))
        known = self._seen
        same = next((i for i, (a, b) in enumerate(zip(known, stack, strict=False)) if a.frame is not b), None)
        del known[len(stack) if same is None else same :]
        for new in stack[len(known) :]:
            self._enter(new)
        for place, each in enumerate(known):
            if not each.is_of_author:
                continue
            child = known[place + 1].number if place + 1 < len(known) else self._next()
            lasti = each.frame.f_lasti
            if lasti < each.lasti or (lasti == each.lasti and child != each.child):
                each.run += 1
            each.lasti, each.child = lasti, child
            self._note_variables(each)
        frames, trace = tuple(self._of_author()), "\n".join(self._of_forwards())
        for node in nodes:
            node.meta[FRAMES] = frames
            node.meta.setdefault("stack_trace", trace)

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _enter(self, frame: FrameType) -> None:
        around = self._seen[-1].path if self._seen else None
        own = self._module(frame)
        path, is_foreign = around if own is None else own, self._is_foreign(frame.f_code.co_filename)
        hands_on = frame.f_code.co_flags & _HANDS_ON == _HANDS_ON and own is None
        is_of_author = path is not None and not hands_on and not is_foreign
        self._seen.append(_Seen(frame, self._next(), path, own is not None, is_of_author))
        if own is not None and not is_foreign:
            for name, node in _held(frame, _parameters(frame)):
                node.meta.setdefault(PARAMETERS, {}).setdefault(own, name)

    def _module(self, frame: FrameType) -> str | None:
        """The path of the module whose ``forward`` a frame is."""
        code = frame.f_code
        if code.co_name != "forward" or not code.co_argcount:
            return None
        return self._paths.get(id(frame.f_locals.get(code.co_varnames[0])))

    def _note_variables(self, seen: _Seen) -> None:
        """Note what the variables of a frame of the author's hold when it comes to another line."""
        line = seen.frame.f_lineno
        if line == seen.line:
            return
        seen.line = line
        for name, node in _held(seen.frame, seen.frame.f_code.co_varnames):
            names = node.meta.setdefault(VARIABLES, {}).setdefault(seen.number, [])
            if name not in names:
                names.append(name)
            given = node.meta.get(PARAMETERS, {})
            if seen.is_forward and "." in given.get(seen.path, "") and "." not in name:
                given[seen.path] = name  # what was an item of a parameter has a variable now

    def _of_author(self) -> Iterator[AuthorFrame]:
        for each in self._seen:
            if each.is_of_author:
                file, run = each.frame.f_code.co_filename, (each.number, each.run)
                yield AuthorFrame(file, each.frame.f_lineno, each.path or "", run)

    def _of_forwards(self) -> Iterator[str]:
        """The lines of the ``forward`` methods around the call, outermost first, as torch's stack traces have them."""
        for each in self._seen:
            code = each.frame.f_code
            if code.co_name == "forward":
                yield f'File "{code.co_filename}", line {each.frame.f_lineno}, in forward'


def _follow(change: int) -> None:
    """One trace more is followed, or one less. Torch has one setting for all threads of whether it looks for frames."""
    global _followed, _torch_does_not
    with _LOCK:
        if not _followed:
            _torch_does_not = fx_config.do_not_emit_stack_traces
        _followed += change
        fx_config.do_not_emit_stack_traces = _followed > 0 or _torch_does_not


def _outermost_first(frame: FrameType | None) -> list[FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found[::-1]


def _parameters(frame: FrameType) -> tuple[str, ...]:
    """The parameters of a method, but for the object itself."""
    code = frame.f_code
    return code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]


def _held(frame: FrameType, names: Iterable[str]) -> Iterator[tuple[str, torch.fx.Node]]:
    """The results that variables of a frame hold, each with its name; ``features.0`` is that of an item."""
    values = frame.f_locals
    for name in names:
        value: Any = values.get(name)
        tensors = {name: value}
        if isinstance(value, (list, tuple)) and len(value) <= _MOST_ITEMS:
            tensors = {f"{name}.{i}": item for i, item in enumerate(value)}
        for each, tensor in tensors.items():
            node = compat.traced_node(tensor) if isinstance(tensor, torch.Tensor) else None
            if node is not None:
                yield each, node


def call_it(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Give a result of the call that is being traced a name; where the author's code has one, that goes first."""
    node = compat.traced_node(tensor)
    if node is not None:
        node.meta[NAME] = name
    return tensor


def parameters(node: torch.fx.Node) -> Mapping[str, str]:
    """Path of a module -> the parameter of its ``forward`` that the result of a node is given to."""
    return node.meta.get(PARAMETERS, {})


def variables(node: torch.fx.Node, frame: AuthorFrame) -> list[str]:
    """The variables that have held the result of a node in a frame."""
    return node.meta.get(VARIABLES, {}).get(frame.run[0], [])
