"""What the sugar of a description means."""

import json
import textwrap

import jsonschema
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx_ir.passes.common import InlinePass

from dlbridge import description
from dlbridge.description import document, schema
from dlbridge.ops import traits
from tests.helpers.paths import EXAMPLE_FILES, EXAMPLES, ROOT


def load(nodes, *, inputs="{x: {shape: [batch, 8]}}", outputs="[y]", rest=""):
    text = f"dlbridge: 1\nname: m\ninputs: {inputs}\noutputs: {outputs}\n{textwrap.dedent(rest)}nodes:\n"
    return description.load(text + textwrap.indent(textwrap.dedent(nodes).strip("\n"), "  "))


def run(model, feed):
    """What onnxruntime computes, with the extension domain's functions inlined."""
    proto = InlinePass()(model.clone().ir).model
    for value in proto.graph.initializers.values():
        value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name, dtype=value.dtype)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(ir.to_proto(proto).SerializeToString(), options)
    return session.run(None, feed)


def names(model):
    return [node.name for node in model.graph]


def node(model, name):
    return next(n for n in model.graph if n.name == name)


# --- wiring -----------------------------------------------------------------------------------------------------------


def test_a_node_reads_the_node_above():
    model = load("- {op: Relu}\n- {op: Sigmoid}\n- {name: y, op: Tanh}")
    assert names(model) == ["relu1", "sigmoid1", "y"]
    assert [n.inputs[0].name for n in model.graph] == ["x", "relu1", "sigmoid1"]
    assert [traits.is_anonymous(n) for n in model.graph] == [True, True, False]


def test_from_inputs_by_name_and_numbers():
    model = load(
        """
        - {name: a, op: Relu}
        - {name: b, op: Add, from: [x, a]}
        - {name: c, op: Sub, A: a}
        - {name: d, op: Where, condition: small, from: [c, 0.5]}
        - {name: y, op: Clip, min: 0, max: 1}
        """,
        inputs="{x: {shape: [batch, 4]}}",
        rest="initializers: {small: {dtype: bool, shape: [4], value: [true, false, true, false]}}\n",
    )
    assert [[i.name for i in n.inputs] for n in model.graph] == [
        ["x"],
        ["x", "a"],
        ["a", "b"],
        ["small", "c", "d.Y"],
        ["d", "y.min", "y.max"],
    ]
    assert model.weights["y.min"].dtype == np.float32
    assert model.weights["y.min"].shape == ()


def test_several_outputs():
    model = load(
        """
        - {name: split, op: Split, num_outputs: 2, axis: 1}
        - {name: top, op: TopK, from: split.1, k: 2}
        - {name: both, op: TopK, from: split, k: 2, outputs: [best, where]}
        - {name: z, op: Cast, from: where, to: 1}
        - {name: w, op: Cast, from: top.Indices, to: 1}
        """,
        outputs="{best: best, z: z, w: w}",
    )
    x = np.arange(8, dtype=np.float32)[None]
    best, z, w = run(model, {"x": x})
    assert best.tolist() == [[3, 2]]
    assert z.tolist() == w.tolist() == [[3, 2]]


def test_outputs_that_nothing_reads_are_left_out():
    model = load(
        "- {name: lstm, op: LSTM, hidden_size: 4}\n- {name: y, op: Squeeze, from: lstm.Y_h, axes: 0}",
        inputs="{x: {shape: [time, batch, 3]}}",
    )
    assert [v.name for v in node(model, "lstm").outputs] == ["lstm", "lstm.Y_h"]
    assert len(node(load("- {name: y, op: Dropout, ratio: 0.5}"), "y").outputs) == 1


def test_an_output_keeps_its_name_and_copies_where_it_must():
    model = load("- {name: a, op: Relu}", outputs="{first: a, second: a, third: x}")
    assert [v.name for v in model.outputs] == ["first", "second", "third"]
    assert [n.op_type for n in model.graph] == ["Relu", "Identity", "Identity"]


