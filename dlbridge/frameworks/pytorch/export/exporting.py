"""Exports a live module with ``torch.export`` and dynamic sizes, and collects what the export assumes of these."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from dlbridge.errors import DlbridgeError, DlbridgeWarning, SignatureError
from dlbridge.frameworks.pytorch import compat
from dlbridge.frameworks.pytorch.compat import fx_config
from dlbridge.frameworks.pytorch.export import (
    recurrence,
    squeezes,
    state,
    traced_attention,
    traced_losses,
    traced_sizes,
    training_only,
    trial,
)
from dlbridge.frameworks.pytorch.export.calling import Calling
from dlbridge.frameworks.pytorch.export.examples import SIZES, Example, without_dtype
from dlbridge.frameworks.pytorch.export.own_copy import are_shared, own_copy
from dlbridge.frameworks.pytorch.export.tracing import IN_A_GRAPH, Tracing, is_foreign
from dlbridge.frameworks.pytorch.export.training_mode import in_eval_mode
from dlbridge.frameworks.pytorch.fx import guards, shape_kernels
from dlbridge.frameworks.pytorch.fx.decompose import quiet
from dlbridge.frameworks.pytorch.fx.guards import Guard, Names, inputs_of
from dlbridge.frameworks.pytorch.fx.tensors import size_of

shape_kernels.register()

#: PyTorch function -> what is called instead while a module is traced.
_INSTEAD: Mapping[Any, Callable[..., Any]] = {
    **recurrence.INSTEAD,
    **traced_attention.INSTEAD,
    **traced_losses.INSTEAD,
    **traced_sizes.INSTEAD,
}


@dataclass(frozen=True)
class Exported:
    """An exported program, and what is known of its sizes.

    Attributes:
        program: The program.
        names: The names of its symbols.
        constraints: What the sizes must keep, as text.
    """

    program: ExportedProgram
    names: Names
    constraints: list[str] = field(default_factory=list)


class FixedSizeError(DlbridgeError):
    """The module's code works for the sizes of the example only; another example would not help."""


class SmallExampleError(DlbridgeError):
    """A size that is computed from those of the example is 1, for which torch takes it ever after."""


@contextlib.contextmanager
def _inference(module: torch.nn.Module, calling: Calling) -> Iterator[None]:
    """The module in eval mode, its results in classes that torch.export knows, and torch's log off; then as before.

    Its warnings stay: Python has one list of filters for all threads.
    """
    # Without gradients, torch's transformer layers would be one op each, which nothing takes apart.
    with (
        quiet(),
        in_eval_mode(module),
        training_only.kept(module),
        recurrence.packed(module),
        calling.installed(module),
        torch.enable_grad(),
    ):
        yield


def export(
    module: torch.nn.Module,
    inputs: Any,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    calling: Calling | None = None,
) -> Exported:
    """Export a module in eval mode, without decomposing it.

    Args:
        module: The module; it is left as it was.
        inputs: A tensor, a tuple of them, or a dict by parameter name; nested ones too. Instead of a tensor,
            ``"float32[batch,3,224,224]"``: named sizes become dynamic; ``"float32[batch,2<=n<=16]"`` bounds one.
        dynamic: Input -> {axis: name} for tensors. When None, axis 0 of each is the batch, where that can be.
        calling: How it is called.

    Raises:
        DlbridgeError: When torch cannot export the module, or a size that was named cannot be dynamic.
    """
    if inputs is None:
        raise SignatureError(
            "reading a torch module takes example inputs",
            where=type(module).__name__,
            hint="inputs=(tensor, ...) or inputs={'x': 'float32[batch,3,224,224]'} "
            "(on the command line: --input 'x:float32[batch,3,224,224]')",
        )
    calling = calling or Calling()
    exported = _of_copy(own_copy(module), inputs, dynamic, calling)
    if are_shared(module, state.written_buffers(exported.program)):  # what one module writes to it, others read
        exported = _of_copy(own_copy(module, part_buffers=False), inputs, dynamic, calling)
    return exported


def _of_copy(module: torch.nn.Module, inputs: Any, dynamic: Any, calling: Calling) -> Exported:
    """Export a module that nobody else uses: with example sizes that are tried in turn."""
    first: DlbridgeError | None = None
    for sizes in SIZES:
        example = Example(inputs, dynamic, *sizes)
        _check_call(module, example, calling)
        try:
            with _inference(module, calling):
                return _export(module, example)
        except FixedSizeError:
            raise
        except DlbridgeError as error:
            first = first or error
            if not example.made:
                break
    assert first is not None
    guessed = without_dtype(inputs)
    if guessed and first.hint is None:
        first.hint = f"no dtype was said for '{guessed[0]}', float32 was taken: say it, e.g. {guessed[0]}:int64[...]"
    raise first


