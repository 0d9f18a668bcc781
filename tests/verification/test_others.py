"""Any mix of models is verified: live ones, files, written folders, repository entries, foreign ONNX files."""

import copy
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import dlbridge
from dlbridge.cli import cli
from dlbridge.errors import DlbridgeError, FileError, SignatureError
from dlbridge.verification.measure import Tolerance
from dlbridge.verification.others import Matching

READ = {"inputs": {"input": "float32[batch,3,6,6]"}}


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    return made


@pytest.fixture(scope="module")
def folder(module, tmp_path_factory):
    """What the module was converted to, in each form that is saved, and a foreign file of it."""
    folder = tmp_path_factory.mktemp("forms")
    for to in ("pytorch", "onnx"):
        dlbridge.convert(module, to, folder / to, read=READ, check=False)
    torch.onnx.export(
        module,
        (torch.randn(2, 3, 6, 6),),
        folder / "foreign.onnx",
        dynamo=False,
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "n"}},
    )
    return folder


def wrong(module):
    faulty = copy.deepcopy(module)
    faulty[0].bias.data[0] += 0.01
    return faulty


def test_forms_of_all_kinds_agree_and_a_wrong_one_is_found(module, folder):
    forms = [folder / "pytorch", folder / "onnx", folder / "onnx" / "1" / "model.onnx", folder / "foreign.onnx"]
    report = dlbridge.verify(module, *forms, wrong(module), read=READ, battery="quick")
    verdicts = {route: check.passed for route, check in report.worst().items()}
    assert list(verdicts.values()) == [True, True, True, True, False]
    assert not report.failures
    assert "'output' is its 'logits'" in report.worst()[str(folder / "foreign.onnx")].message
    (departure,) = report.departures.values()
    assert (departure.node, departure.op) == ("0", "Conv")
    assert departure.cause


@pytest.mark.parametrize(("now", "cause"), [("nn.Identity()", "a missing activation"), ("nn.LeakyReLU(0.3)", "")])
def test_numbers_that_are_computed_on_the_way_are_no_cause(now, cause, module, folder, tmp_path):
    """What goes into an activation is there in any form: that is no evidence that the activation is not."""
    changed = tmp_path / "changed"
    dlbridge.convert(module, "pytorch", changed, read=READ, check=False)
    text = (changed / "model.py").read_text()
    assert "nn.ReLU()" in text
    (changed / "model.py").write_text(text.replace("nn.ReLU()", now))
    report = dlbridge.verify(module, changed, read=READ, battery="quick")
    (departure,) = report.departures.values()
    assert (departure.op, departure.cause) == ("Relu", cause)


def test_weights_that_are_others_are_the_cause(module, folder):
    torch.manual_seed(5)
    again = copy.deepcopy(module)
    for layer in again:
        getattr(layer, "reset_parameters", lambda: None)()
    report = dlbridge.verify(again, folder / "pytorch", read=READ, battery="quick")
    (departure,) = report.departures.values()
    assert departure.node == "0"
    assert "the weight '0.weight' is not the model's" in departure.cause
    assert "all kernels" in departure.cause


def test_a_line_is_that_of_the_node_where_a_row_has_one_number(tmp_path):
    class Score(torch.nn.Module):
        def forward(self, x):
            mean = x.mean(1)
            return torch.clamp(mean, -0.01, 0.01)

    read = {"inputs": {"x": "float32[batch,6]"}}
    dlbridge.convert(Score(), "pytorch", tmp_path / "score", read=read)
    path = tmp_path / "score" / "model.py"
    path.write_text(path.read_text().replace("0.01", "0.009"))
    report = dlbridge.verify(Score(), tmp_path / "score", read=read, battery="quick", batch_sizes=(1,))
    (departure,) = report.departures.values()
    assert departure.op == "Clip"
    assert "clamp" in departure.line[1]


