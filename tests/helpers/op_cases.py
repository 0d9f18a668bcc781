"""A case for each attribute that changes what an op means: plain data, shared by the tests of all writers.

A case is judged by the ONNX reference evaluator (or by onnxruntime where the reference leaves something out), at two
batch sizes; the graph knows the batch by name alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.ops import extension, traits


@dataclass(frozen=True)
class X:
    """A graph input of random numbers; an axis in ``free`` is known by name alone and grows by 1 in the second run."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    free: tuple[int, ...] = (0,)
    make: Callable[[np.ndarray], np.ndarray] | None = None

    def array(self, rng: np.random.Generator, more: int) -> np.ndarray:
        shape = [n + more if axis in self.free else n for axis, n in enumerate(self.shape)]
        numbers = rng.standard_normal(shape)
        if self.make is not None:
            return np.asarray(self.make(numbers)).astype(self.dtype)
        return (numbers * (1 if np.dtype(self.dtype).kind == "f" else 4)).astype(self.dtype)


@dataclass(frozen=True)
class W:
    """A trained weight of random numbers."""

    shape: tuple[int, ...]
    make: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class C:
    """A constant."""

    values: Any
    dtype: str = "int64"


@dataclass(frozen=True)
class Case:
    """One op with its inputs and attributes.

    Attributes:
        op: The op type; with its domain before a colon where that is not the default one.
        inputs: What it reads; None for an input that is not given.
        attributes: Its attributes.
        outputs: How many outputs it has.
        layer: What the PyTorch source must contain, where a layer is expected.
        judge: "reference" or "onnxruntime", with an older opset behind a colon where it has no kernel for this one.
        tolerance: Largest difference, relative and absolute.
    """

    op: str
    inputs: tuple[X | W | C | None, ...]
    attributes: dict[str, Any]
    outputs: int = 1
    layer: str | None = None
    judge: str = "reference"
    tolerance: float = 1e-5

    def __str__(self) -> str:
        shown = [f"{k}={v}" for k, v in self.attributes.items()]
        kinds = "".join("-" if i is None else type(i).__name__.lower() for i in self.inputs)
        shape = next(("x".join(map(str, i.shape)) for i in self.inputs if isinstance(i, X)), "")
        return f"{self.op}[{kinds} {shape} {' '.join(shown)}]".replace(", ", ",")

    def proto(self) -> onnx.ModelProto:
        """The model of the one node, at ``IR_OPSET``."""
        domain, _, op_type = self.op.rpartition(":")
        rng = np.random.default_rng(11)
        names, inputs, initializers = [], [], []
        for i, given in enumerate(self.inputs):
            name = f"in{i}"
            names.append("" if given is None else name)
            if isinstance(given, X):
                shape = [f"free{a}" if a in given.free else n for a, n in enumerate(given.shape)]
                dtype = helper.np_dtype_to_tensor_dtype(np.dtype(given.dtype))
                inputs.append(helper.make_tensor_value_info(name, dtype, shape))
            elif isinstance(given, W):
                numbers = rng.standard_normal(given.shape)
                numbers = numbers if given.make is None else given.make(numbers)
                initializers.append(numpy_helper.from_array(numbers.astype(np.float32), name))
            elif isinstance(given, C):
                initializers.append(numpy_helper.from_array(np.array(given.values, given.dtype), name))
        outs = [f"out{i}" for i in range(self.outputs)]
        node = helper.make_node(op_type, names, outs, name="node", domain=domain, **self.attributes)
        graph = helper.make_graph([node], "case", inputs, [onnx.ValueInfoProto(name=o) for o in outs], initializers)
        imports = [helper.make_opsetid("", traits.IR_OPSET)]
        if domain:
            imports.append(helper.make_opsetid(domain, extension.DOMAIN_VERSION))
        return helper.make_model(graph, opset_imports=imports, ir_version=traits.IR_VERSION)

    def model(self) -> Model:
        """The same as a ``Model``, in which weights are trained."""
        model = Model(ir.from_proto(self.proto()))
        for i, given in enumerate(self.inputs):
            if isinstance(given, W):
                traits.set_kind(model.graph.initializers[f"in{i}"], "parameter")
        return model

    def runs(self) -> list[tuple[dict[str, np.ndarray], list[np.ndarray]]]:
        """(inputs by name, outputs as the judge has them) at two batch sizes."""
        proto = ir.to_proto(self.model().ir)
        found = []
        for more in (0, 1):
            rng = np.random.default_rng(5 + more)
            given = {f"in{i}": x.array(rng, more) for i, x in enumerate(self.inputs) if isinstance(x, X)}
            found.append((given, _judge(self.judge, proto, given)))
        return found


def _judge(judge: str, proto: onnx.ModelProto, given: dict[str, np.ndarray]) -> list[np.ndarray]:
    foreign = {n.domain for n in proto.graph.node} - {"", extension.DOMAIN}
    if foreign:
        raise ValueError(f"cases are ops of the standard or of dlbridge: CONTRIBUTING.md has another way for {foreign}")
    if judge == "reference":
        with np.errstate(all="ignore"):
            return [np.asarray(o) for o in ReferenceEvaluator(proto).run(None, given)]
    import onnxruntime

    proto.opset_import[0].version = int(judge.partition(":")[2] or traits.IR_OPSET)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    inferred = onnx.shape_inference.infer_shapes(proto)
    session = onnxruntime.InferenceSession(inferred.SerializeToString(), options, ["CPUExecutionProvider"])
    return session.run(None, given)


# --- the cases -----------------------------------------------------------------------------------------------------

IMAGE, SQUARE = X((2, 3, 7, 6)), X((2, 4, 4, 4))


def _positive(numbers: np.ndarray) -> np.ndarray:
    return np.abs(numbers) + 0.1


def _case(op: str, *inputs: Any, **options: Any) -> Case:
    own = {k: options.pop(k) for k in ("outputs", "layer", "judge", "tolerance") if k in options}
    return Case(op, inputs, options, **own)


