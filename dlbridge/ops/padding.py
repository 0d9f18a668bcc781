"""How many elements 'same' padding adds."""

from __future__ import annotations

from typing import Any


def same_padding(size: Any, kernel: int, stride: int, dilation: int) -> int | None:
    """All that is added along one axis so that there are ``ceil(size / stride)`` outputs.

    Source: ONNX Conv, ``auto_pad``; TensorFlow's 'SAME'.

    Args:
        size: The axis' size; not an int when it is known at run time alone.
        kernel: The kernel's size there.
        stride: Its stride.
        dilation: Its dilation.

    Returns:
        The sum of both sides, or None when it depends on a size that is not known.
    """
    span = (kernel - 1) * dilation
    if stride == 1:
        return span
    if not isinstance(size, int):
        return None
    return max((-(-size // stride) - 1) * stride + span + 1 - size, 0)
