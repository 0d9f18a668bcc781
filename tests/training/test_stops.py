"""Whatever stops a training, at most the epoch that it was in is lost, and nothing of what was there before."""

import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

import dlbridge
from dlbridge import files, frameworks
from dlbridge.cli import cli
from dlbridge.errors import DlbridgeWarning, FileError, TrainingError
from dlbridge.files import replacing, writing
from dlbridge.training.checkpoint import load_checkpoint, save_checkpoint
from dlbridge.training.folder import train_to_folder
from dlbridge.training.result import Checkpoint
from tests.helpers.training import FRAMEWORKS, SPEC, dense, largest_difference

MODEL = """
dlbridge: 1
name: line
inputs: {x: {dtype: float32, shape: [batch, 4]}}
nodes: [{name: fc, op: Linear, features: 1}]
outputs: {y: fc}
training: {loss: {op: MeanSquaredError}, epochs: 100000}
"""


@pytest.fixture
def line(tmp_path):
    """A model and its data as files."""
    (tmp_path / "line.yaml").write_text(MODEL)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    np.savez(tmp_path / "line.npz", x=x, label=x[:, 0])
    return tmp_path


@pytest.fixture
def blobs():
    rng = np.random.default_rng(2)
    label = rng.integers(0, 3, 90)
    return {"x": (np.eye(3, 5)[label] * 2 + rng.normal(size=(90, 5)) / 3).astype(np.float32), "label": label}


def begin(line, folder, *more, **options):
    """``dlbridge train`` as a process of its own."""
    command = [sys.executable, "-m", "dlbridge", "train", str(line / "line.yaml"), "--data", str(line / "line.npz")]
    command += ["-o", str(line / folder), "--no-plot", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def state(folder):
    return json.loads((folder / "state.json").read_text())


# --- processes that end -------------------------------------------------------------------------------------------


def test_a_killed_training_goes_on_from_its_last_epoch(line):
    processes = {sent: begin(line, sent.name) for sent in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)}
    shown = {}
    for sent, process in processes.items():
        for text in process.stdout:
            if text.startswith("epoch 20/"):
                process.send_signal(sent)
                break
        rest = [text for text in process.stdout if text.startswith("epoch ")]
        shown[sent] = int(rest[-1].split()[1].split("/")[0]) if rest else 20
        process.wait()
    assert processes[signal.SIGKILL].returncode == -signal.SIGKILL
    for sent in (signal.SIGTERM, signal.SIGINT):  # a scheduler, and Ctrl-C: it has written all that it had
        assert processes[sent].returncode == 130
        assert (line / sent.name / "model.yaml").exists()
    for sent in processes:
        reached = load_checkpoint(line / sent.name / "checkpoint")
        assert reached.epoch >= shown[sent]
        assert len(reached.history["loss"]) == reached.epoch == reached.step // 2
        last = reached.epoch + 2
        resumed = ["-o", str(line / sent.name), "--no-plot", "--resume", "--epochs", str(last), "--json"]
        cli(["train", str(line / "line.yaml"), "--data", str(line / "line.npz"), *resumed], standalone_mode=False)
        spec = dlbridge.load(line / "line.yaml").training.model_copy(update={"epochs": last})
        whole = dlbridge.train(line / "line.yaml", line / "line.npz", spec=spec)
        assert largest_difference(dlbridge.load(line / sent.name).weights, whole.model.weights) <= 1e-6
        assert not [p for p in line.iterdir() if p.name.startswith(".")]


def test_a_full_disk_costs_one_epoch(line):
    """The limit on the size of a file stands for the disk; the history in state.json grows with each epoch."""
    process = begin(line, "run", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2400, 2400)))
    text = process.communicate()[0]
    assert process.returncode == 1
    assert "there is no room to write it" in text
    assert "Traceback" not in text
    shown = [int(line.split()[1].split("/")[0]) for line in text.splitlines() if line.startswith("epoch ")]
    reached = load_checkpoint(line / "run" / "checkpoint")
    assert reached.epoch == shown[-1] > 3
    assert not [p for p in (line / "run" / "checkpoint").iterdir() if p.name.startswith(".")]


# --- what is there stays until the new is whole -------------------------------------------------------------------


class Stopping:
    """A trainer that fails in an epoch."""

    def __init__(self, trainer, epochs, error):
        self.trainer, self.left, self.error = trainer, epochs, error
        self.evaluate, self.state = trainer.evaluate, trainer.state

    def epoch(self, data):
        if self.left == 0:
            raise self.error
        self.left -= 1
        return self.trainer.epoch(data)


