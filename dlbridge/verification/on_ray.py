"""Runs the routes of a verification on Ray: each worker reads the model and runs one route on all sets of inputs.

The judge, and all comparing, stay where the verification was asked for.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ray

from dlbridge.errors import DlbridgeError, VerificationError, from_parts
from dlbridge.model import Model
from dlbridge.ray_cluster import connected
from dlbridge.verification.certificate import hash_graph, hash_weights
from dlbridge.verification.forms import Form
from dlbridge.verification.measure import Arrays
from dlbridge.verification.routes import Route
from dlbridge.verification.weight_check import Unlike

#: What a comparison asks of a route beside its outputs.
_SAID = ("note", "eps", "folds", "text", "as_written")
Builders = Mapping[str, Callable[[], Form]]


@contextlib.contextmanager
def spread(load: Callable[[], Model]) -> Iterator[Callable[[Model, Builders, Sequence[Arrays]], Builders]]:
    """Connect to a Ray cluster, and yield the argument ``spread`` of ``dlbridge.verification.verify`` that runs the
    routes on its workers.

    Args:
        load: Reads the model; it is pickled, so that each worker reads it too.
    """
    with connected():
        yield partial(_spread, load)


def _spread(load: Callable[[], Model], model: Model, builders: Builders, cases: Sequence[Arrays]) -> Builders:
    """Start every route on a worker; return builders of routes whose outputs come from there.

    Args:
        load: Reads the model.
        model: The model, as it was read here.
        builders: What builds each route here.
        cases: The sets of inputs.
    """
    given, same = ray.put(list(cases)), _identity(model)
    folder = os.getcwd()
    runs = {name: _run.remote(load, folder, name, given, same) for name in builders}
    return {name: partial(_Elsewhere, name, runs[name], build, cases) for name, build in builders.items()}


class _Elsewhere:
    """A route that a worker has run. Anything else that is asked of it is done here, by a route that is built then.

    Raises:
        DlbridgeError: What the worker's route has raised.
    """

    def __init__(self, name: str, run: Any, build: Callable[[], Form], cases: Sequence[Arrays]) -> None:
        found = ray.get(run)
        if isinstance(found, list):
            raise from_parts(found)
        self.name = name
        self._outputs = {id(case): [outputs] for case, outputs in zip(cases, found["outputs"], strict=True)}
        if cases:  # they are asked for again, after all others
            self._outputs[id(cases[0])].append(found["again"])
        self._unlike = found["unlike"]
        self._build = build
        self._here: Form | None = None
        vars(self).update({key: found[key] for key in _SAID})

    def run(self, arrays: Arrays) -> Arrays:
        """The outputs for a set of inputs."""
        outputs = self._outputs.get(id(arrays))
        if outputs is None:
            return self._route.run(arrays)
        return outputs.pop(0) if len(outputs) > 1 else outputs[0]

    def unlike_weights(self) -> list[Unlike]:
        """The weights that are not the model's."""
        found: list[Unlike] = self._unlike
        return found

    @property
    def _route(self) -> Form:
        if self._here is None:
            self._here = self._build()
        return self._here

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._route, name)


@ray.remote(num_cpus=1)
def _run(load: Callable[[], Model], folder: str, name: str, cases: list[Arrays], same: str) -> Any:
    """The outputs of a route for each set of inputs, and what else is asked of it; or its error, in parts."""
    os.chdir(folder)  # the model may be named by a path from there
    try:
        model = load()
        if _identity(model) != same:
            raise VerificationError(
                "the model is another one each time it is read: its weights are drawn anew",
                hint="fix its seed, or convert it to a file and verify that",
            )
        route = Route(model, name, {})
        outputs = [route.run(arrays) for arrays in cases]
        again = route.run(cases[0]) if cases else None
        unlike = route.unlike_weights()
    except DlbridgeError as error:
        return error.parts()
    return {"outputs": outputs, "again": again, "unlike": unlike, **{key: getattr(route, key) for key in _SAID}}


def _identity(model: Model) -> str:
    return f"{hash_graph(model)} {hash_weights(model)}"
