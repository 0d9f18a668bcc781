"""Modes for ``torch.export``: argument checks pass, and calls that add guards are located in the user's code.

A check of arguments (``assert (x > 0).all()``, ``if not valid: raise``) asks for the value of a tensor, which a trace
does not have. What the model computes does not depend on it where the check passes, so it is told that it does. All
this is a mode of this thread alone.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import functools
import itertools
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, MethodWrapperType
from typing import Any, Self

import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv
from torch.overrides import TorchFunctionMode

from dlbridge.errors import DlbridgeError
from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.export.author_frames import AuthorFrames
from dlbridge.frameworks.pytorch.export.size_questions import MAY_HOLD_SIZES, TORCH, asks_for_sizes

_HERE = str(Path(__file__).parents[3])
#: What to write instead of a branch on numbers.
IN_A_GRAPH = "torch.where(condition, a, b) or torch.cond(condition, then, otherwise, inputs) says it in a graph"
#: Torch's own questions whose answer changes how something is computed, not what: (file, function) -> answer.
_IMMATERIAL = {("torch/nn/modules/transformer.py", "_detect_is_causal_mask"): False}


#: What torch asks tensors while it traces, thousands of times: no guard and no node comes of it.
_QUESTIONS = frozenset({torch.device}) | {
    getattr(torch.Tensor, name)
    for name in (
        *("_is_view", "dim", "is_conj", "is_inference", "is_neg", "numel", "size", "storage_offset", "stride"),
        "untyped_storage",
    )
}


class DataDependentError(DlbridgeError):
    """The code branches on the values of a tensor."""


class Tracing(TorchFunctionMode):
    """Answers argument checks, calls something else for some functions, and records the user's line of each call that
    bounds a size.

    Args:
        instead: PyTorch function -> what is called instead of it: ``instead(function, *args, **kwargs)``.
        module: The module that is traced, where it is to be noted whose code makes each call.

    Attributes:
        lines: (number of guards before, after, line) of each call that made guards.
        asks_sizes: Whether code has asked for a free size: it may do something else for another one.
    """

    def __init__(self, instead: Mapping[Any, Callable[..., Any]], module: torch.nn.Module | None = None) -> None:
        super().__init__()
        self._instead = instead
        self._author = AuthorFrames(module, is_foreign) if module is not None else None
        self.lines: list[tuple[int, int, str]] = []
        self.asks_sizes = False
        self._env: ShapeEnv | None = None
        self._stack = contextlib.ExitStack()

    def line(self, index: int) -> str:
        """The user's line whose call made a guard; empty if no PyTorch call made it."""
        return next((line for before, after, line in self.lines if before <= index < after), "")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if type(func) is MethodWrapperType or func in _QUESTIONS:  # the first are attributes: most of the calls
            made = func(*args, **kwargs)
            if type(made) in MAY_HOLD_SIZES and self._listens():
                self.asks_sizes = asks_for_sizes(func, made, sys._getframe().f_back)
            return made
        if func is torch.Tensor.__bool__ or (func is torch.Tensor.item and args[0].dtype is torch.bool):
            return _truth(func, args[0])
        instead = self._instead.get(func)
        before = self._guards(args)
        is_followed = self._author is not None and not torch.compiler.is_dynamo_compiling()
        graph = compat.traced_graph() if is_followed else None
        last = _last(graph)
        made = func(*args, **kwargs) if instead is None else instead(func, *args, **kwargs)
        after = self._guards(args)
        if graph is not None and self._author is not None and _last(graph) is not last:
            self._author.note(sys._getframe().f_back, _nodes_after(graph, last))
        if after != before:
            self.lines.append((before, after, user_line(sys._getframe())))
        if self._listens():
            self.asks_sizes = asks_for_sizes(func, made, sys._getframe().f_back)
        return made

    def _listens(self) -> bool:
        """Whether it is still to be found out that code asks for sizes; Dynamo cannot follow that."""
        return not self.asks_sizes and not torch.compiler.is_dynamo_compiling()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._author or contextlib.nullcontext())
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        self._stack.close()
        super().__exit__(*args)

    def _guards(self, args: Any) -> int:
        if self._env is None:
            mode = compat.detect_fake_mode(args)
            self._env = mode.shape_env if mode is not None else None
        return len(self._env.guards) if self._env is not None else 0


def _truth(func: Any, tensor: torch.Tensor) -> Any:
    frame = _caller(sys._getframe())
    answer = _answer(frame) if frame is not None else None
    if answer is not None:
        return answer
    try:
        return func(tensor)
    except GuardOnDataDependentSymNode:
        raise DataDependentError(
            "the code takes another way for other values of a tensor, which no graph can follow",
            where=user_line(sys._getframe()) or None,
            hint=IN_A_GRAPH,
        ) from None


