"""The command: what each subcommand writes and prints, for people and (``--json``) for machines."""

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest

from dlbridge import cli
from tests.helpers.paths import EXAMPLES

MLP = str(EXAMPLES / "mlp_784.yaml")


@pytest.fixture
def dlbridge(monkeypatch, capsys, tmp_path):
    """Runs the command in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dlbridge", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


def succeed(run, *arguments):
    code, out, err = run(*arguments)
    assert code == 0, err
    return out


@pytest.mark.parametrize(
    ("target", "files"),
    [
        ("pytorch", {"model.py", "weights.pt", "certificate.json"}),
        ("keras", {"model.py", "model.weights.h5", "certificate.json"}),
        ("onnx", {"config.pbtxt", "1/model.onnx", "certificate.json"}),
        ("description", {"model.yaml", "weights.safetensors"}),
    ],
)
def test_convert_writes_a_folder(dlbridge, tmp_path, target, files):
    told = json.loads(succeed(dlbridge, "convert", MLP, "--to", target, "-o", "out", "--json"))
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert found == files
    assert {str(Path(f).relative_to("out")) for f in told["files"]} == files
    if "certificate.json" in files:
        certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
        assert certificate["passed"]
        assert [c["sizes"]["batch"] for c in certificate["checks"]] == [1, 2, 9]


def test_convert_names_the_folder_after_the_model(dlbridge, tmp_path):
    out = succeed(dlbridge, "convert", MLP, "--to", "pytorch", "--no-verify")
    assert out.splitlines()[0] == "mlp_784 -> pytorch: mlp_784-pytorch"
    assert not (tmp_path / "mlp_784-pytorch" / "certificate.json").exists()


def test_convert_prints_the_source_and_writes_nothing(dlbridge, tmp_path):
    out = succeed(dlbridge, "convert", MLP, "--to", "pytorch", "--print")
    assert "class Mlp784(nn.Module):" in out
    assert list(tmp_path.iterdir()) == []


def test_convert_writes_the_next_version_into_a_repository(dlbridge, tmp_path):
    for version, more in ((1, ["config.pbtxt", "certificate.json"]), (2, ["2/certificate.json"])):
        told = json.loads(succeed(dlbridge, "convert", MLP, "--to", "onnx", "--into", "served", "--json"))
        (entry,) = (tmp_path / "served").iterdir()
        new = {str(Path("served", entry.name, name)) for name in (f"{version}/model.onnx", *more)}
        assert set(told["files"]) == new and all((tmp_path / name).exists() for name in new)
        assert told["output"] == f"served/{entry.name}"


def test_the_certificate_of_a_conversion_says_of_what_it_is_and_is_checked_again(dlbridge, tmp_path):
    succeed(dlbridge, "convert", MLP, "--to", "onnx", "-o", "out")
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["request"]["source"] == str(MLP)
    assert "agrees; nothing has changed" in succeed(dlbridge, "verify", "--check", "out/certificate.json")


def test_the_folder_of_a_task_has_the_whole_name_of_the_model_s_folder(dlbridge, tmp_path, monkeypatch):
    (tmp_path / "Net-1.5").mkdir()
    named = []
    monkeypatch.setattr("dlbridge.tasks.convert", lambda source, to, output, **_: named.append(output) or {})
    for model in ("Net-1.5", "."):
        monkeypatch.chdir(tmp_path / "Net-1.5" if model == "." else tmp_path)
        succeed(dlbridge, "convert", model, "--to", "onnx", "--task", "generate")
    assert named == [Path("Net-1.5-onnx")] * 2


@pytest.mark.parametrize("target", ["pytorch", "description"])
def test_a_repository_holds_onnx_alone_and_says_so_before_anything_is_read(dlbridge, tmp_path, target):
    code, _, err = dlbridge("convert", "no_such_file.yaml", "--to", target, "--into", "served")
    assert code != 0 and "repository holds ONNX models" in err
    assert not list(tmp_path.iterdir())


def test_convert_to_an_opset_and_back(dlbridge):
    succeed(dlbridge, "convert", MLP, "--to", "onnx", "--opset", 17, "-o", "mlp.onnx")
    told = json.loads(succeed(dlbridge, "inspect", "mlp.onnx", "--json"))
    assert told["parameters"] == 784 * 128 + 128 + 128 * 10 + 10
    out = succeed(dlbridge, "convert", "mlp.onnx", "--to", "pytorch", "--print")
    assert "nn.Linear(784, 128)" in out


def test_native_layout_of_keras(dlbridge, tmp_path):
    example = EXAMPLES / "cnn_digits.yaml"
    succeed(dlbridge, "convert", example, "--to", "keras", "--io-layout", "native", "-o", "out")
    text = (tmp_path / "out" / "model.py").read_text()
    assert "keras.Input((8, 8, 1)" in text
    assert "Permute" not in text
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["passed"]
    succeed(dlbridge, "verify", example, "out", "--battery", "quick")  # the certificate in it says the layout


def test_memory_format_of_pytorch(dlbridge, tmp_path):
    example = EXAMPLES / "unet.yaml"
    succeed(dlbridge, "convert", example, "--to", "pytorch", "--memory-format", "channels_last", "-o", "out")
    text = (tmp_path / "out" / "model.py").read_text()
    assert "def build_model():\n    return Unet().to(memory_format=torch.channels_last)\n" in text
    assert json.loads((tmp_path / "out" / "certificate.json").read_text())["passed"]


def test_convert_replaces_by_force_alone(dlbridge, tmp_path):
    succeed(dlbridge, "convert", MLP, "--to", "pytorch", "-o", "out", "--no-verify")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, err = dlbridge("convert", MLP, "--to", "pytorch", "-o", "out", "--no-verify")
    assert code == 1
    assert "--force" in err
    assert (tmp_path / "out" / "mine.txt").exists()
    succeed(dlbridge, "convert", MLP, "--to", "pytorch", "-o", "out", "--no-verify", "--force")
    assert not (tmp_path / "out" / "mine.txt").exists()


def test_inspect(dlbridge, tmp_path):
    out = succeed(dlbridge, "inspect", EXAMPLES / "cnn_digits.yaml", "--picture", "net.svg")
    assert "stem.conv" in out
    assert "[batch,16,8,8]" in out
    assert "MACs" in out
    drawn = ET.parse(tmp_path / "net.svg").getroot()
    texts = " ".join(t for e in drawn.iter() for t in [e.text] if t)
    assert drawn.tag.endswith("svg")
    assert "stem.conv" in texts
    assert max(map(len, out.splitlines())) <= 100


def test_verify(dlbridge):
    told = json.loads(succeed(dlbridge, "verify", MLP, "--route", "pytorch", "--route", "onnx", "--batch", 3, "--json"))
    assert told["passed"]
    assert {c["route"] for c in told["checks"]} == {"pytorch", "onnx"}
    assert {c["sizes"]["batch"] for c in told["checks"]} == {3}
    out = succeed(dlbridge, "verify", MLP, "--route", "pytorch", "--route", "onnx")
    assert "largest difference between two routes" in out


def test_verify_writes_a_page(dlbridge, tmp_path):
    succeed(dlbridge, "verify", MLP, "--route", "onnx", "--html", "report.html")
    assert "Every route agrees" in (tmp_path / "report.html").read_text()
    code, _, err = dlbridge("verify", MLP, "--route", "onnx", "--html", "report.html")
    assert code != 0 and "report.html" in err, "a file that is there is replaced by --force alone"


def test_train_run_and_go_on(dlbridge, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 784)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=x, probabilities=rng.integers(0, 10, 64))
    np.save(tmp_path / "new.npy", x[:5])
    told = json.loads(succeed(dlbridge, "train", MLP, "--data", "data.npz", "-o", "trained", "--epochs", 2, "--json"))
    assert len(told["history"]["loss"]) == 2
    assert {"model.yaml", "weights.safetensors", "history.json", "history.png"} <= {
        p.name for p in (tmp_path / "trained").iterdir()
    }
    succeed(dlbridge, "convert", "trained", "--to", "onnx", "-o", "repo/mlp")
    told = json.loads(succeed(dlbridge, "run", "repo/mlp", "new.npy", "-o", "answers.npz", "--batch-size", 2, "--json"))
    assert told["rows"] == 5
    answers = np.load(tmp_path / "answers.npz")["probabilities"]
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-5)


def test_a_training_that_is_stopped_says_so_and_goes_on(dlbridge, tmp_path, monkeypatch):
    from dlbridge.frameworks.pytorch.trainer import Trainer

    np.savez(tmp_path / "data.npz", image=np.ones((8, 784), np.float32), label=np.arange(8))
    epoch, seen = Trainer.epoch, []

    def stopping(self, data):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return epoch(self, data)

    monkeypatch.setattr(Trainer, "epoch", stopping)
    order = ("train", MLP, "--data", "data.npz", "-o", "trained", "--epochs", 4)
    code, out, _ = dlbridge(*order)
    assert code == 130
    assert "go on with --resume" in out
    code, out, err = dlbridge(*order, "--resume")
    assert code == 0, err
    assert len(json.loads((tmp_path / "trained" / "history.json").read_text())["loss"]) == 4


def test_schema(dlbridge):
    schema = json.loads(succeed(dlbridge, "schema"))
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_conversion_is_compared_with_what_was_read(dlbridge, tmp_path):
    succeed(dlbridge, "convert", MLP, "--to", "onnx", "-o", "mlp.onnx")
    succeed(dlbridge, "convert", "mlp.onnx", "--to", "pytorch", "-o", "out")
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["judge"] == "the original"
    told = json.loads(succeed(dlbridge, "verify", "mlp.onnx", "--route", "original", "--route", "keras", "--json"))
    assert told["passed"]
    assert {c["route"] for c in told["checks"]} == {"original", "keras"}


def test_a_conversion_that_departs_is_refused(dlbridge, tmp_path, monkeypatch):
    from dlbridge.frameworks.onnx import original
    from dlbridge.ops.evaluator import Evaluator

    succeed(dlbridge, "convert", MLP, "--to", "onnx", "-o", "mlp.onnx")
    opened = original.Original.opened

    def departed(outputs):
        return {name: array * array.dtype.type(1.001) for name, array in outputs.items()}

    class Departed(Evaluator):
        def __call__(self, arrays, **options):
            return departed(super().__call__(arrays, **options))

    monkeypatch.setattr(original.Original, "opened", lambda self: lambda arrays: departed(opened(self)(arrays)))
    monkeypatch.setattr(original, "Evaluator", Departed)
    code, _, err = dlbridge("convert", "mlp.onnx", "--to", "pytorch", "-o", "out")
    assert code == 1
    assert "does not agree" in err
    assert not (tmp_path / "out").exists()


def test_the_model_is_dumped_as_it_is_behind_a_pass(dlbridge, tmp_path):
    convert = ("convert", MLP, "--to", "onnx", "-o", "out.onnx", "--no-verify", "--dump-after")
    code, _, err = dlbridge(*convert, "lwoer")
    assert code != 0 and "did you mean 'lower'" in err and "write.downgrade" in err
    assert not list(tmp_path.iterdir())
    succeed(dlbridge, *convert, "lower")
    assert {node.op_type for node in onnx.load(tmp_path / "lower.onnx").graph.node} >= {"Gemm", "Relu"}
    code, _, err = dlbridge(*convert[:-1], "--force", "--dump-after", "write.infer")
    assert code == 0 and (tmp_path / "write.infer.onnx").exists(), err


ZOO = """
import torch


