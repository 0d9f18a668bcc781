"""Bad inputs at the command line: each ends in one clear message and a non-zero exit, with nothing half-written.

The mistakes in descriptions are the table of test_bad_descriptions.py; here stand those that only a command can meet.
"""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import dlbridge
from dlbridge import cli
from tests.description.test_bad_descriptions import CASES as BAD_DESCRIPTIONS
from tests.helpers.paths import EXAMPLES, ROOT

MLP = str(EXAMPLES / "mlp_784.yaml")


@pytest.fixture(scope="module")
def materials(tmp_path_factory):
    """A folder of a good model in several forms, and of data, to be spoilt."""
    folder = tmp_path_factory.mktemp("materials")
    model = dlbridge.load(MLP)
    model.save(folder / "saved")
    model.to_onnx(folder / "mlp.onnx")
    dlbridge.convert(model, "onnx", folder / "entry", check=False)
    np.savez(folder / "good.npz", image=np.zeros((4, 784), np.float32), probabilities=np.zeros(4, np.int64))
    np.savez(folder / "narrow.npz", image=np.zeros((4, 780), np.float32), probabilities=np.zeros(4, np.int64))
    np.savez(folder / "other_names.npz", picture=np.zeros((4, 784), np.float32), label=np.zeros(4))
    np.savez(folder / "pickled.npz", image=np.array([{"a": 1}], dtype=object))
    np.savez(folder / "words.npz", image=np.full((4, 784), "a"), probabilities=np.zeros(4, np.int64))
    np.savez(folder / "large_label.npz", image=np.zeros((4, 784), np.float32), probabilities=np.full(4, 10))
    (folder / "broken.npz").write_bytes((folder / "good.npz").read_bytes()[:100])
    (folder / "broken.csv").write_text("a,b\n1,2\n3\n")
    (folder / "text.txt").write_text("hello")
    (folder / "taken").mkdir()
    (folder / "taken" / "mine.txt").write_text("mine")
    weights = (folder / "saved" / "weights.safetensors").read_bytes()
    (folder / "truncated").mkdir()
    (folder / "truncated" / "model.yaml").write_bytes((folder / "saved" / "model.yaml").read_bytes())
    (folder / "truncated" / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    (folder / "no_weights").mkdir()
    (folder / "no_weights" / "model.yaml").write_bytes((folder / "saved" / "model.yaml").read_bytes())
    (folder / "truncated.onnx").write_bytes((folder / "mlp.onnx").read_bytes()[:2000])
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "text.onnx").write_text("this is no model")
    (folder / "pickle.pt").write_bytes(b"\x80\x04\x95")
    (folder / "no_model_in_it.keras").write_bytes(b"PK\x03\x04 nothing")
    return folder