# --- sizes and weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "inputs", "weights"),
    [
        ("{op: Linear, features: 5}", "[n, 3, 8]", {"weight": (5, 8), "bias": (5,)}),
        ("{op: Linear, features: 5, bias: false}", "[n, 8]", {"weight": (5, 8)}),
        ("{op: Conv, channels: 6, kernel_shape: 3}", "[n, 4, 9]", {"weight": (6, 4, 3), "bias": (6,)}),
        (
            "{op: Conv, channels: 6, kernel_shape: [3, 5], group: 2, pads: 1}",
            "[n, 4, 9, 9]",
            {"weight": (6, 2, 3, 5), "bias": (6,)},
        ),
        ("{op: Conv, channels: 2, kernel_shape: 1, bias: false}", "[n, 4, 9, 9, 9]", {"weight": (2, 4, 1, 1, 1)}),
        (
            "{op: ConvTranspose, channels: 6, kernel_shape: 2, strides: 2, group: 2}",
            "[n, 4, 9, 9]",
            {"weight": (4, 3, 2, 2), "bias": (6,)},
        ),
        (
            "{op: BatchNormalization}",
            "[n, 4, 9]",
            {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,)},
        ),
        ("{op: InstanceNormalization}", "[n, 4, 9]", {"weight": (4,), "bias": (4,)}),
        ("{op: GroupNormalization, num_groups: 2}", "[n, 4, 9]", {"weight": (4,), "bias": (4,)}),
        ("{op: LayerNormalization}", "[n, 4, 9]", {"weight": (9,), "bias": (9,)}),
        ("{op: LayerNormalization, axis: 1, bias: false}", "[n, 4, 9]", {"weight": (4, 9)}),
        ("{op: RMSNormalization}", "[n, 4, 9]", {"weight": (9,)}),
        ("{op: PRelu}", "[n, 4, 9]", {"weight": (4, 1)}),
        ("{op: RNN, hidden_size: 5}", "[t, n, 3]", {"weight_ih": (1, 5, 3), "weight_hh": (1, 5, 5), "bias": (1, 10)}),
        (
            "{op: GRU, hidden_size: 5, direction: bidirectional}",
            "[t, n, 3]",
            {"weight_ih": (2, 15, 3), "weight_hh": (2, 15, 5), "bias": (2, 30)},
        ),
        ("{op: LSTM, hidden_size: 5, bias: false}", "[t, n, 3]", {"weight_ih": (1, 20, 3), "weight_hh": (1, 20, 5)}),
    ],
)
def test_weights_are_as_large_as_the_input_asks(op, inputs, weights):
    model = load("- " + op.replace("{", "{name: y, ", 1), inputs=f"{{x: {{shape: {inputs}}}}}")
    assert {name: tuple(v.shape) for name, v in model.graph.initializers.items()} == {
        f"y.{name}": shape for name, shape in weights.items()
    }
    sizes = {"n": 2, "t": 3}
    shape = [sizes.get(s, s) for s in document.parse(f"a: {inputs}", "").data["a"]]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    assert np.isfinite(run(model, {"x": x})[0]).all()


def test_kinds_of_weights():
    model = load(
        """
        - {name: conv, op: Conv, channels: 4, kernel_shape: 1, frozen: true}
        - {name: bn, op: BatchNormalization}
        - {name: y, op: Reshape, shape: [0, -1]}
        """,
        inputs="{x: {shape: [batch, 3, 2]}}",
    )
    kinds = {name: traits.kind(v) for name, v in model.graph.initializers.items()}
    assert kinds == {
        "conv.weight": "frozen",
        "conv.bias": "frozen",
        "bn.weight": "parameter",
        "bn.bias": "parameter",
        "bn.running_mean": "buffer",
        "bn.running_var": "buffer",
        "y.shape": "constant",
    }
    assert node(model, "bn").metadata_props[traits.RUNNING_VARIANCE] == "biased"


def test_dtype_of_weights_is_that_of_the_input():
    model = load("- {name: y, op: Linear, features: 2}", inputs="{x: {dtype: bfloat16, shape: [1, 8]}}")
    assert {v.dtype for v in model.parameters} == {ir.DataType.BFLOAT16}


def test_initializers_are_chosen_by_weight_and_depend_on_the_seed():
    nodes = "- {name: y, op: Linear, features: 4, initializers: {weight: he_normal, bias: {kind: constant, value: 2}}}"
    model, same, other = load(nodes), load(nodes), load(nodes, rest="seed: 1\n")
    assert traits.initializer_spec(model.graph.initializers["y.weight"]) == {"kind": "he_normal"}
    assert (model.weights["y.bias"] == 2).all()
    assert (model.weights["y.weight"] == same.weights["y.weight"]).all()
    assert (model.weights["y.weight"] != other.weights["y.weight"]).all()


