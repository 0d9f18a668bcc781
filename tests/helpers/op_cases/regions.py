"""Cases of ops on regions of images, on blocks and on integers."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import C, Case, W, X, case

IMAGE = X((2, 4, 6, 7))
MOVING = X((2, 4, 6, 7), free=(0, 2, 3))  # all but its channels are known at run time alone


def _regions(numbers: np.ndarray) -> np.ndarray:
    """Corners (x1, y1, x2, y2), some of them outside of the image."""
    first, size = np.abs(numbers[:, :2]) * 2, np.abs(numbers[:, 2:]) * 3 + 0.5
    return np.concatenate([first, first + size], 1)


def _numbered(numbers: np.ndarray) -> np.ndarray:
    """The same, each after the number of its image."""
    return np.concatenate([np.arange(len(numbers))[:, None] % 2, _regions(numbers[:, 1:])], 1)


def _deform() -> list[Case]:
    weight, offset = W((6, 4, 3, 3)), X((2, 18, 4, 5))
    moving = X((2, 18, 4, 5), free=(0, 2, 3))
    return [
        case("DeformConv", IMAGE, weight, offset),
        case("DeformConv", MOVING, weight, moving, W((6,))),
        case(
            "DeformConv",
            IMAGE,
            W((6, 2, 3, 3)),
            X((2, 36, 3, 4)),
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            group=2,
            offset_group=2,
        ),
        case("DeformConv", IMAGE, W((6, 4, 2, 2)), X((2, 8, 4, 5)), W((6,)), X((2, 4, 4, 5)), dilations=[2, 2]),
    ]


def _pooled() -> list[Case]:
    regions, which = X((3, 4), make=_regions), X((3,), "int64", make=lambda x: np.arange(len(x)) % 2)
    size = {"output_height": 2, "output_width": 3}
    numbered = X((3, 5), make=_numbered)
    return [
        case("RoiAlign", IMAGE, regions, which, sampling_ratio=2, **size),
        case("RoiAlign", MOVING, regions, which, **size),
        case("RoiAlign", IMAGE, regions, which, spatial_scale=0.5, mode="max", sampling_ratio=1, **size),
        case("RoiAlign", IMAGE, regions, which, coordinate_transformation_mode="output_half_pixel", **size),
        case("MaxRoiPool", IMAGE, numbered, pooled_shape=[2, 3], judge="onnxruntime:21"),
        case("MaxRoiPool", MOVING, numbered, pooled_shape=[3, 3], spatial_scale=0.5, judge="onnxruntime:21"),
    ]


def _blocks() -> list[Case]:
    return [
        case("Col2Im", X((2, 12, 4)), C([4, 4]), C([2, 2]), strides=[2, 2]),
        case("Col2Im", X((2, 12, 9)), C([4, 4]), C([2, 2])),
        case("Col2Im", X((2, 8, 16)), C([5, 4]), C([2, 2]), pads=[0, 1, 1, 0], dilations=[2, 1], judge="onnxruntime"),
        case("Col2Im", X((2, 8, 12)), C([3, 4, 2]), C([2, 2, 2]), pads=[0, 0, 0, 0, 0, 1], judge="onnxruntime"),
    ]


def _quantised() -> list[Case]:
    x = X((2, 2, 5, 5), "uint8", make=lambda n: np.abs(n * 50))
    scales, zero = C(np.float32(0.05), "float32"), C(np.uint8(120), "uint8")
    weight = C(np.arange(-36, 36).reshape(4, 2, 3, 3), "int8")
    of_channels = C([0.01, 0.02, 0.03, 0.04], "float32")
    zeros = C([0, 0, 0, 0], "int8")
    bias = C([100, -100, 0, 50], "int32")
    y = C(np.float32(0.3), "float32")
    return [
        case("QLinearConv", x, scales, zero, weight, of_channels, zeros, y, zero, bias, judge="onnxruntime"),
        case(
            "QLinearConv",
            x,
            scales,
            zero,
            weight,
            scales,
            C(np.int8(0), "int8"),
            y,
            zero,
            pads=[1, 1, 1, 1],
            strides=[2, 2],
            judge="onnxruntime",
        ),
        case("ConvInteger", x, weight, zero, pads=[1, 0, 0, 1], judge="onnxruntime"),
        case(
            "ConvInteger",
            x,
            C(np.arange(9).reshape(1, 1, 3, 3).repeat(2, 0), "uint8"),
            zero,
            C(np.uint8(4), "uint8"),
            group=2,
            judge="onnxruntime",
        ),
    ]


def cases() -> list[Case]:
    return [*_deform(), *_pooled(), *_blocks(), *_quantised()]
