"""Runs an NNX module with every float in float64: what shows whether a difference is more than rounding.

The module stays as it is. It is traced into a jaxpr once for each set of shapes, whose equations are run one by one
with each float type narrower than float64 replaced: in what goes in, and in the dtypes that an equation names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from dlbridge.frameworks.nnx.wide import wide
from dlbridge.ops.evaluator import NARROW, Float64Run

#: What a dtype becomes.
_WIDE = {np.dtype("complex64"): np.dtype("complex128"), **dict.fromkeys(NARROW, np.dtype("float64"))}
#: Equations on the bits of a number, which therefore need the module's own type.
_OF_BITS = ("bitcast_convert_type",)
#: Equations that only run the jaxpr within them, and the parameters that may hold it.
_CALLS = (
    *("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "custom_jvp_call"),
    *("custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"),
)
_INNER = ("jaxpr", "call_jaxpr", "fun_jaxpr")
#: Equations that sum products.
_SUMS = ("dot_general", "conv_general_dilated")
#: What JAX raises where an equation cannot be run in another type: one whose reduction is itself a jaxpr.
_NO_KERNEL = (TypeError, ValueError, NotImplementedError)

Call = Callable[[Sequence[Any]], Sequence[Any]]


class Exact:
    """A module in float64: arrays by input name -> arrays by output name.

    Args:
        call: Calls the live module with arrays; its outputs, in order.
        inputs: The names of its inputs.
        outputs: The names of its outputs.

    Attributes:
        eps: That of the coarsest float type that the module has computed in.
    """

    def __init__(self, call: Call, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.eps = 0.0
        self._call, self._inputs, self._outputs = call, list(inputs), list(outputs)
        self._traced: dict[Any, Any] = {}

    def __call__(
        self, arrays: Mapping[str, np.ndarray], *, noise: float = 0.0, seen: list[np.ndarray] | None = None
    ) -> dict[str, np.ndarray]:
        """Run it; see ``dlbridge.ops.evaluator.Evaluator``."""
        with wide():
            given = [jnp.asarray(arrays[name]) for name in self._inputs]
            key = tuple((array.shape, array.dtype) for array in given)
            if key not in self._traced:
                self._traced[key] = jax.make_jaxpr(lambda *values: list(self._call(values)))(*given)
            run = _Run(noise, seen)
            found = run.closed(self._traced[key], [run.widened(array) for array in given])
            self.eps = max(self.eps, run.eps)
            return {name: np.asarray(value) for name, value in zip(self._outputs, found, strict=True)}


class _Run(Float64Run):
    """One run of a jaxpr, equation by equation."""

    def closed(self, closed: Any, given: Sequence[Any]) -> list[Any]:
        """The outputs of a jaxpr, which may bring constants with it."""
        jaxpr, constants = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
        values: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
        values |= dict(zip(jaxpr.invars, given, strict=True))

        def read(atom: Any) -> Any:
            if not isinstance(atom, Literal):
                return self.widened(values[atom])  # weights where they are read: all at once are twice the model
            aval: Any = atom.aval
            return self.widened(jnp.asarray(atom.val, aval.dtype))

        last = {atom: i for i, e in enumerate(jaxpr.eqns) for atom in e.invars if not isinstance(atom, Literal)}
        kept = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
        for i, equation in enumerate(jaxpr.eqns):
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, results, strict=True))
            for atom in {a for a in equation.invars if not isinstance(a, Literal)} - kept:
                if last[atom] == i:  # what nobody reads any more need not be held
                    del values[atom]
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, given: list[Any]) -> Sequence[Any]:
        name, parameters = equation.primitive.name, equation.params
        if name in _CALLS:
            inner = next(parameters[key] for key in _INNER if key in parameters)
            return self.closed(inner, given)
        if name == "cond":
            index = min(max(int(given[0]), 0), len(parameters["branches"]) - 1)
            return self.closed(parameters["branches"][index], given[1:])
        if name == "while":
            return self._while(parameters, given)
        if name == "scan":
            return self._scan(parameters, given)
        if name == "reduce_precision":  # to what the type holds
            return given
        is_sum = name in _SUMS
        return [self._settled(result, is_sum) for result in self._run(equation, given)]

    def _while(self, parameters: Mapping[str, Any], given: list[Any]) -> list[Any]:
        count, further = parameters["cond_nconsts"], parameters["body_nconsts"]
        of_condition, of_body = given[:count], given[count : count + further]
        state = given[count + further :]
        while bool(self.closed(parameters["cond_jaxpr"], [*of_condition, *state])[0]):
            state = self.closed(parameters["body_jaxpr"], [*of_body, *state])
        return state

    def _scan(self, parameters: Mapping[str, Any], given: list[Any]) -> list[Any]:
        constants, carried = parameters["num_consts"], parameters["num_carry"]
        held, state = given[:constants], given[constants : constants + carried]
        slices = given[constants + carried :]
        steps = range(parameters["length"])
        rounds = []
        for i in reversed(steps) if parameters["reverse"] else steps:
            found = self.closed(parameters["jaxpr"], [*held, *state, *(x[i] for x in slices)])
            state = found[:carried]
            rounds.append(found[carried:])
        if not rounds:
            empty = parameters["jaxpr"].out_avals[carried:]
            return [*state, *(self.widened(jnp.zeros((0, *a.shape), a.dtype)) for a in empty)]
        rounds = rounds[::-1] if parameters["reverse"] else rounds
        return [*state, *(jnp.stack(parts) for parts in zip(*rounds, strict=True))]

    def _run(self, equation: Any, given: list[Any]) -> Sequence[Any]:
        for atom in (*equation.invars, *equation.outvars):
            self.note(getattr(atom.aval, "dtype", None))
        if equation.primitive.name not in _OF_BITS:
            try:
                return _bound(equation, given, {key: _wide(value) for key, value in equation.params.items()})
            except _NO_KERNEL:
                pass
        types = [atom.aval.dtype for atom in equation.invars]
        own = [x.astype(t) if x.dtype != t and t in _WIDE else x for x, t in zip(given, types, strict=True)]
        return _bound(equation, own, equation.params)

    def widened(self, value: Any) -> Any:
        self.note(value.dtype)
        return value.astype(_WIDE[value.dtype]) if value.dtype in _WIDE else value

    def _settled(self, value: Any, is_sum: bool) -> Any:
        """The result in float64, with noise added if that was asked for."""
        value = self.widened(value)
        if value.dtype != np.float64 or not self.settles:
            return value
        array = np.asarray(value)
        settled = self.settle(array, is_sum=is_sum)
        return value if settled is array else jnp.asarray(settled)


def _bound(equation: Any, given: Sequence[Any], parameters: Mapping[str, Any]) -> Sequence[Any]:
    """The results of one equation by itself."""
    made = equation.primitive.bind(*given, **parameters)
    return made if equation.primitive.multiple_results else [made]


def _wide(parameter: Any) -> Any:
    """A parameter of an equation; a dtype as what it becomes."""
    if not isinstance(parameter, (np.dtype, type)):
        return parameter
    try:
        return _WIDE.get(np.dtype(parameter), parameter)
    except TypeError:  # a type that is none of numbers
        return parameter
