"""Every mistake that a person makes in a description: one error, the line, and what to do."""

import json
import textwrap

import numpy as np
import pytest

from dlbridge import description
from dlbridge.description import document
from dlbridge.errors import DescriptionError, DlbridgeError, FileError, ShapeError, WeightsError
from dlbridge.limits import limited

HEAD = "dlbridge: 1\nname: m\n"
INPUTS = "inputs: {x: {dtype: float32, shape: [batch, 8]}}\n"
IMAGE = "inputs: {x: {dtype: float32, shape: [batch, 3, 8, 8]}}\n"
OUT = "outputs: [y]\n"

#: id: (text, error, line, words that the message holds, words that the hint holds)
CASES = {
    "broken YAML": (HEAD + "nodes: [{op: Relu}\nx: }\n", DescriptionError, 4, "not valid YAML", "brackets"),
    "tab for indentation": (HEAD + "inputs:\n\tx: 1\n", DescriptionError, 4, "not valid YAML", ""),
    "two documents": (HEAD + INPUTS + "nodes: []\n---\na: 1\n", DescriptionError, None, "more than one", ""),
    "no description": ("- 1\n- 2\n", DescriptionError, None, "is not a description", "dlbridge: 1"),
    "a tag": (HEAD + "x: !!python/object:os.system {}\n", DescriptionError, 3, "tag", ""),
    "an unknown alias": (HEAD + "inputs: *nothing\n", DescriptionError, 3, "*nothing", ""),
    "a key twice": (HEAD + INPUTS + INPUTS + "nodes: []\n" + OUT, DescriptionError, 4, "'inputs' is given twice", "3"),
    "no version": ("name: m\n" + INPUTS + "nodes: []\n" + OUT, DescriptionError, 1, "'dlbridge' is missing", "begins"),
    "wrong version": ("dlbridge: 2\nname: m\n" + INPUTS + "nodes: []\n" + OUT, DescriptionError, 1, "2, not 1", ""),
    "no outputs": (HEAD + INPUTS + "nodes: [{op: Relu}]\n", DescriptionError, 1, "'outputs' is missing", "outputs:"),
    "unknown key at the top": (
        HEAD + INPUTS + "nodes: []\noutput: [x]\noutputs: [x]\n",
        DescriptionError,
        5,
        "unknown key 'output'",
        "'outputs'",
    ),
    "unknown key of an input": (
        HEAD + "inputs: {x: {dtype: float32, shpae: [2]}}\nnodes: []\noutputs: [x]\n",
        DescriptionError,
        3,
        "unknown key 'shpae'",
        "'shape'",
    ),
    "wrong type of a field": (HEAD + INPUTS + "nodes: {op: Relu}\n" + OUT, DescriptionError, 4, "'nodes'", ""),
    "wrong type in a node": (
        HEAD + INPUTS + "nodes:\n  - op: Relu\n    name: 3\n" + OUT,
        DescriptionError,
        6,
        "'name' is the int 3",
        "",
    ),
    "neither op nor block": (
        HEAD + INPUTS + "nodes:\n  - {name: y}\n" + OUT,
        DescriptionError,
        5,
        "'op' or 'block'",
        "",
    ),
    "a word that the op does not have": (
        HEAD + IMAGE + "nodes: [{name: y, op: Conv, channels: 4, kernel_shape: 3, auto_pad: SAME}]\n" + OUT,
        DescriptionError,
        4,
        "'auto_pad' of Conv is one of NOTSET",
        "",
    ),
    "a dtype that the op does not take": (
        HEAD + INPUTS.replace("float32", "bool") + "nodes: [{name: y, op: Linear, features: 4}]\n" + OUT,
        ShapeError,
        4,
        "'x' is bool",
        "float32",
    ),
    "text as an input": (
        HEAD + INPUTS.replace("float32", "string") + "nodes: [{name: y, op: Relu}]\n" + OUT,
        ShapeError,
        4,
        "'x' is string",
        "",
    ),
    "unknown dtype to cast to": (
        HEAD + INPUTS + "nodes: [{name: y, op: Cast, to: flaot16}]\n" + OUT,
        DescriptionError,
        4,
        "unsupported dtype 'flaot16'",
        "float16",
    ),
    "a window larger than the image": (
        HEAD + IMAGE + "nodes: [{name: y, op: Conv, channels: 4, kernel_shape: 9}]\n" + OUT,
        ShapeError,
        4,
        "the window is larger",
        "",
    ),
    "another number of elements": (
        HEAD + "inputs: {x: {dtype: float32, shape: [2, 3]}}\nnodes: [{name: y, op: Reshape, shape: [4, 2]}]\n" + OUT,
        ShapeError,
        4,
        "6 elements do not fit the shape [4, 2]",
        "",
    ),
    "heads that do not divide": (
        HEAD
        + "inputs: {x: {dtype: float32, shape: [b, t, 10]}}\n"
        + "nodes: [{name: y, op: Attention, from: [x, x, x], q_num_heads: 3, kv_num_heads: 3}]\n"
        + OUT,
        ShapeError,
        4,
        "10 is not divisible by q_num_heads = 3",
        "",
    ),
    "weights of another kind of layer": (
        HEAD
        + INPUTS
        + "nodes: [{name: fc, op: Linear, features: 3}, {name: y, op: LayerNormalization, weights: fc}]\n"
        + OUT,
        ShapeError,
        4,
        "weight would have the shape [3]",
        "",
    ),
    "a weight beyond all memory": (
        HEAD + INPUTS + "nodes: [{name: y, op: Linear, features: 99999999999999}]\n" + OUT,
        DescriptionError,
        4,
        "of shape [99999999999999, 8] would have",
        "",
    ),
    "a block repeated without end": (
        HEAD + INPUTS + "blocks: {b: {nodes: [{op: Relu}]}}\nnodes: [{name: y, block: b, repeat: 100000000}]\n" + OUT,
        DescriptionError,
        5,
        "more than 200,000 nodes",
        "repeat",
    ),
    "weights outside the folder": (
        HEAD + INPUTS + "weights: ../w.safetensors\nnodes: [{name: y, op: Relu}]\n" + OUT,
        WeightsError,
        4,
        "outside the description's folder",
        "beside",
    ),
    "an unknown metric": (
        HEAD
        + INPUTS
        + "nodes: [{name: y, op: Relu}]\n"
        + OUT
        + "training: {loss: {op: BinaryCrossentropy}, metrics: [acc]}\n",
        DescriptionError,
        6,
        "item 0 of 'metrics' is 'acc'",
        "",
    ),
    "unsupported dtype": (
        HEAD + "inputs: {x: {dtype: float, shape: [2]}}\nnodes: []\noutputs: [x]\n",
        DescriptionError,
        3,
        "unsupported dtype 'float'",
        "'float32'",
    ),
    "negative size": (
        HEAD + "inputs: {x: {dtype: float32, shape: [-1, 2]}}\nnodes: []\noutputs: [x]\n",
        DescriptionError,
        3,
        "-1",
        "",
    ),
    "unknown op": (HEAD + INPUTS + "nodes:\n  - {op: Relo, name: y}\n" + OUT, DescriptionError, 5, "'Relo'", "'Relu'"),
    "op in other case": (HEAD + INPUTS + "nodes:\n  - {op: softmax}\n" + OUT, DescriptionError, 5, "", "'Softmax'"),
    "op of a framework": (HEAD + INPUTS + "nodes:\n  - {op: Dense}\n" + OUT, DescriptionError, 5, "", "'Linear'"),
    "unknown attribute": (
        HEAD + INPUTS + "nodes:\n  - op: Softmax\n    axs: 1\n" + OUT,
        DescriptionError,
        6,
        "Softmax has no attribute or input 'axs'",
        "'axis'",
    ),
    "wrong type of an attribute": (
        HEAD + INPUTS + "nodes:\n  - op: Softmax\n    axis: last\n" + OUT,
        DescriptionError,
        6,
        "'axis' is an integer, not 'last'",
        "",
    ),
    "missing attribute": (
        HEAD + INPUTS + "nodes:\n  - {op: Concat, name: y}\n" + OUT,
        DescriptionError,
        5,
        "needs the attribute 'axis'",
        "",
    ),
    "missing size": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, name: y}\n" + OUT,
        DescriptionError,
        5,
        "Linear needs 'features'",
        "features: 16",
    ),
    "size that is no number": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, features: many}\n" + OUT,
        DescriptionError,
        5,
        "'features' is a positive number, not 'many'",
        "",
    ),
    "missing input": (
        HEAD + INPUTS + "nodes:\n  - {op: Add, name: y}\n" + OUT,
        DescriptionError,
        5,
        "Add needs the input 'B'",
        "from",
    ),
    "too many inputs": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y, from: [x, x]}\n" + OUT,
        DescriptionError,
        5,
        "takes 1 input",
        "",
    ),
    "doubled name": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y}\n  - {op: Relu, name: y}\n" + OUT,
        DescriptionError,
        6,
        "'y' is given twice",
        "",
    ),
    "name of an input": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: x}\n" + OUT,
        DescriptionError,
        5,
        "'x' is given twice",
        "",
    ),
    "missing name": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu}\noutputs:\n  - y\n",
        DescriptionError,
        7,
        "'y'",
        "known here: x, relu1",
    ),
    "dangling input": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: first}\n  - {op: Relu, name: y, from: frist}\n" + OUT,
        DescriptionError,
        6,
        "reads 'frist'",
        "'first'",
    ),
    "no such output": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: a}\n  - {op: Relu, name: y, from: a.Z}\n" + OUT,
        DescriptionError,
        6,
        "'a' has no output or weight 'a.Z'",
        "a.Y",
    ),
    "which input": (
        HEAD + "inputs: {a: {shape: [2]}, b: {shape: [2]}}\nnodes:\n  - {op: Relu, name: y}\n" + OUT,
        DescriptionError,
        5,
        "no 'from'",
        "from: a",
    ),
    "cycle": (
        HEAD + INPUTS + "nodes:\n  - {op: Add, name: a, from: [x, y]}\n  - {op: Relu, name: y, from: a}\n" + OUT,
        DescriptionError,
        5,
        "cycle: 'a' reads 'y' reads 'a'",
        "",
    ),
    "reads itself": (
        HEAD + INPUTS + "nodes:\n  - {op: Add, name: y, from: [x, y]}\n" + OUT,
        DescriptionError,
        5,
        "cycle: 'y' reads itself",
        "",
    ),
    "order": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y, from: a}\n  - {op: Relu, name: a, from: x}\n" + OUT,
        DescriptionError,
        5,
        "'a' comes after the node that reads it",
        "below",
    ),
    "shape mismatch": (
        HEAD + "inputs: {x: {shape: [batch, 8]}, z: {shape: [batch, 9]}}\nnodes:\n"
        "  - {op: Add, name: y, from: [x, z]}\n" + OUT,
        ShapeError,
        5,
        "float32[batch, 8], z: float32[batch, 9]",
        "",
    ),
    "shape mismatch of a shared weight": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, name: a, features: 4}\n  - {op: Linear, name: y, weights: a}\n" + OUT,
        ShapeError,
        6,
        "(a: float32[batch, 4], a.weight: float32[4, 8])",
        "",
    ),
    "dtype mismatch": (
        HEAD + "inputs: {x: {shape: [2]}, z: {dtype: int64, shape: [2]}}\nnodes:\n"
        "  - {op: Add, name: y, from: [x, z]}\n" + OUT,
        ShapeError,
        5,
        "float32[2], z: int64[2]",
        "",
    ),
    "too few dimensions": (
        HEAD + INPUTS + "nodes:\n  - {op: Conv, name: y, channels: 4, kernel_shape: 3}\n" + OUT,
        ShapeError,
        5,
        "[batch,8]",
        "",
    ),
    "groups": (
        HEAD + IMAGE + "nodes:\n  - {op: Conv, name: y, channels: 4, kernel_shape: 3, group: 2}\n" + OUT,
        ShapeError,
        5,
        "group 2 cannot take 3 channels",
        "",
    ),
    "unknown size of a weight": (
        HEAD + "inputs: {x: {shape: [batch, width]}}\nnodes:\n  - {op: Linear, name: y, features: 4}\n" + OUT,
        ShapeError,
        5,
        "needs the size of axis -1",
        "number",
    ),
    "unknown initializer": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, name: y, features: 4, initializers: {weight: he_norml}}\n" + OUT,
        DescriptionError,
        5,
        "unknown initializer 'he_norml'",
        "'he_normal'",
    ),
    "unknown setting of an initializer": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, features: 4, initializers: {weight: {kind: normal, std: 1}}}\n" + OUT,
        DescriptionError,
        5,
        "'normal' has no setting 'std'",
        "stddev",
    ),
    "initializer of another shape": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, features: 4, initializers: {bias: orthogonal}}\n" + OUT,
        DescriptionError,
        5,
        "'orthogonal' makes no weights of shape [4]",
        "",
    ),
    "initializer of no weight": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, features: 4, initializers: {kernel: zeros}}\n" + OUT,
        DescriptionError,
        5,
        "no weight 'kernel'",
        "weight, bias",
    ),
    "weights of no node": (
        HEAD + INPUTS + "nodes:\n  - {op: Linear, name: y, features: 8, weights: z}\n" + OUT,
        DescriptionError,
        5,
        "'z'",
        "",
    ),
    "unknown block": (HEAD + INPUTS + "nodes:\n  - {block: b, name: y}\n" + OUT, DescriptionError, 5, "block 'b'", ""),
    "unknown parameter of a block": (
        HEAD + INPUTS + "blocks:\n  b:\n    parameters: {size: 1}\n    nodes: [{op: Linear, features: $size}]\n"
        "nodes:\n  - {block: b, name: y, sise: 3}\n" + OUT,
        DescriptionError,
        9,
        "no parameter 'sise'",
        "'size'",
    ),
    "missing parameter of a block": (
        HEAD + INPUTS + "blocks:\n  b:\n    parameters: {size: null}\n    nodes: [{op: Linear, features: $size}]\n"
        "nodes:\n  - {block: b, name: y}\n" + OUT,
        DescriptionError,
        9,
        "needs the parameter 'size'",
        "",
    ),
    "unknown parameter in a block": (
        HEAD + INPUTS + "blocks:\n  b:\n    parameters: {size: 2}\n    nodes:\n      - {op: Linear, features: $siz}\n"
        "nodes:\n  - {block: b, name: y}\n" + OUT,
        DescriptionError,
        8,
        "no parameter is called 'siz'",
        "'size'",
    ),
    "an expression that is none": (
        HEAD + INPUTS + "blocks:\n  b:\n    nodes:\n      - {op: Linear, features: $(__import__('os'))}\n"
        "nodes:\n  - {block: b, name: y}\n" + OUT,
        DescriptionError,
        7,
        "cannot be computed",
        "",
    ),
    "a parameter that is called as a key": (
        HEAD + INPUTS + "blocks:\n  b:\n    parameters: {name: a}\n    nodes: [{op: Relu}]\nnodes: []\n" + OUT,
        DescriptionError,
        5,
        "cannot be called 'name'",
        "",
    ),
    "block recursion": (
        HEAD + INPUTS + "blocks:\n  a: {nodes: [{block: b}]}\n  b:\n    nodes:\n      - {block: a}\n"
        "nodes:\n  - {block: a, name: y}\n" + OUT,
        DescriptionError,
        8,
        "uses itself: a -> b -> a",
        "",
    ),
    "inputs of a block": (
        HEAD + INPUTS + "blocks:\n  b: {inputs: [p, q], nodes: [{op: Add, from: [p, q]}]}\n"
        "nodes:\n  - {block: b, name: y}\n" + OUT,
        DescriptionError,
        7,
        "takes 2 inputs (p, q), 1 given",
        "",
    ),
    "repeat of an op": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y, repeat: 2}\n" + OUT,
        DescriptionError,
        5,
        "'repeat' is for blocks",
        "",
    ),
    "initializer without numbers": (
        HEAD + INPUTS + "initializers:\n  w: {shape: [8]}\nnodes:\n  - {op: Add, name: y, B: w}\n" + OUT,
        WeightsError,
        5,
        "no numbers for 1 weights: w",
        "'init'",
    ),
    "too few numbers": (
        HEAD + INPUTS + "initializers:\n  w: {shape: [8], value: [1, 2]}\nnodes:\n  - {op: Add, B: w}\n" + OUT,
        DescriptionError,
        5,
        "2 numbers given for the shape [8]",
        "",
    ),
    "numbers of another dtype": (
        HEAD + INPUTS + "nodes:\n  - {op: Reshape, name: y, shape: [0.5]}\n" + OUT,
        DescriptionError,
        5,
        "dtype int64",
        "",
    ),
    "a stated shape that is wrong": (
        HEAD
        + INPUTS
        + "nodes:\n  - {op: Relu, name: y}\n"
        + OUT
        + "values:\n  y: {dtype: float32, shape: [batch, 9]}\n",
        ShapeError,
        8,
        "[batch,8], not [batch,9]",
        "",
    ),
    "loss of no output": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y}\n" + OUT + "training:\n  loss:\n"
        "    op: MeanSquaredError\n    of: z\n",
        DescriptionError,
        10,
        "no output",
        "",
    ),
    "unknown loss": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y}\n" + OUT + "training:\n  loss: {op: MSE}\n",
        DescriptionError,
        8,
        "MSE",
        "",
    ),
    "unknown setting of an optimizer": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y}\n" + OUT + "training:\n  loss: {op: MeanSquaredError}\n"
        "  optimizer:\n    kind: adam\n    learning_rat: 0.1\n",
        DescriptionError,
        11,
        "unknown key 'learning_rat'",
        "'learning_rate'",
    ),
    "no optimizer of that name": (
        HEAD + INPUTS + "nodes:\n  - {op: Relu, name: y}\n" + OUT + "training:\n  loss: {op: MeanSquaredError}\n"
        "  optimizer: {kind: adm}\n",
        DescriptionError,
        9,
        "'adm'",
        "adam",
    ),
    "weights file missing": (
        HEAD + INPUTS + "weights: nowhere.safetensors\nnodes:\n  - {op: Relu, name: y}\n" + OUT,
        WeightsError,
        None,
        "No such file",
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_description(case, tmp_path):
    text, kind, line, message, hint = CASES[case]
    path = tmp_path / "model.yaml"
    path.write_text(text)
    with pytest.raises(DlbridgeError) as caught:
        description.load(path)
    error = caught.value
    assert type(error) is kind, error
    assert message in error.message, error
    assert hint in (error.hint or ""), error
    assert "\n" not in error.message
    if line is not None:
        assert error.where == f"{path}:{line}", error


def test_a_dict_has_places_without_lines():
    data = {
        "dlbridge": 1,
        "name": "m",
        "inputs": {"x": {"shape": [1, 2]}},
        "nodes": [{"op": "Relu", "alpha": 1}],
        "outputs": ["y"],
    }
    with pytest.raises(DescriptionError) as caught:
        description.load(data)
    assert caught.value.where == "nodes[0].alpha"


def test_json_has_lines_too(tmp_path):
    path = tmp_path / "model.json"
    data = {
        "dlbridge": 1,
        "name": "m",
        "inputs": {"x": {"shape": [1, 2]}},
        "nodes": [{"op": "Relo"}],
        "outputs": ["y"],
    }
    path.write_text(json.dumps(data, indent="\t"))
    with pytest.raises(DescriptionError) as caught:
        description.load(path)
    line = next(i for i, text in enumerate(path.read_text().splitlines(), 1) if "Relo" in text)
    assert caught.value.where == f"{path}:{line}"


def test_an_alias_bomb_is_refused_before_it_is_copied():
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    with limited({"values": 1000}), pytest.raises(DescriptionError, match="more than 100 values"):
        document.parse("\n".join(lines), "bomb.yaml")


def test_deep_nesting_is_refused():
    with pytest.raises(DescriptionError, match=r"deeper than|not valid YAML"):
        document.parse("a: " + "[" * 500 + "]" * 500, "deep.yaml")


def test_repeating_repeats_is_limited():
    blocks = {
        "a": {"nodes": [{"op": "Relu"}]},
        "b": {"nodes": [{"block": "a", "repeat": 50}]},
    }
    nodes = [{"block": "b", "repeat": 50, "name": "y"}]
    data = {"dlbridge": 1, "name": "m", "inputs": {"x": {"shape": [1]}}, "blocks": blocks, "nodes": nodes}
    with limited({"nodes": 100}), pytest.raises(DescriptionError, match="more than 100 nodes"):
        description.load({**data, "outputs": ["y"]})


def test_size_is_limited():
    with limited({"text": 100}), pytest.raises(DescriptionError, match="larger than"):
        document.parse("a: " + "x" * 200, "big.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe\x00binary\x80", "not UTF-8"), (None, "No such file")],
)
def test_files_that_are_none(tmp_path, content, message):
    path = tmp_path / "model.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=message):
        description.load(path)


