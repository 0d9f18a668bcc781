"""Names of devices, as people say them to every framework."""

from __future__ import annotations


def device_number(device: str) -> tuple[str, int]:
    """The kind of a device and its number: ("cuda", 1) of "cuda:1"."""
    kind, _, number = device.partition(":")
    return kind, int(number) if number.isdigit() else 0
