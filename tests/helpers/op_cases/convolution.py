"""Cases of convolutions."""

from __future__ import annotations

from tests.helpers.op_cases.case import IMAGE, SQUARE, Case, W, X, case


def cases() -> list[Case]:
    weight, bias = W((4, 3, 3, 3)), W((4,))
    transposed = W((3, 4, 3, 3))
    found = [
        case("Conv", X((2, 3, 8)), W((4, 3, 3)), bias, layer="nn.Conv1d(3, 4, 3)"),
        case("Conv", IMAGE, weight, bias, layer="nn.Conv2d(3, 4, 3)"),
        case("Conv", X((2, 3, 4, 5, 6)), W((4, 3, 2, 3, 3)), layer="nn.Conv3d(3, 4, (2, 3, 3), bias=False)"),
        case("Conv", IMAGE, weight, bias, pads=[1, 1, 1, 1], layer="padding=1"),
        case("Conv", IMAGE, weight, bias, pads=[1, 0, 2, 1]),
        case("Conv", IMAGE, weight, bias, strides=[2, 1], dilations=[1, 2], layer="stride=(2, 1), dilation=(1, 2)"),
        case("Conv", X((2, 4, 5, 5)), W((6, 2, 3, 3)), group=2, layer="groups=2"),
        case("Conv", SQUARE, W((4, 1, 3, 3)), bias, group=4, pads=[1, 1, 1, 1], layer="groups=4"),
        case("Conv", X((2, 3, 7, 6), free=(0, 2, 3)), weight, auto_pad="SAME_UPPER"),
        case("Conv", X((2, 3, 7, 6), free=(0, 2, 3)), weight, bias, auto_pad="SAME_LOWER", strides=[2, 2]),
        case("Conv", X((2, 3, 7, 6), free=(0, 2, 3)), W((4, 3, 2, 4)), auto_pad="SAME_UPPER", strides=[2, 3]),
        case("Conv", IMAGE, weight, auto_pad="SAME_UPPER", dilations=[2, 2], layer="padding=2"),
        case("Conv", IMAGE, weight, auto_pad="VALID"),
        case("Conv", IMAGE, X((4, 3, 3, 3), free=()), X((4,), free=())),
        case(
            "ConvTranspose",
            X((2, 3, 5)),
            W((3, 4, 3)),
            bias,
            strides=[2],
            layer="nn.ConvTranspose1d(3, 4, 3, stride=2)",
        ),
        case("ConvTranspose", IMAGE, transposed, bias, strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1]),
        case("ConvTranspose", IMAGE, transposed, bias, strides=[2, 3], pads=[0, 1, 2, 1]),
        case("ConvTranspose", IMAGE, transposed, strides=[2, 2], output_shape=[15, 12], judge="onnxruntime"),
        case("ConvTranspose", X((2, 3, 7, 6), free=(0, 2, 3)), transposed, strides=[2, 2], auto_pad="SAME_UPPER"),
        case("ConvTranspose", X((2, 3, 7, 6), free=(0, 2, 3)), transposed, strides=[2, 2], auto_pad="SAME_LOWER"),
        case(
            "ConvTranspose",
            X((2, 4, 5, 5)),
            W((4, 3, 3, 3)),
            group=2,
            dilations=[2, 2],
            layer="groups=2, dilation=2",
            judge="onnxruntime",
        ),
        case("ConvTranspose", X((2, 2, 3, 4, 3)), W((2, 3, 2, 2, 2)), layer="nn.ConvTranspose3d"),
    ]
    return found