def _linear() -> list[Case]:
    vectors, weight, bias = X((2, 5)), W((4, 5)), W((4,))
    return [
        _case("dlbridge:Linear", vectors, weight, bias, layer="nn.Linear(5, 4)"),
        _case("dlbridge:Linear", vectors, weight, layer="bias=False"),
        _case("dlbridge:Linear", X((2, 3, 5), free=(0, 1)), weight, bias, layer="nn.Linear(5, 4)"),
        _case("dlbridge:Linear", vectors, X((4, 5), free=()), X((4,), free=())),
        _case(
            "dlbridge:Embedding", X((2, 3), "int64", make=lambda x: np.abs(x * 3) % 6), W((6, 4)), layer="nn.Embedding"
        ),
        *(
            _case("dlbridge:CausalMask", X((2, 4, 3), free=free), *padding, axis=axis, window=window)
            for free, axis, window, padding in (
                ((0,), 1, 0, ()),
                ((1,), 1, 2, ()),
                ((0,), 2, 0, (X((2, 4), "bool", make=lambda x: x > -1),)),
                ((0, 1), 1, 3, (X((2, 4), "bool", free=(0, 1), make=lambda x: x > -1),)),
                ((0,), 1, 2, (X((2, 7), "bool", make=lambda x: x > -1),)),
            )
        ),
        *(
            _case(
                "dlbridge:RelativeBuckets",
                X((5, 9), "int64", make=lambda x: x * 37),
                num_buckets=count,
                max_distance=limit,
                bidirectional=both,
            )
            for count, limit, both in ((32, 128, 1), (32, 128, 0), (8, 20, 1))
        ),
        _case("dlbridge:RotateHalves", X((2, 4, 3, 6)), X((3, 6), free=()), X((3, 6), free=())),
        _case("dlbridge:RotateHalves", X((2, 3, 6), free=(0, 1)), X((3, 6)), X((3, 6))),
        _case("MatMul", vectors, W((5, 3))),
        _case("MatMul", X((2, 3, 5)), X((2, 5, 3))),
        _case("MatMul", X((5,), free=()), X((2, 5, 3))),
        _case("MatMul", X((2, 5), "int64"), X((5, 2), "int64", free=())),
        _case("Gemm", vectors, W((4, 5)), W((4,)), transB=1),
        _case("Gemm", X((5, 2), free=(1,)), W((5, 3)), transA=1),
        _case("Gemm", vectors, W((5, 3)), W((3,)), alpha=0.5, beta=2.0),
        _case("Gemm", vectors, W((5, 3)), W((1, 3)), beta=0.0),
        _case("Gemm", X((5, 2), free=(1,)), X((4, 5), free=()), X((2, 1)), transA=1, transB=1, alpha=0.5),
        _case("Gemm", vectors, W((5, 3))),
        _case("Einsum", X((2, 3, 4)), X((2, 4, 5)), equation="bij,bjk->bik"),
        _case("Einsum", X((2, 3, 3)), equation="...ii->...i"),
        _case("Einsum", X((2, 3)), X((3, 4), free=()), equation="ij,jk"),
        _case("Einsum", X((2, 3, 4)), X((2, 4, 5)), equation="bIJ,bJk->bIk"),
        _case("Einsum", X((2, 3)), X((3, 4), free=()), equation="bA,AB"),
        _case("Einsum", X((2, 3)), X((3, 4), free=()), X((4, 5), free=()), equation="ij,jk,kl->il"),
    ]


def _convolution() -> list[Case]:
    weight, bias = W((4, 3, 3, 3)), W((4,))
    transposed = W((3, 4, 3, 3))
    found = [
        _case("Conv", X((2, 3, 8)), W((4, 3, 3)), bias, layer="nn.Conv1d(3, 4, 3)"),
        _case("Conv", IMAGE, weight, bias, layer="nn.Conv2d(3, 4, 3)"),
        _case("Conv", X((2, 3, 4, 5, 6)), W((4, 3, 2, 3, 3)), layer="nn.Conv3d(3, 4, (2, 3, 3), bias=False)"),
        _case("Conv", IMAGE, weight, bias, pads=[1, 1, 1, 1], layer="padding=1"),
        _case("Conv", IMAGE, weight, bias, pads=[1, 0, 2, 1]),
        _case("Conv", IMAGE, weight, bias, strides=[2, 1], dilations=[1, 2], layer="stride=(2, 1), dilation=(1, 2)"),
        _case("Conv", X((2, 4, 5, 5)), W((6, 2, 3, 3)), group=2, layer="groups=2"),
        _case("Conv", SQUARE, W((4, 1, 3, 3)), bias, group=4, pads=[1, 1, 1, 1], layer="groups=4"),
        _case("Conv", X((2, 3, 7, 6), free=(0, 2, 3)), weight, auto_pad="SAME_UPPER"),
        _case("Conv", X((2, 3, 7, 6), free=(0, 2, 3)), weight, bias, auto_pad="SAME_LOWER", strides=[2, 2]),
        _case("Conv", X((2, 3, 7, 6), free=(0, 2, 3)), W((4, 3, 2, 4)), auto_pad="SAME_UPPER", strides=[2, 3]),
        _case("Conv", IMAGE, weight, auto_pad="SAME_UPPER", dilations=[2, 2], layer="padding=2"),
        _case("Conv", IMAGE, weight, auto_pad="VALID"),
        _case("Conv", IMAGE, X((4, 3, 3, 3), free=()), X((4,), free=())),
        _case(
            "ConvTranspose",
            X((2, 3, 5)),
            W((3, 4, 3)),
            bias,
            strides=[2],
            layer="nn.ConvTranspose1d(3, 4, 3, stride=2)",
        ),
        _case("ConvTranspose", IMAGE, transposed, bias, strides=[2, 2], output_padding=[1, 1], pads=[1, 1, 1, 1]),
        _case("ConvTranspose", IMAGE, transposed, bias, strides=[2, 3], pads=[0, 1, 2, 1]),
        _case("ConvTranspose", IMAGE, transposed, strides=[2, 2], output_shape=[15, 12], judge="onnxruntime"),
        _case("ConvTranspose", X((2, 3, 7, 6), free=(0, 2, 3)), transposed, strides=[2, 2], auto_pad="SAME_UPPER"),
        _case("ConvTranspose", X((2, 3, 7, 6), free=(0, 2, 3)), transposed, strides=[2, 2], auto_pad="SAME_LOWER"),
        _case(
            "ConvTranspose",
            X((2, 4, 5, 5)),
            W((4, 3, 3, 3)),
            group=2,
            dilations=[2, 2],
            layer="groups=2, dilation=2",
            judge="onnxruntime",
        ),
        _case("ConvTranspose", X((2, 2, 3, 4, 3)), W((2, 3, 2, 2, 2)), layer="nn.ConvTranspose3d"),
    ]
    return found


