"""The Open Inference Protocol over HTTP: JSON, and the binary tensor extension."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dlbridge.errors import DlbridgeError
from dlbridge.repository import config as configs
from dlbridge.repository.datatypes import CONFIG_TYPES
from dlbridge.serving import metrics, openapi, page
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferRequest, InferResponse, Wanted
from dlbridge.serving.service import Service
from dlbridge.serving.shared_memory import SharedMemory
from dlbridge.serving.tensors import Tensor, from_json, to_json

HEADER_LENGTH = "inference-header-content-length"
_HEADER_LENGTH = HEADER_LENGTH.encode()
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
#: Seconds after which a request that has no answer yet is withdrawn when its client is gone.
_WATCH_AFTER = 0.1
_GONE = "gone"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class HttpApp:
    """The ASGI application.

    Inference, which is what a server is asked nearly always, is answered here; everything else by Starlette's routes.

    Args:
        service: What answers.
        max_body: Bytes that a request may have, and that it may have when it is decompressed.
        token: What requests must carry as ``Authorization: Bearer``; None for anybody.
    """

    def __init__(self, service: Service, max_body: int, token: str | None = None) -> None:
        self._service = service
        self._max_body = max_body
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._others = _application(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._others(scope, receive, send)
            return
        path = scope["path"]
        headers = dict(scope["headers"])
        if self._authorization is not None and not self._is_allowed(path, headers):
            await _send_error(send, ServingError("the request has no valid token", Status.UNAUTHENTICATED))
            return
        if scope["method"] == "POST" and path.endswith("/infer"):
            await self._infer(path, headers, receive, send)
            return
        await self._others(scope, receive, send)

    def _is_allowed(self, path: str, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request has the token; whether the server lives, anybody may ask."""
        return path in ("/v2/health/live", "/v2/health/ready") or headers.get(b"authorization") == self._authorization

    async def _infer(self, path: str, headers: Mapping[bytes, bytes], receive: Receive, send: Send) -> None:
        try:
            model, version = _model_of(path)
            self._service.check_room(model)  # what is refused in an overload costs as little as it can
            body = await self._body(headers, receive)
            memory = self._service.memory
            request, is_binary = parse(model, version, body, headers.get(_HEADER_LENGTH), memory)
            response = await self._unless_gone(self._service.infer(request), receive)
            text, payload = render(response, is_binary)
        except ServingError as error:
            await _send_error(send, error)
            return
        content = [(_HEADER_LENGTH, str(len(text)).encode()), _BINARY] if payload else [_JSON]
        whole = b"".join([text, *payload]) if payload else text
        whole, encoding = _compressed(whole, headers.get(b"accept-encoding", b""))
        if encoding:
            content.append((b"content-encoding", encoding))
        content.append((b"content-length", str(len(whole)).encode()))
        await send({"type": "http.response.start", "status": 200, "headers": content})
        await send({"type": "http.response.body", "body": whole})

    async def _unless_gone(self, work: Awaitable[InferResponse], receive: Receive) -> InferResponse:
        """Wait for an answer; where it takes long, look whether the client is still there, and withdraw otherwise."""
        loop = asyncio.get_running_loop()
        mine = asyncio.current_task()
        watching: list[asyncio.Task[None]] = []

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if mine is not None:
                mine.cancel(_GONE)

        timer = loop.call_later(_WATCH_AFTER, lambda: watching.append(loop.create_task(watch())))
        try:
            return await work
        except asyncio.CancelledError as error:
            if error.args == (_GONE,):
                raise ServingError("the client went away", Status.CANCELLED) from None
            raise
        finally:
            timer.cancel()
            for task in watching:
                task.cancel()

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            raise self._too_large()
        message = await receive()
        body = message.get("body", b"")
        if message.get("more_body"):
            parts, size = [body], len(body)
            while message.get("more_body"):
                message = await receive()
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._max_body:
                    raise self._too_large()
            body = b"".join(parts)
        encoding = headers.get(b"content-encoding", b"").lower()
        if encoding in (b"", b"identity"):
            return body
        if encoding not in (b"gzip", b"deflate"):
            raise ServingError(f"content-encoding '{encoding.decode('latin-1')}' is not gzip or deflate")
        return self._decompressed(body)

    def _decompressed(self, body: bytes) -> bytes:
        reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip or zlib, by its first bytes
        try:
            found = reader.decompress(body, self._max_body + 1)
        except zlib.error as error:
            raise ServingError(f"the body cannot be decompressed: {error}") from None
        if len(found) > self._max_body:
            raise self._too_large()
        if not reader.eof:
            raise ServingError("the compressed body is cut off")
        return found

    def _too_large(self) -> ServingError:
        return ServingError(f"a request may have {self._max_body} bytes", Status.TOO_LARGE)


