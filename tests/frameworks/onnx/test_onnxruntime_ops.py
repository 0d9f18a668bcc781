"""Ops that onnxruntime adds to the standard's are read as what onnxruntime computes, into every framework's code."""

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import dlbridge
from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.onnx import runner
from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which transformers imports)

_RANDOM = np.random.default_rng(0)


def _f(*shape):
    return _RANDOM.standard_normal(shape).astype("float32")


def _u(*shape):
    return _RANDOM.integers(0, 255, shape).astype("uint8")


def _s(*shape):
    """Signed bytes whose products with bytes fit 16 bits two by two: without VNNI, onnxruntime saturates others."""
    return _RANDOM.integers(-64, 64, shape).astype("int8")


def _n(*numbers, dtype="int32"):
    return np.array(numbers if len(numbers) > 1 or isinstance(numbers[0], list) else numbers[0], dtype)


class _Constant:
    """An input that is an initializer."""

    def __init__(self, array, dtype="float32"):
        self.array = np.asarray(array, dtype) if not isinstance(array, np.ndarray) else array


c = _Constant
_ZERO = c(3, "uint8")
_IDS, _KINDS = _n([1, 2, 3, 4, 5], [8, 7, 6, 5, 4]), _n([0, 1, 0, 1, 0], [1, 1, 0, 0, 1])
_KEYS = _n([1, 1, 1, 0, 0], [1, 1, 1, 1, 1])
_QKV = [_f(2, 5, 8), c(_f(8, 24)), c(_f(24))]
_ALIKE = {"num_heads": 2}
_GROUPED = [_f(2, 5, 32), _f(2, 5, 16), _f(2, 5, 16), None, None, _n(4, 4), _n(5)]
_PAST = [_f(2, 1, 32), _f(2, 1, 16), _f(2, 1, 16), _f(2, 1, 5, 16), _f(2, 1, 5, 16), _n(5, 3), _n(6)]
_ROTARY = [c(_f(16, 8)), c(_f(16, 8))]
_KV = {"num_heads": 2, "kv_num_heads": 1}

