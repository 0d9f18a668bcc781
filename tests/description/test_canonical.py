"""Canonical descriptions and models are the same thing: expand and describe are inverse, saving loses nothing."""

import json

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from dlbridge import description, frameworks
from dlbridge.conformance.cases import node_cases
from dlbridge.description import document, values, weights
from dlbridge.errors import DescriptionError, DlbridgeError
from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import shapes


def canonical(data):
    """The canonical form of a description, after checking that it is stable and survives YAML and JSON."""
    model = description.load(data)
    form = description.describe(model)
    again = description.load(form)
    assert description.describe(again) == form
    assert document.parse(document.to_yaml(form), "text").data == form
    assert json.loads(json.dumps(form, allow_nan=False)) == form
    assert same_proto(again, model)
    return form


def same_proto(a, b):
    """Whether two models are the same to ONNX: nodes, attributes, metadata, types, numbers."""

    def proto(model):
        copy = model.clone().ir
        for value in copy.graph.initializers.values():
            if value.dtype != ir.DataType.STRING:  # one class for all numbers, which may be lazy or memory-mapped
                value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name, dtype=value.dtype)
        whole = ir.to_proto(copy)
        return whole.graph, whole.metadata_props, whole.functions, whole.opset_import

    return proto(a) == proto(b)


# --- any description --------------------------------------------------------------------------------------------------

NAMES = st.text("abcxyz_0189.é", min_size=1, max_size=6)
SETTINGS = st.dictionaries(st.sampled_from(["a", "b.c"]), st.text(max_size=5), max_size=2)
SHARED_UNARY = ["Relu", "Sigmoid", "Tanh", "Erf", "Softplus", "Identity"]


@st.composite
def attributed(draw):
    """An op that keeps shapes, with its attributes."""
    small = st.floats(-2, 2, width=32)
    return draw(
        st.one_of(
            st.sampled_from(SHARED_UNARY).map(lambda op: {"op": op}),
            small.map(lambda a: {"op": "LeakyRelu", "alpha": a}),
            small.map(lambda a: {"op": "Elu", "alpha": a}),
            st.sampled_from(["none", "tanh"]).map(lambda a: {"op": "Gelu", "approximate": a}),
            st.integers(-1, 1).map(lambda a: {"op": "Softmax", "axis": a}),
            small.map(lambda a: {"op": "Mul", "B": a}),
            small.map(lambda a: {"op": "Clip", "min": a}),
            st.booleans().map(lambda b: {"op": "Linear", "features": 4, "bias": b}),
            st.just({"op": "BatchNormalization", "epsilon": 1e-3}),
            st.just({"op": "LayerNormalization"}),
            st.sampled_from([1, 10, 11, 16]).map(lambda to: {"op": "Cast", "to": to}),
            st.just({"op": "Dropout", "ratio": 0.25}),
        )
    )


@st.composite
def descriptions(draw):
    names = draw(st.lists(NAMES, min_size=4, max_size=9, unique=True).filter(lambda n: all(_ok(x) for x in n)))
    nodes = [{"name": names[0], "op": "Identity", "from": "in"}]
    seen, used = [names[0]], draw(st.booleans())
    for name in names[1:]:
        reads = draw(st.sampled_from(seen))
        node = {"name": name, "from": reads, **draw(attributed())}
        if "metadata" not in node and draw(st.booleans()):
            node["metadata"] = draw(SETTINGS)
        # A cast changes the dtype, which not every op takes: cast back where the next one reads it.
        nodes.append(node)
        if node["op"] == "Cast":
            nodes.append({"op": "Cast", "to": 1})
        else:
            seen.append(name)
    if used:
        branch = {"nodes": [{"name": "t", "op": "Relu", "from": seen[-1]}], "outputs": ["t"]}
        other = {"nodes": [{"name": "e", "op": "Add", "from": [seen[-1], 1.5]}], "outputs": ["e"]}
        nodes.append({"name": "if", "op": "If", "cond": "flag", "then_branch": branch, "else_branch": other})
    shape = draw(st.sampled_from([["n", 4], [2, 4], ["n", 4, 4]]))
    return {
        "dlbridge": 1,
        "name": "any",
        "seed": draw(st.integers(0, 9)),
        "inputs": {"in": {"dtype": "float32", "shape": shape}},
        "initializers": {"flag": {"dtype": "bool", "shape": [], "value": draw(st.booleans())}},
        "nodes": nodes,
        "outputs": {"out": nodes[-1].get("name") or "cast1"} if nodes[-1].get("name") else {"out": names[0]},
    }


def _ok(name):
    return name not in ("in", "flag", "if", "out", "t", "e") and all(name.split("."))


