"""The server: a repository behind HTTP and gRPC, in one process, with a worker process for each version."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib.util
import logging
import signal
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from dlbridge.errors import DlbridgeError, require
from dlbridge.serving.http.application import HttpApp
from dlbridge.serving.http.protocol import InferenceProtocol
from dlbridge.serving.observer import Observer
from dlbridge.serving.repository import Repository
from dlbridge.serving.service import Service
from dlbridge.serving.traces import recorder
from dlbridge.serving.versions import DRAIN_SECONDS
from dlbridge.serving.watching import watch

LOG = logging.getLogger("dlbridge.serving")
#: Seconds, beyond those that requests have to be answered, for telling their clients that they are not.
_ENDING_SECONDS = 4.0
#: Addresses that only this machine reaches.
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Settings:
    """How to serve.

    Attributes:
        host: Address to listen at.
        http_port: Port of HTTP; 0 for any that is free, None for no HTTP.
        grpc_port: Port of gRPC; the same.
        max_body: Bytes that a request may have.
        poll: Seconds between looks at the repository for what has changed; None for never.
        token: What requests must carry; None for anybody.
        certificate: File of the TLS certificate (PEM); None for no TLS.
        key: File of its key.
        models: Names of the models that are served; all of the repository when empty.
        logs_requests: Whether each request has a line in the log.
        grpc_engine: What carries gRPC: ``zttp``, ``grpcio``, or ``auto`` for the first of them that is installed.
        cache: A folder for optimised graphs, so that models are loaded sooner; None for none.
    """

    host: str = "127.0.0.1"
    http_port: int | None = 8000
    grpc_port: int | None = 8001
    max_body: int = 256 << 20
    poll: float | None = None
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    models: tuple[str, ...] = ()
    logs_requests: bool = False
    cache: Path | None = None
    grpc_engine: str = "auto"

    def check(self) -> None:
        """Check that what others can reach is protected.

        Raises:
            DlbridgeError: When it is not.
        """
        if (self.certificate is None) != (self.key is None):
            raise DlbridgeError("TLS needs a certificate and its key")
        if self.certificate is not None:
            _check_tls(self.certificate, self.key)
        if self.token is not None and (not self.token.strip() or not self.token.isprintable()):
            raise DlbridgeError("the token is empty, or has more than one line", hint="put one line into its file")
        if self.host not in LOOPBACK and self.token is None:
            raise DlbridgeError(
                f"anybody who reaches {self.host} could use the models",
                hint="give a token (--token-file), or listen at 127.0.0.1",
            )


class Server:
    """Serves a repository until it is told to stop.

    Args:
        path: The repository, or one ``.onnx`` file.
        settings: How to serve.

    Attributes:
        http_port: The port of HTTP, when it has started.
        grpc_port: The port of gRPC, when it has started.
    """

    def __init__(self, path: Path, settings: Settings) -> None:
        settings.check()
        self.settings = settings
        observer = Observer(settings.logs_requests, recorder())
        self.service = Service(Repository(path, settings.models, settings.cache), settings.host in LOOPBACK, observer)
        self.http_port: int | None = None
        self.grpc_port: int | None = None
        self._stop = asyncio.Event()
        self._http: uvicorn.Server | None = None
        self._grpc: Any = None
        self._tasks: list[asyncio.Task[Any]] = []

    async def run(self, on_start: Any = None) -> None:
        """Load the models, serve, and drain when told to stop (SIGTERM, SIGINT, or :meth:`stop`).

        Args:
            on_start: Called when requests are taken.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError, RuntimeError):  # not in the main thread
                loop.add_signal_handler(number, self.stop)
        try:
            await self.service.repository.load_all()
            await self._start_grpc()
            await self._start_http()
            if self.settings.poll is not None:
                self._tasks.append(loop.create_task(watch(self.service.repository, self.settings.poll)))
            gc.collect()
            gc.freeze()  # what is there now stays: a collection that looked through it would hold up requests for 20 ms
            if not self.service.repository.models:
                LOG.warning("there is no model in %s: no <name>/<version>/model.onnx", self.service.repository.path)
            if on_start is not None:
                on_start()
            await self._stop.wait()
        finally:
            await self._end()

    def stop(self) -> None:
        """Take no more requests, answer those that came, and end."""
        self._stop.set()

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def _start_http(self) -> None:
        settings = self.settings
        if settings.http_port is None:
            return
        app = HttpApp(self.service, settings.max_body, settings.token)
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            host=settings.host,
            port=settings.http_port,
            http=functools.partial(InferenceProtocol, app),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            log_config=None,
            server_header=False,
            date_header=False,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            timeout_graceful_shutdown=int(DRAIN_SECONDS + _ENDING_SECONDS),
            backlog=2048,
        )
        self._http = uvicorn.Server(config)
        if not config.loaded:
            config.load()
        self._http.lifespan = config.lifespan_class(config)
        try:
            await self._http.startup()
        except SystemExit:  # uvicorn has logged why
            where = f"{settings.host}:{settings.http_port}"
            raise DlbridgeError(f"cannot listen at {where}", hint="is the port in use?") from None
        self.http_port = self._http.servers[0].sockets[0].getsockname()[1]
        self._tasks.append(asyncio.get_running_loop().create_task(self._http.main_loop()))

    # --- gRPC -----------------------------------------------------------------------------------------------------

    async def _start_grpc(self) -> None:
        settings = self.settings
        if settings.grpc_port is None:
            return
        self._grpc = _grpc_server(settings.grpc_engine)(self.service, settings.max_body, settings.token)
        try:
            self.grpc_port = await self._grpc.start(
                settings.host, settings.grpc_port, settings.certificate, settings.key
            )
        except OSError as error:
            where = f"{settings.host}:{settings.grpc_port}"
            raise DlbridgeError(f"cannot listen at {where}: {error}", hint="is the port in use?") from None

    # --- the end --------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        self.service.is_draining = True
        ending = []
        if self._grpc is not None:
            ending.append(self._grpc.stop(DRAIN_SECONDS + _ENDING_SECONDS))
        if self._http is not None and self._http.started:
            ending.append(self._http.shutdown())
        ended = asyncio.gather(*ending)
        await asyncio.wait([ended], timeout=DRAIN_SECONDS)
        for task in self._tasks:
            task.cancel()
        await self.service.repository.close()  # whoever waits still is told that there is no answer
        await ended


