"""Reading a Keras model changes nothing: not for other threads meanwhile, and not for anybody afterwards."""

from __future__ import annotations

import gc
import linecache
import threading
import warnings

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError
from dlbridge.frameworks.keras import compat
from dlbridge.passes import precision

read = frameworks.get("keras").read


class Gate(L.Layer):
    """Code that calls operations, the backend, layers and what makes tensors of sizes."""

    def __init__(self, meanwhile=lambda: None, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.meanwhile = L.Dense(4), meanwhile

    def build(self, shape):
        self.dense.build(shape)
        self.scale = self.add_weight(name="scale", shape=(4,), initializer="ones")

    def call(self, x):
        self.meanwhile()
        self.last = ops.shape(x)
        steps = ops.cast(ops.arange(ops.shape(x)[1]), "float32")[None, :, None]
        return self.dense(x) * self.scale + steps + compat.backend.nn.softmax(x[:, :, :4])


def _model(**kwargs):
    x = keras.Input((None, 4), name="x")
    return keras.Model(x, Gate(name="gate", **kwargs)(x))


def _state(layer):
    """What there is of Keras, Python and a layer that reading might change."""
    functions = [getattr(module, name) for module, name, _ in compat.seams()]
    kinds = [dict(vars(kind)) for kind in (keras.KerasTensor, keras.Variable, keras.layers.Layer, type(layer))]
    held = {name: id(item) for name, item in vars(layer).items()}
    counts = [len(one._inbound_nodes) + len(one._outbound_nodes) for one in layer._flatten_layers()]
    python = gc.isenabled(), list(warnings.filters), keras.config.floatx(), keras.config.dtype_policy().name
    return [id(f) for f in functions], kinds, held, counts, python


def _in_another_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(_caught(function)))
    thread.start()
    thread.join()
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _caught(function):
    try:
        return function()
    except Exception as error:
        return error


def test_another_thread_uses_keras_as_always():
    """In the midst of a read: functions, tensors without numbers, random numbers, and the very layer that is read."""
    reading, seen = [], []

    def use():
        x = keras.Input((6, 4))
        model = keras.Model(x, L.Dense(2)(x[:, 1:3] * 2.0))
        assert model.output_shape == (None, 2, 2)
        assert np.array_equal(ops.convert_to_numpy(ops.arange(3)), [0, 1, 2])
        assert keras.random.normal((2,)).shape == (2,)
        assert ops.convert_to_numpy(layer(np.ones((1, 3, 4), "float32"))).shape == (1, 3, 4)
        assert isinstance(layer.scale, keras.Variable)
        return True

    def meanwhile():
        if reading and threading.current_thread() is reading[0]:
            seen.append(_in_another_thread(use))

    model = _model(meanwhile=meanwhile)
    layer = model.get_layer("gate")
    layer(np.ones((1, 3, 4), "float32"))
    reading.append(threading.current_thread())
    read(model)
    assert seen and all(seen)


def test_nothing_is_left():
    model = _model()
    layer = model.get_layer("gate")
    dlbridge.load(model)
    before = _state(layer)
    name = L.Dense(2).name
    dlbridge.load(model)
    assert _state(layer) == before
    assert int(L.Dense(2).name.rpartition("_")[2]) == int(name.rpartition("_")[2] or 0) + 1
    assert isinstance(layer.last[0], int | type(None)) or not isinstance(layer.last[0], keras.KerasTensor)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_of_a_read_that_fails(error):
    armed = []

    def meanwhile():
        if armed:
            raise error("stop")

    model = _model(meanwhile=meanwhile)
    layer = model.get_layer("gate")
    before = _state(layer)
    armed.append(True)
    with pytest.raises((UnsupportedOpError, error)):
        read(model)
    assert _state(layer) == before


def test_two_threads_read_at_once():
    models = [_model() for _ in range(4)]
    before = _state(models[0].get_layer("gate"))
    found = []
    threads = [threading.Thread(target=lambda m=m: found.append(_caught(lambda: read(m)))) for m in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(model.graph) for model in found] == [len(found[0].graph)] * 4
    assert _state(models[0].get_layer("gate")) == before


def test_a_model_in_float64_is_loaded_and_run_without_a_setting_for_all():
    model = precision.convert(dlbridge.load(_model()), "float64")
    keras_ = frameworks.get("keras")
    live = keras_.load(model.write("keras"))
    asked = []
    own = keras.config.set_floatx
    keras.config.set_floatx = asked.append
    try:
        live = keras_.load(model.write("keras"))
        (found,) = keras_.run(live, {"x": np.ones((1, 3, 4))}).values()
    finally:
        keras.config.set_floatx = own
    assert found.dtype == np.float64
    assert not asked
    assert keras.config.dtype_policy().name == "float32"


def test_the_text_of_a_file_is_known_for_as_long_as_it_is_in_use():
    source = dlbridge.load(_model()).write("pytorch")
    before = set(linecache.cache)
    names = source.execute()
    (filename,) = set(linecache.cache) - before
    assert linecache.getlines(filename) == source.text.splitlines(keepends=True)
    del names
    gc.collect()
    assert filename not in linecache.cache