# --- requests and answers --------------------------------------------------------------------------------------------


def parse(
    model: str, version: str, body: bytes, header_length: bytes | None, memory: SharedMemory
) -> tuple[InferRequest, bool]:
    """A request for inference, and whether outputs are wanted as binary data where they do not say.

    Raises:
        ServingError: When the body is no request.
    """
    view = memoryview(body)
    binary: memoryview | None = None
    if header_length is not None:
        if not header_length.isdigit() or int(header_length) > len(body):
            raise ServingError(f"{HEADER_LENGTH} is not from 0 to the body's {len(body)} bytes")
        view, binary = view[: int(header_length)], view[int(header_length) :]
    try:
        found = orjson.loads(view)
    except orjson.JSONDecodeError as error:
        raise ServingError(f"the body is no JSON: {error}") from None
    _check(isinstance(found, dict), "the body is no JSON object")
    parameters = _parameters(found, "the request")
    entries = found.get("inputs")
    _check(isinstance(entries, list), "the request has no list of inputs")
    inputs: dict[str, Tensor] = {}
    place = 0
    for entry in entries:
        name, tensor, place = _tensor(entry, binary, place, memory)
        _check(name not in inputs, f"input '{name}' is there twice")
        inputs[name] = tensor
    if binary is not None and place != len(binary):
        raise ServingError(f"{len(binary)} bytes of binary data came, the inputs say {place}")
    outputs, wants_binary = _outputs(found.get("outputs"), parameters.get("binary_data_output") is True, memory)
    identity = found.get("id", "")
    _check(isinstance(identity, str), "the id of the request is no string")
    request = InferRequest(
        model,
        inputs,
        version,
        identity,
        outputs,
        _number(parameters, "priority"),
        _number(parameters, "timeout"),
    )
    return request, wants_binary


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ServingError(message)


def _parameters(entry: Mapping[str, Any], what: str) -> dict[str, Any]:
    found = entry.get("parameters", {})
    _check(isinstance(found, dict), f"the parameters of {what} are no JSON object")
    return found


