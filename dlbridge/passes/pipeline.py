"""Pipelines: a route is a list of named passes, which can be printed, timed, watched, and cut in the middle.

A pass says what it requires of a model, what it provides, and whether it has changed anything. A pass that provides
what the model has already is skipped: shapes are inferred again, and constants folded again, only where a pass in
between has changed something.

Example:
    >>> from dlbridge.passes import Pipeline
    >>> from dlbridge.passes.standard import FOLD, INFER, LIFT
    >>> print(Pipeline("tidy", [INFER, FOLD, LIFT]))
    tidy
      1. infer: Set dtype and shape of every value.
      2. fold: Compute what follows from constants; remove what does nothing or is not used. (requires types)
      3. lift: Raise patterns of plain ops to layers. (requires types)
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from dlbridge.errors import DlbridgeError, suggest

#: The name of the pipeline that a route ends with.
LAST = "write"
#: What a model may have: the dtype and shape of every value; nothing left that folding would change.
Fact = Literal["types", "folded"]


@dataclass(frozen=True)
class Pass:
    """One step of a pipeline.

    Attributes:
        name: What it is called, unique in its pipeline.
        run: Changes a model in place. Returns whether it did; None stands for True.
        does: One sentence for people.
        requires: What the model must have before.
        provides: What it has afterwards.
        keeps: What it still has afterwards, if it had it before, though the pass has changed something.
    """

    name: str
    run: Callable[[ir.Model], bool | None]
    does: str
    requires: frozenset[Fact] = frozenset()
    provides: frozenset[Fact] = frozenset()
    keeps: frozenset[Fact] = frozenset()

    def named(self, name: str) -> Pass:
        """The same pass under another name, for a pipeline in which it stands twice."""
        return replace(self, name=name)

    def __str__(self) -> str:
        needs = f" (requires {', '.join(sorted(self.requires))})" if self.requires else ""
        return f"{self.name}: {self.does}{needs}"


@dataclass(frozen=True)
class Step:
    """What one pass did in one run.

    Attributes:
        name: The pipeline's name and the pass', with a dot between them (``read.fold``).
        seconds: How long it took.
        outcome: ``"skipped"`` if the model already had what the pass provides.
    """

    name: str
    seconds: float
    outcome: Literal["changed", "unchanged", "skipped"]

    def __str__(self) -> str:
        return f"{self.name:30} {self.seconds * 1000:8.1f} ms  {self.outcome}"


@dataclass
class Run:
    """The result of a run of a pipeline.

    Attributes:
        steps: What each pass did.
        facts: What the model has now, with which the rest of a pipeline continues:
            ``pipeline.after(...)(model, facts)``.
    """

    steps: list[Step]
    facts: frozenset[Fact]

    @property
    def changed(self) -> bool:
        return any(step.outcome == "changed" for step in self.steps)

    def __str__(self) -> str:
        return "\n".join(str(step) for step in self.steps)


class Watcher:
    """Called at each run of a pipeline and after each pass, while it is :func:`watching`."""

    def begins(self, pipeline: Pipeline) -> None:
        """A pipeline begins."""

    def ran(self, step: Step, model: ir.Model) -> None:
        """A pass has run, or was skipped; ``model`` is as it is behind it."""


_WATCHERS: contextvars.ContextVar[tuple[Watcher, ...]] = contextvars.ContextVar("watchers", default=())


class Pipeline:
    """A list of passes.

    Args:
        name: What it is called (``read``, ``write``).
        passes: The passes, in order.
        has: What a model has before the first.

    Raises:
        ValueError: When two passes have the same name, or one requires what the model may not have at that point.
    """

    def __init__(self, name: str, passes: Sequence[Pass], has: Collection[Fact] = ()) -> None:
        self.name = name
        self.passes = tuple(passes)
        self.has = frozenset(has)
        self._check()

    def _check(self) -> None:
        names = [each.name for each in self.passes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the pipeline {self.name} has two passes of the name {', '.join(twice)}")
        facts = self.has
        for each in self.passes:
            lacking = each.requires - facts
            if lacking:
                raise ValueError(
                    f"{self.name}.{each.name} requires {', '.join(sorted(lacking))}, which it may not find"
                )
            facts = _after(each, facts)

    def __call__(self, model: ir.Model, facts: Collection[Fact] = ()) -> Run:
        """Run the passes on a model, in place.

        Args:
            model: The model.
            facts: What it has besides what the pipeline counts on.
        """
        run = Run([], self.has | frozenset(facts))
        for watcher in _WATCHERS.get():
            watcher.begins(self)
        for each in self.passes:
            start = time.perf_counter()
            outcome = self._run(each, model, run)
            step = Step(f"{self.name}.{each.name}", time.perf_counter() - start, outcome)
            run.steps.append(step)
            for watcher in _WATCHERS.get():
                watcher.ran(step, model)
        return run

    def _run(self, each: Pass, model: ir.Model, run: Run) -> Literal["changed", "unchanged", "skipped"]:
        if each.provides and each.provides <= run.facts:
            return "skipped"
        if each.run(model) is False:
            run.facts |= each.provides
            return "unchanged"
        run.facts = _after(each, run.facts)
        return "changed"

    # --- parts --------------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.passes]

    def until(self, name: str) -> Pipeline:
        """The passes up to one of this name, and it."""
        return Pipeline(self.name, self.passes[: self._place(name) + 1], self.has)

    def after(self, name: str) -> Pipeline:
        """The passes behind one of this name; they go on from the facts of the run before."""
        facts = self.has
        for each in self.until(name):
            facts = _after(each, facts)
        return Pipeline(self.name, self.passes[self._place(name) + 1 :], facts)

    def without(self, *names: str) -> Pipeline:
        """The other passes."""
        for name in names:
            self._place(name)
        return Pipeline(self.name, [each for each in self.passes if each.name not in names], self.has)

    def _place(self, name: str) -> int:
        if name not in self.names:
            raise DlbridgeError(f"{self.name} has no pass '{name}'", hint=_known(name, self.names))
        return self.names.index(name)

    def __iter__(self) -> Iterator[Pass]:
        return iter(self.passes)

    def __len__(self) -> int:
        return len(self.passes)

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {number}. {each}" for number, each in enumerate(self.passes, 1))])


def _after(each: Pass, facts: frozenset[Fact]) -> frozenset[Fact]:
    """What a model has after a pass that changed it."""
    return (facts & each.keeps) | each.provides


def _known(name: str, names: Sequence[str]) -> str:
    listed = f"passes: {', '.join(names)}"
    near = suggest(name, [*names, *(each.partition(".")[2] for each in names)])
    return f"{near}; {listed}" if near else listed


# --- watching ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Tell ``watcher`` of all pipelines that run, while the context lasts."""
    token = _WATCHERS.set((*_WATCHERS.get(), watcher))
    try:
        yield
    finally:
        _WATCHERS.reset(token)


