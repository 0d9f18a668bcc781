"""passes.fold: what is known before the model runs is computed before it runs."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from dlbridge.model import Model
from dlbridge.ops import traits
from dlbridge.passes import fold, shapes


def _model(signature: str, body: str, weights: dict[str, np.ndarray] | None = None) -> Model:
    text = f'<ir_version: 10, opset_import: ["": 28, "dlbridge": 1]> g {signature} {{ {body} }}'
    model = Model(ir.from_onnx_text(text))
    for name, array in (weights or {}).items():
        value = next(v for v in model.graph.inputs if v.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(value)
        traits.set_kind(value, "parameter")
    shapes.infer(model.ir)
    return model


def _run(model: Model, **feeds: np.ndarray) -> list[np.ndarray]:
    return ReferenceEvaluator(ir.to_proto(model.ir)).run(None, feeds)


def _ops(model: Model) -> list[str]:
    return [n.op_type for n in model.graph.all_nodes()]


def test_shape_arithmetic_of_known_sizes_becomes_a_constant():
    model = _model(
        "(float[batch, 3, 4] x) => (y)",
        """[shape] s = Shape<start = 1>(x)
        [size] n = ReduceProd<keepdims = 1>(s)
        [minus] m = Constant<value_ints = [-1]>()
        [join] t = Concat<axis = 0>(m, n)
        [reshape] y = Reshape(x, t)""",
    )
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    before = _run(model, x=x)[0]
    fold.fold(model.ir)
    assert _ops(model) == ["Reshape"]
    assert model.weights["t"].tolist() == [-1, 12]
    assert {traits.kind(v) for v in model.graph.initializers.values()} == {"constant"}
    np.testing.assert_array_equal(_run(model, x=x)[0], before)


def test_unknown_sizes_stay():
    model = _model("(float[batch, 3] x) => (s)", "[shape] t = Shape(x) [neg] s = Neg(t)")
    fold.fold(model.ir)
    assert _ops(model) == ["Shape", "Neg"]


def test_weights_are_not_folded_and_unused_ones_stay():
    model = _model(
        "(float[2, 3] x, float[3, 3] W, float[3] unused) => (y)",
        "[turn] V = Transpose(W) [mm] y = MatMul(x, V)",
        {"W": np.eye(3, dtype=np.float32), "unused": np.ones(3, np.float32)},
    )
    fold.fold(model.ir)
    assert _ops(model) == ["Transpose", "MatMul"]
    assert set(model.weights) == {"W", "unused"}


def test_what_does_nothing_goes_and_outputs_keep_their_names():
    model = _model(
        "(float[2, 3] x) => (y, z)",
        """[pass1] a = Identity(x) [relu] b = Relu(a) [cast] c = Cast<to = 1>(b) [turn] d = Transpose<perm = [0, 1]>(c)
        [pass2] y = Identity(d) [pass3] z = Identity(x) [dead] e = Exp(a)""",
    )
    fold.fold(model.ir)
    assert _ops(model) == ["Relu", "Identity"]  # an output that is an input itself needs its Identity
    assert [v.name for v in model.outputs] == ["y", "z"]
    x = np.array([[-1, 0, 1]] * 2, np.float32)
    for got, expected in zip(_run(model, x=x), [np.maximum(x, 0), x], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_equal_constants_are_one_and_constants_of_subgraphs_move_up():
    model = _model(
        "(float[2] x, bool flag) => (y)",
        """[c1] one = Constant<value_float = 1.0>() [add] a = Add(x, one)
        [choice] y = If(flag) <
            then_branch = t () => (b) { [c2] uno = Constant<value_float = 1.0>() [sub] b = Sub(a, uno) },
            else_branch = e () => (c) { [c3] two = Constant<value_float = 2.0>() [mul] c = Mul(a, two) }>""",
    )
    fold.fold(model.ir)
    assert sorted(model.weights) == ["one", "two"]
    x = np.array([1, 2], np.float32)
    np.testing.assert_array_equal(_run(model, x=x, flag=np.array(True))[0], x)
    np.testing.assert_array_equal(_run(model, x=x, flag=np.array(False))[0], 2 * x + 2)


def test_equal_tables_are_one_in_a_block_and_stay_apart_in_two():
    model = _model(
        "(float[2, 2] x) => (d)",
        """[a_t1] t = Constant<value_ints = [1, 0]>() [a_t2] u = Constant<value_ints = [1, 0]>()
        [b_t] v = Constant<value_ints = [1, 0]>()
        [a_take1] a = Gather(x, t) [a_take2] b = Gather<axis = 1>(a, u) [b_take] c = Gather(b, v) [b_neg] d = Neg(c)""",
    )
    for node in model.graph:
        node.name = (node.name or "").replace("_", ".")
    fold.fold(model.ir)
    assert sorted(model.weights) == ["t", "v"]


def test_random_ops_and_huge_results_stay():
    model = _model(
        "(float[2] x) => (y, r)",
        """[like] l = Constant<value_floats = [1.0, 2.0]>() [random] r0 = RandomNormalLike(l) [noise] r = Add(x, r0)
        [n] n = Constant<value_ints = [4096, 4096]>() [fill] f = ConstantOfShape(n) [sum] s = ReduceSum(f)
        [add] y = Add(x, s)""",
    )
    fold.fold(model.ir)
    assert {"RandomNormalLike", "ConstantOfShape"} <= set(_ops(model))


def test_reshapes_that_follow_each_other_become_one():
    constants = " ".join(f"[c{k}] k{k} = Constant<value_ints = [{k}]>()" for k in (0, 1, 2, 3, 4, 12))
    model = _model(
        "(float[batch, seq, 12] x) => (y, z)",
        f"""{constants} [shape] s = Shape(x) [first] b = Slice(s, k0, k1) [second] t = Slice(s, k1, k2)
        [flat] f = Flatten<axis = 2>(x) [join] j = Concat<axis = 0>(b, t, k3, k4) [split] h = Reshape(f, j)
        [wide] u = Unsqueeze(h, k0) [back] c = Concat<axis = 0>(b, t, k12) [joined] r = Reshape(u, c) [relu] y = Relu(r)
        [other] o = Concat<axis = 0>(b, t, k4, k3) [turned] z = Reshape(h, o)""",
    )
    x = np.arange(72, dtype=np.float32).reshape(2, 3, 12)
    before = _run(model, x=x)
    fold.fold(model.ir)
    assert sorted(_ops(model)) == ["Relu", "Reshape"]
    for got, expected in zip(_run(model, x=x), before, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_computed_reshape_of_two_open_sizes():
    model = _model(
        "(float[batch, seq, 12] x) => (y)",
        """[c0] zero = Constant<value_ints = [0]>() [c1] two = Constant<value_ints = [2]>()
        [c2] rest = Constant<value_ints = [3, 4]>() [shape] s = Shape(x) [lead] b = Slice(s, zero, two)
        [join] j = Concat<axis = 0>(b, rest) [split] y = Reshape(x, j)""",
    )
    fold.fold(model.ir)
    assert _ops(model) == ["Reshape"]
    assert next(iter(model.weights.values())).tolist() == [0, 0, 3, 4]
    assert _run(model, x=np.zeros((2, 5, 12), np.float32))[0].shape == (2, 5, 3, 4)


_BRANCHES = """[choose] o = If(c) <
    then_branch = yes () => (float[1, b, 4] hh) {[add_axis] hh = Unsqueeze(h, zero)},
    else_branch = no () => (float[b, 4] hi) {[same] hi = Identity(h)}