def _number(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    _check(isinstance(value, int) and value >= 0, f"the parameter '{name}' is no number from 0")
    return int(value)


def _tensor(entry: Any, binary: memoryview | None, place: int, memory: SharedMemory) -> tuple[str, Tensor, int]:
    """(name, tensor, where the next binary tensor begins) of an input."""
    _check(isinstance(entry, dict), "an input is no JSON object")
    name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
    _check(isinstance(name, str), "an input has no name")
    where = f"input '{name}'"
    _check(isinstance(datatype, str), f"{where} has no datatype")
    if datatype not in CONFIG_TYPES:
        raise ServingError(f"'{datatype}' is no datatype", where=where)
    sizes_are_right = isinstance(shape, list) and all(type(s) is int and 0 <= s < 1 << 40 for s in shape)
    _check(sizes_are_right and len(shape) <= 64, f"{where} has no shape")
    parameters = _parameters(entry, where) if "parameters" in entry else {}
    if (shared := memory.place(parameters, where)) is not None:
        return name, Tensor(datatype, tuple(shape), shared.read()), place
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise ServingError("it has no data", where=where)
        return name, from_json(datatype, tuple(shape), entry["data"], where), place
    _check(type(size) is int and size >= 0, f"binary_data_size of {where} is no number from 0")
    if binary is None or place + size > len(binary):
        raise ServingError(f"its {size} bytes are not in the body", where=where)
    return name, Tensor(datatype, tuple(shape), binary[place : place + size]), place + size


def _outputs(entries: Any, is_binary: bool, memory: SharedMemory) -> tuple[dict[str, Wanted] | None, bool]:
    """(name -> how each output that is asked for is wanted, whether any is wanted as binary data)."""
    if entries is None or entries == []:
        return None, is_binary
    _check(isinstance(entries, list), "the outputs are no list")
    found: dict[str, Wanted] = {}
    for entry in entries:
        _check(isinstance(entry, dict) and isinstance(entry.get("name"), str), "an output has no name")
        where = f"output '{entry['name']}'"
        parameters = _parameters(entry, where)
        found[entry["name"]] = Wanted(_number(parameters, "classification"), memory.place(parameters, where))
        is_binary = is_binary or parameters.get("binary_data") is True
    return found, is_binary


def render(response: InferResponse, is_binary: bool) -> tuple[bytes, list[Any]]:
    """The JSON of an answer, and the binary data behind it (none, where all is in the JSON).

    Raises:
        ServingError: When a tensor has no JSON form and was not asked for as binary data.
    """
    outputs, payload = [], []
    for name, tensor in response.outputs:
        entry: dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": tensor.shape}
        if name in response.places:
            place, size = response.places[name]
            entry["parameters"] = place.described(size)
        elif is_binary:
            entry["parameters"] = {"binary_data_size": len(tensor.data)}
            payload.append(tensor.data)
        else:
            entry["data"] = to_json(tensor, f"output '{name}'")
        outputs.append(entry)
    body: dict[str, Any] = {"model_name": response.model, "model_version": response.version, "outputs": outputs}
    if response.id:
        body["id"] = response.id
    return orjson.dumps(body), payload


def _compressed(body: bytes, accepted: bytes) -> tuple[bytes, bytes]:
    """A body as the client asks for it, and how it is encoded ("" for as it is)."""
    if b"gzip" in accepted and len(body) > 1024:
        return gzip.compress(body, compresslevel=1), b"gzip"
    if b"deflate" in accepted and len(body) > 1024:
        return zlib.compress(body, level=1), b"deflate"
    return body, b""


def _model_of(path: str) -> tuple[str, str]:
    """(model, version) of ``/v2/models/NAME[/versions/N]/infer``."""
    parts = path.split("/")
    if len(parts) == 5 and parts[:3] == ["", "v2", "models"]:
        return unquote(parts[3]), ""
    if len(parts) == 7 and parts[:3] == ["", "v2", "models"] and parts[4] == "versions":
        return unquote(parts[3]), parts[5]
    raise ServingError(f"there is nothing at {path}", Status.NOT_FOUND)


async def _send_error(send: Send, error: ServingError) -> None:
    body = orjson.dumps({"error": str(error)})
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in _retry(error).items()]
    await send({"type": "http.response.start", "status": error.status.http, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _retry(error: ServingError) -> dict[str, str]:
    return {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}


# --- everything else ------------------------------------------------------------------------------------------------


def _application(service: Service) -> Starlette:
    """The routes but for inference."""

    async def live(request: Request) -> Response:
        return Response(status_code=200)

    async def ready(request: Request) -> Response:
        if service.is_ready:
            return Response(status_code=200)
        raise ServingError("the server takes no requests", Status.UNAVAILABLE, retry_after=1.0)

    async def metadata(request: Request) -> Response:
        return JSONResponse(service.metadata())

    async def model_ready(request: Request) -> Response:
        name, version = _named(request)
        if service.is_model_ready(name, version):
            return Response(status_code=200)
        raise ServingError("it takes no requests now", Status.UNAVAILABLE, retry_after=1.0, where=name)

    async def model_metadata(request: Request) -> Response:
        return JSONResponse(service.model_metadata(*_named(request)))

    async def model_config(request: Request) -> Response:
        return JSONResponse(configs.to_json(service.config(*_named(request))))

    async def statistics(request: Request) -> Response:
        name, version = _named(request)
        return JSONResponse({"model_stats": [metrics.to_json(v) for v in service.versions(name, version)]})

    async def index(request: Request) -> Response:
        body = await _json(request)
        return JSONResponse(service.index(only_ready=body.get("ready") is True))

    async def load(request: Request) -> Response:
        await service.load(request.path_params["name"], _parameters(await _json(request), "the request"))
        return JSONResponse({})

    async def unload(request: Request) -> Response:
        await service.repository.unload(request.path_params["name"])
        return JSONResponse({})

    async def memory_status(request: Request) -> Response:
        name = request.path_params.get("region", "")
        return JSONResponse([region.described() for region in service.memory.status(name)])

    async def memory_register(request: Request) -> Response:
        body = await _json(request)
        key, offset, size = body.get("key"), body.get("offset", 0), body.get("byte_size")
        is_whole = isinstance(key, str) and type(offset) is int and type(size) is int
        _check(is_whole, "a region has a key, an offset and a byte_size")
        service.memory.register(request.path_params["region"], key, offset, size)  # type: ignore[arg-type]
        return JSONResponse({})

    async def memory_unregister(request: Request) -> Response:
        service.memory.unregister(request.path_params.get("region", ""))
        return JSONResponse({})

    async def nothing_registered(request: Request) -> Response:
        return JSONResponse([])

    async def prometheus(request: Request) -> Response:
        return Response(metrics.exposition(service), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def description(request: Request) -> Response:
        return JSONResponse(openapi.document())

    async def front(request: Request) -> Response:
        return HTMLResponse(page.html())

    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    routes = [
        Route("/", front),
        Route("/metrics", prometheus),
        Route("/openapi.json", description),
        Route("/v2", metadata),
        Route("/v2/", metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        Route("/v2/models/stats", statistics),
        Route("/v2/repository/index", index, methods=["POST"]),
        Route("/v2/repository/models/{name}/load", load, methods=["POST"]),
        Route("/v2/repository/models/{name}/unload", unload, methods=["POST"]),
        Route("/v2/systemsharedmemory/status", memory_status),
        Route("/v2/systemsharedmemory/region/{region}/status", memory_status),
        Route("/v2/systemsharedmemory/region/{region}/register", memory_register, methods=["POST"]),
        Route("/v2/systemsharedmemory/region/{region}/unregister", memory_unregister, methods=["POST"]),
        Route("/v2/systemsharedmemory/unregister", memory_unregister, methods=["POST"]),
        Route("/v2/cudasharedmemory/status", nothing_registered),
    ]
    for base in (model, version):
        routes += [
            Route(base, model_metadata),
            Route(f"{base}/ready", model_ready),
            Route(f"{base}/config", model_config),
            Route(f"{base}/stats", statistics),
        ]

    def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, DlbridgeError)
        status = error.status if isinstance(error, ServingError) else Status.INVALID
        headers = _retry(error) if isinstance(error, ServingError) else {}
        return JSONResponse({"error": str(error)}, status.http, headers)

    def unknown(request: Request, error: Exception) -> Response:
        code = getattr(error, "status_code", 404)
        text = "there is nothing at" if code == 404 else f"{request.method} is not what is done at"
        return JSONResponse({"error": f"{text} {request.url.path}"}, code)

    return Starlette(routes=routes, exception_handlers={DlbridgeError: failed, 404: unknown, 405: unknown})


def _named(request: Request) -> tuple[str, str]:
    return request.path_params.get("name", ""), request.path_params.get("version", "")


async def _json(request: Request) -> dict[str, Any]:
    """The body of a small request.

    Raises:
        ServingError: When it is no JSON object.
    """
    body = await request.body()
    if not body:
        return {}
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServingError(f"the body is no JSON: {error}") from None
    _check(isinstance(found, dict), "the body is no JSON object")
    return found