class _Timer(Watcher):
    def __init__(self) -> None:
        self.steps: list[Step] = []

    def ran(self, step: Step, model: ir.Model) -> None:
        self.steps.append(step)


@contextlib.contextmanager
def timed() -> Iterator[list[Step]]:
    """Collect what each pass does, and how long it takes, while the context lasts."""
    timer = _Timer()
    with watching(timer):
        yield timer.steps


class _Dump(Watcher):
    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.names: list[str] = []
        self.done = False

    def begins(self, pipeline: Pipeline) -> None:
        self.names += [f"{pipeline.name}.{name}" for name in pipeline.names]
        if pipeline.name == LAST:
            self.check()

    def ran(self, step: Step, model: ir.Model) -> None:
        if not self.done and self._is_meant(step.name):
            self.done = True
            _save(model, self.path)

    def check(self) -> None:
        if not self.done and not any(self._is_meant(name) for name in self.names):
            raise DlbridgeError(f"no pass '{self.name}' on this route", hint=_known(self.name, self.names))

    def _is_meant(self, name: str) -> bool:
        return self.name in (name, name.partition(".")[2])


@contextlib.contextmanager
def dump_after(name: str, path: Path) -> Iterator[None]:
    """Write the model as it is after a pass to an ONNX file, while the context lasts.

    Args:
        name: The pass, as steps are called: ``read.fold``, or ``fold`` for the first pass of that name.
        path: The file. Layers of ours stand in it as functions of the ``dlbridge`` domain.

    Raises:
        DlbridgeError: When the route has no such pass, before its last pipeline begins; it lists those there are.
    """
    dump = _Dump(name, path)
    with watching(dump):
        yield
    dump.check()


def _save(model: ir.Model, path: Path) -> None:
    """A model as a file; weights beyond what a protobuf holds stand beside it."""
    copy = model.clone()
    for domain in {node.domain for node in copy.graph.all_nodes()}:
        copy.graph.opset_imports.setdefault(domain, 1)
    size = sum(v.const_value.nbytes for v in copy.graph.initializers.values() if v.const_value is not None)
    ir.save(copy, path, external_data=f"{path.name}.data" if size > 1 << 30 else None)