def of_program(program: ExportedProgram) -> Exported:
    """A program that was exported elsewhere; the constraints that it states on its sizes are kept."""
    names = Names(program, {})
    squeezed = squeezes.guards_of(program, names)
    known = [*guards.of_ranges(program, names), *guards.found(guards.environment(program), names), *squeezed]
    texts, unsaid = guards.constraints_of(known)
    if unsaid:
        _refuse(unsaid[0])
    squeezes.tell(squeezed, "program")
    return Exported(program, names, texts)


def _check_call(module: torch.nn.Module, example: Example, calling: Calling) -> None:
    signature = inspect.signature(module.forward)
    calling.check_sizes({tensor.shape[axis] for tensor, names in example.dims for axis in names if axis})
    args, kwargs = calling.arguments(signature, example.args, example.kwargs)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise SignatureError(
            f"forward cannot take these inputs: {error}",
            where=type(module).__name__,
            hint=f"its parameters are: {', '.join(signature.parameters)}",
        ) from None


def _export(module: torch.nn.Module, example: Example) -> Exported:
    reason: DlbridgeError | None = None
    for strict in (False, True) if example.dims else (False,):
        try:
            return _attempt(module, example, strict=strict)
        except DlbridgeError as error:
            reason = reason or error
            if isinstance(error, (FixedSizeError, SmallExampleError)) and not isinstance(error, _PinnedError):
                break
    if not example.asked and example.dims:
        with contextlib.suppress(DlbridgeError), state.kept(module):  # what stops the static export too is told below
            program = _traced(module, example, None, strict=False)
            return Exported(program, Names(program, {}))
    assert reason is not None
    raise reason


class _PinnedError(FixedSizeError):
    """A named size is a number in the program."""


def _attempt(module: torch.nn.Module, example: Example, *, strict: bool) -> Exported:
    """Export once, and check the guards of the export.

    Raises:
        FixedSizeError: When the code is right for some of the sizes alone, and does not refuse the others.
    """
    tracing = Tracing(_INSTEAD, module)
    with state.kept(module) as written:
        program = _traced(module, example, example.shapes(module), strict=strict, mode=tracing)
    named = _placed(program, example)
    names = Names(program, named, example.stated)
    if example.asked:
        _require_dynamic(program, named, tracing)
    env = guards.environment(program)
    found = guards.found(env, names, example.stated, tracing.line)
    side_by_side = trial.Trial(module, program, example, names)
    kept, choice = trial.settle(side_by_side, found)
    if choice is not None:
        _refuse(choice)
    squeezed = squeezes.guards_of(program, names, example.stated)
    kept += squeezed
    texts, unsaid = guards.constraints_of(kept)
    if unsaid:
        _refuse(unsaid[0])
    ones = trial.at_one(side_by_side, kept) if strict or _may_ask_for_sizes(program, tracing) else []
    if ones:
        _refuse(Guard(sympy.Ne(sympy.Symbol(ones[0]), 1), _line_of_one(module, example, ones[0])))
    empty = trial.at_zero(side_by_side)
    if empty is not None:
        raise FixedSizeError(
            f"the model's code takes another way where '{empty}' is 0, or does not take that",
            where=type(module).__name__,
            hint=f"say '{empty}' without '0<={empty}': it is 1 at least then",
        )
    if written or state.written_buffers(program):
        tell_of_state(type(module).__name__, side_by_side.carried_over())
    squeezes.tell(squeezed, type(module).__name__)
    return Exported(program, names, trial.unstated(texts, example.stated))


def _may_ask_for_sizes(program: ExportedProgram, tracing: Tracing) -> bool:
    """Whether the module's code may do something else for other sizes: else it need not be tried where one is 1."""
    if tracing.asks_sizes or any(squeezes.found(program)):  # the number of axes tells of sizes then
        return True
    bodies = any(isinstance(part, torch.fx.GraphModule) for part in program.graph_module.children())  # traced elsewhere
    return bodies or any(isinstance(node.meta.get("val"), torch.SymInt) for node in inputs_of(program))


def tell_of_state(where: str, carried: Collection[str]) -> None:
    """Warn of attributes that one call leaves for the next."""
    if carried:
        what = f"{where}: forward keeps {', '.join(carried)} for its next call"
        then = "what is written begins each call with what the module holds now"
        hint = "to keep it, let forward take it as an input and return it"
        warnings.warn(f"{what}; {then}\n  {hint}", DlbridgeWarning, stacklevel=2)