#: name -> (op, its inputs, its attributes, its outputs, opset).
CASES = {
    "Gelu": ("Gelu", [_f(2, 3)]),
    "FastGelu": ("FastGelu", [_f(2, 3), c(_f(3))]),
    "BiasGelu": ("BiasGelu", [_f(2, 3), c(_f(3))]),
    "QuickGelu": ("QuickGelu", [_f(2, 3)], {"alpha": 1.5}),
    "FusedMatMul": ("FusedMatMul", [_f(2, 4, 3), _f(2, 5, 4)], {"transA": 1, "transB": 1, "alpha": 0.5}),
    "FusedGemm": ("FusedGemm", [_f(2, 3), c(_f(3, 4)), c(_f(4))], {"activation": "LeakyRelu", "activation_alpha": 0.2}),
    "FusedConv": ("FusedConv", [_f(1, 3, 5, 5), c(_f(4, 3, 3, 3)), c(_f(4)), _f(1, 4, 3, 3)], {"activation": "Relu"}),
    "FusedConv, clipped": (
        "FusedConv",
        [_f(1, 3, 5, 5), c(_f(4, 3, 3, 3)), c(_f(4))],
        {"activation": "Clip", "activation_params": [0.0, 6.0]},
    ),
    "NhwcMaxPool": ("NhwcMaxPool", [_u(1, 4, 4, 2)], {"kernel_shape": [2, 2]}),
    "SkipLayerNormalization": (
        "SkipLayerNormalization",
        [_f(2, 3, 8), _f(2, 3, 8), c(_f(8)), c(_f(8)), c(_f(8))],
        {},
        (0, 3),
    ),
    "SkipSimplifiedLayerNormalization": (
        "SkipSimplifiedLayerNormalization",
        [_f(2, 3, 8), _f(2, 3, 8), c(_f(8))],
        {},
        (0, 3),
    ),
    "SimplifiedLayerNormalization": (":SimplifiedLayerNormalization", [_f(2, 3, 8), c(_f(8))], {"epsilon": 1e-5}),
    "LayerNormalization at 14": (":LayerNormalization", [_f(2, 8), c(_f(8)), c(_f(8))], {"epsilon": 1e-3}, (0,), 14),
    "EmbedLayerNormalization": (
        "EmbedLayerNormalization",
        [_IDS, _KINDS, c(_f(9, 8)), c(_f(7, 8)), c(_f(2, 8)), c(_f(8)), c(_f(8)), _KEYS],
        {},
        (0, 1),
    ),
    "Attention": ("Attention", _QKV, _ALIKE),
    "Attention to some keys": ("Attention", [*_QKV, _KEYS], _ALIKE),
    "Attention of some length": ("Attention", [*_QKV, _n(3, 5)], _ALIKE),
    "Attention by scores": ("Attention", [*_QKV, np.tril(np.ones((2, 5, 5), "int32"))], _ALIKE),
    "Attention, causal": ("Attention", [*_QKV, _KEYS], {**_ALIKE, "unidirectional": 1}),
    "Attention with a past": ("Attention", [*_QKV, None, _f(2, 2, 2, 3, 4)], {**_ALIKE, "unidirectional": 1}, (0, 1)),
    "Attention with a bias": ("Attention", [*_QKV, None, None, _f(1, 2, 5, 5)], {**_ALIKE, "scale": 0.3}),
    "MultiHeadAttention": ("MultiHeadAttention", [_f(2, 5, 8), _f(2, 6, 8), _f(2, 6, 8), c(_f(24))], _ALIKE),
    "MultiHeadAttention, masked": (
        "MultiHeadAttention",
        [_f(2, 5, 8), _f(2, 5, 8), _f(2, 5, 8), None, _KEYS, _f(2, 2, 5, 5)],
        _ALIKE,
    ),
    "MultiHeadAttention with a past": (
        "MultiHeadAttention",
        [*(_f(2, 5, 8) for _ in range(3)), None, None, None, _f(2, 2, 3, 4), _f(2, 2, 3, 4)],
        {**_ALIKE, "unidirectional": 1},
        (0, 1, 2),
    ),
    "MultiHeadAttention to what is kept": ("MultiHeadAttention", [_f(2, 5, 8), _f(2, 2, 6, 4), _f(2, 2, 6, 4)], _ALIKE),
    "GroupQueryAttention": ("GroupQueryAttention", [*_GROUPED, *_ROTARY], {**_KV, "do_rotary": 1}, (0, 1, 2)),
    "GroupQueryAttention, a window": ("GroupQueryAttention", _GROUPED, {**_KV, "local_window_size": 2}),
    "GroupQueryAttention, packed": (
        "GroupQueryAttention",
        [_f(2, 5, 64), None, None, *_GROUPED[3:]],
        {**_KV, "softcap": 5.0},
    ),
    "GroupQueryAttention with a past": ("GroupQueryAttention", [*_PAST, *_ROTARY], {**_KV, "do_rotary": 1}, (0, 1, 2)),
    "RotaryEmbedding": ("RotaryEmbedding", [_f(2, 5, 8), np.array([2]), c(_f(16, 2)), c(_f(16, 2))]),
    "RotaryEmbedding of a part": (
        "RotaryEmbedding",
        [_f(2, 5, 8), _IDS.astype("int64"), c(_f(16, 1)), c(_f(16, 1))],
        {"rotary_embedding_dim": 2, "num_heads": 2, "interleaved": 1},
    ),
    "QLinearAdd": ("QLinearAdd", [_u(2, 3), c(0.1), _ZERO, _u(2, 3), c(0.2), _ZERO, c(0.3), _ZERO]),
    "QLinearMul": ("QLinearMul", [_u(2, 3), c(0.1), _ZERO, _u(2, 3), c(0.2), _ZERO, c(3.0), _ZERO]),
    "QLinearSigmoid": ("QLinearSigmoid", [_u(2, 3), c(0.1), _ZERO, c(1 / 256), _ZERO]),
    "QLinearLeakyRelu": ("QLinearLeakyRelu", [_u(2, 3), c(0.1), _ZERO, c(0.1), _ZERO]),
    "QLinearSoftmax": ("QLinearSoftmax", [_u(2, 3), c(0.01), _ZERO, c(1 / 256), _ZERO], {"opset": 13}),
    "QLinearAveragePool": (
        "QLinearAveragePool",
        [_u(1, 2, 4, 4), c(0.1), _ZERO, c(0.1), _ZERO],
        {"kernel_shape": [2, 2]},
    ),
    "QLinearGlobalAveragePool": (
        "QLinearGlobalAveragePool",
        [_u(1, 4, 4, 2), c(0.1), _ZERO, c(0.1), _ZERO],
        {"channels_last": 1},
    ),
    "QLinearConcat": ("QLinearConcat", [c(0.1), _ZERO, _u(2, 3), c(0.1), _ZERO, _u(2, 3), c(0.2), _ZERO], {"axis": 1}),
    "QLinearConv": (
        "QLinearConv",
        [_u(1, 5, 5, 3), c(0.1), _ZERO, c(_s(4, 3, 3, 3)), c(0.1), c(0, "int8"), c(2.0), _ZERO],
        {"channels_last": 1},
    ),
    "QGemm": (
        "QGemm",
        [_u(2, 3), c(0.1), _ZERO, c(_s(4, 3)), c(abs(_f(4))), c(np.zeros(4, "int8")), c(_n(5, -9, 70, 3))],
        {"transB": 1},
    ),
    "QAttention": (
        "QAttention",
        [_u(2, 5, 8), c(_s(8, 24)), c(_f(24)), c(0.01), c(0.01), None, _ZERO, c(0, "int8")],
        _ALIKE,
    ),
    "DynamicQuantizeMatMul": ("DynamicQuantizeMatMul", [_f(2, 3), c(_u(3, 4)), c(0.1), c(100, "uint8"), c(_f(4))]),
    "MatMulIntegerToFloat": ("MatMulIntegerToFloat", [_u(2, 3), c(_u(3, 4)), c(0.1), c(0.2), _ZERO, _ZERO, c(_f(4))]),
    "MatMulNBits": (
        "MatMulNBits",
        [_f(2, 3, 48), c(_u(6, 2, 16)), c(abs(_f(12))), c(_u(6))],
        {"bits": 4, "block_size": 32, "N": 6, "K": 48},
    ),
    "MatMulNBits of 8": (
        "MatMulNBits",
        [_f(2, 64), c(_u(6, 2, 32)), c(abs(_f(12))), None, None, c(_f(6))],
        {"bits": 8, "block_size": 32, "N": 6, "K": 64},
    ),
    "GatherBlockQuantized": (
        "GatherBlockQuantized",
        [c(_u(10, 16)), _n([1, 2], [3, 9], dtype="int64"), c(abs(_f(10, 2)))],
        {"bits": 4, "block_size": 16},
    ),
}


