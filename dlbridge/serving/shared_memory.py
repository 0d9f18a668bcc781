"""System shared memory: tensors that a client on this machine leaves in memory instead of sending them."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlbridge.serving.problems import ServingError, Status
from dlbridge.serving.tensors import Tensor

#: Where POSIX shared memory lives as files.
_FOLDER = Path("/dev/shm")
_KEY = re.compile(r"/?[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}")


@dataclass(frozen=True)
class Region:
    """Registered memory.

    Attributes:
        name: What requests call it.
        key: Name of the shared memory object.
        offset: Where it begins in the object.
        size: Its bytes.
    """

    name: str
    key: str
    offset: int
    size: int
    memory: mmap.mmap = field(repr=False)

    def described(self) -> dict[str, Any]:
        """As the status shows it."""
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.size}


@dataclass(frozen=True)
class Place:
    """Bytes of a region that a request names for one tensor."""

    region: Region
    offset: int
    size: int

    def described(self, size: int) -> dict[str, Any]:
        """The parameters of an output that has so many bytes here."""
        return {
            "shared_memory_region": self.region.name,
            "shared_memory_offset": self.offset,
            "shared_memory_byte_size": size,
        }

    def read(self) -> bytes:
        """What stands there now."""
        start = self.region.offset + self.offset
        return self.region.memory[start : start + self.size]

    def write(self, tensor: Tensor, where: str) -> None:
        """Put the elements of a tensor there.

        Raises:
            ServingError: When it has more bytes than the place.
        """
        if len(tensor.data) > self.size:
            raise ServingError(f"it has {len(tensor.data)} bytes, its shared memory {self.size}", where=where)
        start = self.region.offset + self.offset
        self.region.memory[start : start + len(tensor.data)] = bytes(tensor.data)


class SharedMemory:
    """The registered regions of a server.

    Args:
        is_allowed: Whether clients may register memory: those on other machines have none to share.
    """

    def __init__(self, is_allowed: bool) -> None:
        self.is_allowed = is_allowed and _FOLDER.is_dir()
        self.regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Make a shared memory object known under a name.

        Raises:
            ServingError: When the name is taken, or there is no such object, or it is smaller.
        """
        if not self.is_allowed:
            raise ServingError("this server takes no shared memory", Status.UNIMPLEMENTED)
        if name in self.regions:
            raise ServingError(f"the region '{name}' is registered already", Status.INVALID)
        if not _KEY.fullmatch(key) or ".." in key:
            raise ServingError(f"'{key}' is no name of shared memory", where=name)
        try:
            descriptor = os.open(_FOLDER / key.lstrip("/"), os.O_RDWR | os.O_NOFOLLOW)
        except OSError as error:
            raise ServingError(f"there is no shared memory '{key}' ({error.strerror})", where=name) from None
        try:
            there = os.fstat(descriptor).st_size
            if offset < 0 or size <= 0 or offset + size > there:
                raise ServingError(f"bytes {offset} to {offset + size} are not in the {there} of '{key}'", where=name)
            memory = mmap.mmap(descriptor, offset + size)
        finally:
            os.close(descriptor)
        self.regions[name] = Region(name, key, offset, size, memory)

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all of them; one that is not known is no error, as in Triton."""
        for known in [name] if name else list(self.regions):
            region = self.regions.pop(known, None)
            if region is not None:
                region.memory.close()

    def status(self, name: str = "") -> list[Region]:
        """A region, or all of them.

        Raises:
            ServingError: When there is no such region.
        """
        if not name:
            return list(self.regions.values())
        if not isinstance(name, str) or name not in self.regions:
            raise ServingError(f"there is no region '{name}'", Status.NOT_FOUND)
        return [self.regions[name]]

    def place(self, parameters: Mapping[str, Any], where: str) -> Place | None:
        """The memory that the parameters of a tensor name; None where they name none.

        Raises:
            ServingError: When it is not registered, or too small.
        """
        name = parameters.get("shared_memory_region")
        if name is None:
            return None
        size: Any = parameters.get("shared_memory_byte_size")
        offset: Any = parameters.get("shared_memory_offset", 0)
        if not isinstance(name, str) or name not in self.regions:
            raise ServingError(f"there is no region '{name}'", where=where)
        region = self.regions[name]
        are_whole = type(size) is int and type(offset) is int
        if not are_whole or not (offset >= 0 and 0 <= size <= region.size - offset):
            raise ServingError(f"{size} bytes from {offset} are not in region '{name}' ({region.size})", where=where)
        return Place(region, int(offset), int(size))
