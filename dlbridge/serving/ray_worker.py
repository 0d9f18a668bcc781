"""A version of a model on Ray: replicas in place of a worker process, which Ray places, adds, removes and restarts."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray.exceptions
from ray import serve

from dlbridge.errors import DlbridgeError, SignatureError
from dlbridge.runtime.loading import load
from dlbridge.serving import tensors
from dlbridge.serving.frames import Named
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.process import LOADING_SECONDS, Answer
from dlbridge.serving.tensors import Tensor
from dlbridge.serving.worker import signature, warm_up

LOG = logging.getLogger("dlbridge.serving")
#: How many requests may be queued at a replica while it runs one.
_AHEAD = 2
#: Seconds after which requests that are under way when a replica is to end are given up.
DRAIN_SECONDS = 30.0
#: Ray's deployments are made one at a time: while it pickles them it changes what pickle does.
_DEPLOYING = threading.Lock()


class Replica:
    """Runs one version of a model, in a process that Ray has placed.

    Args:
        order: What to load, as a worker process is told.
    """

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._error = ""
        try:
            self._session = load(order["file"], order["providers"], threads=order["threads"])
            warm_up(self._session, order["warmup"])
        except DlbridgeError as error:  # Ray would try again and again
            self._error = str(error)

    def describe(self) -> dict[str, Any]:
        """The model's signature and providers, or the ``error`` why it cannot be loaded."""
        if self._error:
            return {"error": self._error}
        return {"signature": signature(self._session), "providers": self._session.providers}

    def run(self, inputs: list[tuple[str, str, Any, bytes]], wanted: Sequence[str] | None) -> Any:
        """The outputs for some inputs, each as (name, datatype, shape, bytes); or why there are none."""
        try:
            feed = {name: tensors.to_array(Tensor(kind, tuple(shape), data)) for name, kind, shape, data in inputs}
            outputs = self._session.run(feed, wanted)
        except SignatureError as error:
            return str(error)
        return _packed((name, tensors.from_array(array)) for name, array in outputs.items())


class RayWorker:
    """A version's replicas, as the server sees them: in the place of a worker process.

    Args:
        name: What it serves, for messages.
        on_end: Not called: Ray itself starts replicas again.
    """

    pid = None

    def __init__(self, name: str, on_end: Callable[[], None]) -> None:
        self.name = name
        self._app = ""
        self._handle: Any = None
        self._runs: set[asyncio.Task[None]] = set()

    async def start(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Deploy the version and wait until a replica has loaded it.

        Returns:
            The model's ``signature`` and the ``providers`` in use.

        Raises:
            ServingError: When it cannot be loaded, or Ray has no room for it.
        """
        self._app = f"{order['model']}--{order['version']}"
        loop = asyncio.get_running_loop()
        try:
            self._handle, found = await loop.run_in_executor(None, _deploy, self._app, dict(order))
        except Exception as error:  # Ray's own have no base class of their own
            LOG.exception("Ray cannot deploy %s", self.name)
            raise ServingError(f"Ray cannot deploy it: {error}", Status.UNAVAILABLE, where=self.name) from error
        if "error" in found:
            raise ServingError(found["error"], Status.INVALID, where=self.name)
        return dict(found)

    def run(self, runs: Sequence[tuple[Sequence[Named], Sequence[str] | None, Answer]]) -> None:
        """Send runs: (inputs, names of the outputs that are wanted or None for all, what takes the answer) each."""
        for inputs, wanted, answer in runs:
            task = asyncio.get_running_loop().create_task(self._run(_packed(inputs), wanted, answer))
            self._runs.add(task)
            task.add_done_callback(self._runs.discard)

    async def _run(self, inputs: Any, wanted: Sequence[str] | None, answer: Answer) -> None:
        try:
            found = await self._handle.run.remote(inputs, wanted)
        except ray.exceptions.RayActorError:
            problem = "the replica of the model ended while it was at it"
            answer([], (), ServingError(problem, Status.UNAVAILABLE, retry_after=1.0, where=self.name))
        except Exception as error:  # whatever Ray says: the request is to be answered
            LOG.exception("a run of %s failed", self.name)
            answer([], (), ServingError(f"{type(error).__name__}: {error}", Status.INTERNAL, where=self.name))
        else:
            if isinstance(found, str):
                answer([], (), ServingError(found, Status.INVALID, where=self.name))
            else:
                answer([(name, Tensor(kind, shape, data)) for name, kind, shape, data in found], (0, 0, 0), None)

    async def end(self, seconds: float = DRAIN_SECONDS) -> None:
        """Wait for the answers that are due (at most so long), then remove the deployment."""
        if self._runs:
            await asyncio.wait(self._runs, timeout=seconds)
        await asyncio.get_running_loop().run_in_executor(None, self.kill)

    def kill(self) -> None:
        """Remove the deployment at once."""
        if self._app:
            serve.delete(self._app, _blocking=False)

    def reap(self) -> None:
        """Nothing is left of a replica."""


def _packed(named: Any) -> list[tuple[str, str, Any, bytes]]:
    return [(name, tensor.datatype, tuple(tensor.shape), bytes(tensor.data)) for name, tensor in named]


def _deploy(app: str, order: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Deploy an application; returns what calls it, and what it says of its model when it has loaded it."""
    with _DEPLOYING:
        target = serve.RunTarget(_deployment(app, order).bind(order), name=app, route_prefix=None)
        serve.run_many([target], wait_for_applications_running=False)
        handle = serve.get_app_handle(app)
        description = handle.describe.remote()
    return handle, description.result(timeout_s=LOADING_SECONDS)


def _deployment(app: str, order: dict[str, Any]) -> Any:
    """A deployment of as many replicas as the version has instances, at most: as many as its requests keep busy."""
    most = max(order["instances"], 1)
    is_on_gpu = not order["providers"][0].startswith("cpu")
    scaling: dict[str, Any] = {"num_replicas": 1}
    if most > 1:
        scaling = {
            "autoscaling_config": {
                "min_replicas": 1,
                "max_replicas": most,
                "target_ongoing_requests": 1.5,
                "upscale_delay_s": 3,
                "downscale_delay_s": 60,
            }
        }
    return serve.deployment(
        Replica,
        name=app,
        ray_actor_options={"num_gpus": 1 / most} if is_on_gpu else {"num_cpus": order["threads"]},
        max_ongoing_requests=1 + _AHEAD,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        health_check_period_s=2,
        **scaling,
    )
