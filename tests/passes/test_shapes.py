"""passes.shapes: dtype and shape of every value."""

import onnx_ir as ir
import pytest

from dlbridge.errors import ShapeError
from dlbridge.model import Model
from dlbridge.passes import shapes
from dlbridge.passes.sizes import Size


def _model(signature: str, body: str) -> Model:
    return Model(
        ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 28, "dlbridge": 1]> g {signature} {{ {body} }}')
    )


def _shape(model: Model, name: str) -> str:
    found = {v.name: v for n in model.graph.all_nodes() for v in n.outputs}[name]
    return f"{found.dtype}{found.shape}"


def test_symbolic_names_go_through_extension_ops_and_subgraphs():
    model = _model(
        "(float[batch, 5] x, bool flag, float[16, 5] W) => (y)",
        """[fc] h = dlbridge.Linear(x, W)
        [choice] y = If(flag) <then_branch = t () => (a) { [relu] a = Relu(h) },
                               else_branch = e () => (b) { [sigmoid] b = Sigmoid(h) }>""",
    )
    shapes.infer(model.ir)
    assert _shape(model, "h") == _shape(model, "a") == _shape(model, "y") == "FLOAT[batch,16]"


def test_shape_arithmetic_is_followed():
    model = _model(
        "(float[batch, 3, 4] x) => (y)",
        """[shape] s = Shape<end = 1>(x)
        [rest] rest = Constant<value = int64[1] {12}>()
        [join] t = Concat<axis = 0>(s, rest)
        [reshape] y = Reshape(x, t)""",
    )
    shapes.infer(model.ir)
    assert _shape(model, "y") == "FLOAT[batch,12]"


@pytest.mark.parametrize("op", ["MatMul", "dlbridge.Linear"])
def test_a_mismatch_names_the_node_and_both_shapes(op):
    model = _model("(float[batch, 3] x, float[16, 5] W) => (y)", f"[fc] y = {op}(x, W)")
    model.graph[0].name = "encoder.fc"
    with pytest.raises(ShapeError) as caught:
        shapes.infer(model.ir)
    assert caught.value.where == "encoder.fc"
    assert "FLOAT[batch,3]" in str(caught.value) and "FLOAT[16,5]" in str(caught.value)


def test_the_reason_is_that_of_the_first_node_that_fails():
    model = _model(
        "(float[batch, 3] x, float[16, 5] W, float[5, 2] V) => (y)",
        "[first] h = MatMul(x, W) [relu] r = Relu(h) [second] y = MatMul(r, V)",
    )
    with pytest.raises(ShapeError, match=r"first: .*W: FLOAT\[16,5\]\): Incompatible dimensions"):
        shapes.infer(model.ir)


def test_mismatched_dtypes():
    model = _model("(float[2] x, int64[2] k) => (y)", "[add] y = Add(x, k)")
    with pytest.raises(ShapeError, match=r"add: .*INT64\[2\]"):
        shapes.infer(model.ir)


@pytest.mark.parametrize(
    ("signature", "body", "shape"),
    [
        ("(float[n, 3, h, w] x, float[8, 3, 3, 3] k) => (y)", "[c] y = Conv<pads = [1, 1, 1, 1]>(x, k)", "n,8,h,w"),
        (
            "(float[n, 3, h, w] x, float[8, 3, 3, 3] k) => (y)",
            "[c] y = Conv<strides = [2, 2]>(x, k)",
            "n,8,((h - 3)//2) + 1,((w - 3)//2) + 1",
        ),
        ("(float[n, 3, h] x) => (y)", "[p] y = MaxPool<kernel_shape = [2], strides = [2]>(x)", "n,3,((h - 2)//2) + 1"),
        ("(float[n, 3, h] x, float[3, 4, 2] k) => (y)", "[c] y = ConvTranspose<strides = [2]>(x, k)", "n,4,2*h"),
        ("(float[n, a] x, float[n, b] z) => (y)", "[c] y = Concat<axis = 1>(x, z)", "n,a + b"),
        ("(float[n, s, 8] x) => (y)", "[f] y = Flatten(x)", "n,8*s"),
        ("(float[n, s] x) => (y)", "[a] z = Relu(x) [s] t = Shape(z) [f] y = ConstantOfShape(t)", "n,s"),
        (
            "(float[n, s] x) => (y)",
            "[z] o = Constant<value_ints = [1]>() [e] e = Constant<value_ints = [-1]>() [s] y = Slice(x, o, e, o)",
            "n,s - 2",
        ),
        (
            "(float[n, s, 8] x) => (y)",
            "[t] t = Constant<value_ints = [-1, 2, 4]>() [r] r = Reshape(x, t) [a] a = Relu(r) [m] y = Mul(a, r)",
            "n*s,2,4",
        ),
    ],
)
def test_sizes_that_onnx_leaves_open(signature, body, shape):
    model = _model(signature, body)
    shapes.infer(model.ir)
    assert str(model.outputs[0].shape) == f"[{shape}]"


@pytest.mark.parametrize(
    ("text", "again"), [("2*batch", "2*batch"), ("h//2", "(h//2)"), ("1 + seq", "seq + 1"), ("2*(h//2)", "2*(h//2)")]
)
def test_names_of_sizes_mean_the_same_when_read_again(text, again):
    size = Size.of(text)
    assert str(size) == again
    assert Size.of(str(size)) == size


def test_arithmetic_of_sizes():
    b, s = Size.of("b"), Size.of("s")
    assert (b * s * Size.of(4)).over(s) == Size.of("4*b")
    assert (b + s - b) == s
    assert b.over(s) is None and (b // Size.of(2)) != b
    assert (Size.of(7) // Size.of(2)).number == 3


def test_a_table_made_of_vectors():
    """onnx itself takes the two axes, of sizes 4 and 3, for shapes to be broadcast."""
    model = _model(
        "(float[n, 12] x) => (y)",
        """[zero] zero = Constant<value_int = 0>() [one] one = Constant<value_int = 1>()
        [four] four = Constant<value_int = 4>() [three] three = Constant<value_int = 3>()
        [first] first = Constant<value_ints = [0]>() [second] second = Constant<value_ints = [1]>()
        [columns] columns = Range(zero, four, one) [across] across = Unsqueeze(columns, first)
        [rows] rows = Range(zero, three, one) [down] down = Unsqueeze(rows, second)
        [add] index = Add(across, down) [take] y = Gather<axis = 1>(x, index)""",
    )
    shapes.infer(model.ir)
    assert _shape(model, "y") == "FLOAT[n,3,4]"


@pytest.mark.parametrize(
    "text",
    [
        "-" * 100_000 + "n",
        "+".join(["n"] * 20_000),
        "(" * 400 + "n" + ")" * 400,
        "*".join(f"(a{i} + b{i})" for i in range(60)),
    ],
    ids=["signs", "long", "nested", "product of sums"],
)
def test_text_from_a_file_does_not_grow_beyond_bounds(text):
    size = Size.of(text)
    assert len(size.terms) <= 1000 and size == Size.of(text)