def _traced(
    module: torch.nn.Module, example: Example, shapes: Any, *, strict: bool, mode: Tracing | None = None
) -> ExportedProgram:
    run = functools.partial(compat.export, module, example.args, example.kwargs, dynamic_shapes=shapes, strict=strict)
    try:
        with contextlib.nullcontext() if strict else mode or Tracing(_INSTEAD, module):
            program = run()
            return run(expanded=True) if _has_transforms(program) else program
    except DlbridgeError:
        raise
    except Exception as error:  # torch.export raises of its own, and whatever the module's code raises
        if not strict and any(word in str(error) for word in _TRANSFORMED):
            with contextlib.suppress(Exception), mode or Tracing(_INSTEAD):  # then the first error is told
                return run(expanded=True)
        line = _user_line(error)
        raise DlbridgeError(
            f"torch.export cannot export it: {_short(error)}",
            where=f"{type(module).__name__}{f' ({line})' if line else ''}",
            hint=IN_A_GRAPH if isinstance(error, GuardOnDataDependentSymNode) else _multiples(str(error)),
        ) from error


def _multiples(said: str) -> str | None:
    """What helps where a tensor is cut into parts of a free size, of which only multiples fit."""
    parts = re.findall(r"//(\d+)\)", said) if "is invalid for input of size" in said else []
    return f"if only multiples of {parts[0]} fit, name the size so: {parts[0]}*n" if parts else None


#: What torch says where a transform (``torch.vmap``) is in the way of an export.
_TRANSFORMED = ("functorch", "vmap", "constant's list")


def _has_transforms(program: ExportedProgram) -> bool:
    calls = (n for n in program.graph.nodes if n.op == "call_function")
    return any(getattr(n.target, "__name__", "") == "_add_batch_dim" for n in calls)


def _refuse(guard: Guard) -> None:
    """Refuse code that computes something else for sizes that break a guard."""
    try:
        text = guards.constraints_of([guard])[0][0]
    except IndexError:
        text = str(guard.relation)
    if guard.relation.has(compat.TruncToInt):
        what = "the model's code makes a number of a quotient of sizes, which is right for those of the example alone"
        raise FixedSizeError(what, where=guard.place or None, hint="write a // b instead of int(a / b)")
    bound = sorted(str(s) for s in guard.relation.free_symbols)
    size = bound[0] if bound else "size"
    kind = SmallExampleError if _says_one(guard) else FixedSizeError
    raise kind(
        f"the model's code takes another way for some sizes: what was read would be right for {text} alone",
        where=guard.place or None,
        hint=f"give {' or '.join(repr(b) for b in bound) or 'the size'} as a number, or say which sizes are meant, if "
        f"bounds or multiples can: 'float32[batch,2<={size}<=16]', 'float32[batch,32*{size}]'",
    )


def _says_one(guard: Guard) -> bool:
    """Whether a guard says that a size which is computed from others is 1."""
    relation = guard.relation
    return isinstance(relation, sympy.Eq) and 1 in relation.args and not any(a.is_Symbol for a in relation.args)


def _line_of_one(module: torch.nn.Module, example: Example, name: str) -> str:
    """The line on which the code asks whether a size is 1; found by an export that does not assume sizes above 1."""
    tracing = Tracing(_INSTEAD)
    with contextlib.suppress(DlbridgeError), fx_config.patch(backed_size_oblivious=True):
        program = _traced(module, example, example.shapes(module), strict=False, mode=tracing)
        names = Names(program, _placed(program, example))
        one = {sympy.Symbol(name, integer=True, positive=True): sympy.Integer(1)}
        for guard in guards.found(guards.environment(program), names, example.stated, tracing.line):
            if guard.relation.xreplace(one) == sympy.false:
                return guard.place
    return ""


def _placed(program: ExportedProgram, example: Example) -> dict[str, dict[int, str]]:
    """Name of a placeholder -> the names of its dynamic axes."""
    names = {id(t): named for t, named in example.dims}
    # Keyword arguments stand in the order of the call, as the placeholders do.
    pairs = zip(inputs_of(program), example.leaves, strict=False)
    return {node.name: names[id(leaf)] for node, leaf in pairs if id(leaf) in names}


def _require_dynamic(program: ExportedProgram, named: Mapping[str, Mapping[int, str]], tracing: Tracing) -> None:
    for node in inputs_of(program):
        for axis, name in named.get(node.name, {}).items():
            size = size_of(node.meta["val"].shape[axis])
            if isinstance(size, int):
                instead = ", or write a // b instead of int(a / b)" if guards.cuts_quotients(program) else ""
                kind = SmallExampleError if guards.is_pinned_by_one(program, size) else _PinnedError
                raise kind(
                    f"the size '{name}' of input '{node.name}' cannot be dynamic: the model's code fixes it to {size}",
                    where=guards.pinned(program, size, tracing.line) or None,
                    hint=f"give it as a number{instead}",
                )


def _user_line(error: BaseException) -> str:
    """``model.py:12`` of the innermost line that is not torch's, of where an error was raised."""
    places = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in places if not is_foreign(file)]
    return "{}:{}".format(*own[-1]) if own else ""


def _short(error: Exception | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:600] if lines else type(error).__name__
