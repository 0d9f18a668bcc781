"""Mixed precision: the frameworks train alike to what the type owes, and leave out the same steps."""

import numpy as np
import pytest

import dlbridge
from dlbridge import description, frameworks
from dlbridge.errors import TrainingError
from dlbridge.passes.mixed import mix_precision
from dlbridge.training.formulas.mixed import Float16
from dlbridge.training.formulas.numpy_ops import NUMPY
from dlbridge.training.preparation import prepared
from dlbridge.training.spec import TrainingSpec
from tests.helpers import parity

FRAMEWORKS = ("pytorch", "keras")
#: What a curve of losses may be off: a few eps of the half type, against float32 and among the frameworks.
OWED = {"float16": 2e-4, "bfloat16": 1e-3}


def case(name, precision, epochs=3, steps=20, **more):
    made, arrays, spec = parity.case(name, dtype="float32", steps=steps)
    optimizer = {"kind": "adam", "learning_rate": 0.01}
    settings = {**spec.model_dump(), "precision": precision, "epochs": epochs, "optimizer": optimizer, **more}
    return made, arrays, TrainingSpec.model_validate(settings)


def check_curves(name, precision, frameworks):
    made, arrays, spec = case(name, precision)
    plain = dlbridge.train(made, arrays, framework="pytorch", spec=spec.model_copy(update={"precision": None}))
    for framework in frameworks:
        found = dlbridge.train(made, arrays, framework=framework, spec=spec)
        assert found.history["loss"] != plain.history["loss"]
        np.testing.assert_allclose(found.history["loss"], plain.history["loss"], rtol=OWED[precision])
        assert {w.dtype for w in found.model.weights.values()} == {w.dtype for w in made.weights.values()}


@pytest.mark.parametrize("precision", OWED)
def test_the_curves_of_the_frameworks_agree(precision):
    check_curves("MLP", precision, FRAMEWORKS)


@pytest.mark.slow
@pytest.mark.parametrize("precision", OWED)
@pytest.mark.parametrize("name", parity.MODELS)
def test_the_curves_of_all_frameworks_agree_on_all_models(name, precision):
    check_curves(name, precision, (*FRAMEWORKS, "nnx"))


#: A scale at which float16 overflows, so that the first steps are left out, and one that grows soon.
OVERFLOWS = {"kind": "float16", "scale": 2.0**27}
GROWS = {"kind": "float16", "scale": 1.0, "interval": 7}


def scale(result):
    return {name: float(number) for name, number in result.checkpoint.slots["loss_scale"].items()}