REFUSED = {
    "a name that is none": ({"matching": Matching({"outptu": "logits"})}, "'outptu' to match\n.*did you mean 'output'"),
    "a layout of none": ({"matching": Matching({}, {"x": "channels_last"})}, "'x' to match"),
    "another size": ({"inputs": {"input": np.zeros((2, 3, 6, 5), "f")}}, r"shape \(2, 3, 6, 5\), not"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_left_out_is_refused(case, module, folder):
    options, words = REFUSED[case]
    with pytest.raises(SignatureError, match=words):
        dlbridge.verify(module, folder / "foreign.onnx", read=READ, battery="quick", **options)


def test_a_written_folder_is_neither_matched_nor_run_in_another_type(module, folder):
    matching = Matching({"output": "logits"})
    with pytest.raises(SignatureError, match="no other model whose names"):
        dlbridge.verify(module, folder / "pytorch", read=READ, battery="quick", matching=matching)
    with pytest.raises(DlbridgeError, match="in the types that it was written in, not in float16"):
        dlbridge.verify(module, folder / "pytorch", read=READ, battery="quick", dtype="float16")


def test_the_file_of_a_written_folder_is_what_runs(module, folder, tmp_path):
    changed = tmp_path / "changed"
    dlbridge.convert(module, "pytorch", changed, read=READ, check=False)
    text = (changed / "model.py").read_text()
    (changed / "model.py").write_text(text.replace("nn.ReLU()", "nn.ELU()"))
    assert not dlbridge.verify(module, changed, read=READ, battery="quick").passed
    (changed / "model.py").write_text("")
    report = dlbridge.verify(module, changed, read=READ, battery="quick")
    assert "has no 'Sequential'" in str(report.failures)
    (changed / "model.py").write_text(text)
    (changed / "weights.pt").unlink()
    report = dlbridge.verify(module, changed, read=READ, battery="quick")
    assert "no weights" in str(report.failures)


@pytest.mark.parametrize("to", ["keras", "nnx"])
def test_folders_of_other_frameworks_run(module, to, tmp_path):
    pytest.importorskip({"nnx": "flax"}.get(to, to))
    dlbridge.convert(module, to, tmp_path / to, read=READ, check=False)
    report = dlbridge.verify(module, tmp_path / to, read=READ, battery="quick")
    report.require()


def test_a_model_of_another_layout_is_matched(module):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, image):
            return self.inner(image.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    last = dlbridge.load(Last().eval(), inputs={"image": "float32[batch,6,6,3]"})
    dlbridge.verify(module, last, read=READ, battery="quick").require()
    square = {"input": "float32[batch,3,3,3]"}
    pair = dlbridge.load(Last().eval(), inputs={"image": "float32[batch,3,3,3]"})
    assert not dlbridge.verify(module, pair, read={"inputs": square}, battery="quick").passed
    for layouts in ({"": "channels_last"}, {"input": (0, 2, 3, 1), "output": (0, 2, 3, 1)}):
        report = dlbridge.verify(
            module, pair, read={"inputs": square}, battery="quick", matching=Matching(layouts=layouts)
        )
        report.require()


class Two(nn.Module):
    def __init__(self, swapped):
        super().__init__()
        self.swapped = swapped

    def forward(self, a, b):
        first, second = (b, a) if self.swapped else (a, b)
        return {"sum": first + 2 * second, "difference": first - second}


def test_names_come_before_positions_and_the_caller_before_names():
    inputs = {"a": "float32[batch,3]", "b": "float32[batch,3]"}
    straight = dlbridge.load(Two(False), inputs=inputs)
    crossed = dlbridge.load(Two(True), inputs=inputs)
    assert not dlbridge.verify(straight, crossed, battery="quick").passed
    dlbridge.verify(straight, crossed, battery="quick", matching=Matching({"a": "b", "b": "a"})).require()
    with pytest.raises(SignatureError, match="no input 'c'"):
        dlbridge.verify(straight, crossed, matching=Matching({"a": "c"})).require()


def test_what_cannot_be_matched_says_what_there_is(module):
    class Sum(nn.Module):
        def forward(self, x, y):
            return x + y

    two = dlbridge.load(Sum(), inputs={"x": "float32[batch,3,6,6]", "y": "float32[batch,3,6,6]"})
    with pytest.raises(SignatureError, match=r"do not match(?s:.)*--map"):
        dlbridge.verify(module, two, read=READ)


def test_a_coarser_type_may_round_as_it_does_and_no_more(module):
    half = copy.deepcopy(module).half()
    off = copy.deepcopy(half)
    off[0].bias.data[0] += 0.1
    for other, passes in ((half, True), (off, False)):
        read = dlbridge.load(other, inputs={"input": "float16[batch,3,6,6]"})
        assert dlbridge.verify(module, read, read=READ, battery="quick").passed is passes


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_a_model_is_verified_in_other_float_types(module, dtype):
    dlbridge.verify(module, read=READ, routes=["pytorch", "onnx"], dtype=dtype, battery="quick").require()


def test_bounds_of_the_caller_take_the_place_of_the_measured_ones(module):
    faulty = wrong(module)
    for tolerance, passes in ((Tolerance(atol=0.1), True), (Tolerance(rtol=1e-4, atol=1e-4), False)):
        report = dlbridge.verify(module, faulty, read=READ, battery="quick", tolerance=tolerance)
        assert report.passed is passes


def test_arrays_of_the_caller_are_tried(module, tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 3, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "mine.npz", input=x)
    np.savez(tmp_path / "other.npz", y=x)
    options = {"read": READ, "routes": ["onnx"], "battery": "none"}
    report = dlbridge.verify(module, inputs=tmp_path / "mine.npz", **options)
    report.require()
    assert [check.inputs for check in report.checks] == ["given"]
    with pytest.raises(SignatureError, match="no array for input 'input'"):
        dlbridge.verify(module, inputs=tmp_path / "other.npz", **options)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(FileError, match="it is no"):
        dlbridge.verify(module, inputs=tmp_path / "broken.npz", **options)


def test_the_command_compares_files(folder):
    file = str(folder / "onnx" / "1" / "model.onnx")
    options = ("--map", "output=logits", "--battery", "quick", "--json")
    done = CliRunner().invoke(cli, ["verify", file, str(folder / "foreign.onnx"), *options])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["passed"]
    assert {check["route"] for check in report["checks"]} == {str(folder / "foreign.onnx")}