@settings(max_examples=60)
@given(descriptions())
def test_describe_and_expand_are_inverse(data):
    form = canonical(data)
    assert all("from" not in node and "inputs" in node for node in form["nodes"])


# --- everything that a graph can hold ---------------------------------------------------------------------------------


def model_of(text):
    model = Model(ir.from_proto(onnx.parser.parse_model(text)))
    for value in model.graph.initializers.values():
        traits.set_kind(value, "constant")
    shapes.infer(model.ir)
    return model


def test_a_loop_with_subgraph_and_outer_values():
    model = model_of("""
        <ir_version: 11, opset_import: ["": 28]>
        loop (float[n,3] x, int64 trips) => (float[n,3] y, float[t,n,3] all) <bool go = {1}> {
          y, all = Loop (trips, go, x) <body =
            step (int64 i, bool c, float[n,3] s) => (bool d, float[n,3] r, float[n,3] o) {
              d = Identity (c)
              k = Constant <value_float = 2.0> ()
              scaled = Mul (s, k)
              r = Add (scaled, x)
              o = Identity (r)
            }>
        }""")
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        node.name = node.name or f"made_{node.outputs[0].name}"
    again = description.load(description.dump(model))
    assert description.describe(again) == description.describe(model)
    assert same_proto(again, model)


@pytest.mark.parametrize("stride", [40, pytest.param(1, marks=pytest.mark.slow)])
def test_the_node_tests_of_the_standard(stride):
    """The models that ONNX publishes for its ops: what is read of them survives as a description."""
    checked = 0
    for case in node_cases()[::stride]:
        try:
            model = frameworks.get("onnx").read(case.proto)
        except DlbridgeError:
            continue  # what the reader refuses is the reader's to test
        form = description.describe(model)
        large = {name: entry for name, entry in form.get("initializers", {}).items() if "value" not in entry}
        arrays = {name: model.weights[name] for name in large}
        again = description.load(description.dump(model), weights=arrays or None)
        assert description.describe(again) == form, case.name
        checked += 1
    assert checked > 1500 / stride


@pytest.mark.parametrize("name", sorted(values.DTYPES))
def test_tensors_of_every_dtype(name, tmp_path):
    of = values.DTYPES[name]
    numbers = {"string": ["a", "é"], "bool": [True, False], "complex64": ["1+2j", "-1j"], "complex128": ["1+2j", "3j"]}
    small = numbers.get(name, [1.0, 2.0] if of.is_floating_point() else [1, 0])
    data = {
        "dlbridge": 1,
        "name": "m",
        "inputs": {"x": {"shape": [2]}},
        "initializers": {
            "constant": {"dtype": name, "shape": [2, 1], "kind": "constant", "value": small},
            "weight": {"dtype": name, "shape": [1, 2], "kind": "buffer", "value": small},
        },
        "nodes": [
            {"name": "y", "op": "Relu", "inputs": ["x"], "outputs": ["y"]},
            {
                "name": "c",
                "op": "Strange",
                "domain": "com.example",
                "inputs": [],
                "outputs": ["c"],
                "attributes": {"value": {"type": "tensor", "value": {"dtype": name, "shape": [2], "value": small}}},
            },
        ],
        "outputs": ["y", "c"],
        "opsets": {"com.example": 1},
    }
    model = description.load(data)
    description.save(model, tmp_path / "saved")
    again = description.load(tmp_path / "saved")
    assert same_proto(again, model)
    assert values.tensor_to(again.graph.initializers["weight"].const_value) == small
    node = next(n for n in again.graph if n.name == "c")
    assert values.tensor_to(node.attributes["value"].as_tensor()) == small


def test_numbers_that_json_lacks():
    array = np.array([np.nan, np.inf, -np.inf, 0.1, 1e-45, -0.0], np.float32)
    value = values.tensor_to(ir.tensor(array))
    json.dumps(value, allow_nan=False)
    assert values.tensor_from(value, ir.DataType.FLOAT).numpy().tobytes() == array.tobytes()


