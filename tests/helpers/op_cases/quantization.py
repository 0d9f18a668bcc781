"""Cases of quantized numbers."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import C, Case, X, case


def cases() -> list[Case]:
    x, scale = X((2, 3, 4), make=lambda n: 4 * n), C([0.1, 0.5, 2.0], "float32")
    row = X((2, 4), "uint8", make=lambda n: 40 * np.abs(n))
    single, zero, signed = C(0.3, "float32"), C([3, 0, 250], "uint8"), C([[5, -3], [1, 2], [-7, 0], [4, 4]], "int8")
    return [
        case("QuantizeLinear", x, scale, zero, axis=1),
        case("QuantizeLinear", x, single, C(-3, "int8")),
        case("QuantizeLinear", x, single, C(0, "int16")),
        case("DequantizeLinear", X((2, 3, 4), "uint8", make=lambda n: 40 * np.abs(n)), scale, zero, axis=1),
        case("DequantizeLinear", X((2, 3), "int32"), single),
        case("DynamicQuantizeLinear", x, outputs=3),
        case("MatMulInteger", row, signed, C(12, "uint8"), C([1, 2], "int8")),
        case(
            "QLinearMatMul", row, single, C(3, "uint8"), signed, single, C(1, "int8"), C(1.7, "float32"), C(9, "int8")
        ),
        case("BitCast", X((2, 3)), to=6),
        case("BitCast", X((2, 3), "int64"), to=11),
    ]
