"""Written Keras models: control flow, sizes and numbers known only at run time, types, files."""

from __future__ import annotations

import math
from pathlib import Path

import keras
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import tensorflow

from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.model import Model
from dlbridge.ops import traits
from tests.helpers.onnx_text import model

KERAS = frameworks.get("keras")
RNG = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def check(built: Model, *runs: dict[str, np.ndarray], text: str = "", tolerance: float = 1e-5) -> keras.Model:
    """Compare a written model with onnxruntime, and its source with a piece of text; gives the live one."""
    judge = onnxruntime.InferenceSession(ir.to_proto(built.ir).SerializeToString())
    source = KERAS.write(built)
    live = KERAS.load(source)
    assert text in source.text
    for given in runs:
        expected = judge.run(None, given)
        for got, right in zip(KERAS.run(live, given).values(), expected, strict=True):
            right = np.asarray(right)
            assert got.dtype == right.dtype
            assert got.shape == right.shape
            np.testing.assert_allclose(got, right, tolerance, tolerance)
    return live


# --- what a layer does along ---------------------------------------------------------------------------------------

POOLED = """m (float[B, 3, 6, 5] x) => (float[B, C] y{more}) {{
    c = Conv (x, w)
    p = Global{kind}Pool (c)
    y = {drop}
    {rest}
}}"""


@pytest.mark.parametrize("kind", ["Average", "Max"])
@pytest.mark.parametrize("drop", ["Flatten (p)", "Squeeze (p, axes)", "Squeeze (p, negative)"])
def test_a_pooling_layer_drops_the_axes_that_it_pools_over(kind: str, drop: str) -> None:
    text = POOLED.format(kind=kind, drop=drop, more="", rest="")
    axes = {"axes": np.array([2, 3]), "negative": np.array([-1, -2])}
    built = model(text, w=normal(4, 3, 2, 2), **{name: a for name, a in axes.items() if f" {name})" in drop})
    live = check(built, {"x": normal(2, 3, 6, 5)}, text=f"layers.Global{kind}Pooling2D(name=")
    assert [type(part).__name__ for part in live.layers][-1] == f"Global{kind}Pooling2D"


def test_a_pooling_layer_keeps_axes_that_something_else_reads() -> None:
    text = POOLED.format(kind="Average", drop="Flatten (p)", more=", float[B, C, 1, 1] z", rest="z = Neg (p)")
    built = model(text, w=normal(4, 3, 2, 2))
    check(built, {"x": normal(2, 3, 6, 5)}, text="layers.GlobalAveragePooling2D(keepdims=True")


# --- control flow --------------------------------------------------------------------------------------------------


def test_branches_of_one_shape_are_a_branch_of_the_graph() -> None:
    text = """m (bool c, float[B] x) => (float[B] y) {
        double = Add (x, x)
        y = If (c) <
            then_branch = yes () => (float[B] a) { a = Mul (double, x) },
            else_branch = no () => (float[B] b) { b = Neg (double) }
        >
    }"""
    runs = [{"c": np.array(c), "x": normal(4)} for c in (True, False)]
    check(model(text), *runs, text="ops.cond(")


def test_branches_of_other_shapes_run_eagerly() -> None:
    text = """m (bool c, float[B, 3] x) => (float[N] y) {
        y = If (c) <
            then_branch = yes () => (float[M] a) { shape = Constant <value = int64[1] {-1}> ()  a = Reshape (x, shape) },
            else_branch = no () => (float[N] b) { one = Constant <value = int64[1] {1}> ()  b = ReduceSum <keepdims = 0> (x, one) }
        >
    }"""  # noqa: E501
    runs = [{"c": np.array(c), "x": normal(4, 3)} for c in (True, False)]
    check(model(text), *runs, text="run_eagerly=True")


LOOP = """c2 = Identity (c)
    m = MatMul (h, w)
    h2 = Tanh (m)"""