def test_other_domains_metadata_types_and_missing_values():
    x = ir.Value(name="x", shape=ir.Shape(["n", 3]), type=ir.TensorType(ir.DataType.FLOAT))
    first = ir.Node(
        "com.example",
        "Strange",
        [x, None, x],
        {
            "empty": ir.AttrInt64s("empty", []),
            "word": ir.AttrString("word", "no"),
            "words": ir.AttrStrings("words", ["1e5", ""]),
            "real": ir.AttrFloat32("real", 2.0),
            "reals": ir.AttrFloat32s("reals", [0.1, 2.0]),
            "tensors": ir.AttrTensors("tensors", [ir.tensor([1.5]), ir.tensor([2])]),
            "of": ir.AttrTypeProto("of", ir.TypeAndShape(ir.SequenceType(ir.TensorType(ir.DataType.FLOAT)), None)),
        },
        outputs=[
            ir.Value(name="a", shape=ir.Shape(["n", None]), type=ir.TensorType(ir.DataType.INT8)),
            ir.Value(name=""),
            ir.Value(name="s", type=ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))),
        ],
        name="strange",
        doc_string="What it is.",
        metadata_props={"who": "me"},
    )
    first.outputs[0].metadata_props["layout"] = "nchw"
    model = Model.build("m", [x], [first.outputs[0], first.outputs[2]], [first], blocks={"": "Whole"})
    model.graph.opset_imports["com.example"] = 3
    model.graph.metadata_props["note"] = "kept"
    model.ir.metadata_props["author"] = "someone"
    again = description.load(description.dump(model))
    form = description.describe(again)
    assert form == description.describe(model)
    assert form["classes"] == {"": "Whole"}
    assert form["opsets"] == {"com.example": 3}
    assert form["nodes"][0]["outputs"] == ["a", None, "s"]


def test_a_model_with_functions_of_its_own_is_refused():
    model = description.load(
        {"dlbridge": 1, "name": "m", "inputs": {"x": {}}, "nodes": [{"op": "Relu"}], "outputs": ["relu1"]}
    )
    body = ir.Graph([ir.Value(name="a")], [], nodes=[], name="f")
    model.ir.functions["other", "F", ""] = ir.Function("other", "F", graph=body, attributes=[])
    with pytest.raises(DescriptionError, match=r"other\.F"):
        description.describe(model)


# --- saved models -----------------------------------------------------------------------------------------------------


def two_layers():
    return description.load(
        {
            "dlbridge": 1,
            "name": "two",
            "inputs": {"x": {"shape": ["batch", 16]}},
            "nodes": [{"op": "Linear", "features": 32}, {"op": "Relu"}, {"op": "Linear", "features": 4}],
            "outputs": {"y": "fc2"},
            "training": {"loss": {"op": "MeanSquaredError"}, "optimizer": {"kind": "sgd", "momentum": 0.5}},
        }
    )


def equal_weights(a, b):
    return set(a.weights) == set(b.weights) and all((a.weights[k] == b.weights[k]).all() for k in a.weights)


def test_a_saved_model_is_the_same_model(tmp_path):
    model = two_layers()
    model.set_weights({"fc1.bias": np.arange(32, dtype=np.float32)})
    folder = model.save(tmp_path / "two")
    assert sorted(p.name for p in folder.iterdir()) == ["model.yaml", "weights.safetensors"]
    again = description.load(folder)
    assert equal_weights(model, again)
    assert equal_weights(model, description.load(folder / "model.yaml"))
    assert again.training == model.training
    assert description.describe(again) == description.describe(model)
    stored = load_file(folder / "weights.safetensors")
    assert all((stored[name] == model.weights[name]).all() for name in model.weights)


def test_weights_are_read_when_they_are_looked_at(tmp_path):
    again = description.load(two_layers().save(tmp_path / "two"))
    array = again.graph.initializers["fc1.weight"].const_value.numpy()
    while not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


def test_saving_over_the_folder_that_was_loaded_keeps_the_numbers(tmp_path):
    first = two_layers()
    model = description.load(first.save(tmp_path / "two"))
    small = description.load(two_layers().save(tmp_path / "other"))
    description.save(small, tmp_path / "two", force=True)
    (tmp_path / "two" / "weights.safetensors").write_bytes(b"")
    assert equal_weights(model, first)


def test_large_weights_are_split_into_files_with_an_index(tmp_path):
    model = two_layers()
    tensors = {name: v.const_value for name, v in model.graph.initializers.items()}
    name = weights.write(tensors, tmp_path, shard_bytes=600)
    index = json.loads((tmp_path / name).read_text())
    assert set(index["weight_map"]) == set(tensors)
    assert len(set(index["weight_map"].values())) == 3
    read = weights.read(tmp_path / name)
    assert all((read[n].numpy() == t.numpy()).all() for n, t in tensors.items())
    again = description.load(description.describe(model), weights=tmp_path / name)
    assert equal_weights(model, again)


def test_weights_from_arrays():
    arrays = {name: np.ones_like(array) for name, array in two_layers().weights.items()}
    model = description.load(description.describe(two_layers()), weights=arrays)
    assert all((array == 1).all() for array in model.weights.values())


def test_a_large_model_is_described_and_read_quickly():
    nodes = [{"name": f"n{i}", "op": "Relu"} for i in range(2000)]
    data = {"dlbridge": 1, "name": "deep", "inputs": {"x": {"shape": [2]}}, "nodes": nodes, "outputs": ["n1999"]}
    form = canonical(data)
    assert len(form["nodes"]) == 2000
    assert traits.blocks(description.load(form).graph) == {}