def test_steps_that_overflow_are_left_out_alike():
    more = {"accumulate": 3, "ema": 0.9, "clip": {"norm": 1.0}, "schedule": {"kind": "exponential", "gamma": 0.99}}
    made, arrays, spec = case("MLP", OVERFLOWS, **more)
    first, *others = (dlbridge.train(made, arrays, framework=f, spec=spec) for f in (*FRAMEWORKS, "nnx"))
    in_all = spec.epochs * -(-20 // spec.accumulate)
    assert 0 < first.checkpoint.step < in_all
    for other in others:
        assert (other.checkpoint.step, scale(other)) == (first.checkpoint.step, scale(first))
        np.testing.assert_allclose(other.history["loss"], first.history["loss"], rtol=OWED["float16"])
    assert all(np.isfinite(w).all() for w in first.model.weights.values())


@pytest.mark.parametrize("first", FRAMEWORKS)
def test_training_goes_on_in_the_other_framework(first):
    (second,) = {*FRAMEWORKS} - {first}
    made, arrays, spec = case("MLP", GROWS, epochs=4)
    whole = dlbridge.train(made, arrays, framework=first, spec=spec)
    half = dlbridge.train(made, arrays, framework=first, spec=spec.model_copy(update={"epochs": 2}))
    done = dlbridge.train(made, arrays, framework=second, spec=spec, checkpoint=half.checkpoint)
    assert (done.checkpoint.step, scale(done)) == (whole.checkpoint.step, scale(whole)) == (80, scale(whole))
    assert scale(whole) == {"scale": 2.0**11, "steps_since": 3.0}
    np.testing.assert_allclose(done.history["loss"], whole.history["loss"], rtol=OWED["float16"])
    alone = dlbridge.train(made, arrays, framework=first, spec=spec, checkpoint=half.checkpoint)
    for name, weight in whole.model.weights.items():
        np.testing.assert_array_equal(alone.model.weights[name], weight)


def test_the_loss_scale_is_that_of_pytorch():
    import torch

    spec = Float16(scale=1024.0, growth=4.0, backoff=0.25, interval=3)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=3)
    weight, ours, since = torch.nn.Parameter(torch.ones(1)), np.float64(1024.0), np.int64(0)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for is_finite in [True, True, False, True, True, True, True, False, False, True]:
        scaler.scale(weight.sum()).backward()
        if not is_finite:
            weight.grad.fill_(float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        ours, since = spec.after(ours, since, np.bool_(is_finite), NUMPY)
        assert scaler.get_scale() == ours


def test_products_are_halves_and_all_else_is_not():
    made, _, spec = case("transformer", "bfloat16")
    trained, _ = prepared(made, spec)
    types = {
        node.op_type: {v.dtype.name for v in (*node.inputs, *node.outputs) if v is not None} for node in trained.graph
    }
    assert types["Linear"] == types["Attention"] == {"BFLOAT16"}
    assert types["LayerNormalization"] == types["Gelu"] == {"FLOAT"}
    assert [v.dtype.name for v in trained.outputs] == ["FLOAT"]
    assert {v.dtype.name for v in trained.parameters} == {"FLOAT"}


def test_what_has_no_half_type_is_refused():
    _, arrays, spec = case("MLP", "float16")
    wide = parity.model("MLP")
    with pytest.raises(TrainingError, match="mixed precision is of float32 models; 'x' is DOUBLE"):
        dlbridge.train(wide, arrays, spec=spec)
    scaled = description.load(
        "dlbridge: 1\nname: scaled\ninputs: {x: {dtype: float32, shape: [batch, 3]}}\n"
        "nodes: [{name: norm, op: LayerNormalization}]\noutputs: {y: norm}\n"
    )
    with pytest.raises(TrainingError, match="nothing in this model is computed in float16"):
        dlbridge.train(scaled, {"x": arrays["x"][:, :3], "label": arrays["label"]}, spec=spec)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_gradients_that_are_never_finite_end_the_training(framework):
    made = description.load(
        "dlbridge: 1\nname: root\ninputs: {x: {dtype: float32, shape: [batch, 3]}}\n"
        "nodes: [{name: fc, op: Linear, features: 1}, {name: none, op: Sub, A: fc, B: fc}, {name: root, op: Sqrt}]\n"
        "outputs: {y: root}\n"
    )
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(64, 3)).astype(np.float32), "label": np.ones((64, 1), np.float32)}
    spec = TrainingSpec(loss={"op": "MeanSquaredError"}, precision="float16", batch_size=1)
    with pytest.raises(TrainingError, match="infinite or NaN at any loss scale"):
        dlbridge.train(made, arrays, framework=framework, spec=spec)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_is_written_computes_in_halves(framework):
    """Padding and pooling between convolutions too: a layer that made float32 of its input would hide it."""
    head = "dlbridge: 1\nname: net\ninputs: {x: {dtype: float32, shape: [batch, 2, 9, 9]}}\n"
    nodes = "[{name: a, op: Conv, channels: 3, kernel_shape: 3, pads: [1, 0, 0, 1], strides: 2}, {op: Relu},"
    nodes += " {op: MaxPool, kernel_shape: [2, 2]}, {name: b, op: Conv, channels: 3, kernel_shape: 2, group: 3}]"
    made = description.load(f"{head}nodes: {nodes}\noutputs: {{y: b}}\n")
    x = {"x": np.random.default_rng(0).normal(size=(2, 2, 9, 9)).astype(np.float32)}
    copy = made.clone()
    assert mix_precision(copy.ir, "float16") == 2
    found, exact = (next(iter(frameworks.get(framework).run(m.to(framework), x).values())) for m in (copy, made))
    assert (found == found.astype(np.float16)).all()
    assert 1e-5 < np.abs(found - exact).max() / np.abs(exact).max() < 4e-3