>"""


def _chosen(condition: str, end: str = "[add] y = Add(o, one)") -> Model:
    text = f"""<ir_version: 10, opset_import: ["": 28]> g (float[b, 4] h) => (y)
        <int64[1] zero = {{0}}, int64 two = {{2}}, float one = {{1.0}}>
        {{ {condition} {_BRANCHES} {end} }}"""
    model = Model(ir.from_onnx_text(text))
    shapes.infer(model.ir)
    return model


@pytest.mark.parametrize(
    ("condition", "rank"),
    [
        ("[ask] c = Constant<value = bool {1}>()", 3),
        ("[ask] c = Constant<value = bool {0}>()", 2),
        ("[shape] s = Shape(h) [size] r = Size(s) [ask] c = Equal(r, two)", 3),
        ("[shape] s = Shape(h) [size] r = Size(s) [ask] c = Less(r, two)", 2),
    ],
)
@pytest.mark.parametrize("end", ["[add] y = Add(o, one)", "[end] y = Identity(o)"])
def test_an_if_whose_condition_is_known_is_the_branch_that_is_taken(condition, rank, end):
    model = _chosen(condition, end)
    h = np.arange(8, dtype=np.float32).reshape(2, 4)
    before = _run(model, h=h)[0]
    fold.fold(model.ir)
    shapes.infer(model.ir)
    assert "If" not in _ops(model)
    assert len(model.outputs[0].shape) == rank == before.ndim
    assert len({n.name for n in model.graph}) == len(model.graph)
    np.testing.assert_array_equal(_run(model, h=h)[0], before)


def test_an_if_inside_the_branch_that_is_taken_is_taken_too():
    text = """<ir_version: 10, opset_import: ["": 28]> g (float[b, 4] h) => (float[b, 4] y) {
        c = Constant<value = bool {1}>()
        y = If(c) <
            then_branch = yes () => (float[b, 4] o) {
                d = Constant<value = bool {0}>()
                o = If(d) <
                    then_branch = inner_yes () => (float[b, 4] p) {p = Neg(h)},
                    else_branch = inner_no () => (float[b, 4] q) {q = Exp(h)}
                >
            },
            else_branch = no () => (float[b, 4] r) {r = Abs(h)}
        > }"""
    model = Model(ir.from_onnx_text(text))
    shapes.infer(model.ir)
    fold.fold(model.ir)
    assert _ops(model) == ["Exp"]


def test_a_factor_of_one_that_changes_no_shape_goes():
    model = _model(
        "(float[batch, 3] x, float[3] W) => (y)",
        """[one] c = Constant<value_float = 1.0>()
        [ones] d = Constant<value_floats = [1.0]>()
        [twice] e = Constant<value = float[1, 1, 1] {1.0}>()
        [a] a = Mul(x, c) [b] b = Div(a, d) [exp] f = Exp(b)
        [lifted] g = Mul(f, e) [weighted] y = Mul(g, W)""",
        {"W": np.ones(3, np.float32)},
    )
    x = np.array([[-0.0, np.nan, 2.0]], np.float32)
    before = _run(model, x=x)[0]
    fold.fold(model.ir)
    assert _ops(model) == ["Exp", "Mul", "Mul"], "not where it adds an axis, and not a parameter"
    np.testing.assert_array_equal(_run(model, x=x)[0], before)


def test_a_reshape_back_to_an_earlier_shape_goes():
    body = """[minus] a = Constant<value_ints = [1]>() [no] s = Squeeze(x, a) [again] u = Unsqueeze(s, a)
        [flat] t = Constant<value_ints = [0, 12]>() f = Reshape(u, t)
        [back] r = Constant<value_ints = [0, 1, 3, 4]>() b = Reshape(f, r)
        [add] c = Add(u, u) [mul] d = Mul(b, s) y = Neg(c) z = Neg(d)"""
    model = _model("(float[batch, 1, 3, 4] x) => (y, z)", body)
    x = np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)
    before = _run(model, x=x)
    fold.fold(model.ir)
    assert _ops(model) == ["Squeeze", "Add", "Mul", "Neg", "Neg"]
    for found, wanted in zip(_run(model, x=x), before, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_reshape_to_sizes_that_may_be_others_stays():
    body = """[minus] a = Constant<value_ints = [0]>() [no] s = Squeeze(x, a) [again] y = Unsqueeze(s, a)
        z = Neg(y)"""
    model = _model("(float[n, 3] x) => (z)", body)  # Squeeze needs n to be 1
    fold.fold(model.ir)
    assert _ops(model)[-1] == "Neg" and "Squeeze" in _ops(model)


def test_a_tensor_filled_with_one_number_is_the_number_where_the_shape_stays():
    body = """[shape] s = Shape(x) [fill] f = ConstantOfShape<value = int64[1] {7}>(s)
        [number] n = Constant<value_ints = [3]>() [spread] e = Expand(n, s)
        [min] m = Min(x, f) [less] b = Less(e, x) [where] y = Where(b, m, e) [wider] z = Min(r, f)"""
    model = _model("(int64[batch, 2, 3] x, int64[1, 3] r) => (y, z)", body)
    x, r = np.arange(12).reshape(2, 2, 3), np.array([[1, 9, 5]])
    before = _run(model, x=x, r=r)
    fold.fold(model.ir)
    assert _ops(model).count("Expand") == 0 and _ops(model).count("ConstantOfShape") == 1  # z has its shape of it
    for found, wanted in zip(_run(model, x=x, r=r), before, strict=True):
        np.testing.assert_array_equal(found, wanted)
