"""The writing rules of Flax NNX against the judges of the op cases; the written file, its weights, its export."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import dlbridge
from dlbridge import description, frameworks
from dlbridge.errors import DlbridgeError, UnsupportedOpError
from dlbridge.frameworks.nnx.runner import lookup, wide
from tests.helpers.op_cases import CASES
from tests.helpers.op_cases.case import Case, X
from tests.helpers.paths import EXAMPLES

nnx = pytest.importorskip("flax.nnx")
NNX = frameworks.get("nnx")
#: One case of each op, without the sweep over all: what is not a function of arrays that other frameworks share.
LAYERS = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization", "LayerNormalization", "LSTM", "Cast"}
LAYERS |= {"GroupNormalization", "InstanceNormalization", "RMSNormalization", "Gather", "Pad", "Reshape", "Div", "If"}
LAYERS |= {"dlbridge:Linear", "dlbridge:Embedding", "Loop", "Scan", "Resize", "Slice", "Attention", "ScatterND"}
QUICK = list({case.op: case for case in reversed(CASES) if case.op in LAYERS}.values())


def check(case: Case) -> None:
    source = NNX.write(case.model())
    live = NNX.load(source)
    for given, expected in case.runs():
        outputs = list(NNX.run(live, given).values())
        for got, right in zip(outputs, expected, strict=True):
            assert got.dtype == right.dtype
            assert got.shape == right.shape
            np.testing.assert_allclose(got, right, case.tolerance, case.tolerance)


@pytest.mark.parametrize("case", QUICK, ids=str)
def test_case(case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case(case: Case) -> None:
    check(case)


DEEP = """
dlbridge: 1
name: deep
inputs: {x: {dtype: float32, shape: [batch, 3, 8, 8]}}
nodes:
  - {op: Conv, channels: 4, kernel_shape: [3, 3], pads: [1, 1, 1, 1]}
  - {op: Relu}
  - {op: Flatten}
  - {op: Linear, features: 5}
outputs: {y: fc1}
"""


@pytest.fixture(scope="module")
def digits():
    return dlbridge.load(EXAMPLES / "cnn_digits.yaml")


def test_the_file_alone_makes_the_model_of_its_weights(digits, tmp_path):
    """As a person uses it: import the file, make the module, put the arrays at their paths, call it."""
    from safetensors.numpy import load_file

    digits.write("nnx").save(tmp_path / "out")
    names: dict[str, object] = {"__name__": "model"}
    exec((tmp_path / "out" / "model.py").read_text(), names)
    model = names["CnnDigits"](rngs=nnx.Rngs(0))
    for path, array in load_file(tmp_path / "out" / "weights.safetensors").items():
        lookup(model, path).set_value(array)
    model.eval()
    image = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    (expected,) = NNX.run(NNX.load(digits.write("nnx")), {"image": image}).values()
    np.testing.assert_allclose(model(image), expected, atol=1e-6)


def test_64_bit_types_are_on_only_for_as_long_as_a_model_runs(digits):
    import jax.numpy as jnp

    NNX.run(NNX.load(digits.write("nnx")), {"image": np.zeros((1, 1, 8, 8), np.float32)})
    assert jnp.asarray(np.float64(1)).dtype == np.float32
    with wide():
        assert jnp.asarray(np.float64(1)).dtype == np.float64


def test_export_has_the_weights_that_the_live_model_has_now(digits, tmp_path):
    live = NNX.load(digits.write("nnx"))
    bias = lookup(live, "fc.bias")
    bias.set_value(bias[...] + 1)
    path = NNX.export(live, digits, tmp_path / "m.onnx", opset=21)
    assert onnx.load(path).opset_import[0].version == 21
    image = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    (exported,) = onnxruntime.InferenceSession(path).run(None, {"image": image})
    np.testing.assert_allclose(exported, NNX.run(live, {"image": image})["logits"], atol=1e-5)


def test_native_layout_is_channels_last():
    model = description.load(DEEP)
    (same,) = NNX.run(NNX.load(model.write("nnx")), {"x": np.ones((2, 3, 8, 8), np.float32)}).values()
    (native,) = NNX.run(
        NNX.load(model.write("nnx", io_layout="native")), {"x": np.ones((2, 8, 8, 3), np.float32)}
    ).values()
    np.testing.assert_allclose(same, native, atol=1e-6)


def test_it_reads_nothing_and_says_so():
    assert not NNX.reads
    with pytest.raises(DlbridgeError, match="written, not read"):
        NNX.read("model.py")


def test_frozen_weights_are_no_parameters():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    module[0].requires_grad_(False)
    source = dlbridge.load(module, inputs="float32[batch,3]").write("nnx")
    live = NNX.load(source)
    assert isinstance(lookup(live, "2.kernel"), nnx.Param)
    assert not isinstance(lookup(live, "0.kernel"), nnx.Param)


def test_a_type_that_jax_rounds_to_otherwise_is_refused_by_name():
    case = next(c for c in CASES if c.op == "Cast")
    wrong = Case("Cast", case.inputs[:1], {"to": onnx.TensorProto.FLOAT8E5M2FNUZ})
    with pytest.raises(UnsupportedOpError, match="FLOAT8E5M2FNUZ"):
        NNX.write(wrong.model())


def test_the_framework_is_listed_without_importing_jax():
    import subprocess

    code = "import sys, dlbridge.frameworks as f; assert f.get('nnx').title; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_integers_are_divided_where_jax_has_no_64_bits():
    """An input is int32 then, and a constant of the live module is int64 all the same."""
    import jax

    torch = pytest.importorskip("torch")

    class Frames(torch.nn.Module):
        def forward(self, n):
            ways = [torch.div(n, d, rounding_mode=way) for d in (50, -3) for way in ("floor", "trunc")]
            return (*ways, torch.div(60, n, rounding_mode="trunc"))

    n = torch.tensor([100, -7, 3, -101])
    module = dlbridge.load(Frames(), inputs={"n": "int64[batch]"}).to("nnx")
    with jax.enable_x64(False):
        for got, right in zip(module(jax.numpy.asarray(n.numpy())), Frames()(n), strict=True):
            assert np.array_equal(got, right)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="it counts mappings of memory, as Linux lists them")
def test_the_code_of_modules_that_are_gone_is_freed():
    """JAX keeps it; a sweep in one process ended at its 77th model, at the 65,530 mappings that a process may have."""

    def mappings() -> int:
        return len(Path("/proc/self/maps").read_bytes().splitlines())

    found = []
    for size in range(1, 61):
        case = Case("Softmax", (X((2, size)),), {})
        live = NNX.load(NNX.write(case.model()))
        NNX.run(live, {"in0": np.zeros((2, size), np.float32)})
        found.append(mappings())
    assert max(found[40:]) <= max(found[:40]) + 150, found