@pytest.fixture
def stop(monkeypatch):
    def after(epochs, error):
        framework = frameworks.get("pytorch")
        make = type(framework).trainer
        patched = lambda *a, **k: Stopping(make(framework, *a, **k), epochs, error)  # noqa: E731
        monkeypatch.setattr(framework, "trainer", patched, raising=False)

    yield after


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("the network is gone")])
def test_what_force_replaces_stays_until_the_new_training_is_done(error, blobs, tmp_path, stop, monkeypatch):
    folder = tmp_path / "run"
    old = train_to_folder(dense(), blobs, folder, spec=SPEC, quiet=True, plot=False)
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    other = SPEC.model_copy(update={"seed": 3})
    stop(2, error)
    with suppress(OSError):
        train_to_folder(dense(), blobs, folder, spec=other, quiet=True, plot=False, force=True)
    after = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file() and "checkpoint.new" not in p.parts}
    assert after == before
    assert largest_difference(dlbridge.load(folder).weights, old.model.weights) == 0
    assert load_checkpoint(folder / "checkpoint.new").epoch == 2
    monkeypatch.undo()
    resumed = train_to_folder(dense(), blobs, folder, spec=other, quiet=True, plot=False, resume=True)
    whole = dlbridge.train(dense(), blobs, spec=other)
    assert largest_difference(resumed.model.weights, whole.model.weights) <= 1e-6
    assert {p.name for p in folder.iterdir()} == {"best.safetensors", "checkpoint", "history.json", "model.yaml"} | {
        "weights.safetensors"
    }


def test_a_training_that_is_stopped_in_its_first_epoch_writes_nothing(blobs, tmp_path, stop):
    stop(0, KeyboardInterrupt())
    result = train_to_folder(dense(), blobs, tmp_path / "run", spec=SPEC, quiet=True, plot=False)
    assert result.interrupted
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_is_there_is_not_begun_again_unasked(blobs, tmp_path):
    train_to_folder(dense(), blobs, tmp_path / "run", spec=SPEC, quiet=True, plot=False)
    with pytest.raises(FileError, match=r"there is a training already\n.*--resume"):
        train_to_folder(dense(), blobs, tmp_path / "run", spec=SPEC, quiet=True, plot=False)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileError, match="not a folder"):
        train_to_folder(dense(), blobs, tmp_path / "file", spec=SPEC, quiet=True, plot=False, force=True)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("exchanges", [True, False])
