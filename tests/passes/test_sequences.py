"""Sequences in ONNX files that are mere plumbing are resolved to tensors; onnxruntime, which has them, is the judge."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError

SPLIT = "parts = Constant <value_ints = [1, 2, 3]> () q = SplitToSequence <axis = 1> (x, parts)"
#: 1, which the numbers of the input say.
CHOICE = "m = ReduceMax <keepdims = 0> (x) g = Sign (m) i = Cast <to = 7> (g)"

GRAPHS = {
    "parts, from both ends": f"{SPLIT} i = Constant <value_int = -1> () j = Constant <value_int = 0> () "
    "a = SequenceAt (q, i) b = SequenceAt (q, j) y = Mul (a, b)",
    "parts joined again": f"{SPLIT} y = ConcatFromSequence <axis = -1> (q)",
    "parts joined along another axis": "n = Constant <value_int = 2> () q = SplitToSequence <axis = 1> (x, n) "
    "y = ConcatFromSequence <axis = 0> (q)",
    "a part that is chosen": f"n = Constant <value_int = 2> () q = SplitToSequence <axis = 1> (x, n) {CHOICE} "
    "y = SequenceAt (q, i)",
    "a part from the end": f"n = Constant <value_int = 4> () q = SplitToSequence <axis = 1> (x, n) {CHOICE} "
    "j = Neg (i) y = SequenceAt (q, j)",
    "one of equal parts": "n = Constant <value_ints = [3, 3]> () q = SplitToSequence <axis = 1> (x, n) "
    f"{CHOICE} y = SequenceAt (q, i)",
    "a list that is made": "a = Relu (x) b = Neg (x) q = SequenceConstruct (a, x) r = SequenceInsert (q, b) "
    "one = Constant <value_int = 1> () s = SequenceErase (r, one) y = ConcatFromSequence <axis = 1, new_axis = 1> (s)",
    "a list that grows from nothing": "q = SequenceEmpty () r = SequenceInsert (q, x) a = Neg (x) "
    "zero = Constant <value_int = 0> () s = SequenceInsert (r, a, zero) y = ConcatFromSequence <axis = 0> (s)",
    "its length": f"{SPLIT} n = SequenceLength (q) f = Cast <to = 1> (n) y = Mul (x, f)",
    "slices of a size that is not known": "q = SplitToSequence <axis = 0, keepdims = 0> (x) "
    "i = Constant <value_int = 1> () a = SequenceAt (q, i) n = SequenceLength (q) f = Cast <to = 1> (n) y = Mul (a, f)",
    "such slices, stacked": "q = SplitToSequence <axis = 0, keepdims = 0> (x) "
    "y = ConcatFromSequence <axis = -1, new_axis = 1> (q)",
    "such slices, joined": "q = SplitToSequence <axis = 0> (x) y = ConcatFromSequence <axis = 0> (q)",
    "such slices, the last": "q = SplitToSequence <axis = 0> (x) i = Constant <value_int = -1> () "
    "y = SequenceAt (q, i)",
    "parts of a size that is not known": "n = Constant <value_int = 2> () q = SplitToSequence <axis = 0> (x, n) "
    "i = Constant <value_int = 1> () a = SequenceAt (q, i) m = SequenceLength (q) f = Cast <to = 1> (m) y = Mul (a, f)",
    "a slice that is chosen": "q = SplitToSequence <axis = 0, keepdims = 0> (x) n = SequenceLength (q) "
    "one = Constant <value_int = 1> () i = Sub (n, one) y = SequenceAt (q, i)",
    "a sequence read in a branch": f"{SPLIT} i = Constant <value_int = 1> () "
    "n = Size (x) c = Cast <to = 9> (n) y = If (c) <then_branch = t () => (u) { u = SequenceAt (q, i) }, "
    "else_branch = e () => (v) { v = SequenceAt (q, i) }>",
    "a sequence by another name": f"{SPLIT} r = Identity (q) y = ConcatFromSequence <axis = 1> (r)",
    "an optional value": "o = Optional (x) h = OptionalHasElement (o) e = OptionalGetElement (o) "
    "f = Cast <to = 1> (h) y = Mul (e, f)",
}


def _model(body: str, opset: int = 17) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> graph (float[batch, 6] x) => (float y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", GRAPHS)
def test_sequences_become_tensors(name, opset, tmp_path):
    if opset < 15 and ("Optional" in GRAPHS[name] or "Identity" in GRAPHS[name]):
        pytest.skip("there were none of these yet")
    model = _model(GRAPHS[name], opset)
    onnx.save(model, tmp_path / "model.onnx")
    read = dlbridge.load(tmp_path / "model.onnx")
    assert not any("Sequence" in n.op_type or "Optional" in n.op_type for n in read.graph.all_nodes())
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    (right,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(read.to_pytorch()(torch.from_numpy(x)).numpy(), right, 1e-6)
    framework = frameworks.get("onnx")
    (answer,) = framework.run(framework.load(framework.write(read)), {"x": x}).values()
    np.testing.assert_allclose(answer, right, 1e-6)


REFUSED = {
    "a position that is out of range": f"{SPLIT} i = Constant <value_int = 3> () y = SequenceAt (q, i)",
    "parts of different sizes, chosen": f"{SPLIT} {CHOICE} y = SequenceAt (q, i)",
    "slices of unknown number, joined elsewhere": "q = SplitToSequence <axis = 0> (x) "
    "y = ConcatFromSequence <axis = 1> (q)",
    "a list that grows in a loop": "e = SequenceEmpty () n = Constant <value_int = 3> () "
    "c = Constant <value_int = 1> () t = Cast <to = 9> (c) q = Loop (n, t, e) <body = b (int64 i, bool u, "
    "seq(float[batch, 6]) l) => (bool k, seq(float[batch, 6]) m) { k = Identity (u) m = SequenceInsert (l, x) }> "
    "y = ConcatFromSequence <axis = 0> (q)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_sequences_are_refused(name):
    with pytest.raises(UnsupportedOpError):
        dlbridge.load(_model(REFUSED[name]))
