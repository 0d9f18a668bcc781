"""Cases of attention."""

from __future__ import annotations

import numpy as np

from tests.helpers.op_cases.case import Case, X, case


def cases() -> list[Case]:
    q, k, v = X((2, 4, 3, 8)), X((2, 4, 5, 8)), X((2, 4, 5, 6))
    fused = "F.scaled_dot_product_attention"
    grouped = (X((2, 3, 32)), X((2, 5, 16)), X((2, 5, 16)))
    free = tuple(X((2, 4, 4, 4), free=(0, 2)) for _ in range(3))
    mask = X((3, 5), "bool", free=(), make=lambda x: (x > -0.5) | (np.arange(5) == 0))
    return [
        case("Attention", q, k, v, layer=fused),
        case("Attention", q, k, v, scale=0.3, layer=fused),
        case("Attention", *free, is_causal=1, layer="is_causal=True"),
        case("Attention", q, k, v, X((3, 5), free=()), layer="attn_mask="),
        case("Attention", q, k, v, mask, layer="attn_mask="),
        case("Attention", q, k, v, X((2, 1, 3, 5)), is_causal=1, layer="attention("),
        case("Attention", q, k, v, X((3, 4), free=()), layer="attention("),
        case("Attention", *grouped, q_num_heads=4, kv_num_heads=2, layer="enable_gqa=True"),
        case("Attention", X((2, 4, 3, 8)), X((2, 2, 5, 8)), X((2, 2, 5, 8)), layer="enable_gqa=True"),
        case("Attention", q, k, v, softcap=2.0, layer="attention("),
        case("Attention", q, k, v, left_window_size=1, right_window_size=0, layer="attention("),
        case("Attention", q, k, v, None, X((2, 4, 2, 8)), X((2, 4, 2, 6)), is_causal=1, outputs=3, layer="attention("),
        *(
            case(
                "Attention",
                q,
                k,
                v,
                X((3, 5), free=()),
                None,
                None,
                softcap=2.0,
                qk_matmul_output_mode=m,
                outputs=4,
                judge="onnxruntime",
            )
            for m in range(4)
        ),
        case("Attention", *(X(x.shape, "float16") for x in (q, k, v)), softmax_precision=1, tolerance=2e-3),
        case("Attention", q, k, v, None, None, None, X((2,), "int64", make=lambda n: 3 + np.arange(len(n)) % 3)),
    ]
