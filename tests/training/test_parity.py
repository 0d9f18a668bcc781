"""Every optimizer and every loss reaches the same weights in every framework, in float64."""

import numpy as np
import pytest

from tests.helpers import parity

CLOSE = 1e-9
STEPS = 20
#: What the default suite tries: one of each kind.
PLAIN = {"optimizer": parity.OPTIMIZERS, "loss": parity.LOSSES, "course": parity.COURSES}
QUICK = [(kind, name) for kind, names in PLAIN.items() for name in names if "," not in name or kind == "course"]
ALL = [(kind, name) for kind, names in PLAIN.items() for name in names]
FIRST = ("pytorch", "keras")


def check(names, steps, **what):
    made, arrays, spec = parity.case(steps=steps, **what)
    found = parity.results(made, arrays, spec, names)
    trained = {name: result for name, result in found.items() if not isinstance(result, str)}
    first, *others = trained
    moved = parity.with_gradient(made, arrays, spec)
    for other in others:
        assert parity.difference(trained[first].model.weights, trained[other].model.weights, moved) <= CLOSE, other
        if spec.ema is not None:
            assert parity.difference(trained[first].averaged.weights, trained[other].averaged.weights, moved) <= CLOSE
    return {name: result for name, result in found.items() if isinstance(result, str)}


@pytest.mark.parametrize(("kind", "name"), QUICK)
def test_the_frameworks_agree(kind, name):
    assert not check(FIRST, STEPS, name="MLP", **{kind: name})


def test_the_frameworks_agree_on_a_convolution_with_batch_norm():
    assert not check(FIRST, STEPS, name="CNN", optimizer="Muon")


@pytest.mark.nnx
@pytest.mark.parametrize("optimizer", ["AdamW, groups", "Adafactor"])
def test_nnx_agrees(optimizer):
    assert not check(("pytorch", "nnx"), STEPS, name="MLP", optimizer=optimizer)


@pytest.mark.slow
@pytest.mark.parametrize("model", parity.MODELS)
@pytest.mark.parametrize(("kind", "name"), ALL)
def test_all_frameworks_agree_on_all_models(kind, name, model):
    refused = check(None, parity.STEPS, name=model, **{kind: name})
    assert all("at once" in message for message in refused.values())
    assert not set(FIRST) & set(refused)


@pytest.mark.slow
@pytest.mark.parametrize("model", parity.MODELS)
@pytest.mark.parametrize("optimizer", parity.OPTIMIZERS)
def test_loss_curves_agree_in_float32(optimizer, model):
    made, arrays, spec = parity.case(model, optimizer=optimizer, dtype="float32")
    epochs = type(spec).model_validate({**spec.model_dump(), "epochs": 5})
    arrays = {name: array[: 20 * parity.BATCH] for name, array in arrays.items()}
    curves = [r.history["loss"] for r in parity.results(made, arrays, epochs, FIRST).values()]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
