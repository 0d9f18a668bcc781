"""Requests and answers of inference over HTTP: JSON, and the binary tensor extension."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from dlbridge.repository.datatypes import CONFIG_TYPES
from dlbridge.serving.problems import ServingError
from dlbridge.serving.requests import InferRequest, InferResponse, Wanted
from dlbridge.serving.shared_memory import SharedMemory
from dlbridge.serving.tensors import Tensor, from_json, to_json

HEADER_LENGTH = "inference-header-content-length"


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
        split = _length(header_length)
        check(split <= len(body), f"{HEADER_LENGTH} is not from 0 to the body's {len(body)} bytes")
        view, binary = view[:split], view[split:]
    found = json_object(view)
    parameters = parameters_of(found, "the request")
    entries: Any = found.get("inputs")
    check(isinstance(entries, list), "the request has no list of inputs")
    inputs: dict[str, Tensor] = {}
    place = 0
    for entry in entries:
        name, tensor, place = _tensor(entry, binary, place, memory)
        check(name not in inputs, f"input '{name}' is there twice")
        inputs[name] = tensor
    if binary is not None and place != len(binary):
        raise ServingError(f"{len(binary)} bytes of binary data came, the inputs say {place}")
    outputs, wants_binary = _outputs(found.get("outputs"), parameters.get("binary_data_output") is True, memory)
    identity = found.get("id", "")
    check(isinstance(identity, str), "the id of the request is no string")
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


def _length(header: bytes) -> int:
    is_number = header.isdigit() and len(header) < 20  # Python refuses to read thousands of digits
    check(is_number, f"{HEADER_LENGTH} is no number of bytes")
    return int(header)


def json_object(body: bytes | memoryview) -> dict[str, Any]:
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
    check(isinstance(value, int) and value >= 0, f"the parameter '{name}' is no number from 0")
    return int(value)


def _tensor(entry: Any, binary: memoryview | None, place: int, memory: SharedMemory) -> tuple[str, Tensor, int]:
    """(name, tensor, where the next binary tensor begins) of an input."""
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
    if (shared := memory.place(parameters, where)) is not None:
        return name, Tensor(datatype, tuple(shape), shared.read()), place
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in entry:
            raise ServingError("it has no data", where=where)
        return name, from_json(datatype, tuple(shape), entry["data"], where), place
    check(type(size) is int and size >= 0, f"binary_data_size of {where} is no number from 0")
    if binary is None or place + size > len(binary):
        raise ServingError(f"its {size} bytes are not in the body", where=where)
    return name, Tensor(datatype, tuple(shape), binary[place : place + size]), place + size


def _outputs(entries: Any, is_binary: bool, memory: SharedMemory) -> tuple[dict[str, Wanted] | None, bool]:
    """(name -> how each output that is asked for is wanted, whether any is wanted as binary data)."""
    if entries is None or entries == []:
        return None, is_binary
    check(isinstance(entries, list), "the outputs are no list")
    found: dict[str, Wanted] = {}
    for entry in entries:
        check(isinstance(entry, dict) and isinstance(entry.get("name"), str), "an output has no name")
        where = f"output '{entry['name']}'"
        parameters = parameters_of(entry, where)
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
