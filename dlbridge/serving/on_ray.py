"""The server on Ray Serve: the same application and protocols, each version of a model as a deployment with replicas.

The *front* is one deployment: it holds the repository, checks requests, makes batches and answers HTTP and gRPC, as the
server on one machine does. In the place of a worker process, each version has an application of its own on Ray, whose
replicas Ray places on machines, adds and removes by how much waits, and starts again when they die.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import ray
import ray.exceptions
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions

from dlbridge.errors import DlbridgeError
from dlbridge.serving.grpc.aio import AioMethods
from dlbridge.serving.grpc.methods import OPEN_METHODS, Kind, paths
from dlbridge.serving.http.application import HttpApp
from dlbridge.serving.observer import Observer
from dlbridge.serving.problems import ServingError
from dlbridge.serving.ray_worker import DRAIN_SECONDS, RayWorker
from dlbridge.serving.repository import Repository
from dlbridge.serving.server import LOOPBACK, Settings
from dlbridge.serving.service import Service
from dlbridge.serving.token import Token
from dlbridge.serving.traces import recorder
from dlbridge.serving.versions import instances, threads
from dlbridge.serving.watching import watch

LOG = logging.getLogger("dlbridge.serving")
#: The application of the front; that of a model is called ``NAME--VERSION``.
FRONT = "dlbridge"
#: Requests that may be at the front at once: what a model can take is said by its own queue.
_AT_ONCE = 10_000
#: Seconds that the front waits for the models before it takes requests for those that are ready.
_START_SECONDS = 60.0


class _Front:
    """Answers HTTP and gRPC from the models of a repository.

    Args:
        path: The repository, or one ``.onnx`` file.
        models: Names of the models that are served; all when empty.
        max_body: Bytes that a request may have.
        token: What requests must carry; None for anybody.
        poll: Seconds between looks at the repository for what has changed; None for never.
        shares_memory: Whether clients are on the machine of the front, and may leave tensors in shared memory.
    """

    async def __init__(  # type: ignore[misc]  # Ray waits for it
        self,
        path: str,
        models: Sequence[str],
        max_body: int,
        token: str | None,
        poll: float | None,
        shares_memory: bool,
    ) -> None:
        repository = Repository(Path(path), models, worker=RayWorker)
        self._service = Service(repository, shares_memory, Observer(False, recorder()))
        self._app = HttpApp(self._service, max_body, token)
        self._token = Token(token)
        self._methods = AioMethods(self._service).handlers()
        self._loading = asyncio.get_running_loop().create_task(self._service.repository.load_all())
        await asyncio.wait([self._loading], timeout=_START_SECONDS)
        self._polling = None if poll is None else asyncio.get_running_loop().create_task(watch(repository, poll))

    def __serve_build_asgi_app__(self) -> Any:
        return self._app

    def check_health(self) -> None:
        """Ray asks whether this process lives."""

    def index(self) -> list[dict[str, str]]:
        """What the repository holds: name, version, state and reason of each version."""
        return self._service.index()

    async def call(self, path: str, data: bytes, context: Any) -> Any:
        """Answer one gRPC call."""
        call = _Call(context)
        call.check(path, self._token)
        return await self._methods[path].unary_unary(data, call)

    async def stream(self, path: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[Any]:
        """Answer a stream of gRPC messages."""
        call = _Call(context)
        call.check(path, self._token)
        handler = self._methods[path]

        async def parsed() -> AsyncIterator[Any]:
            async for data in requests:
                yield handler.request_deserializer(data)

        async for response in handler.stream_stream(parsed(), call):
            yield response


class _Call:
    """A gRPC call of Ray's, with what our methods ask of grpcio's."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def check(self, path: str, token: Token) -> None:
        """Refuse a call without the token, but for those that ask whether the server lives."""
        is_open = path.rpartition("/")[2] in OPEN_METHODS
        if is_open or token.is_carried(dict(self.invocation_metadata()).get("authorization")):
            return
        self._end(grpc.StatusCode.UNAUTHENTICATED, "the request has no valid token", ())

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """What the client sent beside the message."""
        return [(name, value) for name, value in self._context.invocation_metadata()]

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any = ()) -> None:
        """End the call with an error."""
        self._end(code, details, trailing)

    def _end(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        self._context.set_code(code)
        self._context.set_details(details)
        if trailing:
            self._context.set_trailing_metadata(list(trailing))
        raise ServingError(details)


def _method(path: str, kind: Kind) -> Callable[..., Any]:
    """A method of the front: Ray calls it by the last part of its path."""
    if kind is Kind.STREAM:

        async def answer_stream(self: Any, requests: Any, grpc_context: Any) -> AsyncIterator[Any]:
            async for response in self.stream(path, requests, grpc_context):
                yield response

        return answer_stream

    async def answer(self: Any, data: bytes, grpc_context: Any) -> Any:
        return await self.call(path, data, grpc_context)

    return answer


Front = type("Front", (_Front,), {p.rpartition("/")[2]: _method(p, kind) for p, kind in paths().items()})


def add_methods(servicer: Any, server: Any) -> None:
    """Tell Ray's gRPC proxy of the methods; messages stay bytes until they reach the front."""
    services: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
    for path, kind in paths().items():
        _, service, name = path.split("/")
        is_stream = kind is Kind.STREAM
        make = grpc.stream_stream_rpc_method_handler if is_stream else grpc.unary_unary_rpc_method_handler
        services.setdefault(service, {})[name] = make(None)
    for service, handlers in services.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def application(arguments: Mapping[str, Any]) -> Any:
    """The application of the front, as a Serve config names it.

    Args:
        arguments: ``path``, what :class:`Settings` calls ``models``, ``max_body`` and ``poll``, and ``shares_memory``.
            The token is that of the environment variable ``DLBRIDGE_TOKEN``.
    """
    deployment = serve.deployment(
        serve.ingress()(Front),
        name="front",
        num_replicas=1,
        max_ongoing_requests=_AT_ONCE,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
    )
    return deployment.bind(
        str(Path(arguments["path"]).resolve()),
        list(arguments.get("models", ())),
        int(arguments.get("max_body", Settings.max_body)),
        os.environ.get("DLBRIDGE_TOKEN") or None,
        arguments.get("poll"),
        bool(arguments.get("shares_memory", False)),
    )


# --- the command ------------------------------------------------------------------------------------------------------


def run(path: Path, settings: Settings, on_start: Callable[[list[dict[str, str]]], None] | None = None) -> None:
    """Serve a repository on Ray until the process is told to end.

    It runs on the cluster that ``RAY_ADDRESS`` names, or on one of this machine that is begun for it.

    Args:
        path: The repository or file, under the same path on all machines.
        settings: How to serve.
        on_start: Called with the index of the repository when requests are taken.

    Raises:
        FileError: When there is no such repository.
        DlbridgeError: When the settings would let anybody in, or ask for TLS, which Ray's proxies do not speak.
    """
    settings.check()
    wanted = _cpus(Repository(path, settings.models))
    if settings.certificate is not None:
        raise DlbridgeError("Ray's proxies speak no TLS", hint="put what ends TLS in front of them, and leave it out")
    if settings.host not in LOOPBACK:
        LOG.warning("Ray's own ports are open to whoever reaches this machine: keep them in a network of their own")
    variables = {"DLBRIDGE_TOKEN": settings.token or ""}
    os.environ.update(variables)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as in dlbridge.ray_cluster
    is_mine = "RAY_ADDRESS" not in os.environ
    ray.init(
        # a laptop serves more models than it has cores, here as without Ray
        num_cpus=max(os.cpu_count() or 1, wanted) if is_mine else None,
        log_to_driver=False,
        logging_level=logging.WARNING,
        runtime_env={"env_vars": variables},
    )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # in the place of Ray's own, which end the process at once
        signal.signal(number, lambda *_: stopped.set())
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        serve.start(
            http_options=HTTPOptions(host=settings.host, port=settings.http_port or 8000),
            grpc_options=gRPCOptions(
                port=settings.grpc_port or 8001, grpc_servicer_functions=[f"{__name__}:{add_methods.__name__}"]
            ),
        )
        arguments = {
            "path": str(path),
            "models": settings.models,
            "max_body": settings.max_body,
            "poll": settings.poll,
            "shares_memory": settings.host in LOOPBACK and len(ray.nodes()) == 1,
        }
        handle = serve.run(application(arguments), name=FRONT, route_prefix="/")
        if on_start is not None:
            on_start(handle.index.remote().result())
        stopped.wait()
    finally:
        serve.shutdown()
        ray.shutdown()


def _cpus(repository: Repository) -> int:
    """How many CPUs the models of a repository ask for, when all their instances run."""
    total = 0
    for name in repository.names():
        with contextlib.suppress(DlbridgeError):  # the front says what is wrong with it
            config = repository.config(name)
            total += threads(config) * instances(config)
    return total