def _check_tls(certificate: Path, key: Path | None) -> None:
    """Check that a certificate and its key can be used.

    Raises:
        DlbridgeError: When they cannot.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # a server has nobody to ask for a password
    except (OSError, ValueError) as error:
        what = f"they are no TLS certificate and its key without a password, in PEM: {error}"
        raise DlbridgeError(what, where=f"{certificate}, {key}") from None


def _grpc_server(engine: str) -> Any:
    """The class of the gRPC server.

    Raises:
        DlbridgeError: When it is not installed.
    """
    if engine == "auto":
        engine = "zttp" if importlib.util.find_spec("zttp") is not None else "grpcio"
    if engine == "zttp":
        return require("dlbridge.serving.grpc.connection", "serve").WireServer
    return require("dlbridge.serving.grpc.aio", "serve").AioServer


def serve(path: Path, settings: Settings, on_start: Any = None) -> None:
    """Serve a repository, or one ``.onnx`` file, until the process is told to end.

    Args:
        path: The repository or file.
        settings: How to serve.
        on_start: Called with the :class:`Server` when requests are taken.

    Raises:
        FileError: When there is no such repository.
        DlbridgeError: When a port is in use, or the settings would let anybody in.
    """

    async def main() -> None:
        server = Server(path, settings)
        await server.run(None if on_start is None else lambda: on_start(server))

    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main())


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not on every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
