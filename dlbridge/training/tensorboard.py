"""Writes numbers as TensorBoard reads them, without it: records of protobufs, each with checksums.

The format: https://www.tensorflow.org/tutorials/load_data/tfrecord, and ``Event`` of ``tensorboard/compat/proto``.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path
from typing import Any

from dlbridge.training.running import Callback


class TensorBoard(Callback):
    """Writes the numbers of every epoch, and the loss of every step, into an event file of a folder.

    Args:
        folder: The folder that ``tensorboard --logdir`` is given.
        by_step: Whether the loss of each step is written too.
    """

    def __init__(self, folder: str | os.PathLike[str], *, by_step: bool = False) -> None:
        self._folder, self._by_step = Path(folder), by_step
        self._path: Path | None = None
        self._step = 0

    def on_step(self, epoch: int, batch: int, batches: int, loss: float) -> None:
        if self._by_step:
            self._step = (epoch - 1) * batches + batch
            self._write({"loss_of_step": loss}, self._step)

    def on_epoch(self, checkpoint: Any, metrics: dict[str, float]) -> None:
        self._write(metrics, checkpoint.epoch)

    def _write(self, numbers: dict[str, float], step: int) -> None:
        now = time.time()
        if self._path is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path = self._folder / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}.dlbridge"
            self._path.write_bytes(_record(_double(1, now) + _bytes(3, b"brain.Event:2")))
        summary = b"".join(_bytes(1, _bytes(1, name.encode()) + _float(2, number)) for name, number in numbers.items())
        with self._path.open("ab") as stream:
            stream.write(_record(_double(1, now) + _varint(2 << 3) + _varint(step) + _bytes(5, summary)))


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _double(field: int, number: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", number)


def _float(field: int, number: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", number)


def _record(content: bytes) -> bytes:
    length = struct.pack("<Q", len(content))
    return length + _masked(length) + content + _masked(content)


def _masked(content: bytes) -> bytes:
    """The checksum of a record: CRC-32C, turned and moved so that a checksum of checksums is safe."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (0x82F63B78 if number & 1 else 0)
    return number


_TABLE = [_entry(number) for number in range(256)]