def test_counted_loop_is_unrolled() -> None:
    text = f"""m (float[B, 3] x) => (float[B, 3] y, float[5, B, 3] all) {{
        y, all = Loop (n, yes, x) <body = step (int64 i, bool c, float[B, 3] h) =>
            (bool c2, float[B, 3] h2, float[B, 3] h3) {{ {LOOP}  h3 = Identity (h2) }}>
    }}"""
    built = model(text, w=normal(3, 3), n=np.array(5), yes=np.array(True))
    check(built, {"x": normal(2, 3)}, {"x": normal(4, 3)}, text="loop_counted(lambda *args: ")


def test_loop_of_any_length_keeps_its_weights() -> None:
    text = f"""m (int64 n, float[B, 3] x) => (float[B, 3] y) {{
        y = Loop (n, , x) <body = step (int64 i, bool c, float[B, 3] h) => (bool c2, float[B, 3] h2) {{ {LOOP} }}>
    }}"""
    runs = [{"n": np.array(n), "x": normal(2, 3)} for n in (0, 1, 7)]
    live = check(model(text, w=normal(3, 3)), *runs, text="loop_while(")
    assert [tuple(v.shape) for v in live.trainable_variables] == [(3, 3)]


def test_loop_ends_when_its_condition_does() -> None:
    text = """m (float[B] x) => (float[B] y, int64[N] counts) {
        y, counts = Loop (, yes, x) <body = step (int64 i, bool c, float[B] h) => (bool more, float[B] h2, int64 j) {
            h2 = Add (h, h)
            size = ReduceMax <keepdims = 0> (h2)
            more = Less (size, hundred)
            j = Identity (i)
        }>
    }"""
    built = model(text, yes=np.array(True), hundred=np.array(100, np.int64).astype(np.float32))
    traits.set_kind(built.graph.initializers["hundred"], "constant")
    check(built, {"x": np.array([1, 2, 3], np.float32)}, {"x": np.array([60, 70], np.float32)}, text=" loop(")


@pytest.mark.parametrize("backwards", [False, True])
def test_scan_over_a_length_that_is_not_known(backwards: bool) -> None:
    direction = "scan_input_directions = [1], scan_output_directions = [1], " if backwards else ""
    text = f"""m (float[B, 3] h, float[B, T, 3] x) => (float[B, 3] end, float[B, T, 3] all) {{
        end, all = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], {direction}
            body = step (float[B, 3] s, float[B, 3] e) => (float[B, 3] s2, float[B, 3] s3)
                {{ m = MatMul (s, w)  a = Add (m, e)  s2 = Tanh (a)  s3 = Neg (s2) }}> (h, x)
    }}"""
    runs = [{"h": normal(b, 3), "x": normal(b, t, 3)} for b, t in ((2, 4), (3, 1))]
    live = check(model(text, w=normal(3, 3)), *runs, text="scan(")
    predicted = live.predict([runs[0]["h"], runs[0]["x"]], verbose=0)
    np.testing.assert_allclose(predicted[1], KERAS.run(live, runs[0])["all"], atol=1e-6)


# --- numbers and sizes that are known only at run time -------------------------------------------------------------


EAGER = """m (float[B, 2, 6, 6] x, int64[2] axes, int64[1] k) => (float[B, K] top, int64[B, K] places) {
    c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
    r = Relu (c)
    m = ReduceMax <keepdims = 0> (r, axes)
    f = Flatten (m)
    l = MatMul (f, v)
    top, places = TopK (l, k)
}"""


def test_layers_beside_numbers_read_from_tensors_are_built_and_saved(tmp_path: Path) -> None:
    built = model(EAGER, w=normal(4, 2, 3, 3), b=normal(4), v=normal(4, 5))
    given = {"x": normal(3, 2, 6, 6), "axes": np.array([-1, 2]), "k": np.array([2])}
    live = check(built, given, text="run_eagerly=True")
    before = KERAS.run(live, given)
    weights = KERAS.weights(live)
    assert sorted(tuple(w.shape) for w in weights.values()) == [(3, 3, 2, 4), (4,), (4, 5)]
    live.save_weights(tmp_path / "m.weights.h5")
    again = KERAS.write(built).execute()["build_model"]()
    if "build" in type(again).__dict__:
        again.build(None)
    again.load_weights(tmp_path / "m.weights.h5")
    for name, array in zip(before, again([given[n] for n in ("x", "axes", "k")]), strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(array), before[name])


