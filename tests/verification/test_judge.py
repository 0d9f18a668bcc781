"""The judge is the original in float64, the original stays as it is, and a failure names what is wrong."""

import dataclasses
import gc
import weakref

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dlbridge
from dlbridge import api
from dlbridge.errors import IllConditionedError, VerificationError, WrittenModelError
from dlbridge.ops.evaluator import Evaluator, eps
from dlbridge.verification import verify
from dlbridge.verification.departures import locate
from dlbridge.verification.inputs.arrays import random_inputs


class Mixed(nn.Module):
    """Code that asks for types by name, in several ways."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.lstm = nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.LSTM(6, 4, batch_first=True)
        self.table = torch.linspace(0, 1, 4)  # neither a parameter nor a buffer

    def forward(self, x):
        y, _ = self.lstm(F.gelu(self.norm(self.conv(x))).transpose(1, 2))
        scale = torch.zeros(4, dtype=torch.float32)
        scale += self.table.to(torch.float32)
        return F.scaled_dot_product_attention(y, y, y).float() * scale, y.argmax(-1)


def test_a_module_is_run_in_float64_whatever_types_its_code_asks_for():
    torch.manual_seed(0)
    module = Mixed().eval()
    model = dlbridge.load(module, inputs={"x": "float32[batch,3,8]"})
    arrays = random_inputs(model, {"batch": 2})
    exact, own = model.original.exact(), model.original(arrays)
    found, right = exact(arrays), Evaluator(model.ir)(arrays)
    for name, array in own.items():
        assert np.abs(found[name] - right[name]).max() <= 1e-7
        assert np.abs(found[name] - array).max() <= 1e-5
    first = next(iter(found))
    assert found[first].dtype == np.float64
    assert np.abs(found[first] - own[first]).max() > 0
    assert exact.eps == eps(np.float32)


def test_control_flow_is_run_in_float64_and_in_its_own_types_after_it():
    class Either(nn.Module):
        def forward(self, x):
            (y,) = torch.while_loop(lambda y: y.sum() < 100, lambda y: (y * 1.5 + 1,), (x.abs(),))
            return torch.cond(x.sum() > 0, lambda y: y / 3, lambda y: y / 7, (y,))

    model = dlbridge.load(Either().eval(), inputs={"x": "float32[2,3]"})
    exact = model.original.exact()
    for sign in (1, -1):
        x = np.full((2, 3), sign * 0.1, np.float32)
        (found,), (own,) = exact({"x": x}).values(), model.original({"x": x}).values()
        y = np.abs(x.astype(np.float64))
        while y.sum() < 100:
            y = y * 1.5 + 1
        np.testing.assert_allclose(found, y / (3 if sign > 0 else 7), rtol=1e-12)
        assert np.abs(found - own).max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_judge_knows_the_coarsest_type_that_the_original_computes_in(dtype):
    module = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).eval().to(dtype)
    model = dlbridge.load(module, inputs={"input": f"{str(dtype)[6:]}[batch,4]"})
    exact = model.original.exact()
    (array,) = exact(random_inputs(model, {"batch": 2})).values()
    assert array.dtype == np.float64
    assert exact.eps == torch.finfo(dtype).eps


def test_the_original_stays_as_it_is():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    module[1].eval()  # frozen statistics in a module that trains
    modes = [m.training for m in module.modules()]
    before = {k: v.clone() for k, v in module.state_dict().items()}
    model = dlbridge.load(module, inputs={"input": "float32[batch,4]"})
    verify(model, routes=["pytorch"]).require()
    assert [m.training for m in module.modules()] == modes
    for key, value in module.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])


def test_the_copy_in_float64_goes_when_it_has_judged():
    model = dlbridge.load(nn.Linear(4, 3), inputs={"input": "float32[batch,4]"})
    exact = model.original.exact()
    exact(random_inputs(model, {"batch": 2}))
    gone = weakref.ref(exact._module)
    del exact
    gc.collect()
    assert gone() is None


def test_a_model_without_an_original_is_judged_by_what_is_not_under_test(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()).eval()
    dlbridge.load(module, inputs={"input": "float32[batch,4]"}).save(tmp_path / "saved")
    model = dlbridge.load(tmp_path / "saved")
    assert model.original is None
    for to in ("pytorch", "onnx"):
        assert "evaluator" in api._certified(model, to, model.write(to))[1]["judge"]
        faulty = model.clone()
        faulty.set_weights({"0.bias": model.weights["0.bias"] * 1.01})
        with pytest.raises(VerificationError):
            api._certified(model, to, faulty.write(to))


def test_a_model_in_memory_of_onnx_is_its_own_judge():
    import onnx

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)).eval()
    source = dlbridge.load(module, inputs={"input": "float32[batch,3,8,8]"}).write("onnx")
    for given in (source.ir, onnx.load_from_string(onnx.ModelProto.SerializeToString(_proto(source)))):
        model = dlbridge.load(given)
        report = verify(model, routes=["pytorch", "original"])
        report.require()
        assert report.judge == "the original"


def _proto(source):
    return ir.to_proto(source.ir)


# --- what a failure says ----------------------------------------------------------------------------------------------


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(F.silu(self.norm(self.first(x))).mean((2, 3)))


@pytest.mark.parametrize("to", ["pytorch", "onnx"])
@pytest.mark.parametrize("weight", ["first.weight", "norm.weight", "last.bias"])
def test_the_first_node_that_departs_is_named(to, weight):
    torch.manual_seed(0)
    module = Deep().eval()
    nn.init.normal_(module.norm.weight)
    model = dlbridge.load(module, inputs={"x": "float32[batch,3,8,8]"})
    faulty = model.clone()
    faulty.set_weights({weight: model.weights[weight] * np.float32(1.1) + np.float32(0.1)})
    with pytest.raises(VerificationError, match=f"node '{weight.partition('.')[0]}'"):
        api._certified(model, to, faulty.write(to))


def test_the_node_is_not_looked_for_where_the_values_on_the_way_would_not_fit_into_memory(monkeypatch):
    model = dlbridge.load(Deep().eval(), inputs={"x": "float32[batch,3,8,8]"})
    faulty = model.clone()
    next(n for n in faulty.graph if n.op_type == "GroupNormalization").attributes.add(ir.AttrFloat32("epsilon", 0.1))
    monkeypatch.setattr(locate, "_MOST_VALUES", 1000)
    with pytest.raises(VerificationError, match="not looked for: the values on the way take"):
        api._certified(model, "onnx", faulty.write("onnx"))


def test_a_weight_that_is_not_the_model_s_is_named_where_no_node_is_looked_for(monkeypatch):
    model = dlbridge.load(Deep().eval(), inputs={"x": "float32[batch,3,8,8]"})
    faulty = model.clone()
    faulty.set_weights({"last.bias": model.weights["last.bias"] + np.float32(0.1)})
    monkeypatch.setattr(locate, "_MOST_VALUES", 1000)
    with pytest.raises(VerificationError, match=r"the weight 'last\.bias' is not the model's 'last\.bias': 3 of 3"):
        api._certified(model, "onnx", faulty.write("onnx"))


def test_what_was_read_wrong_is_told_from_what_was_written_wrong():
    torch.manual_seed(0)
    module = Deep().eval()
    model = dlbridge.load(module, inputs={"x": "float32[batch,3,8,8]"})
    original = model.original
    model.set_weights({"norm.bias": model.weights["norm.bias"] + 1})
    model.original = original
    with pytest.raises(VerificationError, match=r"(?s)it was read wrong.*'norm'"):
        api._certified(model, "pytorch", model.write("pytorch"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("raise RuntimeError('no such layer')", "no such layer"), ("import nothing_of_that_name", "nothing_of_that_name")],
)
def test_a_model_that_cannot_be_built_does_not_merely_disagree(text, reason):
    model = dlbridge.load(nn.Linear(4, 3), inputs={"input": "float32[batch,4]"})
    written = model.write("pytorch")
    broken = dataclasses.replace(written, text=f"{text}\n{written.text}")
    with pytest.raises(WrittenModelError, match=reason) as caught:
        api._certified(model, "pytorch", broken)
    assert "does not agree" not in str(caught.value)


def test_a_model_that_cannot_be_run_says_why():
    model = dlbridge.load(nn.Linear(4, 3), inputs={"input": "float32[batch,4]"})
    written = model.write("pytorch")
    broken = dataclasses.replace(
        written, text=written.text.replace("return ", "raise ValueError('lost')\n        return ")
    )
    with pytest.raises(WrittenModelError, match="lost"):
        api._certified(model, "pytorch", broken)


def test_outputs_of_another_dtype_are_refused():
    class Twice(nn.Module):
        def forward(self, x):
            return x * 2

    model = dlbridge.load(Twice().eval(), inputs={"x": "float32[batch,4]"})
    written = model.write("pytorch")
    wide = dataclasses.replace(written, text=written.text.replace("x * 2", "x.double() * 2"))
    assert wide.text != written.text
    with pytest.raises(VerificationError, match="dtype float64, not float32"):
        api._certified(model, "pytorch", wide)


# --- what rounding moves ----------------------------------------------------------------------------------------------


def test_an_ill_conditioned_output_is_told_and_passes_only_where_float64_agrees():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(16)

        def forward(self, x):
            return self.norm(x * 0.001 + 30)

    model = dlbridge.load(Normed().eval(), inputs={"x": "float32[batch,16]"})
    _, certificate = api._certified(model, "onnx", model.write("onnx"))
    told = [c for c in certificate["checks"] if c["ill_conditioned"]]
    assert told
    assert all("ill-conditioned" in c["message"] for c in told)
    report = verify(model, routes=["pytorch", "onnx via torch.onnx", "original"])
    report.require()  # the original too, whose own rounding it is
    assert report.precision == "float64"
    faulty = model.clone()
    faulty.set_weights({"norm.weight": model.weights["norm.weight"] * np.float32(1.01)})
    with pytest.raises(VerificationError):
        api._certified(model, "onnx", faulty.write("onnx"))


def test_what_rounding_alone_decides_is_an_error_of_its_own():
    class Chaos(nn.Module):
        def forward(self, x):
            y = torch.sigmoid(x)
            for _ in range(60):
                y = 3.9 * y * (1 - y)
            return y

    model = dlbridge.load(Chaos().eval(), inputs={"x": "float32[batch,16]"})
    with pytest.raises(IllConditionedError, match="rounding alone"):
        api._certified(model, "onnx", model.write("onnx"))


def test_ties_in_integers_are_no_false_alarm():
    class Ties(nn.Module):
        def forward(self, x):
            y = torch.round(x)
            return y.argmax(-1), (F.relu(x - 2)).argmax(-1), torch.floor(x).to(torch.int64)

    for dtype in ("float32", "float16", "bfloat16"):
        model = dlbridge.load(Ties().eval(), inputs={"x": f"{dtype}[batch,16]"})
        for to in ("pytorch", "onnx"):
            assert api._certified(model, to, model.write(to))[1]["passed"], (dtype, to)


# --- Keras ------------------------------------------------------------------------------------------------------------


def test_a_keras_model_is_run_in_float64_and_stays_as_it_is():
    keras = pytest.importorskip("keras")
    layers = keras.layers
    for policy in ("float32", "mixed_bfloat16"):
        x = keras.Input((8, 3))
        y = layers.Conv1D(4, 3, dtype=policy)(x)
        y = layers.LayerNormalization(dtype=policy)(layers.BatchNormalization(dtype=policy)(y))
        y = layers.GRU(5, return_sequences=True, dtype=policy)(layers.Activation("gelu", dtype=policy)(y))
        made = keras.Model(x, [layers.Dense(3, dtype=policy)(y), keras.ops.argmax(y, -1), keras.ops.cast(y, "float16")])
        before = [v.numpy() for v in made.weights]
        model = dlbridge.load(made)
        arrays = random_inputs(model, {"batch": 2})
        exact = model.original.exact()
        found, right, own = exact(arrays), Evaluator(model.ir)(arrays), model.original(arrays)
        for name, array in own.items():
            if array.dtype.kind != "i":
                assert found[name].dtype == np.float64
                assert np.abs(found[name] - right[name]).max() <= (1e-6 if policy == "float32" else 0.02)
                assert np.abs(found[name] - array.astype(np.float64)).max() <= (1e-3 if policy == "float32" else 0.1)
        assert exact.eps == eps("bfloat16" if "bfloat16" in policy else np.float16)  # the cast is coarser than float32
        for weight, array in zip(made.weights, before, strict=True):
            assert weight.numpy().dtype == array.dtype
            assert np.array_equal(weight.numpy(), array)


def test_code_of_tensorflow_with_branches_and_loops_is_run_in_float64():
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")
    from dlbridge.frameworks.keras.exact import Exact

    def call(tensors):
        x = tensors["x"]
        y = tf.cond(tf.reduce_sum(x) > 0, lambda: x * 0.1, lambda: x * 0.2)
        _, y = tf.while_loop(lambda i, _: i < 3, lambda i, z: (i + 1, tf.sin(z) + 1.0 / 3), (0, y))
        return [tf.cast(tf.image.resize(y[None, :, :, None], (4, 4))[0, :, :, 0], tf.float32), tf.argmax(y, -1)]

    x = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)
    seen: list = []
    exact = Exact(call, ["a", "b"])
    found = exact({"x": x}, seen=seen)
    y = x.astype(np.float64) * np.float32(0.1 if x.sum() > 0 else 0.2)
    for _ in range(3):
        y = np.sin(y) + np.float32(1 / 3)
    assert any(a.shape == y.shape and np.abs(a - y).max() < 1e-12 for a in seen)
    assert found["a"].dtype == np.float64
    assert found["b"].tolist() == y.argmax(-1).tolist()
    moved = exact({"x": x}, noise=1e-3)["a"]
    assert 0 < np.abs(moved - found["a"]).max() < 1e-2
    assert keras.backend.floatx() == "float32"