#: id: (arguments, words of the message)
CASES = {
    "no such model": ("convert nowhere.yaml --to pytorch -o out", "no such file"),
    "a folder that is no model": ("convert taken --to pytorch -o out", "no saved model"),
    "a file of no known kind": ("convert text.txt --to pytorch -o out", "'.txt' is no model"),
    "a pickle": ("convert pickle.pt --to keras -o out", ".pt2"),
    "unknown framework": (f"convert {MLP} --to pytorhc -o out", "did you mean 'pytorch'"),
    "output folder exists": (f"convert {MLP} --to pytorch -o taken", "--force"),
    "output file exists": (f"convert {MLP} --to onnx -o mlp.onnx", "--force"),
    "opset too old": (f"convert {MLP} --to onnx --opset 3 -o out", "opset"),
    "opset too new": (f"convert {MLP} --to onnx --opset 99 -o out", "opset"),
    "opset for a framework": (f"convert {MLP} --to pytorch --opset 17 -o out", "--opset is an option of --to onnx"),
    "layout for a framework": (f"convert {MLP} --to pytorch --io-layout native -o out", "option of --to keras"),
    "memory format for a framework": (f"convert {MLP} --to onnx --memory-format channels_last -o out", "--to pytorch"),
    "memory format of volumes": (
        f"convert {EXAMPLES / 'unet.yaml'} --to pytorch --memory-format channels_last_3d -o out",
        "try channels_last",
    ),
    "truncated safetensors": ("convert truncated --to pytorch -o out", "truncated"),
    "safetensors missing": ("convert no_weights --to pytorch -o out", "weights.safetensors"),
    "truncated ONNX": ("convert truncated.onnx --to pytorch -o out", "truncated.onnx"),
    "empty ONNX": ("convert empty.onnx --to pytorch -o out", "empty.onnx"),
    "text as ONNX": ("convert text.onnx --to pytorch -o out", "text.onnx"),
    "function that is not there": ("convert dlbridge:nothing --to pytorch -o out", "dlbridge:nothing"),
    "module that is not there": ("convert no_such_module:model --to pytorch -o out", "no_such_module"),
    "input that the module lacks": (
        "convert torch.nn:Identity --to keras --input x:float32[batch,3] -o out",
        "its parameters are: input",
    ),
    "input of no known form": (f"convert {MLP} --to pytorch --input x=3 -o out", "name:dtype"),
    "unknown route": (f"verify {MLP} --route tensorrt", "unknown route 'tensorrt'"),
    "size of no known form": (f"verify {MLP} --size batch", "name=size"),
    "batch of zero": (f"verify {MLP} --batch 0", "0 is not in the range"),
    "provider that is not there": (
        "run mlp.onnx good.npz -o out.npz --provider cuda",
        "'cuda' is not in this onnxruntime",
    ),
    "provider that does not exist": ("run mlp.onnx good.npz -o out.npz --provider gpu", "gpu"),
    "run: wrong shape": ("run mlp.onnx narrow.npz -o out.npz", "780"),
    "run: wrong names": ("run mlp.onnx other_names.npz -o out.npz", "image"),
    "run: a pickle in the data": ("run mlp.onnx pickled.npz -o out.npz", "pickled.npz"),
    "run: data that are broken": ("run mlp.onnx broken.npz -o out.npz", "broken.npz"),
    "run: data of no known kind": ("run mlp.onnx text.txt -o out.npz", ".txt"),
    "run: no such data": ("run mlp.onnx nowhere.npz -o out.npz", "nowhere.npz"),
    "run: results of no known kind": ("run mlp.onnx good.npz -o out.doc", ".doc"),
    "run: results exist": ("run mlp.onnx good.npz -o good.npz", "--force"),
    "run: model that is broken": ("run truncated.onnx good.npz -o out.npz", "truncated.onnx"),
    "run: folder that is no entry": ("run taken good.npz -o out.npz", "taken"),
    "train: no training section": ("train mlp.onnx --data good.npz -o out", "no training section"),
    "train: unknown framework": (f"train {MLP} --in jax --data good.npz -o out", "jax"),
    "train: a framework that does not": (f"train {MLP} --in onnx --data good.npz -o out", "train"),
    "train: wrong shape": (f"train {MLP} --data narrow.npz -o out", "780"),
    "train: wrong names": (f"train {MLP} --data other_names.npz -o out", "image"),
    "train: wrong dtype": (f"train {MLP} --data words.npz -o out", "image"),
    "train: label that is no class": (f"train {MLP} --data large_label.npz -o out", "10"),
    "train: broken table": (f"train {MLP} --data broken.csv -o out", "broken.csv"),
    "train: no epochs": (f"train {MLP} --data good.npz --epochs 0 -o out", "0 is not in the range"),
    "train: nothing to go on with": (f"train {MLP} --data good.npz -o out --resume", "resume"),
    "inspect: picture exists": (f"inspect {MLP} --picture text.txt", "--force"),
    "unknown command": ("covnert x --to pytorch", "covnert"),
    "unknown option": (f"convert {MLP} --too pytorch", "--too"),
    "missing option": (f"convert {MLP} -o out", "--to"),
}


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def run(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["dlbridge", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_clear_message(materials, monkeypatch, capsys, case):
    arguments, words = CASES[case]
    monkeypatch.chdir(materials)
    before = tree(materials)
    code, out, err = run(monkeypatch, capsys, arguments.split())
    assert code in (1, 2), err
    assert words in err
    assert err.startswith(("error: ", "Usage: "))
    assert len(re.findall("^error: ", err, re.MULTILINE | re.IGNORECASE)) == 1
    assert "bug in dlbridge" not in err
    assert out == ""
    assert tree(materials) == before


@pytest.mark.parametrize("case", BAD_DESCRIPTIONS, ids=str)
def test_bad_descriptions(tmp_path, monkeypatch, capsys, case):
    text, _, line, words, hint = BAD_DESCRIPTIONS[case]
    path = tmp_path / "model.yaml"
    path.write_text(text)
    code, out, err = run(monkeypatch, capsys, ["convert", str(path), "--to", "pytorch", "-o", str(tmp_path / "out")])
    assert code == 1
    assert err.startswith(f"error: {path}:{line}: " if line else "error: ")
    assert words in err
    assert hint in err
    assert out == ""
    assert os.listdir(tmp_path) == ["model.yaml"]


#: The command where a package cannot be imported. A None in ``sys.modules`` would be taken for the package by scipy.
_ABSENT = """import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "MISSING":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from dlbridge.cli import main
main()
"""


def _without(missing, arguments, folder):
    code, env = _ABSENT.replace("MISSING", missing), {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("torch", ["convert", MLP, "--to", "pytorch"], "torch"),
        ("keras", ["convert", MLP, "--to", "keras"], "keras"),
        ("tensorflow", ["convert", MLP, "--to", "keras"], "keras"),
        ("torch", ["train", MLP, "--data", "good.npz", "--in", "pytorch"], "torch"),
        ("pyarrow", ["run", "mlp.onnx", "good.parquet", "-o", "out.npz"], "data"),
    ],
)
def test_a_missing_extra_is_named(materials, missing, arguments, extra):
    (materials / "good.parquet").touch()
    before = tree(materials)
    done = _without(missing, arguments, materials)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: this needs '{missing}', which is not installed\n  pip install 'dlbridge[{extra}]'\n"
    )
    assert tree(materials) == before


def test_a_route_whose_framework_is_missing_is_told_beside_the_others(materials):
    done = _without("torch", ["verify", MLP, "--json"], materials)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {c["route"] for c in report["checks"]} - {"nnx"} == {"keras", "onnx", "onnx via tf2onnx"}
    assert report["left_out"].keys() - {"nnx"} == {"pytorch", "onnx via torch.onnx"}
    assert "pip install 'dlbridge[torch]'" in report["left_out"]["pytorch"]


def test_a_route_that_is_asked_for_and_whose_framework_is_missing_fails(materials):
    routes = ["--route", "pytorch", "--route", "onnx"]
    done = _without("torch", ["verify", MLP, *routes, "--json"], materials)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert {c["route"] for c in report["checks"] if c["passed"]} == {"onnx"}
    assert "pip install 'dlbridge[torch]'" in report["failures"]["pytorch"]
