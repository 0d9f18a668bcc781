"""Makes written NNX source live, and runs it on numpy arrays.

JAX computes in 64-bit types only where it is told to: here, for as long as a call takes (``wide``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dlbridge.errors import WeightsError
from dlbridge.frameworks.nnx.exact import Exact
from dlbridge.frameworks.nnx.wide import wide
from dlbridge.ops.keys import RANDOM_OPS, is_op
from dlbridge.source import safetensors_file
from dlbridge.source.program import Source
from dlbridge.source.weights import contiguous

#: Counts the modules that are loaded. JAX keeps the compiled code of so many of them, though they are gone.
_LOADED, _KEPT = itertools.count(1), 20
#: What JAX raises where compiled code asks for the numbers in an array, or for a shape that depends on them.
_ASKS_FOR_NUMBERS = (
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)


def load(source: Source) -> nnx.Module:
    """The written module, in inference mode, with its weights."""
    return _filled(source, source.arrays())


def _filled(source: Source, arrays: Iterable[tuple[str, np.ndarray]]) -> nnx.Module:
    """The written module, in inference mode, with these weights; no random numbers are drawn for them."""
    if next(_LOADED) % _KEPT == 0:
        jax.clear_caches()  # each module's code takes some 800 mappings of memory, of which a process may have 65,530
    made = source.execute()[source.entry]

    def make() -> nnx.Module:
        return made(rngs=nnx.Rngs(0)) if "__init__" in vars(made) else made()

    with wide():
        module = nnx.eval_shape(make)
        for key, array in arrays:
            variable = lookup(module, key)
            if variable.shape != array.shape:
                raise WeightsError(f"the variable has the shape {variable.shape}, the weight {array.shape}", where=key)
            variable.set_value(jnp.asarray(contiguous(array)))
        nnx.update(module, _rest(module, make))
    module.eval()
    object.__setattr__(module, "dlbridge_source", source)
    return module


def load_saved(source: Source, weights: Path) -> nnx.Module:
    """The module of a file, in inference mode, with the weights beside it.

    Raises:
        WeightsError: When the weights do not fit the module.
    """
    try:
        arrays = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise WeightsError(str(error), where=str(weights)) from error
    missing = sorted(source.weights.keys() - arrays.keys())
    if missing:
        raise WeightsError(f"there is no '{missing[0]}'", where=str(weights))
    return _filled(source, arrays.items())


def _rest(module: nnx.Module, make: Callable[[], nnx.Module]) -> Any:
    """The arrays of a module that no weight gives, as ``make`` makes them: constants, and keys of random numbers."""
    missing = {path for path, leaf in nnx.to_flat_state(nnx.state(module)) if _is_abstract(leaf)}
    if not missing:
        return nnx.state(module, nnx.Nothing())
    return jax.jit(lambda: nnx.state(make(), lambda path, leaf: tuple(path) in missing))()


def _is_abstract(leaf: Any) -> bool:
    value = leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf
    return isinstance(value, jax.ShapeDtypeStruct)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of modules and arrays, compiled where that can be: not where it asks for the numbers in an array.

    The compiled code returns no weights: it would return a copy of each that it leaves as it is.
    """
    fast = nnx.jit(function, graph_updates=False)

    def call(*arguments: Any) -> Any:
        try:
            return fast(*arguments)
        except _ASKS_FOR_NUMBERS:
            return function(*arguments)

    return call


def lookup(module: nnx.Module, key: str) -> nnx.Variable:
    """The variable that a weight's key names."""
    found: Any = module
    for part in key.split("."):
        found = found.layers if isinstance(found, nnx.Sequential) and part.isdigit() else found
        is_item = part.isdigit() and not hasattr(found, part)
        found = found[int(part)] if is_item else getattr(found, part)
    return found


def _call(module: nnx.Module, *inputs: Any) -> Any:
    return module(*inputs)


_compiled = compiled(_call)


def source_of(live: Any) -> Source:
    """What a live module was made of."""
    source: Source = live.dlbridge_source
    return source


def run(live: nnx.Module, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run in the mode in which the module is.

    Raises:
        SignatureError: When an input is missing.
    """
    source = source_of(live)
    source.require_inputs(inputs)
    with wide():
        call = _call if any(is_op(node, *RANDOM_OPS) for node in source.model.graph.all_nodes()) else _compiled
        out = call(live, *(jnp.asarray(inputs[n]) for n in source.inputs))
        return {n: np.asarray(v) for n, v in zip(source.outputs, _listed(source, out), strict=True)}


def exact(live: nnx.Module) -> Exact:
    """Runs the live module in float64; it stays as it is."""
    source = source_of(live)
    return Exact(lambda values: _listed(source, live(*values)), source.inputs, source.outputs)


def _listed(source: Source, out: Any) -> list[Any]:
    return [value[...] if isinstance(value, nnx.Variable) else value for value in source.in_order(out)]


def weights(live: nnx.Module) -> dict[str, np.ndarray]:
    """Framework key -> array of a live model's weights, as they are now."""
    return {key: np.asarray(lookup(live, key)[...]) for key in source_of(live).weights}


def save_weights(source: Source, folder: Path) -> None:
    """Write ``weights.safetensors``, arrays by their dotted path in the module."""
    safetensors_file.save(source.arrays, folder / "weights.safetensors")