@pytest.mark.parametrize("step", ["rename", "replace"])
def test_a_save_that_is_interrupted_leaves_the_old_or_the_new(exchanges, step, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "weights").write_text("old")
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, step, interrupted)
        try:
            with writing(folder, force=True) as fresh:
                fresh.mkdir()
                (fresh / "weights").write_text("new")
        except KeyboardInterrupt:
            pass
    assert (folder / "weights").read_text() == ("new" if exchanges else "old")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as fresh:
        fresh.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with replacing(target) as fresh:
        fresh.write_text("new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "new")]


# --- checkpoints --------------------------------------------------------------------------------------------------


def checkpoint(epoch, best):
    weights = {"w": np.full(3, epoch, np.float32)}
    history = {"loss": [1.0 / n for n in range(1, epoch + 1)]}
    return Checkpoint(epoch, weights, {"m": weights}, epoch, history, (1.0, best or weights), SPEC)


def test_each_moment_of_saving_leaves_a_whole_checkpoint(tmp_path, monkeypatch):
    first = checkpoint(1, None)
    save_checkpoint(first, tmp_path)
    second = checkpoint(2, first.weights)
    calls, fails, real = [], [0], os.replace

    def counted(*paths):
        calls.append(paths)
        if len(calls) == fails[0]:
            raise OSError("the machine stops")
        real(*paths)

    monkeypatch.setattr(os, "replace", counted)
    for number in (1, 2, 3):
        calls.clear()
        fails[0] = number
        with pytest.raises(OSError, match="machine stops"):
            save_checkpoint(second, tmp_path)
        found = load_checkpoint(tmp_path)
        assert (found.epoch, found.weights["w"][0], found.slots["m"]["w"][0], found.best[1]["w"][0]) == (1, 1, 1, 1)
    monkeypatch.undo()
    save_checkpoint(second, tmp_path)
    found = load_checkpoint(tmp_path)
    assert (found.epoch, found.weights["w"][0], found.best[1]["w"][0], found.spec) == (2, 2, 1, SPEC)
    assert len(list(tmp_path.iterdir())) == 4  # the first epoch's weights are the best ones
    save_checkpoint(second, tmp_path)  # of the same epoch again: no file that state.json names is touched
    assert load_checkpoint(tmp_path).best[1]["w"][0] == 1
    save_checkpoint(checkpoint(3, None), tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_checkpoint_names_files_of_its_own_folder_alone(tmp_path):
    save_checkpoint(checkpoint(1, None), tmp_path)
    text = (tmp_path / "state.json").read_text()
    for hostile in ("../weights-1.safetensors", "/etc/passwd", "", "a/b"):
        (tmp_path / "state.json").write_text(text.replace("weights-1.safetensors", hostile))
        with pytest.raises(FileError, match="broken"):
            load_checkpoint(tmp_path)


OTHER = {
    "optimizer": {"optimizer": {"kind": "sgd", "learning_rate": 0.01}},
    "momentum": {"optimizer": {"kind": "adam", "beta_1": 0.5, "learning_rate": 0.01}},
    "loss": {"loss": {"op": "SparseCategoricalCrossentropy", "from_logits": True}},
    "metrics": {"metrics": ()},
    "validation": {"validation_split": 0.3},
    "seed": {"seed": 1},
}


@pytest.mark.parametrize("what", OTHER)
def test_a_training_of_another_kind_does_not_go_on(what, blobs, tmp_path):
    half = SPEC.model_copy(update={"epochs": 2})
    train_to_folder(dense(), blobs, tmp_path / "run", spec=half, quiet=True, plot=False)
    other = type(SPEC).model_validate({**SPEC.model_dump(), **OTHER[what]})
    with pytest.raises(TrainingError, match=r"trained in another way: .* was .* and is "):
        train_to_folder(dense(), blobs, tmp_path / "run", spec=other, quiet=True, plot=False, resume=True)
    assert state(tmp_path / "run" / "checkpoint")["epoch"] == 2


def test_a_training_with_nothing_left_says_so(blobs):
    done = dlbridge.train(dense(), blobs, spec=SPEC)
    with pytest.warns(DlbridgeWarning, match=f"nothing is left to train: the checkpoint has {SPEC.epochs} epochs"):
        again = dlbridge.train(dense(), blobs, spec=SPEC, checkpoint=done.checkpoint)
    assert largest_difference(again.model.weights, done.model.weights) == 0


def test_a_training_that_stopped_early_says_so_and_goes_on_with_more_patience(blobs):
    spec = {"loss": {"op": "SoftmaxCrossEntropyLoss"}, "epochs": 5, "early_stopping": {"patience": 1, "min_delta": 9}}
    done = dlbridge.train(dense(), blobs, spec=spec)
    assert done.checkpoint.epoch == 2
    with pytest.warns(DlbridgeWarning, match="nothing is left .* 2 epochs, after which early_stopping ends it"):
        dlbridge.train(dense(), blobs, spec=spec, checkpoint=done.checkpoint)
    more = {**spec, "early_stopping": {"patience": 3, "min_delta": 9}}
    assert dlbridge.train(dense(), blobs, spec=more, checkpoint=done.checkpoint).checkpoint.epoch == 4
    none = {**spec, "early_stopping": None}
    assert dlbridge.train(dense(), blobs, spec=none, checkpoint=done.checkpoint).checkpoint.epoch == 5


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_learning_rate_may_change(framework, blobs):
    begun = dlbridge.train(dense(), blobs, spec=SPEC.model_copy(update={"epochs": 2}), framework=framework)
    slower = SPEC.model_copy(update={"optimizer": SPEC.optimizer.model_copy(update={"learning_rate": 1e-5})})
    done = dlbridge.train(dense(), blobs, spec=slower, framework=framework, checkpoint=begun.checkpoint)
    assert 0 < largest_difference(done.model.weights, begun.model.weights) < 1e-2


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(blobs):
    begun = dlbridge.train(dense(), blobs, spec=SPEC.model_copy(update={"epochs": 2})).checkpoint
    for other in (dense(features=4), dense("{op: Linear, features: 3}", "fc3")):
        with pytest.raises(TrainingError, match="of another model"):
            dlbridge.train(other, blobs, spec=SPEC, checkpoint=begun)
    begun.spec = None  # as it was written before there was one
    sgd = type(SPEC).model_validate({**SPEC.model_dump(), "optimizer": {"kind": "sgd", "momentum": 0.9}})
    with pytest.raises(TrainingError, match="it holds m, v, sgd needs momentum"):
        dlbridge.train(dense(), blobs, spec=sgd, checkpoint=begun)


# --- numbers that are none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_divergence_is_said_and_is_never_the_best(framework, tmp_path):
    model = dlbridge.description.load(MODEL)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    data = {"x": x, "label": x[:, 0]}
    optimizer = {"kind": "sgd", "learning_rate": 3.0}
    spec = type(SPEC)(loss={"op": "MeanSquaredError"}, optimizer=optimizer, epochs=60)
    with pytest.warns(RuntimeWarning, match="epoch"):
        result = dlbridge.train(model, data, spec=spec, framework=framework)
    assert 0 < len(result.history["loss"]) < 60
    assert np.isfinite(result.history["loss"]).all()
    for weights in (result.model.weights, result.best.weights, result.checkpoint.weights):
        assert all(np.isfinite(w).all() for w in weights.values())
    with pytest.raises(TrainingError, match=r"epoch \d+.*are kept\n.*learning rate"):
        train_to_folder(model, data, tmp_path / "run", spec=spec, framework=framework, quiet=True, plot=False)
    np.testing.assert_allclose(
        json.loads((tmp_path / "run" / "history.json").read_text())["loss"], result.history["loss"]
    )
    hopeless = {"kind": "sgd", "learning_rate": 1e30}
    with pytest.raises(TrainingError, match="epoch 1"):
        dlbridge.train(model, data, spec=spec.model_copy(update={"optimizer": type(spec.optimizer)(**hopeless)}))
