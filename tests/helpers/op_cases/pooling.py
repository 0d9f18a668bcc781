"""Cases of pools."""

from __future__ import annotations

from tests.helpers.op_cases.case import SQUARE, Case, X, case


def cases() -> list[Case]:
    big, free = X((2, 3, 8, 9)), X((2, 3, 8, 9), free=(0, 2, 3))
    kernel = {"kernel_shape": [3, 3]}
    found = [
        case("MaxPool", X((2, 3, 8)), kernel_shape=[2], strides=[2], layer="F.max_pool1d("),
        case("MaxPool", big, kernel_shape=[2, 2], strides=[2, 2], layer="F.max_pool2d(in0, 2)"),
        case("MaxPool", X((2, 3, 4, 5, 6)), kernel_shape=[2, 2, 2], layer="F.max_pool3d("),
        case("MaxPool", big, **kernel, pads=[1, 1, 1, 1], layer="padding=1"),
        case("MaxPool", big, **kernel, pads=[0, 1, 2, 1], strides=[2, 2]),
        case("MaxPool", big, **kernel, strides=[2, 2], ceil_mode=1, layer="ceil_mode=True"),
        case("MaxPool", big, **kernel, pads=[1, 0, 0, 1], strides=[2, 2], ceil_mode=1),
        case("MaxPool", big, **kernel, dilations=[2, 1], layer="dilation=(2, 1)"),
        case("MaxPool", free, **kernel, strides=[2, 2], auto_pad="SAME_UPPER", judge="onnxruntime"),
        case("MaxPool", free, **kernel, strides=[2, 2], auto_pad="SAME_LOWER", judge="onnxruntime"),
        case("MaxPool", big, **kernel, strides=[2, 2], pads=[1, 1, 1, 1], outputs=2, judge="onnxruntime"),
        case("MaxPool", big, **kernel, storage_order=1, outputs=2, judge="onnxruntime"),
        case("AveragePool", big, **kernel, layer="F.avg_pool2d("),
        case("AveragePool", big, **kernel, pads=[1, 1, 1, 1], layer="count_include_pad=False"),
        case("AveragePool", big, **kernel, pads=[1, 1, 1, 1], count_include_pad=1),
        case("AveragePool", big, **kernel, pads=[0, 1, 1, 2], strides=[2, 2]),
        case("AveragePool", big, **kernel, pads=[0, 1, 1, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1),
        case("AveragePool", big, kernel_shape=[2, 2], dilations=[2, 2]),
        case("AveragePool", free, **kernel, strides=[2, 2], auto_pad="SAME_UPPER", judge="onnxruntime"),
        case("AveragePool", X((2, 3, 8)), kernel_shape=[3], strides=[3], ceil_mode=1),
        case("MaxPool", free, **kernel, strides=[2, 1], dilations=[2, 3], auto_pad="SAME_UPPER"),
        case("AveragePool", free, **kernel, strides=[2, 3], auto_pad="SAME_LOWER", judge="onnxruntime"),
        case("AveragePool", free, kernel_shape=[2, 4], auto_pad="SAME_LOWER", count_include_pad=1),
        case("LpPool", big, **kernel, p=2),
        case("LpPool", big, **kernel, p=1, pads=[1, 0, 1, 0], strides=[2, 2]),
        case("LpPool", big, **kernel, p=3, dilations=[2, 2]),
    ]
    found += [
        case("LpPool", big, **kernel, strides=[2, 2], ceil_mode=1, judge="onnxruntime"),
        case("LpPool", free, **kernel, strides=[2, 2], auto_pad="SAME_LOWER", judge="onnxruntime"),
        case("LpPool", free, **kernel, strides=[2, 2], pads=[0, 1, 1, 0], ceil_mode=1, judge="onnxruntime"),
        *(
            case(op, free, kernel_shape=size, strides=strides, pads=pads, ceil_mode=1, judge="onnxruntime", **more)
            for op, more in (("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1}))
            for size, strides, pads in (
                ([2, 2], [2, 2], [0, 0, 0, 0]),
                ([3, 3], [2, 2], [1, 1, 1, 1]),
                ([2, 3], [3, 2], [1, 0, 0, 1]),
                ([3, 2], [4, 1], [0, 0, 1, 1]),
            )
        ),
        case("MaxPool", free, kernel_shape=[2, 2], strides=[2, 3], dilations=[2, 3], ceil_mode=1, judge="onnxruntime"),
        case("LpPool", X((2, 3, 8)), kernel_shape=[2]),
        case("LpPool", X((2, 3, 4, 4, 4)), kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
        case("AveragePool", X((2, 3, 4, 5, 6)), kernel_shape=[2, 2, 3], layer="F.avg_pool3d("),
        *(case("GlobalLpPool", x, p=p, judge="onnxruntime:21") for x, p in ((free, 3), (X((2, 3, 5)), 2), (SQUARE, 1))),
    ]
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        found += [case(op, x, judge="onnxruntime") for x in (free, X((2, 3, 5)), X((2, 3, 2, 3, 2)))]
    return found