# --- weights ----------------------------------------------------------------------------------------------------------

MLP = textwrap.dedent("""\
    dlbridge: 1
    name: m
    inputs: {x: {shape: [batch, 8]}}
    nodes:
      - {op: Linear, name: y, features: 4}
    outputs: [y]
    """)


@pytest.fixture
def saved(tmp_path):
    return description.save(description.load(MLP), tmp_path / "saved")


def broken(saved, change):
    file = saved / "weights.safetensors"
    file.write_bytes(change(file.read_bytes()))
    return saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-10], "truncated"),
        (lambda b: b[:40], "truncated"),
        (lambda b: b[:3], "truncated"),
        (lambda b: b"", "truncated"),
        (lambda b: b + b"1234", "left over"),
        (lambda b: b[:8] + b"{" * 20 + b[28:], "broken header"),
        (lambda b: b.replace(b"[4, 8]", b"[4, 9]"), "do not fit"),
        (lambda b: b.replace(b'"F32"', b'"F99"'), "broken header"),
        (lambda b: b.replace(b"[4, 8]", b"[8, 4]"), "shape [8, 4] given, [4, 8] expected"),
        (lambda b: b.replace(b"y.weight", b"z.weight"), "no weight of that name"),
        (lambda b: b.replace(b'"F32"', b'"I32"'), "dtype int32 given, float32 expected"),
    ],
)
def test_bad_weights_files(saved, change, message):
    with pytest.raises(WeightsError) as caught:
        description.load(broken(saved, change))
    assert message in str(caught.value)


def test_weights_that_are_missing(saved):
    (saved / "weights.safetensors").unlink()
    with pytest.raises(WeightsError, match="No such file"):
        description.load(saved)


def test_weights_that_are_not_complete():
    with pytest.raises(WeightsError, match=r"do not hold 'y\.bias'"):
        description.load(MLP, weights={"y.weight": np.zeros((4, 8), np.float32)})


def test_an_output_folder_that_exists(saved):
    before = (saved / "model.yaml").read_bytes()
    with pytest.raises(FileError, match="already exists"):
        description.save(description.load(saved), saved)
    assert (saved / "model.yaml").read_bytes() == before


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(FileError, match="no saved model"):
        description.load(tmp_path)