def test_weights_can_be_shared():
    model = load("""
        - {name: a, op: Linear, features: 8}
        - {name: b, op: Linear, weights: a}
        - {name: y, op: Linear, weight: a.weight, bias: false}
        """)
    assert list(model.graph.initializers) == ["a.weight", "a.bias"]
    assert [[i.name for i in n.inputs[1:]] for n in model.graph] == [
        ["a.weight", "a.bias"],
        ["a.weight", "a.bias"],
        ["a.weight"],
    ]


def test_free_parameters_and_constants():
    model = load(
        "- {name: y, op: Mul, B: scale}\n",
        rest="""\
        initializers:
          scale: {shape: [8], init: {kind: constant, value: 3}}
          unused: {value: 2}
        """,
    )
    assert traits.kind(model.graph.initializers["scale"]) == "parameter"
    assert traits.kind(model.graph.initializers["unused"]) == "constant"
    assert model.graph.initializers["unused"].dtype == ir.DataType.INT64
    assert (run(model, {"x": np.ones((1, 8), np.float32)})[0] == 3).all()


# --- blocks -----------------------------------------------------------------------------------------------------------

RESIDUAL = """\
blocks:
  residual_block:
    parameters: {width: null}
    nodes:
      - {name: wide, op: Linear, features: $(2 * width)}
      - {op: Relu}
      - {name: narrow, op: Linear, features: $width}
      - {op: Add, A: input}
"""


def test_blocks_are_repeated_with_their_names_and_classes():
    model = load("- {name: body, block: residual_block, width: 8, repeat: 2}\n- {name: y, op: Relu}", rest=RESIDUAL)
    assert names(model) == [
        *("body.0.wide", "body.0.relu1", "body.0.narrow", "body.0.add1"),
        *("body.1.wide", "body.1.relu1", "body.1.narrow", "body.1.add1"),
        "y",
    ]
    assert traits.blocks(model.graph) == {"body.0": "ResidualBlock", "body.1": "ResidualBlock"}
    assert [i.name for i in node(model, "body.1.add1").inputs] == ["body.0.add1", "body.1.narrow"]
    assert model.weights["body.0.wide.weight"].shape == (16, 8)
    assert (model.weights["body.0.wide.weight"] != model.weights["body.1.wide.weight"]).any()


def test_blocks_without_a_name_share_weights_and_nest():
    model = load(
        "- {block: twice}\n- {block: twice, weights: twice1}\n- {name: y, op: Relu}",
        rest=RESIDUAL + "  twice: {nodes: [{block: residual_block, width: 8}]}\n",
    )
    assert names(model)[0] == "twice1.residual_block1.wide"
    assert {n.rpartition(".")[0] for n in model.graph.initializers} == {
        "twice1.residual_block1.wide",
        "twice1.residual_block1.narrow",
    }
    assert len(model.graph) == 9


def test_blocks_have_inputs_outputs_and_parameters_of_their_own():
    model = load(
        """
        - {name: step, block: cell, from: [x, x], repeat: 3}
        - {name: y, op: Add, from: [step.state, step.out]}
        """,
        rest="""\
        blocks:
          cell:
            inputs: [value, memory]
            initializers: {gain: {shape: [8], init: ones}}
            nodes:
              - {name: sum, op: Add, from: [value, memory]}
              - {name: out, op: Mul, B: gain}
              - {name: state, op: Add, from: [sum, $index]}
            outputs: [out, state]
        """,
    )
    assert [n for n in model.graph.initializers if n.endswith("gain")] == ["step.0.gain", "step.1.gain", "step.2.gain"]
    # (v, m) -> (v + m, v + m + index)
    assert (run(model, {"x": np.ones((1, 8), np.float32)})[0] == 8 + 1 + 8 + 1 + 2).all()


# --- shapes, subgraphs, files -----------------------------------------------------------------------------------------


def test_symbolic_sizes_are_kept():
    model = load(
        "- {op: Transpose, perm: [1, 0, 2]}\n- {name: y, op: Linear, features: 3}", inputs="{x: {shape: [a, b, 4]}}"
    )
    assert str(model.outputs[0].shape) == "[b,a,3]"