def test_models_that_read_numbers_say_so_when_traced() -> None:
    live = KERAS.load(KERAS.write(model("m (float[B, 3] x, int64[1] k) => (float[B, 3] y) { y = CumSum (x, k) }")))
    with pytest.raises(Exception, match="symbolic"):
        tensorflow.function(live)([tensorflow.constant(normal(2, 3)), tensorflow.constant([1])])


@pytest.mark.parametrize(
    "text",
    [
        "m (float[B, T, 4] x) => (float[N, M] y) { y = Flatten <axis = 2> (x) }",
        "m (float[B, T, 4] x) => (float[B, N] y) { y = Flatten (x) }",
        "m (float[B, T, 4] x, float[B, T, 1] z) => (float[B, T, 4] y) { s = Shape (x)  y = Expand (z, s) }",
        "m (float[B, T, 4] x) => (float[T, B, 2, 2] y) "
        "{ s = Shape (x)  a = Slice (s, one, two)  b = Slice (s, zero, one)  c = Concat <axis = 0> (a, b, twos) "
        "  y = Reshape (x, c) }",
        "m (float[B, T, 4] x) => (float[B, T, 4] y) "
        "{ s = Shape (x)  y = ConstantOfShape <value = float[1] {2.5}> (s) }",
        "m (float[B, T, 4] x) => (int64[T] y) { s = Shape <start = 1, end = 2> (x)  t = Squeeze (s) "
        "  y = Range (nought, t, unit) }",
        "m (float[B, T, 4] x) => (float[B, N, 4] y) { s = Shape <start = 1, end = 2> (x)  t = Sub (s, one) "
        "  y = Slice (x, zero, t, one) }",
        "m (float[B, T, 4] x) => (float[B, T, 4] y) { y = Hardmax <axis = 1> (x) }",
        "m (float[B, T, 4] x) => (int64[B, 4] y) { y = ArgMax <axis = 1, keepdims = 0, select_last_index = 1> (x) }",
        "m (float[B, T, 4] x) => (float[B, T, 4] y) { y = Trilu <upper = 0> (x) }",
    ],
)
def test_two_sizes_that_are_not_known(text: str) -> None:
    constants = {"one": [1], "two": [2], "zero": [0], "twos": [2, 2], "nought": 0, "unit": 1}
    used = {n: np.array(v) for n, v in constants.items() if f"({n}" in text or f" {n}" in text}
    check(model(text, **used), {"x": normal(2, 3, 4), "z": normal(2, 3, 1)} if "z)" in text else {"x": normal(2, 3, 4)})
    check(model(text, **used), {"x": normal(3, 5, 4), "z": normal(3, 5, 1)} if "z)" in text else {"x": normal(3, 5, 4)})


def test_outputs_that_follow_from_no_input() -> None:
    text = "m (float[B, 3] x) => (float[B, 3] y, float[2, 2] e) { y = Relu (x)  e = EyeLike (w) }"
    built = model(text, w=np.zeros((2, 2), np.float32))
    traits.set_kind(built.graph.initializers["w"], "constant")
    check(built, {"x": normal(2, 3)})


def test_model_without_inputs_is_called_with_none() -> None:
    text = "m () => (float[1, 3, 1, 1] y) { c = Constant <value = float[1, 1, 2, 2] {1, 2, 3, 4}> ()  y = Conv (c, w) }"
    check(model(text, w=normal(3, 1, 2, 2)), {}, text="inputs=None")


