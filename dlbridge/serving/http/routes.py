"""The routes of the HTTP server but for inference: health, metadata, statistics, the repository, shared memory."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from dlbridge.errors import DlbridgeError
from dlbridge.repository import config as configs
from dlbridge.serving import metrics
from dlbridge.serving.clients import unless_gone
from dlbridge.serving.generation import Generation
from dlbridge.serving.http import openapi, page
from dlbridge.serving.http.messages import check, json_object, parameters_of, retry_headers
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.service import Service


def application(service: Service) -> Starlette:
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

    async def generate(request: Request) -> Response:
        asked = Generation(service, *_named(request), await _json(request))
        return JSONResponse(await unless_gone(asked.answer(), request.receive))

    async def generate_stream(request: Request) -> Response:
        asked = Generation(service, *_named(request), await _json(request))
        return StreamingResponse(asked.events(), media_type="text/event-stream")

    async def index(request: Request) -> Response:
        body = await _json(request)
        return JSONResponse(service.index(only_ready=body.get("ready") is True))

    async def load(request: Request) -> Response:
        await service.load(request.path_params["name"], parameters_of(await _json(request), "the request"))
        return JSONResponse({})

    async def unload(request: Request) -> Response:
        await service.unload(request.path_params["name"], parameters_of(await _json(request), "the request"))
        return JSONResponse({})

    async def memory_status(request: Request) -> Response:
        name = request.path_params.get("region", "")
        return JSONResponse([region.described() for region in service.memory.status(name)])

    async def memory_register(request: Request) -> Response:
        body = await _json(request)
        key, offset, size = body.get("key"), body.get("offset", 0), body.get("byte_size")
        is_whole = isinstance(key, str) and type(offset) is int and type(size) is int
        check(is_whole, "a region has a key, an offset and a byte_size")
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
        Route("/v2/cudasharedmemory/unregister", nothing_registered, methods=["POST"]),
        Route("/v2/cudasharedmemory/region/{region}/unregister", nothing_registered, methods=["POST"]),
    ]
    for base in (model, version):
        routes += [
            Route(base, model_metadata),
            Route(f"{base}/ready", model_ready),
            Route(f"{base}/config", model_config),
            Route(f"{base}/stats", statistics),
            Route(f"{base}/generate", generate, methods=["POST"]),
            Route(f"{base}/generate_stream", generate_stream, methods=["POST"]),
        ]

    def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, DlbridgeError)
        status = error.status if isinstance(error, ServingError) else Status.INVALID
        headers = retry_headers(error) if isinstance(error, ServingError) else {}
        return JSONResponse({"error": str(error)}, status.http, headers)

    def unknown(request: Request, error: Exception) -> Response:
        code = getattr(error, "status_code", 404)
        text = "there is nothing at" if code == 404 else f"{request.method} is not what is done at"
        return JSONResponse({"error": f"{text} {request.url.path}"}, code, getattr(error, "headers", None))

    def unforeseen(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "the server could not answer"}, 500)  # its log says why

    handlers = {DlbridgeError: failed, 404: unknown, 405: unknown, Exception: unforeseen}
    return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]


def _named(request: Request) -> tuple[str, str]:
    return request.path_params.get("name", ""), request.path_params.get("version", "")


async def _json(request: Request) -> dict[str, Any]:
    """The body of a small request.

    Raises:
        ServingError: When it is no JSON object.
    """
    body = await request.body()
    return json_object(body) if body else {}
