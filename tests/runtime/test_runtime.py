"""dlbridge.runtime: sessions, signatures, providers; what it imports."""

import os
import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

from dlbridge import runtime
from dlbridge.errors import FileError, ProviderError, SignatureError
from tests.helpers.onnx_text import save_graph
from tests.helpers.paths import ROOT


@pytest.fixture
def adder(tmp_path):
    signature = "(float[batch, 3] x, float[batch, 3] scale, int64[batch] id) => (float[batch, 3] y, int64[batch] next)"
    body = "y = Mul(x, scale) one = Constant<value_int = 1>() next = Add(id, one)"
    return save_graph(tmp_path / "repo" / "adder" / "1" / "model.onnx", signature, body)


def test_a_call_by_position_and_by_name(adder):
    session = runtime.load(adder)
    x, scale, ids = np.ones((2, 3), "float32"), np.full((2, 3), 2, "float32"), np.array([4, 5])
    for result in (session(x, scale, ids), session(x, id=ids, scale=scale)):
        assert list(result) == ["y", "next"]
        assert (result["y"] == 2).all() and result.next.tolist() == [5, 6] and (result[0] == result.y).all()
    assert [str(p) for p in session.inputs] == ["x: float32[batch, 3]", "scale: float32[batch, 3]", "id: int64[batch]"]
    assert session.providers == ("CPUExecutionProvider",)


def test_an_entry_gives_its_newest_version(adder, tmp_path):
    entry = tmp_path / "repo" / "adder"
    save_graph(entry / "10" / "model.onnx", "(float[n] x) => (float[n] y)", "y = Neg(x)")
    assert [p.name for p in runtime.load(entry).inputs] == ["x"]
    assert len(runtime.load(entry, version=1).inputs) == 3
    with pytest.raises(FileError, match="no version 3; there is 1, 10"):
        runtime.load(entry, version=3)


_GOOD = {"x": np.ones((2, 3), "float32"), "scale": np.ones((2, 3), "float32"), "id": np.arange(2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.ones((2, 3))}, r"input 'x': the array is float64, the model takes x: float32\[batch, 3\]"),
        ({"x": np.ones((2, 4), "float32")}, "axis 1 is 4, not 3"),
        ({"x": np.ones(3, "float32")}, "the array has 1 axes"),
        ({"scale": np.ones((5, 3), "float32")}, "'batch' is 5 here, but 2 as axis 0 of 'x'"),
        ({"id": np.ones(2, "float32")}, "the array is float32"),
        ({"id": [0.5, 1.0]}, "the array is float64"),
        ({"scal": _GOOD["scale"]}, "(?s)no input 'scal'.*did you mean 'scale'"),
        ({"id": None}, "no array given for id"),
    ],
)
def test_what_does_not_fit_is_said(adder, change, message):
    given = {k: v for k, v in {**_GOOD, **change}.items() if v is not None}
    with pytest.raises(SignatureError, match=message):
        runtime.load(adder)(**given)


def test_too_many_and_twice(adder):
    session = runtime.load(adder)
    with pytest.raises(SignatureError, match="4 arrays given"):
        session(1, 2, 3, 4)
    with pytest.raises(SignatureError, match="given twice"):
        session(_GOOD["x"], x=_GOOD["x"])


@pytest.mark.parametrize(("kind", "number"), [("float", 1e39), ("float16", 1e6), ("bfloat16", -1e39)])
def test_a_number_that_would_become_infinite_is_refused(tmp_path, kind, number):
    session = runtime.load(save_graph(tmp_path / "m.onnx", f"({kind}[n] x) => ({kind}[n] y)", "y = Identity(x)"))
    assert np.isposinf(session([1.0, float("inf")]).y[1].astype("float32"))
    with pytest.raises(SignatureError, match="out of the range"):
        session([1.0, number])
    np.save(tmp_path / "x.npy", np.array([1.0, number]))
    with pytest.raises(SignatureError, match="out of the range"):
        runtime.run_file(session, [str(tmp_path / "x.npy")], str(tmp_path / "y.npz"))
    assert not (tmp_path / "y.npz").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([[1, 2, 3], [4]], "numpy makes no array of it, a list"),
        (np.ma.masked_array([[1.0, 2.0, 3.0]], mask=[[0, 1, 0]], dtype="float32"), "elements of the array are masked"),
    ],
)
def test_what_is_no_whole_array_is_refused(adder, given, why):
    with pytest.raises(SignatureError, match=why):
        runtime.load(adder)(given, np.ones((1, 3), "float32"), [1])