def test_a_subgraph_sees_what_is_around_it():
    model = load(
        """
        - {name: sum, op: ReduceSum, keepdims: 0}
        - {name: positive, op: Greater, B: 0}
        - name: y
          op: If
          then_branch: {nodes: [{name: t, op: Relu, from: x}], outputs: [t]}
          else_branch: {nodes: [{name: e, op: Mul, from: [x, -1]}], outputs: [e]}
        """
    )
    one = np.ones((1, 8), np.float32)
    assert (run(model, {"x": one})[0] == 1).all()
    assert (run(model, {"x": -2 * one})[0] == 2).all()


@pytest.mark.parametrize("example", EXAMPLE_FILES, ids=lambda p: p.stem)
def test_examples_run_in_onnxruntime_at_every_batch_size(example):
    model = description.load(example)
    for batch in (1, 2, 7):
        sizes = {"batch": batch, "time": 5}
        generator = np.random.default_rng(0)
        feed = {}
        for value in model.inputs:
            shape = [s if isinstance(s, int) else sizes[s.value] for s in value.shape]
            draw = generator.integers(0, 100, shape) if value.dtype.is_integer() else generator.standard_normal(shape)
            feed[value.name] = draw.astype(value.dtype.numpy())
        for array, value in zip(run(model, feed), model.outputs, strict=True):
            assert np.isfinite(array).all()
            assert array.shape == tuple(s if isinstance(s, int) else sizes[s.value] for s in value.shape)


def test_yaml_and_json_say_the_same(tmp_path):
    data = document.read(EXAMPLE_FILES[0]).data
    (tmp_path / "m.json").write_text(json.dumps(data))
    assert description.dump(description.load(tmp_path / "m.json")) == description.dump(
        description.load(EXAMPLE_FILES[0])
    )


def test_json_of_any_text():
    data = {"tab\t": "\t", "face": "\U0001f600", "slash": "\\\\ud83d", "number": 1e-07, "words": ["no", "1e3", "~"]}
    for text in (json.dumps(data), json.dumps(data, ensure_ascii=False), json.dumps(data, indent="\t")):
        assert document.parse(text, "m.json").data == data


# --- the JSON Schema --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "op", ["GroupNormalization, num_groups: 2", "MeanVarianceNormalization, axes: [0, 2, 3]", "Swish"]
)
def test_ops_that_the_standard_gives_a_body_alone_have_shapes(op):
    nodes = f"- {{op: {op}}}\n- {{name: y, op: Conv, channels: 4, kernel_shape: 3}}"
    model = load(nodes, inputs="{x: {shape: [batch, 4, 8, 8]}}")
    assert list(model.outputs[0].shape)[1:] == [4, 6, 6]


def test_a_dtype_is_called_by_its_name():
    text = "dlbridge: 1\nname: m\ninputs: {x: {dtype: float32, shape: [4]}}\nnodes: [{name: y, op: Cast, to: TO}]\n"
    named, numbered = (description.load(text.replace("TO", to) + "outputs: [y]\n") for to in ("float16", "10"))
    assert named.outputs[0].dtype == numbered.outputs[0].dtype == ir.DataType.FLOAT16
    assert "to: float16" in description.dump(named)


def test_the_json_schema_is_not_stale():
    kept = json.loads((ROOT / schema.SCHEMA_FILE).read_text())
    assert kept == schema.json_schema(), f"run: python -m dlbridge schema > {schema.SCHEMA_FILE}"


def test_the_json_schema_knows_right_from_wrong():
    validator = jsonschema.Draft202012Validator(schema.json_schema())
    jsonschema.Draft202012Validator.check_schema(validator.schema)
    for example in EXAMPLE_FILES:
        data = document.read(example).data
        validator.validate(data)
        validator.validate(description.describe(description.load(example)))
    good = document.read(EXAMPLES / "mlp_784.yaml").data
    for change in (
        {"dlbridge": 2},
        {"nodes": [{"op": "Softmax", "axs": 1}]},
        {"nodes": [{"op": "Softmax", "axis": "last"}]},
        {"nodes": [{"name": "y"}]},
        {"nodes": [{"op": "Linear", "features": 3, "initializers": {"weight": "he_norml"}}]},
        {"output": ["y"]},
        {"training": {**good["training"], "optimizer": {"kind": "adm"}}},
    ):
        assert list(validator.iter_errors({**good, **change})), change