# --- types ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float", "double", "float16", "bfloat16", "int8", "int32", "int64", "uint8"])
def test_arithmetic_keeps_the_type(dtype: str) -> None:
    text = f"""m ({dtype}[B, 3] x, {dtype}[3] z) => ({dtype}[B, 3] a, {dtype}[B, 3] b, {dtype}[B] c, {dtype}[B, 3] d) {{
        a = Mul (x, z)  s = Sub (a, z)  b = Max (s, x)  c = ReduceMax <keepdims = 0> (b, one)
        t = Less (a, b)  d = Where (t, x, z)
    }}"""
    numpy = {"float": np.float32, "double": np.float64}.get(dtype) or ir.DataType[dtype.upper()].numpy()
    given = {"x": np.array([[1, 2, 3], [4, 1, 2]]).astype(numpy), "z": np.array([1, 2, 1]).astype(numpy)}
    source = KERAS.write(model(text, one=np.array([1])))
    out = KERAS.run(KERAS.load(source), given)
    x, z = (v.astype(np.float64) for v in given.values())
    b = np.maximum(x * z - z, x)
    for got, right in zip(out.values(), (x * z, b, b.max(1), np.where(x * z < b, x, z)), strict=True):
        assert got.dtype == np.dtype(numpy)
        np.testing.assert_allclose(got.astype(np.float64), right)


@pytest.mark.parametrize("number", [22, 21, 23, 18, 20, 24])
def test_types_that_keras_lacks_are_refused_by_name(number: int) -> None:
    with pytest.raises(UnsupportedOpError, match=ir.DataType(number).name):
        KERAS.write(model(f"m (float[B] x) => (float[B] y) {{ a = Cast <to = {number}> (x)  y = Cast <to = 1> (a) }}"))


def test_float8_saturates_or_overflows_as_the_standard_says() -> None:
    x = np.array([0.3, 449.0, 465.0, -1e6, np.inf, np.nan], np.float32)
    for target, largest in ((17, 448.0), (19, 57344.0)):
        for saturate in (0, 1):
            text = f"""m (float[B] x) => (float[B] y)
                {{ a = Cast <to = {target}, saturate = {saturate}> (x)  y = Cast <to = 1> (a) }}"""
            (y,) = KERAS.run(KERAS.load(KERAS.write(model(text))), {"x": x}).values()
            outside = largest if saturate else np.nan if target == 17 else np.inf
            np.testing.assert_array_equal(y[3:], [-outside, outside, np.nan])
            assert y[1] == 448


def test_random_numbers_are_new_unless_seeded() -> None:
    for seed, same in (("", False), (", seed = 7.0", True)):
        text = f"m (float[B, 3] x) => (float[B, 3] y) {{ y = RandomNormalLike <mean = 5.0, scale = 0.1{seed}> (x) }}"
        live = KERAS.load(KERAS.write(model(text)))
        first, second = (KERAS.run(live, {"x": normal(50, 3)})["y"] for _ in range(2))
        assert (first == second).all() == same
        assert abs(first.mean() - 5) < 0.1
        assert 0.05 < first.std() < 0.2


def test_drawn_numbers_follow_their_chances() -> None:
    text = """m (float[B] p, float[1, 3] logits) => (int64[B] b, int32[1, 2000] m) {
        b = Bernoulli <dtype = 7> (p)  m = Multinomial <sample_size = 2000> (logits) }"""
    given = {"p": np.full(2000, 0.2, np.float32), "logits": np.log(np.array([[0.1, 0.6, 0.3]], np.float32))}
    out = KERAS.run(KERAS.load(KERAS.write(model(text))), given)
    assert out["b"].dtype == np.int64
    assert abs(out["b"].mean() - 0.2) < 0.05
    assert out["m"].dtype == np.int32
    np.testing.assert_allclose(np.bincount(out["m"][0]) / 2000, [0.1, 0.6, 0.3], atol=0.06)


# --- files ---------------------------------------------------------------------------------------------------------