def model_of(op, inputs, attributes=(), read=(0,), opset=17):
    """(the model of one op, its inputs)."""
    domain, _, kind = op.rpartition(":") if ":" in op else ("com.microsoft", "", op)
    names, feeds, constants = [], {}, []
    for index, given in enumerate(inputs):
        name = f"x{index}" if given is not None else ""
        names.append(name)
        if isinstance(given, _Constant):
            constants.append(numpy_helper.from_array(given.array, name))
        elif given is not None:
            feeds[name] = given
    outputs = [f"y{i}" if i in read else "" for i in range(max(read) + 1)]
    node = helper.make_node(kind, names, outputs, name="node", domain=domain, **dict(attributes))
    taken = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for k, a in feeds.items()
    ]
    graph = helper.make_graph([node], "g", taken, [onnx.ValueInfoProto(name=o) for o in outputs if o], constants)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=9), feeds


@pytest.mark.parametrize("name", CASES)
def test_an_op_is_what_onnxruntime_computes(name):
    proto, feeds = model_of(*CASES[name])
    model = dlbridge.load(proto)
    right = model.original(feeds)
    written = runner.run(runner.load(model.write("onnx")), feeds)
    with torch.no_grad():
        live = model.to_pytorch()(*map(torch.from_numpy, feeds.values()))
    live = live if isinstance(live, tuple) else (live,)
    for (output, wanted), found in zip(right.items(), live, strict=True):
        for got in (written[output], found.numpy()):
            assert got.dtype == wanted.dtype
            step = 1 if wanted.dtype.kind in "iu" else 0  # one step of a quantised result is rounding
            np.testing.assert_allclose(got.astype(float), wanted.astype(float), rtol=1e-4, atol=step + 1e-4)


