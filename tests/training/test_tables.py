"""A table that is looked up trains as any other weight: rows that a batch does not read are decayed too."""

import numpy as np
import onnx
import onnx_ir
import pytest

import dlbridge
from dlbridge.errors import SignatureError
from dlbridge.training.spec import TrainingSpec
from tests.helpers.paths import ROOT
from tests.helpers.training import largest_difference

RNG = np.random.default_rng(0)
ROWS = {"tokens": RNG.integers(0, 1000, (24, 6)), "label": RNG.integers(0, 4, 24)}


@pytest.mark.parametrize("more", [{}, {"accumulate": 2}, {"clip": {"norm": 0.1}}])
def test_the_frameworks_agree(more):
    model = dlbridge.load(ROOT / "examples" / "transformer_encoder.yaml")
    optimizer = {"kind": "adamw", "weight_decay": 0.1, "epsilon": 1e-3}
    spec = TrainingSpec(loss={"op": "SoftmaxCrossEntropyLoss"}, optimizer=optimizer, batch_size=8, epochs=2, **more)
    found = [dlbridge.train(model, ROWS, framework=name, spec=spec).model.weights for name in ("pytorch", "keras")]
    # a softmax does not see the bias of the keys: it has no gradient but rounding
    weights = [{n: w for n, w in found_.items() if not n.endswith("key.bias")} for found_ in found]
    assert largest_difference(*weights) <= 1e-4


@pytest.mark.parametrize("wrong", [1000, -1])
def test_a_number_that_is_no_row_of_a_table_is_named_in_every_framework(wrong):
    model = dlbridge.load(ROOT / "examples" / "transformer_encoder.yaml")
    tokens = np.where(np.arange(24)[:, None] == 7, wrong, ROWS["tokens"])
    for framework in ("pytorch", "keras", "nnx"):
        with pytest.raises(SignatureError, match=rf"tokens: {wrong} in row 7 is no row of the table '.*which has 1000"):
            dlbridge.train(model, {**ROWS, "tokens": tokens}, framework=framework)


def test_rows_that_a_gather_counts_from_the_end_are_rows():
    text = "<ir_version: 11, opset_import: ['': 24]> m (int64[n] x) => (float[n, 2] y) { y = Gather (w, x) }"
    model = onnx.parser.parse_model(text.replace("'", '"'))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 2), np.float32), "w"))
    read = dlbridge.Model(onnx_ir.from_proto(model))
    data = {"x": np.array([-4, 3]), "label": np.ones((2, 2))}
    spec = TrainingSpec(loss={"op": "MeanSquaredError"})
    assert dlbridge.evaluate(read, data, spec=spec)["loss"] == 0
    with pytest.raises(SignatureError, match="4 in row 1 is no row of the table 'w'"):
        dlbridge.evaluate(read, {**data, "x": np.array([0, 4])}, spec=spec)
