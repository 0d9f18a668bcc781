"""A loss in code of the user's own, one function for each framework; and threads that make batches ahead."""

import numpy as np
import pytest
from click.testing import CliRunner

import dlbridge
from dlbridge.cli import cli
from dlbridge.errors import DlbridgeError, TrainingError
from dlbridge.training.datasets.ahead import made_ahead
from dlbridge.training.spec import TrainingSpec
from tests.helpers.training import dense, largest_difference

SPEC = TrainingSpec(loss={"op": "Own"}, optimizer={"kind": "sgd", "learning_rate": 0.1}, epochs=2, batch_size=8)
CODE = """
import torch

def cubed(output, target):
    return ((output - target).abs() ** 3).mean(dim=1)
"""


def in_pytorch(output, target):
    return ((output - target).abs() ** 3).mean(dim=1)


def in_keras(output, target):
    from keras import ops

    return ops.mean(ops.abs(output - target) ** 3)


def in_jax(output, target):
    import jax.numpy as jnp

    return jnp.mean(jnp.abs(output - target) ** 3)


OWN = {"pytorch": in_pytorch, "keras": in_keras, "nnx": in_jax}


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(40, 5)).astype(np.float32), "label": rng.normal(size=(40, 3)).astype(np.float32)}


def test_a_loss_of_ones_own_trains_alike_in_all_frameworks(data):
    first, *others = (dlbridge.train(dense(), data, framework=f, spec=SPEC, own_loss=own) for f, own in OWN.items())
    assert first.history["loss"][1] < first.history["loss"][0]
    for other in others:
        assert largest_difference(other.model.weights, first.model.weights) < 1e-5
        np.testing.assert_allclose(other.history["loss"], first.history["loss"], rtol=1e-5)


def failing(output, target):
    raise IndexError("no such class")


@pytest.mark.parametrize("framework", OWN)
@pytest.mark.parametrize(
    ("own", "words"),
    [(failing, "'failing', fails: IndexError: no such class"), (lambda x, t: None, "returns None")],
    ids=["fails", "nothing"],
)
def test_a_mistake_in_it_is_told_as_its_own(own, words, framework, data):
    with pytest.raises(TrainingError, match=words):
        dlbridge.train(dense(), data, framework=framework, spec=SPEC, own_loss=own)


def test_it_is_named_on_the_command_line_and_never_by_a_file(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mylosses.py").write_text(CODE)
    np.savez(tmp_path / "data.npz", **data)
    (tmp_path / "spec.yaml").write_text("loss: {op: Own}\nepochs: 1\n")
    dense().save(tmp_path / "net")
    words = ["train", "net", "--data", "data.npz", "--spec", "spec.yaml", "--in", "pytorch", "-o", "run", "--no-plot"]
    refused = CliRunner().invoke(cli, words)
    assert isinstance(refused.exception, DlbridgeError) or "not given" in refused.output
    done = CliRunner().invoke(cli, [*words, "--loss", "mylosses.py:cubed"])
    assert done.exit_code == 0, done.output
    with pytest.raises(TrainingError, match="run in training alone"):
        dlbridge.evaluate(dlbridge.load(tmp_path / "run"), data)


def test_a_function_without_its_loss_and_a_loss_without_its_function_are_refused(data):
    with pytest.raises(TrainingError, match="function of your own, which is not given"):
        dlbridge.train(dense(), data, spec=SPEC)
    other = SPEC.model_copy(update={"loss": TrainingSpec(loss={"op": "MeanSquaredError"}).loss})
    with pytest.raises(TrainingError, match="the specification has another"):
        dlbridge.train(dense(), data, spec=other, own_loss=in_pytorch)
    with pytest.raises(ValueError, match="by itself"):
        TrainingSpec(loss={"op": "Own", "reduction": "sum"})


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_things_are_made_ahead_in_their_order(workers):
    asked = []
    made = made_ahead((asked.append(n) or n for n in range(20)), lambda n: n * n, workers)
    assert next(made) == 0
    assert len(asked) <= 2 * workers + 1
    assert list(made) == [n * n for n in range(1, 20)]


def test_an_error_of_a_thread_is_that_of_the_reader():
    def make(n):
        if n == 3:
            raise TrainingError("row 3 is broken")
        return n

    made = made_ahead(range(10), make, 2)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TrainingError, match="row 3"):
        list(made)


class Items:
    """As PyTorch's ``Dataset``."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data["x"])

    def __getitem__(self, row):
        return {name: array[row] for name, array in self.data.items()}


@pytest.mark.parametrize("augments", [False, True])
def test_workers_do_not_change_what_is_trained(augments, data, monkeypatch):
    monkeypatch.setattr("dlbridge.training.datasets.opening.IN_MEMORY", -1)
    text = "dlbridge: 1\nname: net\ninputs: {x: {dtype: float32, shape: [batch, 1, 6, 6]}}\n"
    text += "nodes: [{op: Flatten}, {name: fc, op: Linear, features: 3}]\noutputs: {y: fc}\n"
    model = dlbridge.description.load(text)
    rng = np.random.default_rng(0)
    given = {"x": rng.normal(size=(40, 1, 6, 6)).astype(np.float32), "label": data["label"]}
    more = {"augment": {"x": [{"kind": "flip"}]}} if augments else {}
    spec = TrainingSpec(loss={"op": "MeanSquaredError"}, epochs=2, batch_size=8, **more)
    alone, together = (dlbridge.train(model, Items(given), spec=spec, data_workers=n) for n in (0, 3))
    for name, weight in alone.model.weights.items():
        np.testing.assert_array_equal(together.model.weights[name], weight)