def test_rows_of_a_first_call_may_be_padded():
    """What onnxruntime makes of the padding itself is not defined."""
    inputs = [*_GROUPED[:5], _n(4, 2), _n(5), *_ROTARY]
    proto, feeds = model_of("GroupQueryAttention", inputs, {**_KV, "do_rotary": 1})
    model = dlbridge.load(proto)
    right = model.original(feeds)["y0"]
    with torch.no_grad():
        got = model.to_pytorch()(*map(torch.from_numpy, feeds.values())).numpy()
    np.testing.assert_allclose(got[0], right[0], atol=1e-5)
    np.testing.assert_allclose(got[1, :3], right[1, :3], atol=1e-5)


def test_what_such_an_op_cannot_be_said_in_is_refused_with_its_node():
    proto, _ = model_of("FusedMatMul", [_f(2, 4, 3), _f(2, 3, 5)], {"transBatchA": 1})
    with pytest.raises(UnsupportedOpError, match=r"node \(com\.microsoft::FusedMatMul\): it moves the batch"):
        dlbridge.load(proto)
    proto, _ = model_of("Inverse", [_f(2, 3, 3)])
    with pytest.raises(UnsupportedOpError, match=r"op Inverse of the domain com\.microsoft"):
        dlbridge.load(proto)


@pytest.mark.filterwarnings("ignore")
def test_what_the_optimizer_of_transformers_makes_is_read(tmp_path):
    """BERT with Attention, SkipLayerNormalization, EmbedLayerNormalization and BiasGelu."""
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    bert = transformers.BertModel(
        transformers.BertConfig(**sizes, vocab_size=60, max_position_embeddings=32, attn_implementation="eager")
    ).eval()

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = bert

        def forward(self, input_ids, attention_mask, token_type_ids):
            found = bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return found.last_hidden_state

    ids, mask = torch.randint(0, 60, (2, 8)), torch.ones(2, 8, dtype=torch.long)
    mask[0, 5:] = 0
    names, axes, plain = (
        ["input_ids", "attention_mask", "token_type_ids"],
        {0: "batch", 1: "length"},
        tmp_path / "b.onnx",
    )
    given = (ids, mask, torch.zeros_like(ids))
    more = {"input_names": names, "dynamic_axes": dict.fromkeys(names, axes), "opset_version": 14}
    torch.onnx.export(Hidden(), given, plain, dynamo=False, **more)
    optimized = optimizer.optimize_model(str(plain), model_type="bert", num_heads=4, hidden_size=32, opt_level=1)
    optimized.save_model_to_file(str(tmp_path / "fused.onnx"))
    fused = {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node if node.domain}
    assert {"Attention", "SkipLayerNormalization", "EmbedLayerNormalization"} <= fused
    model = dlbridge.load(tmp_path / "fused.onnx")
    text = model.write("pytorch").text
    assert "F.scaled_dot_product_attention" in text and "F.gelu" in text and " @ " not in text
    (right,) = model.original({name: x.numpy() for name, x in zip(names, given, strict=True)}).values()
    with torch.no_grad():
        np.testing.assert_allclose(model.to_pytorch()(*given).numpy(), right, atol=1e-5)
