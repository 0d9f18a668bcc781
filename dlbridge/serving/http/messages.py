"""Requests and answers of inference over HTTP: JSON, and the binary tensor extension."""

from __future__ import annotations

import functools
import gzip
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson

from dlbridge.repository.datatypes import CONFIG_TYPES
from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.requests import InferRequest, InferResponse, Wanted
from dlbridge.serving.shared_memory import SharedMemory
from dlbridge.serving.tensors import Tensor, from_json, join_strings, to_json

HEADER_LENGTH = "inference-header-content-length"
_HEADER_LENGTH = HEADER_LENGTH.encode()
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
#: Bodies of fewer bytes are sent as they are.
_MIN_COMPRESSED = 1024


#: In the place of data that an input does not have.
_NOTHING = object()
#: JSON of this many bytes at most is remembered: clients that send binary tensors send the same again and again.
_REMEMBERED = 4096


class _Input(NamedTuple):
    """What the JSON of a request says of an input.

    Attributes:
        name, datatype, shape: Its own.
        size: Its bytes behind the JSON; None where they are not there.
        data: Its elements, where they are in the JSON.
        parameters: Its parameters.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int | None
    data: Any
    parameters: Mapping[str, Any]


class _Content(NamedTuple):
    """What the JSON of a request says.

    Attributes:
        inputs: Its inputs.
        outputs: Name and parameters of each output that it wants; None for all.
        id: The client's name of it.
        priority: Its level; 0 for the model's own.
        timeout: How many microseconds it may wait; 0 for the model's own.
        is_binary: Whether outputs are wanted as binary data.
    """

    inputs: tuple[_Input, ...]
    outputs: tuple[tuple[str, Mapping[str, Any], int], ...] | None
    id: str
    priority: int
    timeout: int
    is_binary: bool


def parse(
    model: str, version: str, body: bytes, headers: Mapping[bytes, bytes], memory: SharedMemory
) -> tuple[InferRequest, bool]:
    """A request for inference, and whether outputs are wanted as binary data where they do not say.

    Raises:
        ServingError: When the body is no request.
    """
    header_length = headers.get(_HEADER_LENGTH)
    if headers.get(b"content-type", b"").startswith(b"image/"):
        # the model's one input is not called by its name; what the image is, its own bytes say
        return InferRequest(model, {"": Tensor("BYTES", (1,), join_strings([body]))}, version), False
    if header_length is None:
        content, binary = _content(body), None
    else:
        split = _length(header_length)
        check(split <= len(body), f"{HEADER_LENGTH} is not from 0 to the body's {len(body)} bytes")
        binary = memoryview(body)[split:]
        content = _known_content(body[:split]) if split <= _REMEMBERED else _content(body[:split])
    inputs: dict[str, Tensor] = {}
    place = 0
    for entry in content.inputs:
        tensor, place = _tensor(entry, binary, place, memory)
        inputs[entry.name] = tensor
    if binary is not None and place != len(binary):
        raise ServingError(f"{len(binary)} bytes of binary data came, the inputs say {place}")
    outputs = None
    if content.outputs is not None:
        outputs = {
            name: Wanted(classes, memory.place(parameters, f"output '{name}'") if parameters else None)
            for name, parameters, classes in content.outputs
        }
    request = InferRequest(model, inputs, version, content.id, outputs, content.priority, content.timeout)
    return request, content.is_binary


def _content(text: bytes) -> _Content:
    """What the JSON of a request says.

    Raises:
        ServingError: When it is no request.
    """
    found = json_object(text)
    parameters = parameters_of(found, "the request")
    inputs = _inputs(found)
    outputs, is_binary = _outputs(found.get("outputs"), parameters.get("binary_data_output") is True)
    identity = found.get("id", "")
    check(isinstance(identity, str), "the id of the request is no string")
    priority, timeout = _number(parameters, "priority"), _number(parameters, "timeout")
    return _Content(inputs, outputs, identity, priority, timeout, is_binary)


def _inputs(found: Mapping[str, Any]) -> tuple[_Input, ...]:
    """What a request says of its inputs."""
    entries: Any = found.get("inputs")
    check(isinstance(entries, list), "the request has no list of inputs")
    inputs = tuple([_input(entry) for entry in entries])
    names = {entry.name for entry in inputs}
    if len(names) < len(inputs):
        twice = next(name for name in names if sum(entry.name == name for entry in inputs) > 1)
        raise ServingError(f"input '{twice}' is there twice")
    return inputs


def tensors_of(found: Mapping[str, Any], memory: SharedMemory) -> dict[str, Tensor]:
    """The inputs of a request that has no binary data, by name.

    Raises:
        ServingError: When there is no list of them, or one is none.
    """
    return {entry.name: _tensor(entry, None, 0, memory)[0] for entry in _inputs(found)}


_known_content = functools.lru_cache(maxsize=256)(_content)


def _length(header: bytes) -> int:
    is_number = header.isdigit() and len(header) < 20  # Python refuses to read thousands of digits
    check(is_number, f"{HEADER_LENGTH} is no number of bytes")
    return int(header)


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is.

    Raises:
        ServingError: When it is none.
    """
    try:
        found: dict[str, Any] = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServingError(f"the body is no JSON: {error}") from None
    check(isinstance(found, dict), "the body is no JSON object")
    return found


