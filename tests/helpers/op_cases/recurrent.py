"""Cases of recurrent layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.op_cases.case import Case, W, X, case


def cases() -> list[Case]:
    x = X((5, 2, 3), free=(0, 1))
    lengths = X((2,), "int32", make=lambda n: 1 + np.arange(len(n)) % 4)

    def layer(op: str, gates: int, directions: int, *more: Any, bias: bool = True, x: X = x, **attributes: Any) -> Case:
        hidden = 4
        weights = (W((directions, gates * hidden, 3)), W((directions, gates * hidden, hidden)))
        third = W((directions, 2 * gates * hidden)) if bias else None
        outputs = attributes.pop("outputs", 3 if op == "LSTM" else 2)
        judge = attributes.pop("judge", "onnxruntime")
        given: list[Any] = [x, *weights, third, *more]
        return case(op, *given, hidden_size=hidden, outputs=outputs, judge=judge, **attributes)

    def state(directions: int) -> X:
        return X((directions, 2, 4), free=(1,))

    both = {"direction": "bidirectional"}
    loud = X((5, 2, 3), free=(0, 1), make=lambda n: 4 * n)
    first, batched = X((2, 5, 3), free=(0, 1)), X((2, 1, 4))
    masks = (lambda m: m > 0, lambda m: m > 9, lambda m: m < 9)  # of the second no step is left, of the third all are
    return [
        *(
            case(f"dlbridge:{op}", X((2, 5, 3), dtype, free=(0, 1)), X((2, 5), "bool", free=(0, 1), make=kept))
            for op in ("CompactSteps", "SpreadSteps")
            for kept, dtype in zip(masks, ("float32", "float32", "float64"), strict=True)
        ),
        layer("LSTM", 4, 1, layer="nn.LSTM(3, 4)"),
        layer("LSTM", 4, 2, **both, layer="bidirectional=True"),
        layer("LSTM", 4, 1, bias=False, outputs=1, layer="bias=False"),
        layer("LSTM", 4, 1, direction="reverse", layer="nn.LSTM(3, 4)"),
        layer("LSTM", 4, 1, None, state(1), state(1), layer="nn.LSTM"),
        layer("LSTM", 4, 2, lengths, state(2), None, **both, layer="packed("),
        layer("LSTM", 4, 1, None, None, None, W((1, 12)), layer="onnx_lstm("),
        layer("GRU", 3, 1, clip=0.5, layer="onnx_gru("),
        layer("LSTM", 4, 1, lengths, direction="reverse", layer="onnx_lstm("),
        layer("LSTM", 4, 1, activations=["HardSigmoid", "Relu", "Tanh"], activation_alpha=[0.3], activation_beta=[0.4]),
        layer("GRU", 3, 1, linear_before_reset=1, layer="nn.GRU(3, 4)"),
        layer("GRU", 3, 1, layer="onnx_gru("),
        layer("GRU", 3, 2, lengths, **both, linear_before_reset=1, layer="packed("),
        layer("GRU", 3, 2, lengths, state(2), **both, layer="onnx_gru("),
        layer("GRU", 3, 1, None, state(1), linear_before_reset=1, direction="reverse", layer="nn.GRU"),
        layer("RNN", 1, 1, layer="nn.RNN(3, 4)"),
        layer("RNN", 1, 1, activations=["Relu"], layer='nonlinearity="relu"'),
        layer("RNN", 1, 2, lengths, **both, activations=["Tanh", "Tanh"], layer="packed("),
        layer("RNN", 1, 1, activations=["Affine"], activation_alpha=[0.5], activation_beta=[0.1], layer="onnx_rnn("),
        layer("RNN", 1, 1, None, state(1), clip=0.4),
        layer("LSTM", 4, 1, clip=0.3, input_forget=1),
        # The cell is above the threshold: it is not clipped.
        layer("LSTM", 4, 1, clip=0.4, x=loud, layer="clip=0.4"),
        layer("LSTM", 4, 2, lengths, state(2), state(2), W((2, 12)), clip=0.5, x=loud, **both),
        layer("LSTM", 4, 1, None, state(1), state(1), W((1, 12)), clip=0.7, input_forget=1, x=loud),
        layer("LSTM", 4, 1, clip=0.6, x=loud, direction="reverse", activations=["Softplus", "Softsign", "Relu"]),
        layer("GRU", 3, 2, lengths, state(2), clip=0.3, x=loud, **both),
        layer(
            "GRU",
            3,
            2,
            **both,
            activations=["HardSigmoid", "LeakyRelu", "Sigmoid", "ScaledTanh"],
            activation_alpha=[0.3, 0.1, 0.7],
            activation_beta=[0.4, 0.5],
        ),
        layer("RNN", 1, 1, None, batched, layout=1, x=first, judge="reference"),
        layer("LSTM", 4, 1, None, batched, batched, layout=1, x=first, judge="reference"),
        layer("GRU", 3, 1, None, batched, layout=1, x=first, judge="reference"),
    ]
