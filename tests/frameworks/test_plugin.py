"""A third party adds a framework through an entry point, without touching this repository.

It is converted to, verified, trained in and listed like those that are built in, with options of its own.
"""

import json
import os
import re
import subprocess
import sys

import numpy as np
import onnx.parser
import pytest

from tests.helpers.paths import ROOT

PLUGIN = ROOT / "tests" / "plugin"
MLP = "examples/mlp_784.yaml"
IMPORTS = "from dlbridge.frameworks import Framework\n"
TRAINED = """dlbridge: 1
name: blobs
inputs: {x: {dtype: float32, shape: [batch, 4]}}
nodes:
  - {op: Linear, features: 8}
  - {op: Relu}
  - {op: Linear, features: 3}
  - {op: Softmax}
outputs: {classes: softmax1}
training:
  loss: {op: SparseCategoricalCrossentropy, of: classes}
  optimizer: {kind: sgd, learning_rate: 0.1, momentum: 0.9, nesterov: true}
  metrics: [accuracy]
  epochs: 3
  batch_size: 16
  validation_split: 0.25
"""


def run(*arguments, path=PLUGIN, **settings):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]), **settings}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )


def dlbridge(*arguments, **settings):
    return run("-m", "dlbridge", *map(str, arguments), **settings)


def succeed(*arguments):
    done = dlbridge(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plug_in(folder, code):
    """Make a folder in which the plug-in is this code."""
    (folder / "dlbridge_numpy.py").write_text(code)
    entry = folder / "dlbridge_numpy-0.1.dist-info" / "entry_points.txt"
    entry.parent.mkdir()
    entry.write_text("[dlbridge.frameworks]\nnumpy = dlbridge_numpy:Numpy\n")


@pytest.fixture
def blobs(tmp_path):
    """A model with a training section, and data for it."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 64)
    x = rng.normal(size=(64, 4)) + label[:, None]
    np.savez(tmp_path / "blobs.npz", x=x.astype(np.float32), label=label)
    (tmp_path / "blobs.yaml").write_text(TRAINED)
    return tmp_path


def test_it_is_converted_to_with_a_certificate(tmp_path):
    succeed("convert", MLP, "--to", "numpy", "-o", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model.py", "weights.npz", "certificate.json"}
    certificate = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert certificate["passed"]
    assert {check["route"] for check in certificate["checks"]} == {"numpy"}
    code = f"""
import numpy as np, runpy
written = runpy.run_path(r"{tmp_path}/out/model.py")["model"]
weights = np.load(r"{tmp_path}/out/weights.npz")
x = np.random.default_rng(0).normal(size=(3, 784)).astype(np.float32)
(y,) = written(x, **weights)
import dlbridge
from dlbridge import frameworks
onnx = frameworks.get("onnx")
model = dlbridge.load("examples/mlp_784.yaml")
(want,) = onnx.run(onnx.load(model.write("onnx")), {{model.inputs[0].name: x}}).values()
np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
np.testing.assert_array_equal(frameworks.get("numpy").run(model.to("numpy"), {{"image": x}})["probabilities"], y)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_it_is_a_route_of_the_verification():
    report = json.loads(succeed("verify", MLP, "--route", "numpy", "--route", "onnx", "--json"))
    assert report["passed"]
    assert {check["route"] for check in report["checks"]} == {"numpy", "onnx"}


def test_a_fault_of_it_is_found(tmp_path):
    code = f"""
import sys, dlbridge.cli, dlbridge_numpy.writer as writer
writer.RULES["Relu"] = lambda x: f"np.maximum({{x}}, 0.1)"
sys.argv = ["dlbridge", "convert", "{MLP}", "--to", "numpy", "-o", r"{tmp_path}/out"]
dlbridge.cli.main()
"""
    done = run("-c", code)
    assert done.returncode == 1
    assert "numpy: output 'probabilities'" in done.stderr
    assert "node 'relu1' (Relu)" in done.stderr
    assert not (tmp_path / "out").exists()


def departure(folder, *before):
    """Where a folder of the plug-in departs, in a process in which this code ran before."""
    code = f"""
import sys, dlbridge.cli, dlbridge_numpy.writer as writer
{"".join(before)}
sys.argv = ["dlbridge", "verify", "{MLP}", r"{folder}", "--json"]
dlbridge.cli.main()
"""
    done = run("-c", code)
    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)["departures"].values()
    return found