def _last(graph: torch.fx.Graph | None) -> torch.fx.Node | None:
    return next(iter(reversed(graph.nodes)), None) if graph is not None else None


def _nodes_after(graph: torch.fx.Graph, last: torch.fx.Node | None) -> list[torch.fx.Node]:
    return list(itertools.takewhile(lambda node: node is not last, reversed(graph.nodes)))


# --- where a call stands ------------------------------------------------------------------------------------------


def is_torch(filename: str) -> bool:
    return filename.startswith((TORCH, "<")) or filename == __file__


def is_foreign(filename: str) -> bool:
    """Whether a file is none of the author's: torch's, or ours."""
    return is_torch(filename) or filename.startswith(_HERE)


def user_line(frame: FrameType | None) -> str:
    """``model.py:12`` of the innermost line that is not torch's; empty for code that has no file."""
    while frame is not None and is_torch(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or is_foreign(frame.f_code.co_filename):
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _caller(frame: FrameType | None) -> FrameType | None:
    """The frame whose code makes the call: neither ours nor of torch's machinery for modes."""
    parts = ("_export", "overrides.py", "_tensor.py", "_dynamo", "fx")
    machinery = (__file__, *(f"{TORCH}{part}" for part in parts))
    while frame is not None and frame.f_code.co_filename.startswith(machinery):
        frame = frame.f_back
    return frame


# --- what is a check ------------------------------------------------------------------------------------------------


def _answer(frame: FrameType) -> bool | None:
    """The truth value of a tensor for which the argument check that asks for it passes; None outside of such checks."""
    code = frame.f_code
    for (file, function), answer in _IMMATERIAL.items():
        if code.co_name == function and code.co_filename.replace("\\", "/").endswith(file):
            return answer
    positions = list(code.co_positions())
    start, end, column, end_column = positions[frame.f_lasti // 2]
    if start is None or end is None or column is None or end_column is None:
        return None
    place = (start, column), (end, end_column)
    for statement, test, passes in _checks(code.co_filename):
        if place == _span(statement):  # where Python says no more than the statement
            negated = _negated_at_jump(frame, place, [n for _, n in _leaves(test)])
        elif _covers(test, place):
            negated = {n for leaf, n in _leaves(test) if _span(leaf) == place}
        else:
            continue
        return passes != negated.pop() if len(negated) == 1 else None
    return None


@functools.lru_cache(maxsize=256)
def _checks(filename: str) -> Sequence[tuple[ast.stmt, ast.expr, bool]]:
    """The statements of a file that only raise or warn; their test, and its value where they do not."""
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError):
        return ()
    return tuple(_found(tree))


def _found(tree: ast.AST) -> Iterator[tuple[ast.stmt, ast.expr, bool]]:
    for node in ast.walk(tree):
        match node:
            case ast.Assert(test=test):
                yield node, test, True
            case ast.If(test=test, body=[*_, ast.Raise()]):
                yield node, test, False
            case ast.If(test=test, orelse=[*_, ast.Raise()]):
                yield node, test, True
            case ast.If(test=test, body=body, orelse=[]) if all(_only_tells(statement) for statement in body):
                yield node, test, False


#: Names of functions and methods that print or log, and change nothing.
_TELLING = frozenset({"print", "warn", "warn_once", "warning", "warning_once", "info", "debug", "error", "log"})


def _only_tells(statement: ast.stmt) -> bool:
    """Whether a statement prints, warns or logs, and nothing else."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
            return name in _TELLING
    return False


Place = tuple[tuple[int, int], tuple[int, int]]


def _span(node: ast.stmt | ast.expr) -> Place:
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0)


def _covers(node: ast.expr, place: Place) -> bool:
    first, last = _span(node)
    return first <= place[0] and place[1] <= last


def _negated_at_jump(frame: FrameType, place: Place, leaves: Sequence[bool]) -> set[bool]:
    """Of the parts of a test, each of which ends in a jump, that at whose jump the frame is: whether it is negated."""
    jumps = [
        instruction.offset
        for instruction in dis.get_instructions(frame.f_code)
        if "JUMP" in instruction.opname and "IF" in instruction.opname and _at(instruction) == place
    ]
    if len(jumps) != len(leaves) or frame.f_lasti not in jumps:
        return set(leaves)
    return {leaves[jumps.index(frame.f_lasti)]}


def _at(instruction: dis.Instruction) -> Any:
    at = instruction.positions
    return ((at.lineno, at.col_offset), (at.end_lineno, at.end_col_offset)) if at is not None else None


def _leaves(test: ast.expr, negated: bool = False) -> Iterator[tuple[ast.expr, bool]]:
    """The operands of ``not``, ``and`` and ``or`` in a test, and whether each is negated."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield from _leaves(operand, not negated)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _leaves(value, negated)
        case _:
            yield test, negated