def check(condition: bool, message: str) -> None:
    """Check a condition that the client's request has to meet.

    Raises:
        ServingError: With the message, when it is not met.
    """
    if not condition:
        raise ServingError(message)


def parameters_of(entry: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The parameters of a request, an input or an output.

    Raises:
        ServingError: When they are no JSON object.
    """
    found = entry.get("parameters", {})
    check(isinstance(found, dict), f"the parameters of {what} are no JSON object")
    return found


def _number(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    check(type(value) is int and value >= 0, f"the parameter '{name}' is no number from 0")
    return int(value)


def _input(entry: Any) -> _Input:
    """What the JSON of an input says."""
    check(isinstance(entry, dict), "an input is no JSON object")
    name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
    check(isinstance(name, str), "an input has no name")
    where = f"input '{name}'"
    check(isinstance(datatype, str), f"{where} has no datatype")
    if datatype not in CONFIG_TYPES:
        raise ServingError(f"'{datatype}' is no datatype", where=where)
    sizes_are_right = isinstance(shape, list) and all(type(s) is int and 0 <= s < 1 << 40 for s in shape)
    check(sizes_are_right and len(shape) <= 64, f"{where} has no shape")
    parameters = parameters_of(entry, where) if "parameters" in entry else {}
    size = parameters.get("binary_data_size")
    check(size is None or (type(size) is int and size >= 0), f"binary_data_size of {where} is no number from 0")
    return _Input(name, datatype, tuple(shape), size, entry.get("data", _NOTHING), parameters)


def _tensor(entry: _Input, binary: memoryview | None, place: int, memory: SharedMemory) -> tuple[Tensor, int]:
    """An input, and where the next binary tensor begins."""
    where = f"input '{entry.name}'"
    if (shared := memory.place(entry.parameters, where)) is not None:
        return Tensor(entry.datatype, entry.shape, shared.read()), place
    if entry.size is None:
        if entry.data is _NOTHING:
            raise ServingError("it has no data", where=where)
        return from_json(entry.datatype, entry.shape, entry.data, where), place
    if binary is None or place + entry.size > len(binary):
        raise ServingError(f"its {entry.size} bytes are not in the body", where=where)
    return Tensor(entry.datatype, entry.shape, binary[place : place + entry.size]), place + entry.size


def _outputs(entries: Any, is_binary: bool) -> tuple[tuple[tuple[str, Mapping[str, Any], int], ...] | None, bool]:
    """(name, parameters and classes of each output that is asked for, whether any is wanted as binary data)."""
    if entries is None or entries == []:
        return None, is_binary
    check(isinstance(entries, list), "the outputs are no list")
    found = {}
    for entry in entries:
        check(isinstance(entry, dict) and isinstance(entry.get("name"), str), "an output has no name")
        parameters = parameters_of(entry, f"output '{entry['name']}'")
        found[entry["name"]] = (entry["name"], parameters, _number(parameters, "classification"))
        is_binary = is_binary or parameters.get("binary_data") is True
    return tuple(found.values()), is_binary


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


def body_of(response: InferResponse, is_binary: bool, accepted: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of an answer, compressed as the client accepts it.

    Raises:
        ServingError: When a tensor has no JSON form and was not asked for as binary data.
    """
    text, payload = render(response, is_binary)
    if payload:
        headers = [(_HEADER_LENGTH, str(len(text)).encode()), _BINARY]
        body = b"".join([text, *payload])
    else:
        headers, body = [_JSON], text
    if accepted and len(body) > _MIN_COMPRESSED:
        if b"gzip" in accepted:
            body = gzip.compress(body, compresslevel=1)
            headers.append((b"content-encoding", b"gzip"))
        elif b"deflate" in accepted:
            body = zlib.compress(body, level=1)
            headers.append((b"content-encoding", b"deflate"))
    headers.append((b"content-length", str(len(body)).encode()))
    return headers, body


def error_of(error: ServingError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of the answer to a request that fails."""
    body = orjson.dumps({"error": str(error)})
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in retry_headers(error).items()]
    return headers, body


def retry_headers(error: ServingError) -> dict[str, str]:
    """The header that says when to ask again, for an error that passes."""
    return {} if error.retry_after is None else {"Retry-After": str(max(1, round(error.retry_after)))}


@functools.lru_cache(maxsize=256)
def model_of(path: str) -> tuple[str, str]:
    """(model, version) of ``/v2/models/NAME[/versions/N]/infer``.

    Raises:
        ServingError: When the path is none of these.
    """
    parts = path.split("/")
    if len(parts) == 5 and parts[:3] == ["", "v2", "models"]:
        return unquote(parts[3]), ""
    if len(parts) == 7 and parts[:3] == ["", "v2", "models"] and parts[4] == "versions":
        return unquote(parts[3]), parts[5]
    raise ServingError(f"there is nothing at {path}", Status.NOT_FOUND)