def test_a_fault_of_the_writer_is_found_in_a_folder_that_is_as_written(tmp_path):
    fault = f"""
writer.RULES["Relu"] = lambda x: f"np.maximum({{x}}, 0.1)"
import dlbridge
dlbridge.convert("{MLP}", "numpy", r"{tmp_path}/out", check=False)
"""
    assert departure(tmp_path / "out", fault)["node"] == "relu1"


def test_a_folder_that_was_edited_is_verified_as_it_stands_and_no_node_is_guessed(tmp_path):
    succeed("convert", MLP, "--to", "numpy", "-o", tmp_path / "out")
    succeed("verify", MLP, tmp_path / "out")
    file = tmp_path / "out" / "model.py"
    file.write_text(file.read_text().replace("np.maximum(fc1, 0)", "np.maximum(fc1, 0.1)"))
    found = departure(tmp_path / "out")
    assert found["node"] is None
    assert re.search("the node cannot be named: '.*out' shows no values on the way to its outputs", found["text"])


def test_the_weight_that_was_edited_in_a_folder_is_named(tmp_path):
    succeed("convert", MLP, "--to", "numpy", "-o", tmp_path / "out")
    weights = dict(np.load(tmp_path / "out" / "weights.npz"))
    weights["fc1_bias"] = weights["fc1_bias"] + np.float32(0.1)
    np.savez(tmp_path / "out" / "weights.npz", **weights)
    found = departure(tmp_path / "out")
    assert found["node"] == "fc1"
    assert "the weight 'fc1_bias' is not the model's 'fc1.bias'" in found["text"]