def _normalization() -> list[Case]:
    running = (W((3,)), W((3,)), W((3,)), W((3,), _positive))
    square = (W((4,)), W((4,)))
    half, halves = X((2, 4, 3, 4), "float16"), (X((4,), "float16", free=()), X((4,), "float16", free=()))
    return [
        _case("BatchNormalization", IMAGE, *running, layer="nn.BatchNorm2d(3)"),
        _case("BatchNormalization", X((2, 3)), *running, epsilon=1e-3, layer="nn.BatchNorm1d(3, eps=0.001)"),
        _case("BatchNormalization", X((2, 3, 5)), *running, momentum=0.99, layer="momentum=0.01"),
        _case("BatchNormalization", X((2, 3, 2, 2, 3)), *running, layer="nn.BatchNorm3d(3)"),
        _case("BatchNormalization", IMAGE, *(X((3,), free=(), make=_positive) for _ in range(4))),
        _case("BatchNormalization", IMAGE, *running, training_mode=1, momentum=0.7, outputs=3),
        _case("LayerNormalization", SQUARE, *square, layer="nn.LayerNorm(4)"),
        _case(
            "LayerNormalization",
            SQUARE,
            W((4, 4)),
            axis=-2,
            epsilon=1e-2,
            layer="nn.LayerNorm((4, 4), eps=0.01, bias=False)",
        ),
        _case("LayerNormalization", SQUARE, W((4, 4, 4)), W((4, 4, 4)), axis=1, layer="nn.LayerNorm((4, 4, 4))"),
        _case("LayerNormalization", SQUARE, W((4, 1)), W((4,)), axis=2),
        _case("LayerNormalization", X((2, 5, 4), free=(0, 1)), W((4,)), axis=1),
        _case("LayerNormalization", SQUARE, *square, outputs=3),
        _case("LayerNormalization", half, *halves, tolerance=1e-3),
        _case("RMSNormalization", SQUARE, W((4,)), layer="nn.RMSNorm(4, eps=1e-05)"),
        _case("RMSNormalization", SQUARE, W((4, 4)), axis=2, epsilon=1e-3),
        _case("RMSNormalization", X((2, 5, 4), free=(0, 1)), W((4,)), axis=1),
        _case("RMSNormalization", half, halves[0], tolerance=1e-2),
        _case("GroupNormalization", SQUARE, *square, num_groups=2, layer="nn.GroupNorm(2, 4)"),
        _case("GroupNormalization", SQUARE, *square, num_groups=4, epsilon=1e-2),
        _case("GroupNormalization", X((2, 4, 3), free=(0, 2)), *square, num_groups=2),
        _case("GroupNormalization", X((2, 4, 2, 2, 3)), *square, num_groups=1),
        _case("GroupNormalization", half, *halves, num_groups=2, stash_type=10, tolerance=1e-2),
        _case("InstanceNormalization", SQUARE, *square, layer="nn.InstanceNorm2d(4, affine=True)"),
        _case("InstanceNormalization", X((2, 4, 5)), *square, epsilon=1e-2),
        _case("InstanceNormalization", X((2, 4, 2, 3, 2)), *square),
        _case("LpNormalization", IMAGE, p=1, axis=1, judge="onnxruntime"),
        _case("LpNormalization", IMAGE),
        _case("MeanVarianceNormalization", IMAGE, axes=[0, 2, 3], judge="onnxruntime"),
        _case("LRN", SQUARE, size=3, alpha=0.01, beta=0.5, bias=2.0, judge="onnxruntime"),
        _case("Dropout", IMAGE, C(0.3, "float32"), layer="nn.Dropout(0.3)"),
        _case("Dropout", IMAGE, C(0.5, "float32"), layer="nn.Dropout()"),
        _case("Dropout", IMAGE, C(0.5, "float32"), C(False, "bool"), outputs=2),
        _case("Dropout", IMAGE, C(0.0, "float32"), C(True, "bool"), seed=7, outputs=2),
        _case("dlbridge:BroadcastDropout", IMAGE, axes=[2, 3], layer="nn.Dropout2d()"),
        _case("dlbridge:BroadcastDropout", X((2, 3, 7), free=(0, 2)), ratio=0.2, axes=[-1], layer="nn.Dropout1d(0.2)"),
        _case("dlbridge:BroadcastDropout", X((2, 3, 4, 2, 3)), axes=[3, 4, 2], layer="nn.Dropout3d()"),
        _case("dlbridge:BroadcastDropout", IMAGE, ratio=0.1, axes=[1, 2, 3], layer="DropPath(0.1)"),
        _case("dlbridge:BroadcastDropout", IMAGE, ratio=0.1, axes=[1, 2], layer="BroadcastDropout(0.1, (1, 2))"),
        _case("dlbridge:BroadcastDropout", IMAGE, layer="nn.Dropout()"),
        _case("dlbridge:AlphaDropout", IMAGE, ratio=0.2, layer="nn.AlphaDropout(0.2)"),
        _case("dlbridge:AlphaDropout", IMAGE, axes=[2, 3], layer="nn.FeatureAlphaDropout()"),
        _case("dlbridge:AlphaDropout", IMAGE, axes=[0], layer="BroadcastAlphaDropout(0.5, (0,))"),
        _case("dlbridge:GaussianDropout", IMAGE, ratio=0.3, layer="GaussianDropout(0.3)"),
        _case("dlbridge:GaussianNoise", IMAGE, stddev=0.1, layer="GaussianNoise(0.1)"),
        _case("dlbridge:Augmentation", IMAGE, kind="RandomFlip", config='{"mode": "vertical"}', layer="nn.Identity()"),
    ]


def _recurrent() -> list[Case]:
    x = X((5, 2, 3), free=(0, 1))
    lengths = X((2,), "int32", make=lambda n: 1 + np.arange(len(n)) % 4)

    def case(op: str, gates: int, directions: int, *more: Any, bias: bool = True, x: X = x, **attributes: Any) -> Case:
        hidden = 4
        weights = (W((directions, gates * hidden, 3)), W((directions, gates * hidden, hidden)))
        third = W((directions, 2 * gates * hidden)) if bias else None
        outputs = attributes.pop("outputs", 3 if op == "LSTM" else 2)
        judge = attributes.pop("judge", "onnxruntime")
        given: list[Any] = [x, *weights, third, *more]
        return _case(op, *given, hidden_size=hidden, outputs=outputs, judge=judge, **attributes)

    def state(directions: int) -> X:
        return X((directions, 2, 4), free=(1,))

    both = {"direction": "bidirectional"}
    loud = X((5, 2, 3), free=(0, 1), make=lambda n: 4 * n)
    first, batched = X((2, 5, 3), free=(0, 1)), X((2, 1, 4))
    return [
        case("LSTM", 4, 1, layer="nn.LSTM(3, 4)"),
        case("LSTM", 4, 2, **both, layer="bidirectional=True"),
        case("LSTM", 4, 1, bias=False, outputs=1, layer="bias=False"),
        case("LSTM", 4, 1, direction="reverse", layer="nn.LSTM(3, 4)"),
        case("LSTM", 4, 1, None, state(1), state(1), layer="nn.LSTM"),
        case("LSTM", 4, 2, lengths, state(2), None, **both, layer="packed("),
        case("LSTM", 4, 1, None, None, None, W((1, 12)), layer="onnx_lstm("),
        case("GRU", 3, 1, clip=0.5, layer="onnx_gru("),
        case("LSTM", 4, 1, lengths, direction="reverse", layer="onnx_lstm("),
        case("LSTM", 4, 1, activations=["HardSigmoid", "Relu", "Tanh"], activation_alpha=[0.3], activation_beta=[0.4]),
        case("GRU", 3, 1, linear_before_reset=1, layer="nn.GRU(3, 4)"),
        case("GRU", 3, 1, layer="onnx_gru("),
        case("GRU", 3, 2, lengths, **both, linear_before_reset=1, layer="packed("),
        case("GRU", 3, 2, lengths, state(2), **both, layer="onnx_gru("),
        case("GRU", 3, 1, None, state(1), linear_before_reset=1, direction="reverse", layer="nn.GRU"),
        case("RNN", 1, 1, layer="nn.RNN(3, 4)"),
        case("RNN", 1, 1, activations=["Relu"], layer='nonlinearity="relu"'),
        case("RNN", 1, 2, lengths, **both, activations=["Tanh", "Tanh"], layer="packed("),
        case("RNN", 1, 1, activations=["Affine"], activation_alpha=[0.5], activation_beta=[0.1], layer="onnx_rnn("),
        case("RNN", 1, 1, None, state(1), clip=0.4),
        case("LSTM", 4, 1, clip=0.3, input_forget=1),
        # The cell is above the threshold: it is not clipped.
        case("LSTM", 4, 1, clip=0.4, x=loud, layer="clip=0.4"),
        case("LSTM", 4, 2, lengths, state(2), state(2), W((2, 12)), clip=0.5, x=loud, **both),
        case("LSTM", 4, 1, None, state(1), state(1), W((1, 12)), clip=0.7, input_forget=1, x=loud),
        case("LSTM", 4, 1, clip=0.6, x=loud, direction="reverse", activations=["Softplus", "Softsign", "Relu"]),
        case("GRU", 3, 2, lengths, state(2), clip=0.3, x=loud, **both),
        case(
            "GRU",
            3,
            2,
            **both,
            activations=["HardSigmoid", "LeakyRelu", "Sigmoid", "ScaledTanh"],
            activation_alpha=[0.3, 0.1, 0.7],
            activation_beta=[0.4, 0.5],
        ),
        case("RNN", 1, 1, None, batched, layout=1, x=first, judge="reference"),
        case("LSTM", 4, 1, None, batched, batched, layout=1, x=first, judge="reference"),
        case("GRU", 3, 1, None, batched, layout=1, x=first, judge="reference"),
    ]


