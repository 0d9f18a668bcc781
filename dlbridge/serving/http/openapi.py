"""The OpenAPI description of the HTTP protocol."""

from __future__ import annotations

import functools
from typing import Any

from dlbridge import __version__
from dlbridge.repository.datatypes import CONFIG_TYPES

_ERROR = {"$ref": "#/components/responses/Error"}
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"}}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
_TENSOR = {
    "name": _TEXT,
    "datatype": {"type": "string", "enum": list(CONFIG_TYPES)},
    "shape": _list(_WHOLE),
    "parameters": {"type": "object"},
    "data": {"type": "array", "items": {}},
}
_DURATION = _object(["count", "ns"], count=_WHOLE, ns=_WHOLE)
_SCHEMAS: dict[str, Any] = {
    "Error": _object(["error"], error=_TEXT),
    "ServerMetadata": _object(["name", "version", "extensions"], name=_TEXT, version=_TEXT, extensions=_list(_TEXT)),
    "ModelMetadata": _object(
        ["name", "platform", "inputs", "outputs"],
        name=_TEXT,
        versions=_list(_TEXT),
        platform=_TEXT,
        inputs=_list({"$ref": "#/components/schemas/TensorMetadata"}),
        outputs=_list({"$ref": "#/components/schemas/TensorMetadata"}),
    ),
    "TensorMetadata": _object(["name", "datatype", "shape"], **{k: _TENSOR[k] for k in ("name", "datatype", "shape")}),
    "ModelConfig": _object(["name", "platform"], name=_TEXT, platform=_TEXT),
    "Statistics": _object(
        ["model_stats"],
        model_stats=_list(
            _object(
                ["name", "version", "inference_count", "execution_count", "inference_stats", "batch_stats"],
                name=_TEXT,
                version=_TEXT,
                inference_count=_WHOLE,
                execution_count=_WHOLE,
                inference_stats={"type": "object", "additionalProperties": _DURATION},
                batch_stats=_list({"type": "object"}),
            )
        ),
    ),
    "InferenceRequest": _object(
        ["inputs"],
        id=_TEXT,
        parameters={"type": "object"},
        inputs={**_list(_object(["name", "datatype", "shape"], **_TENSOR)), "minItems": 1},
        outputs=_list(_object(["name"], name=_TEXT, parameters={"type": "object"})),
    ),
    "InferenceResponse": _object(
        ["model_name", "outputs"],
        model_name=_TEXT,
        model_version=_TEXT,
        id=_TEXT,
        outputs=_list(_object(["name", "datatype", "shape"], **_TENSOR)),
    ),
    "GenerateRequest": _object(
        [],
        text_input=_TEXT,
        tokens=_list(_WHOLE),
        inputs=_list(_object(["name", "datatype", "shape"], **_TENSOR)),
        parameters={"type": "object"},
        max_tokens=_WHOLE,
        temperature={"type": "number"},
        top_k=_WHOLE,
        top_p={"type": "number"},
        seed=_WHOLE,
        stop=_list(_WHOLE),
    ),
    "GenerateResponse": _object(
        ["model_name", "model_version", "tokens"],
        model_name=_TEXT,
        model_version=_TEXT,
        text_output=_TEXT,
        tokens=_list(_WHOLE),
    ),
    "Index": _list(_object(["name"], name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
}


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _answers(schema: str | None, *failures: int) -> dict[str, Any]:
    """The responses of an operation: 200 with that schema (nothing, for None), and these failures."""
    good: dict[str, Any] = {"description": "the answer"}
    if schema is not None:
        good["content"] = _content(schema)
    return {"200": good, **{str(status): _ERROR for status in failures}}


def _get(summary: str, schema: str | None, *failures: int) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": _answers(schema, *failures)}}


def _post(summary: str, body: Any, schema: str | None, *failures: int) -> dict[str, Any]:
    operation = {"summary": summary, "responses": _answers(schema, *failures), "requestBody": body}
    return {"post": operation}


_ANY = {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}
_TEXT_REQUEST = {"required": True, "content": _content("GenerateRequest")}
_INFERENCE = {
    "required": True,
    "content": {
        **_content("InferenceRequest"),
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "image/*": {"schema": {"type": "string", "format": "binary"}},
    },
}


@functools.cache
def document() -> dict[str, Any]:
    """The description, as JSON types."""
    paths: dict[str, Any] = {
        "/v2": _get("The server's metadata", "ServerMetadata"),
        "/v2/health/live": _get("Whether the server lives", None),
        "/v2/health/ready": _get("Whether the server takes requests", None, 503),
        "/v2/models/stats": _get("Statistics of all models", "Statistics"),
        "/v2/repository/index": _post("What the repository holds", _ANY, "Index", 400),
        "/v2/repository/models/{name}/load": {
            **_post("Load a model, or what has changed of it", _ANY, None, 400, 404, 501, 503),
            "parameters": [_NAME],
        },
        "/v2/repository/models/{name}/unload": {
            **_post("Serve a model no longer", _ANY, None, 400, 404, 503),
            "parameters": [_NAME],
        },
    }
    model = "/v2/models/{name}"
    for base, parameters in ((model, [_NAME]), (f"{model}/versions/{{version}}", [_NAME, _VERSION])):
        operations = {
            "": _get("A model's inputs and outputs", "ModelMetadata", 404, 503),
            "/ready": _get("Whether a model takes requests", None, 404, 503),
            "/config": _get("A model's configuration", "ModelConfig", 404, 503),
            "/stats": _get("A model's statistics", "Statistics", 404, 503),
            "/infer": _post("Run a model", _INFERENCE, "InferenceResponse", 400, 401, 404, 413, 429, 500, 503, 504),
            "/generate": _post("Continue a text", _TEXT_REQUEST, "GenerateResponse", 400, 401, 404, 503),
            "/generate_stream": _post("Continue a text, as events", _TEXT_REQUEST, None, 400, 401, 404, 503),
        }
        for end, operation in operations.items():
            paths[base + end] = {**operation, "parameters": parameters}
    return {
        "openapi": "3.1.0",
        "info": {"title": "dlbridge: Open Inference Protocol", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "responses": {"Error": {"description": "what was wrong", "content": _content("Error")}},
        },
    }