def test_a_tensor_that_numpy_refuses_is_told(adder):
    torch = pytest.importorskip("torch")
    for tensor in (torch.ones(1, 3, requires_grad=True), torch.ones(1, 3, dtype=torch.bfloat16)):
        with pytest.raises(SignatureError, match="a Tensor: "):
            runtime.load(adder)(tensor, np.ones((1, 3), "float32"), [1])


def test_outputs_that_are_wanted_by_name(adder):
    session = runtime.load(adder)
    given = {"x": np.ones((1, 3), "float32"), "scale": np.ones((1, 3), "float32"), "id": np.array([1])}
    assert [*session.run(given, ["next"])] == ["next"] and session.run(given, []) == {}
    with pytest.raises(SignatureError, match="no output 'nxt'") as caught:
        session.run(given, ["nxt"])
    assert "'next'" in caught.value.hint
    with pytest.raises(SignatureError, match="is no shape"):
        session.warm_up({"batch": -1})


def test_a_file_of_another_kind_is_told(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"PK and so on")
    with pytest.raises(FileError, match="it is no ONNX file") as caught:
        runtime.load(tmp_path / "model.keras")
    assert "dlbridge convert" in caught.value.hint


def test_lists_take_the_dtype_of_the_input(adder):
    result = runtime.load(adder)([[1, 2, 3]], [[0.5, 0.5, 0.5]], [7])
    assert result.y.tolist() == [[0.5, 1.0, 1.5]] and result.next.tolist() == [8]


def test_other_types(tmp_path):
    import ml_dtypes

    narrow = runtime.load(save_graph(tmp_path / "b.onnx", "(bfloat16[n] x) => (bfloat16[n] y)", "y = Identity(x)"))
    x = np.arange(4).astype(ml_dtypes.bfloat16)
    assert (narrow(x).y == x).all() and narrow(x).y.dtype == x.dtype
    text = runtime.load(save_graph(tmp_path / "s.onnx", "(string[n] x) => (string[n] y)", "y = Identity(x)"))
    assert text(["a", "bc"]).y.tolist() == ["a", "bc"]


def test_a_provider_that_is_not_there(adder):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ProviderError, match=r"'cuda' is not in this onnxruntime; there is .*cpu"):
        runtime.load(adder, providers=("cuda", "cpu"))
    with pytest.raises(ProviderError, match="did you mean 'cpu'"):
        runtime.load(adder, providers="cpuu")
    with pytest.raises(ProviderError) as caught:
        runtime.load(adder, providers="tensorrt")
    assert caught.value.hint is None
    with pytest.raises(ProviderError, match="no execution provider"):
        runtime.load(adder, providers=())


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_onnxruntime_drops_while_loading(adder, monkeypatch):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(ProviderError, match="CUDAExecutionProvider could not be started"):
        runtime.load(adder, providers="cuda:0")


@pytest.mark.gpu
def test_cuda(adder):
    session = runtime.load(adder, providers=("cuda",))
    assert session.providers[0] == "CUDAExecutionProvider"
    assert (session(**_GOOD).y == 1).all()


def test_outputs_stay_on_the_device_as_the_inputs_of_the_next_call(adder):
    session = runtime.load(adder)
    found = session.run_on_device(_GOOD)
    assert isinstance(found["y"], onnxruntime.OrtValue) and found["y"].device_name() == "cpu"
    again = session.run_on_device({"x": found["y"], "scale": 3 * _GOOD["scale"], "id": found["next"]}, ["next", "y"])
    assert list(again) == ["next", "y"]
    assert (again["y"].numpy() == 3).all() and again["next"].numpy().tolist() == [2, 3]
    assert (session.run({"x": again["y"], "scale": _GOOD["scale"], "id": again["next"]})["y"] == 3).all()


