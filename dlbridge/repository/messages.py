"""The protobuf messages of the server, from the descriptors that the build compiled.

They live in a descriptor pool of their own: a process that has ``tritonclient`` too, which registers messages of the
same names, can import both.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from dlbridge.errors import FileError

_PACKAGE = "inference"


def _pool() -> descriptor_pool.DescriptorPool:
    compiled = files("dlbridge.repository") / "protos" / "inference.binpb"
    if not compiled.is_file():
        raise FileError(
            "the protocol files of the server are not compiled",
            where=str(compiled),
            hint="install dlbridge with pip ('pip install -e .' in a checkout), which compiles them",
        )
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file:
        pool.Add(file)
    return pool


_POOL = _pool()


def message(name: str, package: str = _PACKAGE) -> Any:
    """The class of a message: ``message("ModelInferRequest")``."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{package}.{name}"))


def methods(service: str, package: str = _PACKAGE) -> Iterator[tuple[str, Any, Any, bool]]:
    """(name, class of the request, class of the response, whether both are streams) of each method of a service."""
    for method in _POOL.FindServiceByName(f"{package}.{service}").methods:
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        yield method.name, request, response, bool(method.client_streaming)


ModelConfig = message("ModelConfig")
ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")
ModelStreamInferResponse = message("ModelStreamInferResponse")
