"""Cases of normalizations."""

from __future__ import annotations

from tests.helpers.op_cases.case import IMAGE, SQUARE, C, Case, W, X, case, positive


def cases() -> list[Case]:
    running = (W((3,)), W((3,)), W((3,)), W((3,), positive))
    square = (W((4,)), W((4,)))
    half, halves = X((2, 4, 3, 4), "float16"), (X((4,), "float16", free=()), X((4,), "float16", free=()))
    return [
        case("BatchNormalization", IMAGE, *running, layer="nn.BatchNorm2d(3)"),
        case("BatchNormalization", X((2, 3)), *running, epsilon=1e-3, layer="nn.BatchNorm1d(3, eps=0.001)"),
        case("BatchNormalization", X((2, 3, 5)), *running, momentum=0.99, layer="momentum=0.01"),
        case("BatchNormalization", X((2, 3, 2, 2, 3)), *running, layer="nn.BatchNorm3d(3)"),
        case("BatchNormalization", IMAGE, *(X((3,), free=(), make=positive) for _ in range(4))),
        case("BatchNormalization", IMAGE, *running, training_mode=1, momentum=0.7, outputs=3),
        case("LayerNormalization", SQUARE, *square, layer="nn.LayerNorm(4)"),
        case(
            "LayerNormalization",
            SQUARE,
            W((4, 4)),
            axis=-2,
            epsilon=1e-2,
            layer="nn.LayerNorm((4, 4), eps=0.01, bias=False)",
        ),
        case("LayerNormalization", SQUARE, W((4, 4, 4)), W((4, 4, 4)), axis=1, layer="nn.LayerNorm((4, 4, 4))"),
        case("LayerNormalization", SQUARE, W((4, 1)), W((4,)), axis=2),
        case("LayerNormalization", X((2, 5, 4), free=(0, 1)), W((4,)), axis=1),
        case("LayerNormalization", SQUARE, *square, outputs=3),
        case("LayerNormalization", half, *halves, tolerance=1e-3),
        case("RMSNormalization", SQUARE, W((4,)), layer="nn.RMSNorm(4, eps=1e-05)"),
        case("RMSNormalization", SQUARE, W((4, 4)), axis=2, epsilon=1e-3),
        case("RMSNormalization", X((2, 5, 4), free=(0, 1)), W((4,)), axis=1),
        case("RMSNormalization", half, halves[0], tolerance=1e-2),
        case("GroupNormalization", SQUARE, *square, num_groups=2, layer="nn.GroupNorm(2, 4)"),
        case("GroupNormalization", SQUARE, *square, num_groups=4, epsilon=1e-2),
        case("GroupNormalization", X((2, 4, 3), free=(0, 2)), *square, num_groups=2),
        case("GroupNormalization", X((2, 4, 2, 2, 3)), *square, num_groups=1),
        case("GroupNormalization", half, *halves, num_groups=2, stash_type=10, tolerance=1e-2),
        case("InstanceNormalization", SQUARE, *square, layer="nn.InstanceNorm2d(4, affine=True)"),
        case("InstanceNormalization", X((2, 4, 5)), *square, epsilon=1e-2),
        case("InstanceNormalization", X((2, 4, 2, 3, 2)), *square),
        case("LpNormalization", IMAGE, p=1, axis=1, judge="onnxruntime"),
        case("LpNormalization", IMAGE),
        case("MeanVarianceNormalization", IMAGE, axes=[0, 2, 3], judge="onnxruntime"),
        case("LRN", SQUARE, size=3, alpha=0.01, beta=0.5, bias=2.0, judge="onnxruntime"),
        case("Dropout", IMAGE, C(0.3, "float32"), layer="nn.Dropout(0.3)"),
        case("Dropout", IMAGE, C(0.5, "float32"), layer="nn.Dropout()"),
        case("Dropout", IMAGE, C(0.5, "float32"), C(False, "bool"), outputs=2),
        case("Dropout", IMAGE, C(0.0, "float32"), C(True, "bool"), seed=7, outputs=2),
        case("dlbridge:StopGradient", IMAGE),
        case("dlbridge:BroadcastDropout", IMAGE, axes=[2, 3], layer="nn.Dropout2d()"),
        case("dlbridge:BroadcastDropout", X((2, 3, 7), free=(0, 2)), ratio=0.2, axes=[-1], layer="nn.Dropout1d(0.2)"),
        case("dlbridge:BroadcastDropout", X((2, 3, 4, 2, 3)), axes=[3, 4, 2], layer="nn.Dropout3d()"),
        case("dlbridge:BroadcastDropout", IMAGE, ratio=0.1, axes=[1, 2, 3], layer="DropPath(0.1)"),
        case("dlbridge:BroadcastDropout", IMAGE, ratio=0.1, axes=[1, 2], layer="BroadcastDropout(0.1, (1, 2))"),
        case("dlbridge:BroadcastDropout", IMAGE, layer="nn.Dropout()"),
        case("dlbridge:AlphaDropout", IMAGE, ratio=0.2, layer="nn.AlphaDropout(0.2)"),
        case("dlbridge:AlphaDropout", IMAGE, axes=[2, 3], layer="nn.FeatureAlphaDropout()"),
        case("dlbridge:AlphaDropout", IMAGE, axes=[0], layer="BroadcastAlphaDropout(0.5, (0,))"),
        case("dlbridge:GaussianDropout", IMAGE, ratio=0.3, layer="GaussianDropout(0.3)"),
        case("dlbridge:GaussianNoise", IMAGE, stddev=0.1, layer="GaussianNoise(0.1)"),
        case("dlbridge:Augmentation", IMAGE, kind="RandomFlip", config='{"mode": "vertical"}', layer="nn.Identity()"),
    ]