def test_values_on_the_device_are_checked_too(adder):
    session = runtime.load(adder)
    found = session.run_on_device(_GOOD)
    with pytest.raises(SignatureError, match="input 'x': the value is int64, the model takes x: float32"):
        session.run_on_device({**_GOOD, "x": found["next"]})
    with pytest.raises(SignatureError, match="'batch' is 5 here, but 2 as axis 0 of 'x'"):
        session.run_on_device({**_GOOD, "x": found["y"], "scale": np.ones((5, 3), "float32")})


def test_a_number_without_axes_in_a_type_that_numpy_lacks(tmp_path):
    path = save_graph(tmp_path / "m.onnx", "(bfloat16 x) => (bfloat16 y)", "y = Identity(x)")
    x = np.array(1.5, ml_dtypes.bfloat16)
    assert runtime.load(path)(x)["y"].shape == ()
    assert runtime.load(path).run_on_device({"x": x})["y"].shape() == []


def test_warming_up_takes_the_named_sizes(adder, monkeypatch):
    session = runtime.load(adder)
    asked = []
    monkeypatch.setattr(session, "_run", lambda names, feed: asked.append(feed["x"].shape) or [None, None])
    session.warm_up()
    session.warm_up({"batch": 7}, runs=2)
    assert asked == [(1, 3), (7, 3), (7, 3)]


def test_a_profile_names_the_nodes(adder, tmp_path):
    session = runtime.load(adder, profile=tmp_path / "profile", arena=False)
    session(**_GOOD)
    file = session.end_profile()
    assert file.parent == tmp_path and '"op_name" : "Mul"' in file.read_text()


def test_files_that_are_no_models(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x07nothing")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("broken.onnx", "cannot load"),
        ("folder", "not a repository entry"),
        ("none", "no such file"),
    ):
        with pytest.raises(FileError, match=message):
            runtime.load(tmp_path / name)


@pytest.mark.parametrize("location", ["../secret.bin", "link.bin", "{absolute}"])
def test_weights_outside_the_folder_of_the_model_are_not_read(tmp_path, location):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(4, dtype="float32").tobytes())
    folder = tmp_path / "entry" / "1"
    folder.mkdir(parents=True)
    (folder / "link.bin").symlink_to(secret)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 18]> g (float[4] x) => (float[4] y) { y = Add(x, w) }'
    )
    tensor = proto.graph.initializer.add(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location.format(absolute=secret))
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(FileError):
        runtime.load(folder.parent)


def test_it_runs_where_nothing_but_onnxruntime_and_numpy_is_installed(adder, tmp_path):
    np.savez(tmp_path / "in.npz", **_GOOD)
    script = textwrap.dedent(f"""
        import sys

        FORBIDDEN = {{"torch", "keras", "tensorflow", "tf2onnx", "onnx_ir", "onnx", "google", "pydantic", "yaml"}}
        HOUSE = ("constraints", "decoding", "errors", "files", "lazy", "repository", "runtime")

        class Forbid:
            def find_spec(self, name, path=None, target=None):
                house = name.startswith("dlbridge.") and name.split(".")[1] not in HOUSE
                if house or name.partition(".")[0] in FORBIDDEN:
                    raise ImportError(name + " must not be imported")

        sys.meta_path.insert(0, Forbid())
        import numpy as np
        from dlbridge.runtime import load, run_file
        session = load({str(adder)!r})
        print(run_file(session, {str(tmp_path / "in.npz")!r}, {str(tmp_path / "out.npz")!r})["rows"])
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2"
    assert (np.load(tmp_path / "out.npz")["y"] == 1).all()


def test_onnxruntime_tells_nobody_what_is_run(adder, tmp_path):
    """It would begin with a number of the machine, written into the home of the user."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "CI", "XDG_CACHE_HOME")}
    code = f"from dlbridge import runtime; runtime.load({str(adder)!r})"
    for said, is_quiet in ((None, True), ("0", False)):
        told = {} if said is None else {"ORT_DISABLE_TELEMETRY": said}
        subprocess.run([sys.executable, "-c", code], env={**environment, "HOME": str(home), **told}, check=True)
        if is_quiet:
            assert not [*home.rglob("*")]


def test_a_cache_that_cannot_be_written_is_told_and_the_model_is_loaded(adder, tmp_path, caplog):
    (tmp_path / "file").write_text("x")
    assert runtime.load(adder, cache=tmp_path / "file").signature.inputs
    assert "optimised graphs cannot be kept in" in caplog.text