def make(hidden=4, bias=True):
    torch.manual_seed(0)
    return torch.nn.Linear(3, hidden, bias=bias), torch.ones(5, 3)
"""


def test_every_command_that_takes_a_model_makes_it_with_arguments(dlbridge, tmp_path):
    (tmp_path / "zoo.py").write_text(ZOO)
    (tmp_path / "zoo.yaml").write_text("hidden: 6\nbias: false\n")
    np.savez("data.npz", input=np.ones((5, 3), "float32"), output=np.ones((5, 7), "float32"))
    loss = "loss: {op: MeanSquaredError, of: output}\n"
    spec = "epochs: 1\nbatch_size: 5\noptimizer: {kind: sgd, learning_rate: 0.1}\n" + loss
    (tmp_path / "spec.yaml").write_text(spec)
    given = ("zoo.py:make", "--config", "zoo.yaml", "--arg", "hidden=7")
    shown = json.loads(succeed(dlbridge, "inspect", *given, "--json"))
    assert shown["parameters"] == 21
    succeed(dlbridge, "convert", *given, "--to", "onnx", "-o", "m.onnx")
    assert [d.dim_value for d in onnx.load("m.onnx").graph.output[0].type.tensor_type.shape.dim] == [5, 7]
    succeed(dlbridge, "verify", *given, "m.onnx", "--battery", "quick")
    succeed(dlbridge, "train", *given, "--data", "data.npz", "--spec", "spec.yaml", "--no-plot")
    code, _, err = dlbridge("inspect", *given, "--arg", "hiden=3")
    assert code == 1 and "did you mean 'hidden'" in err


def test_a_file_is_cut_resized_and_renamed_on_the_way(dlbridge):
    text = '<ir_version: 10, opset_import: ["": 20]> g (float[1,3] x) => (float[1,3] y) { a = Relu(x) \n y = Neg(a) }'
    onnx.save(onnx.parser.parse_model(text), "m.onnx")
    given = ("--from", "a", "--input", "a[batch,3]", "--rename", "a=image")
    succeed(dlbridge, "convert", "m.onnx", *given, "--to", "onnx", "-o", "part.onnx")
    graph = onnx.load("part.onnx").graph
    assert [(v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]) for v in graph.input] == [
        ("image", ["batch", 3])
    ]
    code, _, err = dlbridge("inspect", "m.onnx", "--rename", "x")
    assert code == 2 and "old=new" in err
