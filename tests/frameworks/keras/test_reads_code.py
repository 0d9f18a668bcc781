"""Custom layers and subclassed models, read by running their code without numbers."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

from dlbridge import frameworks
from dlbridge.errors import DlbridgeWarning, SignatureError, UnsupportedOpError
from dlbridge.ops import traits
from tests.helpers.keras_reading import errors, inputs_of, randomise

read = frameworks.get("keras").read
ALL = ("onnx", "pytorch", "keras")
ONNX = frameworks.get("onnx")


class Heads(layers.Layer):
    """Attention written by hand: reshapes with sizes that are asked for, a weight of its own, layers in attributes."""

    def __init__(self, heads, size, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.size = heads, size
        self.qkv, self.proj = layers.Dense(3 * heads * size), layers.Dense(heads * size)

    def build(self, shape):
        self.qkv.build(shape)
        self.proj.build((*shape[:-1], self.heads * self.size))
        self.scale = self.add_weight(name="scale", shape=(self.heads, 1, 1), initializer="ones")

    def call(self, x):
        batch, time, _ = ops.shape(x)
        qkv = ops.reshape(self.qkv(x), (batch, time, 3, self.heads, self.size))
        q, k, v = (ops.squeeze(p, 0) for p in ops.split(ops.transpose(qkv, (2, 0, 3, 1, 4)), 3, axis=0))
        scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * self.scale / ops.sqrt(float(self.size)))
        return self.proj(ops.reshape(ops.transpose(ops.matmul(scores, v), (0, 2, 1, 3)), (batch, time, -1)))


class Positions(layers.Layer):
    """What is added for each place: rows of a table, as many as there are places."""

    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def build(self, shape):
        self.table = layers.Embedding(20, shape[-1])
        self.table.build(None)
        self.rows = self.add_weight(name="rows", shape=(1, 20, shape[-1]), initializer="normal")

    def call(self, x):
        time = ops.shape(x)[1]
        if self.how == "arange":
            return x + self.table(ops.arange(time))
        if self.how == "slice":
            return x + self.rows[:, :time]
        if self.how == "last":
            return x + self.rows[:, -time:]
        return x + ops.slice(self.rows, (0, 0, 0), (1, time, x.shape[2]))


class Halves(layers.Layer):
    def call(self, x):
        half = ops.shape(x)[1] // 2
        return ops.concatenate([x[:, half:], x[:, :half]], axis=1)


class Even(layers.Layer):
    """Padded to an even size: the rest is a number that stands for itself elsewhere in the code, too."""

    def call(self, x):
        padded = ops.pad(x, [[0, 0], [0, ops.shape(x)[1] % 2], [0, 0]])
        return padded[:, 1:] + 1.0

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], None, x.shape[2]), x.dtype)


class Start(layers.Layer):
    """A row that is learnt, once for each of the batch, in front of all others."""

    def build(self, shape):
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]), initializer="normal")

    def call(self, x):
        batch = ops.shape(x)[0]
        zeros = ops.zeros((batch, 1, x.shape[-1]))
        return ops.concatenate([ops.broadcast_to(self.token, (batch, 1, x.shape[-1])), x + 1.0, zeros], axis=1)


def around(layer, shape=(None, 8)):
    x = keras.Input(shape, name="x")
    return randomise(keras.Model(x, layer(x)))


CUSTOM = {
    "heads": lambda: Heads(2, 4, name="mine"),
    "positions by arange": lambda: Positions("arange", name="mine"),
    "positions by slice": lambda: Positions("slice", name="mine"),
    "last positions": lambda: Positions("last", name="mine"),
    "positions by ops.slice": lambda: Positions("ops", name="mine"),
    "halves": lambda: Halves(name="mine"),
    "even": lambda: Even(name="mine"),
    "start": lambda: Start(name="mine"),
}


@pytest.mark.parametrize("name", CUSTOM)
def test_a_custom_layer_at_any_length(name):
    model = around(CUSTOM[name]())
    found = read(model)
    for length in (6, 11):
        assert max(errors(model, ALL if length == 6 else ("onnx",), read=found, x_1=length).values()) <= 1e-5


def test_weights_of_a_custom_layer_go_by_its_attributes():
    found = read(around(Heads(2, 4, name="mine")))
    kinds = {v.name: traits.kind(v) for v in found.graph.initializers.values()}
    assert {n for n, k in kinds.items() if k == "parameter"} == {
        *("mine.scale", "mine.qkv.weight", "mine.qkv.bias", "mine.proj.weight", "mine.proj.bias"),
    }
    assert traits.blocks(found.graph)["mine"] == "Heads"


def test_weights_survive_where_they_meet_constants_alone():
    found = read(around(Positions("arange", name="mine"), (6, 8)))
    assert traits.kind(found.graph.initializers["mine.table.weight"]) == "parameter"


class Network(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [layers.Dense(8, activation="relu") for _ in range(2)]
        self.norm, self.drop, self.head = layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(2, name="out")

    def call(self, x, training=False):
        for block in self.blocks:
            x = x + block(x)
        return {"logits": self.head(self.drop(self.norm(x), training=training)), "features": x}


def test_a_subclassed_model():
    model = Network(name="network")
    with pytest.raises(SignatureError, match="inputs="):
        read(model)
    model(np.zeros((2, 8), np.float32))
    found = read(randomise(model))
    assert [v.name for v in found.outputs] == ["features", "logits"]
    assert {"blocks.0.weight", "blocks.1.bias", "norm.running_mean", "out.weight"} <= set(found.graph.initializers)
    assert max(errors(model, ALL, read=found).values()) <= 1e-5


def test_inputs_of_a_subclassed_model_may_be_given():
    model = Network(name="network")
    model(np.zeros((2, 8), np.float32))
    found = read(model, inputs={"x": "float32[rows,8]"})
    assert [(v.name, [str(d) for d in v.shape]) for v in found.inputs] == [("x", ["rows", "8"])]


class Tied(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.embed = layers.Embedding(11, 8)

    def call(self, x):
        return ops.matmul(self.embed(x), ops.transpose(self.embed.embeddings))


def test_a_tied_weight_is_one():
    model = Tied(name="tied")
    model(np.zeros((2, 6), np.int32))
    found = read(model, inputs={"x": "int32[batch,time]"})
    weights = [v for v in found.graph.initializers.values() if traits.kind(v) != "constant"]
    assert [v.name for v in weights] == ["embed.weight"]
    assert errors(model, read=found)["onnx"] <= 1e-6


class AsksForNumbers(layers.Layer):
    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how = how

    def compute_output_shape(self, shape):
        return shape

    def call(self, x):
        time = ops.shape(x)[1]
        if self.how == "branch":
            return x if time > 100 else x * 2
        if self.how == "root":
            return x / float(time) ** 0.5
        return x * np.sum(np.arange(time))


def test_code_that_needs_the_number_of_a_size_is_refused():
    with pytest.raises(UnsupportedOpError, match="mine: AsksForNumbers"):
        read(around(AsksForNumbers("numpy", name="mine")))


@pytest.mark.parametrize("how", ["branch", "root"])
def test_code_that_asks_for_the_number_of_a_size_is_asked_by_tensorflow(how):
    model = around(AsksForNumbers(how, name="mine"))
    found = read(model)
    for length in (50, 150):
        assert errors(model, read=found, x_1=length)["onnx"] <= 1e-6


def test_code_that_needs_the_number_of_a_size_is_read_where_it_is_known():
    for how in ("branch", "root", "numpy"):
        assert errors(around(AsksForNumbers(how, name="mine"), (5, 8)))["onnx"] <= 1e-6


class Scaled(layers.Dense):
    """A subclass that changes what ``call`` does must not be taken for its base."""

    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs)


def test_a_subclass_of_a_layer_is_opened():
    model = around(Scaled(3, name="mine"), (8,))
    found = read(model)
    assert {"mine.kernel", "mine.bias"} <= set(found.graph.initializers)
    assert errors(model, read=found)["onnx"] <= 1e-6


def test_a_custom_cell_is_walked_step_by_step():
    @keras.saving.register_keras_serializable("tests")
    class Cell(layers.Layer):
        def __init__(self, units, **kwargs):
            super().__init__(**kwargs)
            self.state_size, self.dense = units, layers.Dense(units, activation="tanh")

        def build(self, shape):
            self.dense.build((shape[0], shape[1] + self.state_size))

        def call(self, x, states):
            y = self.dense(ops.concatenate([x, states[0]], axis=-1))
            return y, [y]

    model = around(layers.RNN(Cell(3), return_sequences=True, name="rnn"), (4, 2))
    found = read(model)
    assert {"rnn.cell.dense.weight", "rnn.cell.dense.bias"} <= set(found.graph.initializers)
    assert max(errors(model, ALL, read=found).values()) <= 1e-5


class CallsTensorFlow(layers.Layer):
    def __init__(self, how, **kwargs):
        super().__init__(**kwargs)
        self.how, self.conv = how, layers.Conv1D(3, 2)

    def build(self, shape):
        self.conv.build(shape)
        self.scale = self.add_weight(name="scale", shape=(3, 5), initializer="normal")

    def call(self, x):
        import tensorflow as tf

        if self.how == "erfinv":
            return tf.math.erfinv(tf.tanh(x))
        return tf.nn.relu(tf.linalg.matmul(tf.reverse(self.conv(x), [1]), self.scale)) * tf.cast(
            tf.shape(x)[1], x.dtype
        )


def test_code_that_calls_tensorflow_goes_through_tf2onnx():
    model = around(CallsTensorFlow("mine", name="mine"))
    found = read(model)
    kinds = {v.name: traits.kind(v) for v in found.graph.initializers.values()}
    trained = {n for n, k in kinds.items() if k == "parameter"}
    assert trained == {"mine.scale", *(f"mine.{model.get_layer('mine').conv.name}.{w}" for w in ("kernel", "bias"))}
    for length in (6, 9):
        assert max(errors(model, ALL, read=found, x_1=length).values()) <= 1e-5


class InTensorFlow(layers.Layer):
    """Holds a layer, which may add a loss, and a counter, which it may multiply by."""

    def __init__(self, regularized=False, counts=False, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(4, activity_regularizer="l2" if regularized else None)
        self.counts = counts

    def build(self, shape):
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        import tensorflow as tf

        self.calls.assign_add(1.0)
        return self.inner(tf.reverse(x, [1])) * (self.calls if self.counts else 1.0)


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, None), ({"regularized": True}, "its code adds a loss"), ({"counts": True}, "keeps calls for its next call")],
)
def test_what_code_that_calls_tensorflow_does_besides_is_told(options, told):
    model = around(InTensorFlow(**options, name="mine"))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", DlbridgeWarning)
        read(model)
    texts = [str(w.message) for w in found if issubclass(w.category, DlbridgeWarning)]
    assert [told in text for text in texts] == ([] if told is None else [True])


def test_what_tf2onnx_does_not_convert_is_refused():
    with pytest.raises(UnsupportedOpError, match="tf2onnx"):
        read(around(CallsTensorFlow("erfinv", name="mine")))


class RoundsDown(layers.Layer):
    """Quotients and remainders of what may be negative, in Keras' sizes and in TensorFlow's."""

    def __init__(self, of, **kwargs):
        super().__init__(**kwargs)
        self.of = of

    def call(self, x):
        length = self.of(x)[1]
        return ops.pad(x[:, : -(-length // 4)], ((0, 0), (0, (-length) % 4), (0, 0)))


def _shape_of_tensorflow(x):
    import tensorflow as tf

    return tf.shape(x)


@pytest.mark.parametrize("of", [ops.shape, _shape_of_tensorflow])
def test_quotients_of_sizes_are_rounded_down(of):
    model = around(RoundsDown(of, name="mine"))
    found = read(model)
    for length in (5, 8):
        assert max(errors(model, ALL, read=found, x_1=length).values()) <= 1e-6


class Sampling(layers.Layer):
    def call(self, x):
        return x + keras.random.normal((8,))


def test_random_numbers_at_inference_are_refused():
    with pytest.raises(UnsupportedOpError, match="random numbers"):
        read(around(Sampling(name="mine")))


class Reports(keras.Model):
    """Gives back more than tensors that follow from its input."""

    def __init__(self):
        super().__init__()
        self.dense, self.scale = keras.layers.Dense(3), self.add_weight(shape=(2,), name="scale")

    def call(self, x):
        length = ops.shape(x)[1]
        known = {"length": length, "length_tensor": length + ops.zeros((), "int32"), "batch": ops.shape(x)[0]}
        return {
            "y": self.dense(x),
            "held": self.scale,
            "pair": ops.array([1.0, 2.0]),
            "rate": 0.5,
            "none": None,
        } | known


def test_what_a_model_gives_back_besides_tensors():
    live = Reports()
    live(np.zeros((2, 7, 6), "float32"))
    model = read(live)
    arrays = inputs_of(model)
    wanted = {k: np.asarray(v) for k, v in live(*arrays.values()).items() if v is not None}
    for got in (model.original(arrays), ONNX.run(ONNX.load(ONNX.write(model)), arrays)):
        assert got.keys() == wanted.keys()
        for name, right in wanted.items():
            assert np.shape(got[name]) == right.shape
            np.testing.assert_allclose(got[name], right, 1e-5, 1e-6)