def test_a_value_that_is_called_as_what_the_code_uses_gets_another_name(tmp_path):
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[n, 3] np) => (float[n, 3] softmax) { relu = Relu(np) softmax = Softmax(relu) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    succeed("convert", tmp_path / "model.onnx", "--to", "numpy", "-o", tmp_path / "out")


def test_a_bug_of_it_is_not_reported_as_one_of_dlbridge(tmp_path):
    code = f"""
import sys, dlbridge.cli, dlbridge_numpy.writer as writer
writer.RULES["Relu"] = lambda: None
sys.argv = ["dlbridge", "convert", "{MLP}", "--to", "numpy", "-o", r"{tmp_path}/out"]
dlbridge.cli.main()
"""
    done = run("-c", code)
    assert "this looks like a bug in the plug-in 'numpy'" in done.stderr


def test_a_function_that_it_lacks_or_that_returns_something_else_is_named():
    code = f"""
import dlbridge, dlbridge_numpy.runner, dlbridge_numpy.writer
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError
from dlbridge.verification import verify
model, numpy = dlbridge.load("{MLP}"), frameworks.get("numpy")
def fails(call):
    try:
        call()
    except DlbridgeError as error:
        print(error)
fails(lambda: numpy.part("reader"))
run, write = dlbridge_numpy.runner.run, dlbridge_numpy.writer.write
dlbridge_numpy.runner.run = lambda *given: list(run(*given).values())
fails(lambda: verify(model, routes=["numpy"]).require())
dlbridge_numpy.runner.run = run
weights, dlbridge_numpy.runner.weights = dlbridge_numpy.runner.weights, lambda live: {{}}
fails(lambda: verify(model, routes=["numpy"]).require())
dlbridge_numpy.runner.weights = weights
dlbridge_numpy.writer.RULES["Relu"] = lambda x: f"np.no_such({{x}})"
fails(lambda: verify(model, routes=["numpy"]).require())
dlbridge_numpy.writer.write = lambda *given: write(*given).text
fails(lambda: model.to("numpy"))
del dlbridge_numpy.writer.write
fails(lambda: model.to("numpy"))
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    for said in (
        "numpy: there is no module dlbridge_numpy.reader",
        "docs/plugins.md says what a plug-in must have",
        "cannot be built or run as written:",
        "numpy: it cannot be run: 'run' returned a list, not arrays by the names of the outputs",
        "please report this to whoever wrote the plug-in 'numpy'",
        "numpy: what was written has no weight 'fc1_weight', which is the model's 'fc1.weight'",
        "module 'numpy' has no attribute 'no_such'",
        "of the written file: relu1 = np.no_such(fc1))",
        "numpy: write_model returned a str, not a dlbridge.source.program.Source",
        "numpy: dlbridge_numpy.writer has no 'write'",
    ):
        assert said in done.stdout


def test_it_trains_and_another_framework_goes_on(blobs):
    arguments = ["--data", blobs / "blobs.npz", "-o", blobs / "trained", "--no-plot", "--json"]
    told = json.loads(succeed("train", blobs / "blobs.yaml", "--in", "numpy", *arguments))
    history = told["history"]
    assert history.keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["loss"][-1] < history["loss"][0]
    code = f"""
import numpy as np, dlbridge
from dlbridge.training.checkpoint import load_checkpoint
model, data = dlbridge.load(r"{blobs}/blobs.yaml"), r"{blobs}/blobs.npz"
torch = dlbridge.train(model, data, framework="pytorch")
ours = dlbridge.load(r"{blobs}/trained")
for name, array in torch.model.weights.items():
    np.testing.assert_allclose(ours.weights[name], array, rtol=1e-4, atol=1e-5)
for name, numbers in torch.history.items():
    np.testing.assert_allclose({history!r}[name], numbers, rtol=1e-4)
spec = model.training.model_copy(update={{"epochs": 4}})
begun = load_checkpoint(__import__("pathlib").Path(r"{blobs}/trained/checkpoint"))
more = [dlbridge.train(model, data, framework=f, spec=spec, checkpoint=begun).model for f in ("numpy", "pytorch")]
for name, array in more[0].weights.items():
    np.testing.assert_allclose(array, more[1].weights[name], rtol=1e-4, atol=1e-5)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_standard_s_node_tests_are_run_on_it():
    code = """
import numpy as np, onnx
from dlbridge.conformance.cases import Case, run_case
for op in ("Relu", "Neg"):
    graph = onnx.parser.parse_graph(f"test (float[3] x) => (float[3] y) {{ y = {op}(x) }}")
    x = np.array([-1, 0, 2], np.float32)
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    print(op, run_case(Case(op, proto, [([x], [np.maximum(x, 0)])], 1e-3, 1e-7), "numpy").reason)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "Relu None"
    assert "Neg UnsupportedOpError: test: numpy has no rule for 1 op(s):" in done.stdout


def test_what_it_does_not_train_is_told_with_who_does(blobs):
    done = dlbridge("train", MLP, "--in", "numpy", "--data", blobs / "blobs.npz", "-o", blobs / "out", "--no-plot")
    assert done.returncode == 1
    assert "numpy does not train by the optimizer 'adam'; it knows sgd" in done.stderr
    assert "train in 'pytorch' or 'keras'" in done.stderr


def test_it_is_listed():
    assert re.search(r"^  numpy +--function --style$", succeed("--help"), re.MULTILINE)
    row = next(r for r in json.loads(succeed("frameworks", "--json")) if r["name"] == "numpy")
    assert row == {
        "name": "numpy",
        "installed": True,
        "install": None,
        "reads": False,
        "suffixes": [],
        "trains": True,
        "exporter": None,
        "read_options": [],
        "write_options": ["function", "style"],
    }
    assert "numpy" in succeed("frameworks")


def test_its_options_are_flags_with_help(tmp_path):
    text = succeed("convert", "--help")
    own = text[text.index("Options of --to numpy:") :]
    assert "--function TEXT" in own
    assert "--style [lines|nested]" in own
    assert "Name of the function." in own
    code = succeed("convert", MLP, "--to", "numpy", "--print", "--function", "digits", "--style", "nested")
    assert "def digits(image, " in code
    assert "np.maximum((image @" in code


def test_its_options_are_checked():
    done = dlbridge("convert", MLP, "--to", "onnx", "--function", "digits")
    assert done.returncode == 2
    assert "--function is an option of --to numpy" in done.stderr
    code = """
import dlbridge
from dlbridge.errors import DlbridgeError
for options in ({"functoin": "f"}, {"style": "line"}, {"function": 1}):
    try:
        dlbridge.convert("no file", "numpy", **options)
    except DlbridgeError as error:
        print(error)
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "numpy takes no option 'functoin' to write a model\n  did you mean 'function'?" in done.stdout
    assert "option 'style' is 'lines' or 'nested', not 'line'\n  did you mean 'lines'?" in done.stdout
    assert "option 'function' is str, not 1" in done.stdout


def test_help_does_not_import_what_it_is_made_of():
    code = "import sys; from dlbridge.cli import cli; cli(['convert', '--help'], standalone_mode=False); "
    loaded = set(run("-c", code + "print(); print(*sys.modules)").stdout.splitlines()[-1].split())
    assert "dlbridge_numpy" in loaded
    assert not loaded & {"numpy", "torch", "keras", "tensorflow", "onnx_ir", "dlbridge_numpy.writer"}


def test_a_framework_that_nobody_knows_is_named_with_those_that_are():
    done = dlbridge("convert", MLP, "--to", "numpi")
    assert done.returncode == 1
    assert "unknown framework 'numpi'" in done.stderr
    assert "did you mean 'numpy'?" in done.stderr


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("class Numpy: pass", "does not derive from"),
        (f"{IMPORTS}class Numpy(Framework): name = 'numpi'", "calls itself 'numpi'"),
        ("class Other: pass", "has no attribute 'Numpy'"),
        (f"{IMPORTS}class Numpy(Framework): name, WriteOptions = 'numpy', int", "no dataclass"),
    ],
)
def test_a_plug_in_that_does_not_load_is_left_out_with_a_warning(tmp_path, code, why):
    plug_in(tmp_path, code)
    done = dlbridge("convert", MLP, "--to", "onnx", "--print", path=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the framework 'numpy' is left out" in done.stderr
    assert why in done.stderr
    assert "_get_or_warn" not in done.stderr  # a line of our own code says nothing to a user


def test_a_flag_that_means_something_else_elsewhere_gets_the_name_of_its_framework(tmp_path):
    code = """
from dataclasses import dataclass
from dlbridge.frameworks import Framework, option
@dataclass(frozen=True)
class WriteOptions:
    opset: str = option('a', 'Another.')
    force: bool = option(False, 'Another.')
class Numpy(Framework):
    name = 'numpy'
    WriteOptions = WriteOptions
"""
    plug_in(tmp_path, code)
    text = dlbridge("convert", "--help", path=tmp_path).stdout
    assert "--numpy-opset TEXT" in text
    assert "--numpy-force" in text
    assert "--opset INTEGER" in text


def test_a_plug_in_reads_files_with_options_of_its_own(tmp_path):
    code = """
from dataclasses import dataclass
from dlbridge.frameworks import Framework, option
@dataclass(frozen=True)
class ReadOptions:
    width: int = option(3, 'Width of the layer.')
class Numpy(Framework):
    name, suffixes, ReadOptions = 'numpy', ('.toy',), ReadOptions
    def read_model(self, source, options):
        import onnx_ir as ir
        from dlbridge.model import Model
        x = ir.Value(name='x', type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(['batch', options.width]))
        node = ir.node('Relu', [x], name='relu')
        node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape = 'y', x.type, x.shape
        return Model.build('toy', [x], node.outputs, [node])
"""
    plug_in(tmp_path, code)
    model = tmp_path / "net.toy"
    model.touch()
    told = json.loads(dlbridge("inspect", model, "--width", 5, "--json", path=tmp_path).stdout)
    assert told["inputs"] == ["x: float32[batch,5]"]
    done = dlbridge("inspect", model, "--opset", 5, path=tmp_path)
    assert done.returncode == 2
    done = dlbridge("inspect", model, "--input", "x:float32[3]", path=tmp_path)
    assert done.returncode == 1
    assert "numpy takes no option 'inputs' to read a model" in done.stderr