def test_model_with_a_layer_of_its_own_is_saved_and_loaded(tmp_path: Path) -> None:
    text = """m (float[B, T, 4] x, bool c) => (float[B, T, 3] y) {
        m = MatMul (x, w)
        y = If (c) <then_branch = a () => (float[B, T, 3] p) { p = Tanh (m) },
                    else_branch = b () => (float[B, T, 3] q) { q = Neg (m) }>
    }"""
    live = check(model(text, w=normal(4, 3)), {"x": normal(2, 5, 4), "c": np.array(False)})
    live.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    given = [normal(3, 2, 4), np.array(True)]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(given)), keras.ops.convert_to_numpy(live(given)))


def test_sums_are_not_taken_for_biases_where_sizes_happen_to_be_equal() -> None:
    text = """m (float[B, 4, T, T] scores, float[B, 1, T, T] mask, float[B, T, 4] x) => (float[B, 4, T, T] s, float[B, T, 4] y) {
        s = Add (scores, mask)  m = ReduceMean (x, last)  y = Add (x, m) }"""  # noqa: E501
    runs = [
        {"scores": normal(b, 4, t, t), "mask": normal(b, 1, t, t), "x": normal(b, t, 4)} for b, t in ((4, 1), (1, 4))
    ]
    check(model(text, last=np.array([-1])), *runs, text="mask + scores")


@pytest.mark.parametrize("condition", [True, False])
def test_branches_hold_convolutions(condition: bool) -> None:
    text = """m (bool c, float[B, 3, 8, 8] x) => (float[B, 4, 8, 8] y) {
        y = If (c) <
            then_branch = yes () => (float[B, 4, 8, 8] a) { p = Conv <pads = [1, 1, 1, 1]> (x, w)  a = PRelu (p, s) },
            else_branch = no () => (float[B, 4, 8, 8] b)
                { q = Concat <axis = 1> (x, x)  b = Slice (q, zero, four, one) }
        >
    }"""
    weights = {"w": normal(4, 3, 3, 3), "s": normal(4, 1, 1), "zero": np.array([0]), "four": np.array([4])}
    live = check(model(text, **weights, one=np.array([1])), {"c": np.array(condition), "x": normal(2, 3, 8, 8)})
    assert len(live.trainable_variables) == 2


def test_double_precision_is_kept() -> None:
    """Keras' own gelu, leaky_relu and fmod of a number go through float32."""
    text = """m (double[B, 5] x) => (double[B, 5] g, double[B, 5] t, double[B, 5] l, double[B, 5] f, double[B, 5] c) {
        g = Gelu (x)  t = Gelu <approximate = "tanh"> (x)  l = LeakyRelu <alpha = 0.1> (x)
        f = Mod <fmod = 1> (x, tenth)  c = Clip (x, zero, tenth)
    }"""
    built = model(text, zero=np.array(0.0), tenth=np.array(0.1))
    for name in ("zero", "tenth"):
        traits.set_kind(built.graph.initializers[name], "constant")
    x = RNG.standard_normal((3, 5))
    out = KERAS.run(KERAS.load(KERAS.write(built)), {"x": x})
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    right = {
        "g": x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
        "t": x / 2 * (1 + np.tanh(inner)),
        "l": np.where(x < 0, 0.1 * x, x),
        "f": np.fmod(x, 0.1),
        "c": x.clip(0, 0.1),
    }
    for name, array in right.items():
        np.testing.assert_allclose(out[name], array, rtol=1e-13, atol=1e-14, err_msg=name)


SHAPELESS = """m (bool c, float[B, 3] x) => (y) {
    y = If (c) <
        then_branch = yes () => (float[1, B, 3] a) { o = Constant <value = int64[1] {0}> ()  a = Unsqueeze (x, o) },
        else_branch = no () => (float[B, 3] b) { b = Neg (x) }
    >
}"""


def test_a_model_of_results_of_several_ranks_predicts_and_is_written(tmp_path: Path) -> None:
    built, x = model(SHAPELESS), normal(4, 3)
    live = KERAS.load(KERAS.write(built))
    assert np.shape(live.predict([np.array([True] * 4), x], verbose=0)) == (1, 4, 3)
    assert np.shape(live.predict([np.array([False] * 4), x], verbose=0)) == (4, 3)
    assert KERAS.write(built).save(tmp_path / "out").exists()