def _attention() -> list[Case]:
    q, k, v = X((2, 4, 3, 8)), X((2, 4, 5, 8)), X((2, 4, 5, 6))
    fused = "F.scaled_dot_product_attention"
    grouped = (X((2, 3, 32)), X((2, 5, 16)), X((2, 5, 16)))
    free = tuple(X((2, 4, 4, 4), free=(0, 2)) for _ in range(3))
    mask = X((3, 5), "bool", free=(), make=lambda x: (x > -0.5) | (np.arange(5) == 0))
    return [
        _case("Attention", q, k, v, layer=fused),
        _case("Attention", q, k, v, scale=0.3, layer=fused),
        _case("Attention", *free, is_causal=1, layer="is_causal=True"),
        _case("Attention", q, k, v, X((3, 5), free=()), layer="attn_mask="),
        _case("Attention", q, k, v, mask, layer="attn_mask="),
        _case("Attention", q, k, v, X((2, 1, 3, 5)), is_causal=1, layer="attention("),
        _case("Attention", q, k, v, X((3, 4), free=()), layer="attention("),
        _case("Attention", *grouped, q_num_heads=4, kv_num_heads=2, layer="enable_gqa=True"),
        _case("Attention", X((2, 4, 3, 8)), X((2, 2, 5, 8)), X((2, 2, 5, 8)), layer="enable_gqa=True"),
        _case("Attention", q, k, v, softcap=2.0, layer="attention("),
        _case("Attention", q, k, v, left_window_size=1, right_window_size=0, layer="attention("),
        _case("Attention", q, k, v, None, X((2, 4, 2, 8)), X((2, 4, 2, 6)), is_causal=1, outputs=3, layer="attention("),
        *(
            _case(
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
        _case("Attention", *(X(x.shape, "float16") for x in (q, k, v)), softmax_precision=1, tolerance=2e-3),
        _case("Attention", q, k, v, None, None, None, X((2,), "int64", make=lambda n: 3 + np.arange(len(n)) % 3)),
    ]


def _pooling() -> list[Case]:
    big, free = X((2, 3, 8, 9)), X((2, 3, 8, 9), free=(0, 2, 3))
    kernel = {"kernel_shape": [3, 3]}
    found = [
        _case("MaxPool", X((2, 3, 8)), kernel_shape=[2], strides=[2], layer="F.max_pool1d("),
        _case("MaxPool", big, kernel_shape=[2, 2], strides=[2, 2], layer="F.max_pool2d(in0, 2)"),
        _case("MaxPool", X((2, 3, 4, 5, 6)), kernel_shape=[2, 2, 2], layer="F.max_pool3d("),
        _case("MaxPool", big, **kernel, pads=[1, 1, 1, 1], layer="padding=1"),
        _case("MaxPool", big, **kernel, pads=[0, 1, 2, 1], strides=[2, 2]),
        _case("MaxPool", big, **kernel, strides=[2, 2], ceil_mode=1, layer="ceil_mode=True"),
        _case("MaxPool", big, **kernel, pads=[1, 0, 0, 1], strides=[2, 2], ceil_mode=1),
        _case("MaxPool", big, **kernel, dilations=[2, 1], layer="dilation=(2, 1)"),
        _case("MaxPool", free, **kernel, strides=[2, 2], auto_pad="SAME_UPPER", judge="onnxruntime"),
        _case("MaxPool", free, **kernel, strides=[2, 2], auto_pad="SAME_LOWER", judge="onnxruntime"),
        _case("MaxPool", big, **kernel, strides=[2, 2], pads=[1, 1, 1, 1], outputs=2, judge="onnxruntime"),
        _case("MaxPool", big, **kernel, storage_order=1, outputs=2, judge="onnxruntime"),
        _case("AveragePool", big, **kernel, layer="F.avg_pool2d("),
        _case("AveragePool", big, **kernel, pads=[1, 1, 1, 1], layer="count_include_pad=False"),
        _case("AveragePool", big, **kernel, pads=[1, 1, 1, 1], count_include_pad=1),
        _case("AveragePool", big, **kernel, pads=[0, 1, 1, 2], strides=[2, 2]),
        _case("AveragePool", big, **kernel, pads=[0, 1, 1, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1),
        _case("AveragePool", big, kernel_shape=[2, 2], dilations=[2, 2]),
        _case("AveragePool", free, **kernel, strides=[2, 2], auto_pad="SAME_UPPER", judge="onnxruntime"),
        _case("AveragePool", X((2, 3, 8)), kernel_shape=[3], strides=[3], ceil_mode=1),
        _case("MaxPool", free, **kernel, strides=[2, 1], dilations=[2, 3], auto_pad="SAME_UPPER"),
        _case("AveragePool", free, **kernel, strides=[2, 3], auto_pad="SAME_LOWER", judge="onnxruntime"),
        _case("AveragePool", free, kernel_shape=[2, 4], auto_pad="SAME_LOWER", count_include_pad=1),
        _case("LpPool", big, **kernel, p=2),
        _case("LpPool", big, **kernel, p=1, pads=[1, 0, 1, 0], strides=[2, 2]),
        _case("LpPool", big, **kernel, p=3, dilations=[2, 2]),
    ]
    found += [
        _case("LpPool", big, **kernel, strides=[2, 2], ceil_mode=1, judge="onnxruntime"),
        _case("LpPool", free, **kernel, strides=[2, 2], auto_pad="SAME_LOWER", judge="onnxruntime"),
        _case("LpPool", free, **kernel, strides=[2, 2], pads=[0, 1, 1, 0], ceil_mode=1, judge="onnxruntime"),
        *(
            _case(op, free, kernel_shape=size, strides=strides, pads=pads, ceil_mode=1, judge="onnxruntime", **more)
            for op, more in (("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1}))
            for size, strides, pads in (
                ([2, 2], [2, 2], [0, 0, 0, 0]),
                ([3, 3], [2, 2], [1, 1, 1, 1]),
                ([2, 3], [3, 2], [1, 0, 0, 1]),
                ([3, 2], [4, 1], [0, 0, 1, 1]),
            )
        ),
        _case("MaxPool", free, kernel_shape=[2, 2], strides=[2, 3], dilations=[2, 3], ceil_mode=1, judge="onnxruntime"),
        _case("LpPool", X((2, 3, 8)), kernel_shape=[2]),
        _case("LpPool", X((2, 3, 4, 4, 4)), kernel_shape=[2, 2, 2], strides=[2, 2, 2]),
        _case("AveragePool", X((2, 3, 4, 5, 6)), kernel_shape=[2, 2, 3], layer="F.avg_pool3d("),
        *(
            _case("GlobalLpPool", x, p=p, judge="onnxruntime:21")
            for x, p in ((free, 3), (X((2, 3, 5)), 2), (SQUARE, 1))
        ),
    ]
    for op in ("GlobalAveragePool", "GlobalMaxPool"):
        found += [_case(op, x, judge="onnxruntime") for x in (free, X((2, 3, 5)), X((2, 3, 2, 3, 2)))]
    return found


def _shape() -> list[Case]:
    return [
        _case("Flatten", IMAGE),
        _case("Flatten", IMAGE, axis=0),
        _case("Flatten", IMAGE, axis=2),
        _case("Flatten", IMAGE, axis=-1),
        _case("Flatten", IMAGE, axis=4),
        _case("Reshape", IMAGE, C([0, -1]), layer="flatten(1)"),
        _case("Reshape", IMAGE, C([0, 3, 42])),
        _case("Reshape", IMAGE, C([-1, 6])),
        _case("Reshape", X((2, 0, 3)), C([0, 0, 3]), allowzero=0),
        _case("Reshape", X((2, 0, 3)), C([3, 0, 5]), allowzero=1),
        _case("Reshape", X((2, 0, 3)), X((3,), "int64", free=(), make=lambda _: [3, 0, 5]), allowzero=1),
        _case("Reshape", IMAGE, X((2,), "int64", free=(), make=lambda _: [-1, 7])),
        _case("Transpose", IMAGE),
        _case("Transpose", IMAGE, perm=[0, 2, 3, 1]),
        _case("Transpose", IMAGE, perm=[0, 1, 3, 2], layer="transpose(2, 3)"),
        _case("Concat", IMAGE, IMAGE, axis=1),
        _case("Concat", X((2, 3)), X((2, 3)), C([[1, 2, 3]], "float32"), axis=0),
        _case("Concat", IMAGE, IMAGE, axis=-1),
        _case("Split", X((2, 6)), axis=1, num_outputs=3, outputs=3),
        _case("Split", X((2, 7)), axis=-1, num_outputs=3, outputs=3),
        _case("Split", X((2, 6)), C([1, 2, 3]), axis=1, outputs=3),
        _case("Split", X((7, 2)), num_outputs=2, outputs=2),
        _case("Slice", IMAGE, C([1]), C([3]), C([2])),
        _case("Slice", IMAGE, C([0, 1]), C([2**63 - 1, -1]), C([1, -1]), C([2, 2])),
        _case("Slice", IMAGE, C([-1, 5]), C([-(2**63), 1]), C([1, 2]), C([-1, -2])),
        _case("Slice", X((5, 2)), C([1]), C([100])),
        _case("Slice", IMAGE, *(X((1,), "int64", free=(), make=lambda _, n=n: [n]) for n in (1, 4, 2, 2))),
        _case("Gather", IMAGE, C([0, -1, 1]), axis=1),
        _case("Gather", IMAGE, C(2), axis=2, layer="[:, :, 2]"),
        _case("Gather", X((5, 3)), X((2, 2), "int64", make=lambda x: np.arange(x.size).reshape(x.shape) % 3)),
        _case("Squeeze", X((2, 1, 3, 1)), C([1]), layer="squeeze(1)"),
        _case("Squeeze", X((2, 1, 3, 1)), C([1, -1])),
        _case("Squeeze", X((2, 1, 3, 1), free=())),
        _case("Unsqueeze", X((2, 3)), C([1]), layer="unsqueeze(1)"),
        _case("Unsqueeze", X((2, 3)), C([-1, 0])),
        _case("Expand", X((2, 1, 3)), C([1, 4, 1])),
        _case("Expand", X((2, 3)), C([5, 1, 1])),
        _case("Expand", X((1, 3), free=()), X((3,), "int64", free=(), make=lambda _: [2, 4, 1])),
        _case("Tile", IMAGE, C([1, 2, 1, 3])),
        _case("Pad", IMAGE, C([0, 0, 1, 2, 0, 0, 3, 0]), layer="F.pad("),
        _case("Pad", IMAGE, C([0, 1, 1, 2, 0, 0, 3, 0]), C(1.5, "float32")),
        _case("Pad", IMAGE, C([0, 0, -1, 2, 0, 0, 1, -2]), judge="onnxruntime"),
        _case("Pad", IMAGE, C([1, 2, 3, 0]), None, C([-1, 2]), mode="reflect"),
        _case("Pad", IMAGE, C([0, 1, 1, 2, 0, 2, 1, 0]), mode="reflect"),
        _case("Pad", IMAGE, C([0, 0, 1, 2, 0, 0, 1, 0]), mode="edge", layer='mode="replicate"'),
        _case("Pad", IMAGE, C([0, 1, 1, 2, 0, 2, 1, 0]), mode="edge"),
        _case("Pad", IMAGE, C([0, 0, 1, 2, 0, 0, 1, 0]), mode="wrap"),
        _case("Pad", IMAGE, C([1, 2]), None, C([-1]), mode="wrap"),
        _case("Pad", X((2, 3), "int64"), C([0, 1, 0, 1]), mode="edge"),
        _case("DepthToSpace", X((2, 8, 2, 3)), blocksize=2),
        _case("DepthToSpace", X((2, 8, 2, 3)), blocksize=2, mode="CRD", layer="F.pixel_shuffle"),
        _case("SpaceToDepth", X((2, 2, 4, 6)), blocksize=2),
        _case("Trilu", X((2, 4, 4))),
        _case("Trilu", X((2, 4, 4)), C(1), upper=0),
    ]


def _resize() -> list[Case]:
    image = X((2, 3, 4, 5))
    up, down = C([1, 1, 2, 2], "float32"), C([1, 1, 0.6, 0.7], "float32")
    found = [_case("Resize", image, None, up, layer="F.interpolate("), _case("Resize", image, None, down)]
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        for coordinates in ("half_pixel", "asymmetric", "align_corners"):
            options = {"nearest_mode": rounding, "coordinate_transformation_mode": coordinates}
            found.append(_case("Resize", image, None, C([1, 1, 1.5, 3], "float32"), **options))
    for mode in ("linear", "cubic"):
        for coordinates in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "half_pixel_symmetric"):
            options = {"mode": mode, "coordinate_transformation_mode": coordinates}
            found.append(_case("Resize", image, None, None, C([2, 3, 7, 9]), **options))
            found[-1] = _case("Resize", X((2, 3, 4, 5), free=()), None, None, C([2, 3, 7, 9]), **options)
            found.append(_case("Resize", image, None, down, **options, tolerance=1e-4))
        found.append(_case("Resize", image, None, down, mode=mode, antialias=1, tolerance=1e-4))
        found.append(_case("Resize", image, None, up, mode=mode, exclude_outside=1, tolerance=1e-4))
    crop = C([0, 0, 0.2, 0.1, 1, 1, 0.8, 1.2], "float32")
    crop_options = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    return [
        *found,
        _case("Resize", image, None, up, mode="cubic", cubic_coeff_a=-0.5),
        _case("Resize", X((2, 3, 4, 5), free=()), crop, None, C([2, 3, 3, 6]), mode="linear", **crop_options),
        _case("Resize", image, None, None, C([7, 9]), axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
        _case(
            "Resize", image, None, None, C([7, 9]), axes=[2, 3], keep_aspect_ratio_policy="not_smaller", mode="linear"
        ),
        _case("Resize", X((2, 3, 4)), None, C([1, 1, 2], "float32"), mode="linear", layer='mode="linear"'),
        _case("Resize", X((2, 2, 2, 3, 2)), None, C([1, 1, 2, 2, 2], "float32"), mode="linear", layer="trilinear"),
    ]


_UNARY = {
    "Abs": None, "Ceil": None, "Cos": None, "Cosh": None, "Erf": None, "Exp": None, "Floor": None, "Identity": None,
    "Neg": None, "Reciprocal": _positive, "Round": None, "Sign": None, "Sin": None, "Sinh": None, "Sqrt": _positive,
    "Tan": None, "Tanh": None, "Atan": None, "Asinh": None, "Log": _positive, "Acosh": lambda x: np.abs(x) + 1,
    "Acos": np.tanh, "Asin": np.tanh, "Atanh": np.tanh, "IsNaN": np.log, "IsInf": lambda x: 1 / np.round(x),
    "Relu": None, "Sigmoid": None, "Softplus": None, "Softsign": None, "HardSwish": None, "Mish": None,
}  # fmt: skip
_BINARY = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "Equal",
    "Max",
    "Min",
    "Mean",
    "Sum",
)


def _elementwise() -> list[Case]:
    found = [_case(op, X((2, 3, 3), make=make)) for op, make in _UNARY.items()]
    for op in _BINARY:
        found += [_case(op, SQUARE, X((1, 4, 1, 1), free=())), _case(op, X((2, 3)), C(0.5, "float32"))]
    for op in ("And", "Or", "Xor"):
        found.append(_case(op, X((2, 3), "bool", make=lambda x: x > 0), X((3,), "bool", (), lambda x: x > 0)))
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        found.append(_case(op, X((2, 3), "int32"), X((3,), "int32", free=())))
    nonzero = X((3,), "int32", (), lambda x: np.where(x > 0, 3, -2))
    base = X((2, 3), make=_positive)
    return [
        *found,
        _case("Sum", IMAGE, IMAGE, X((6,), free=())),
        _case("Add", X((3, 3)), X((3, 1))),
        _case("Add", X((3, 1)), X((1, 3), free=(1,))),
        _case("Add", X((1, 4, 1), free=()), X((1, 1, 4), free=())),
        _case("Add", X((2, 3, 1)), X((3,), free=())),
        _case("Add", X((3, 3), free=()), X((1, 1, 3), free=())),
        _case("Sum", X((4, 1, 1), free=()), X((1, 4, 1, 1), free=()), SQUARE),
        _case("Mean", SQUARE, X((4, 1, 1), free=()), X((1, 1, 4), free=())),
        _case("Max", IMAGE, IMAGE, X((6,), free=())),
        _case("Not", X((2, 3), "bool", make=lambda x: x > 0)),
        _case("BitwiseNot", X((2, 3), "int32")),
        _case("BitShift", X((2, 3), "uint8", make=_positive), C(2, "uint8"), direction="LEFT"),
        _case("BitShift", X((2, 3), "uint8", make=lambda x: np.abs(x) * 50), C(2, "uint8"), direction="RIGHT"),
        _case("Div", X((2, 3), "int32"), nonzero),
        _case("Div", X((2, 3), "int32"), C([7, -3, 2], "int32")),
        _case("Mod", X((2, 3), "int32"), nonzero),
        _case("Mod", X((2, 3), "int32"), nonzero, fmod=1),
        _case("Mod", X((2, 3)), C(-0.7, "float32"), fmod=1),
        _case("Pow", base, C(2.0, "float32")),
        _case("Pow", base, C(-0.5, "float32")),
        _case("Pow", base, X((3,), "int64", free=())),
        _case("Pow", X((2, 3), "int32", make=lambda x: np.abs(x * 3)), C(2.0, "float32")),
        _case("Add", X((2, 3), "uint16", make=_positive), X((3,), "uint16", (), _positive)),
        _case("Less", X((2, 3), "uint64", make=lambda x: np.abs(x).astype("u8") << 62), C(5, "uint64")),
        _case("Where", X((2, 3), "bool", make=lambda x: x > 0), X((2, 3)), X((3,), free=())),
        _case("Where", X((2, 3), "bool", make=lambda x: x > 0), X((2, 3)), C(-1.0, "float32")),
        _case("Cast", X((2, 3)), to=7),
        _case("Cast", X((2, 3), "int64"), to=1),
        _case("Cast", X((2, 3)), to=9),
        _case("Cast", X((2, 3)), to=10),
        _case("Cast", X((2, 3), make=lambda x: 1000 * x), to=17),
        _case("Cast", X((2, 3), make=lambda x: 1000 * x), to=17, saturate=0),
        _case("Cast", X((2, 3), make=lambda x: 1000 * x), to=19, saturate=0),
        _case("Clip", IMAGE, C(-0.5, "float32"), C(0.5, "float32")),
        _case("Clip", IMAGE, None, C(0.5, "float32")),
        _case("Clip", IMAGE, C(0.0, "float32")),
        _case("Clip", IMAGE, X((), free=()), C(0.5, "float32")),
        _case("Clip", X((2, 3), "int32"), C(1, "int32"), C(-1, "int32")),
        _case("IsInf", X((2, 9), make=lambda x: 1 / np.round(x)), detect_negative=0),
        _case("IsInf", X((2, 9), make=lambda x: 1 / np.round(x)), detect_positive=0),
        _case("Elu", IMAGE, alpha=0.5),
        _case("Celu", IMAGE, alpha=0.5),
        _case("Selu", IMAGE),
        _case("Selu", IMAGE, alpha=1.5, gamma=0.9),
        _case("Gelu", IMAGE, layer="F.gelu(in0)"),
        _case("Gelu", IMAGE, approximate="tanh"),
        _case("LeakyRelu", IMAGE),
        _case("LeakyRelu", IMAGE, alpha=0.3),
        _case("LeakyRelu", IMAGE, alpha=-0.5),
        _case("PRelu", IMAGE, W((3, 1, 1))),
        _case("PRelu", IMAGE, W((1,))),
        _case("PRelu", IMAGE, W((3, 7, 6))),
        _case("PRelu", X((2, 4, 4, 4)), W((4,))),
        _case("HardSigmoid", IMAGE),
        _case("HardSigmoid", IMAGE, alpha=0.3, beta=-0.1),
        _case("HardSigmoid", IMAGE, alpha=1 / 6, beta=0.5, layer="F.hardsigmoid"),
        _case("ThresholdedRelu", IMAGE, alpha=0.3),
        _case("Shrink", IMAGE, lambd=0.5),
        _case("Shrink", IMAGE, lambd=0.5, bias=0.5),
        _case("Shrink", IMAGE, lambd=0.5, bias=0.1),
        _case("Shrink", IMAGE, lambd=0.8, bias=-0.3),
        _case("SwiGLU", IMAGE, IMAGE, judge="reference"),
        _case("SwiGLU", IMAGE, IMAGE, alpha=0.7),
        _case("Swish", IMAGE),
        _case("Swish", IMAGE, alpha=1.7),
        _case("Softmax", IMAGE),
        _case("Softmax", IMAGE, axis=1),
        _case("LogSoftmax", IMAGE, axis=-2),
        _case("Softmax", IMAGE, axis=0),
        _case("Hardmax", X((2, 3, 3), make=np.round), axis=1),
        _case("Softplus", X((2, 3), "float64", make=lambda x: 20 * x), tolerance=1e-12),
    ]


def _reduction() -> list[Case]:
    found = []
    for op in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"):
        image = X((2, 3, 4, 4), make=_positive)
        found += [
            _case(f"Reduce{op}", image),
            _case(f"Reduce{op}", image, C([1]), keepdims=0),
            _case(f"Reduce{op}", image, C([-1, 1])),
            _case(f"Reduce{op}", image, keepdims=0),
            _case(f"Reduce{op}", image, noop_with_empty_axes=1),
        ]
    noop = {"noop_with_empty_axes": 1}
    return [
        *found,
        _case("ReduceSum", IMAGE, **noop),
        _case("ReduceSum", IMAGE, C([], "int64"), **noop),
        _case("ReduceSum", IMAGE, X((2,), "int64", free=(), make=lambda _: [1, 2])),
        _case("ReduceMax", X((2, 0, 3)), C([1])),
        _case("ReduceSum", X((2, 0, 3)), C([1])),
        _case("ReduceMax", X((2, 3), "bool", make=lambda x: x > 0), C([1])),
        _case("ReduceSum", X((2, 3), "int32"), C([1])),
        _case("ArgMax", X((2, 3, 4), make=np.round), axis=1),
        _case("ArgMax", X((2, 3, 4), make=np.round), axis=-1, keepdims=0, select_last_index=1),
        _case("ArgMin", X((2, 3, 4), make=np.round), axis=2, keepdims=0),
        _case("ArgMin", X((2, 3, 4), make=np.round), select_last_index=1),
        _case("TopK", X((2, 6)), C([3]), outputs=2),
        _case("TopK", X((2, 6), make=np.round), C([4]), largest=0, outputs=2),
        _case("TopK", X((2, 6, 2)), C([2]), axis=1, outputs=2),
        _case("TopK", X((2, 6)), C([1]), sorted=0, outputs=2),
        _case("CumSum", IMAGE, C(1)),
        _case("CumSum", IMAGE, C(-1), exclusive=1),
        _case("CumSum", IMAGE, C(2), reverse=1),
        _case("CumSum", X((2, 5), "int32"), C(1), exclusive=1, reverse=1),
    ]


def _indexing() -> list[Case]:
    x, places = X((2, 3, 4)), X((2, 2, 4), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 6 - 3)
    rows = X((2, 2, 2), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 3)
    pairs = X((2, 3, 1), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 4 - 2)
    indices = X((2, 3), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 7 - 3)
    values, lengths = C([-1.0, 2.0], "float32"), C([2, 0, 3])
    distinct = C([[[3], [0]], [[2], [1]]])
    found = [
        _case("GatherElements", x, places, axis=1),
        _case(
            "GatherElements", x, X((2, 3, 2), "int64", make=lambda n: np.zeros(n.shape)), axis=-1, judge="onnxruntime"
        ),
        _case("GatherElements", x, C([[[0, 1]]]), axis=0, judge="onnxruntime"),
        _case("GatherElements", X((2, 3)), C([[1, -1]]), axis=1, judge="onnxruntime"),  # of the first row alone
        _case("GatherND", x, C([[0, 1], [-1, 2]])),
        _case("GatherND", x, rows, batch_dims=1),
        _case("GatherND", x, pairs, batch_dims=2),
        _case("ScatterElements", X((3, 3)), C([[1, 0, 2]]), X((1, 3), free=())),
        _case("ScatterND", X((4, 3)), distinct, X((2, 2, 3), free=())),
        _case("TensorScatter", X((2, 5, 4)), X((2, 2, 4)), axis=1),
        _case("TensorScatter", X((2, 2, 5, 3), free=()), X((2, 2, 2, 3), free=()), C([4, 1]), mode="circular"),
        _case("OneHot", indices, C(4), values),
        _case("OneHot", indices, C(3), values, axis=0),
        _case("OneHot", indices, X((), "int64", free=(), make=lambda _: 4), values, axis=1),
        _case("ReverseSequence", X((4, 3)), lengths),
        _case("ReverseSequence", X((3, 4, 2), free=(2,)), lengths, batch_axis=0, time_axis=1),
        _case("NonZero", X((2, 3), make=np.round)),
        _case("Compress", X((3, 2)), X((3,), "bool", make=lambda n: n > 0), axis=0),
        _case("Compress", X((3, 2)), C([True, False, True, True], "bool")),
        _case("Unique", X((8,), make=np.round), outputs=4),
        _case("Unique", X((8,), make=np.round), sorted=0, outputs=4, judge="onnxruntime"),
        _case("Unique", X((6, 2), make=lambda n: np.sign(n) + 1), axis=0, outputs=4),
    ]
    for how in ("add", "mul", "max", "min"):
        again = C([[1, -3, 1], [1, 0, 1]])
        found += [
            _case("ScatterElements", X((3, 3)), again, X((2, 3), free=()), axis=1, reduction=how),
            _case("ScatterND", X((4, 3)), C([[1], [-1], [1]]), X((3, 3), free=()), reduction=how),
        ]
    boxes, scores = X((2, 6, 4), make=np.abs), X((2, 3, 6), make=np.tanh)
    limits = (C([2]), C([0.3], "float32"), C([0.1], "float32"))
    return [
        *found,
        _case("NonMaxSuppression", boxes, scores, *limits),
        _case("NonMaxSuppression", boxes, scores, *limits[:2], center_point_box=1, judge="onnxruntime"),
        _case(
            "TfIdfVectorizer",
            X((2, 9), "int64", make=lambda n: np.arange(n.size).reshape(n.shape) % 5),
            mode="TFIDF", min_gram_length=1, max_gram_length=2, max_skip_count=1, ngram_counts=[0, 2],
            ngram_indexes=[0, 1, 2, 3], pool_int64s=[1, 3, 0, 1, 2, 4], weights=[1.0, 2.0, 3.0, 0.5],
        ),
    ]  # fmt: skip


def _creation() -> list[Case]:
    number = X((), free=(), make=lambda _: 3.2)
    return [
        _case("Range", C(1.0, "float32"), number, C(0.5, "float32")),
        _case("Range", C(5), X((), "int64", free=(), make=lambda _: -2), C(-2)),
        _case("EyeLike", X((3, 4)), k=-1, dtype=7),
        _case("EyeLike", X((3, 4))),
        _case("ConstantOfShape", X((2,), "int64", free=(), make=lambda _: [2, 3])),
        _case("Shape", X((2, 3, 4)), start=1),
        _case("Shape", X((2, 3, 4))),
        _case("Size", X((2, 3, 4))),
        _case("Trilu", X((2, 3, 4)), X((), "int64", free=(), make=lambda _: 1)),
        _case("Trilu", X((3, 4), "int32"), C(-5), upper=1),
        _case("CenterCropPad", X((2, 5, 4)), C([7, 3]), axes=[1, 2]),
        _case("Tile", X((2, 3), "uint16", make=np.abs), C([2, 1])),
        _case("Squeeze", X((2, 1, 3)), X((1,), "int64", free=(), make=lambda _: [1])),
        _case("Unsqueeze", X((2, 3)), X((2,), "int64", free=(), make=lambda _: [0, -1])),
        _case(
            "Pad",
            X((2, 3)),
            X((4,), "int64", free=(), make=lambda _: [0, 1, 2, -1]),
            C(2.0, "float32"),
            judge="onnxruntime",
        ),
        _case("Split", X((2, 6)), X((2,), "int64", free=(), make=lambda _: [2, 4]), axis=1, outputs=2),
        _case("TopK", X((2, 6)), X((1,), "int64", free=(), make=lambda _: [2]), outputs=2),
        _case("TopK", X((2, 6), "int8", make=lambda x: 40 * x), C([3]), largest=0, outputs=2),
        _case("CumSum", X((2, 6)), X((), "int64", free=(), make=lambda _: 1), reverse=1),
        _case("CumProd", X((2, 3)), C(1), exclusive=1),
        _case("Det", X((2, 3, 3))),
    ]


def _quantization() -> list[Case]:
    x, scale = X((2, 3, 4), make=lambda n: 4 * n), C([0.1, 0.5, 2.0], "float32")
    row = X((2, 4), "uint8", make=lambda n: 40 * np.abs(n))
    single, zero, signed = C(0.3, "float32"), C([3, 0, 250], "uint8"), C([[5, -3], [1, 2], [-7, 0], [4, 4]], "int8")
    return [
        _case("QuantizeLinear", x, scale, zero, axis=1),
        _case("QuantizeLinear", x, single, C(-3, "int8")),
        _case("QuantizeLinear", x, single, C(0, "int16")),
        _case("DequantizeLinear", X((2, 3, 4), "uint8", make=lambda n: 40 * np.abs(n)), scale, zero, axis=1),
        _case("DequantizeLinear", X((2, 3), "int32"), single),
        _case("DynamicQuantizeLinear", x, outputs=3),
        _case("MatMulInteger", row, signed, C(12, "uint8"), C([1, 2], "int8")),
        _case(
            "QLinearMatMul", row, single, C(3, "uint8"), signed, single, C(1, "int8"), C(1.7, "float32"), C(9, "int8")
        ),
        _case("BitCast", X((2, 3)), to=6),
        _case("BitCast", X((2, 3), "int64"), to=11),
    ]


def _integers() -> list[Case]:
    """What types of integers do at their ends: they round to zero, wrap, and keep their width."""
    big = X((2, 3), "uint64", make=lambda x: (np.abs(x) * 2**62).astype("u8"))
    small = X((2, 3), "int8", make=lambda x: np.clip(100 * x, -128, 127))
    some = C([3, 7, 2**63 + 5], "uint64")
    found = [_case(op, big, some) for op in ("Add", "Mul", "Div", "Mod", "Max", "Min", "Less", "Equal", "BitwiseXor")]
    return [
        *found,
        *(_case(op, small, C([3, -7, -1], "int8")) for op in ("Add", "Mul", "Max", "GreaterOrEqual")),
        _case("Div", X((2, 3), "int8", make=lambda x: 40 * x), C([3, -7, 11], "int8")),
        _case("Mod", small, C([3, -7, 11], "int8"), fmod=1),
        _case("Mod", small, C([3, -7, 11], "int8")),
        *(_case(f"Reduce{op}", small, C([1])) for op in ("Max", "Min")),
        *(_case(f"Reduce{op}", X((2, 3), "uint32", make=np.abs), C([1])) for op in ("Sum", "Prod", "L1")),
        *(_case(f"Reduce{op}", big, C([1])) for op in ("Max", "Sum")),
        _case("ReduceMean", X((2, 3), "int32"), C([1])),
        _case("ArgMax", X((2, 5), "uint8", make=lambda x: 200 * np.abs(x) % 256), axis=1),
        _case("BitShift", X((2, 3), "uint8", make=lambda x: np.abs(x) * 50), C([1, 9, 3], "uint8"), direction="LEFT"),
        _case("BitShift", big, C([1, 0, 63], "uint64"), direction="RIGHT"),
        _case("Pow", X((2, 3), "int64"), C([2, 3, 0], "int64")),
        _case("Where", X((2, 3), "bool", make=lambda x: x > 0), big, some),
        _case("Cast", big, to=1),
        _case("Sign", small),
        _case("Abs", X((2, 3), "int16")),
        _case("CumSum", X((2, 5), "uint32", make=np.abs), C(1)),
    ]


CASES: list[Case] = [
    *_linear(), *_convolution(), *_normalization(), *_recurrent(), *_attention(), *_pooling(), *_shape(), *_resize(),
    *_elementwise(), *_reduction(), *_indexing(), *_creation(), *_quantization(), *_integers(),
]  # fmt: skip
