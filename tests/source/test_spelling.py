"""Helpers that are written once, as each framework spells them."""

import ast
import importlib

import pytest

from dlbridge.source import printing
from dlbridge.source.arrays.spelling import Spelling

FORMS = {
    "swapaxes(x, a, b)": "{x}.transpose({a}, {b})",
    "take(x, at, axis=0)": "{x}[{at}]",
    "take(x, at, axis=axis)": "{x}.index_select({axis}, {at})",
    "transpose(x, axes)": "{x}.permute({*axes})",
    "zeros(shape, dtype=x.dtype)": "{x}.new_zeros({shape})",
    "cast(x, dtype)": "{x}.to({dtype})",
}
TORCH = Spelling("torch.", {"concatenate": "torch.cat"}, FORMS, dtypes="torch.")


@pytest.mark.parametrize(
    ("neutral", "spelled"),
    [
        ("ops.exp(x)", "torch.exp(x)"),
        ("ops.concatenate", "torch.cat"),
        ("ops.swapaxes(x, 0, 1)", "x.transpose(0, 1)"),
        ("ops.swapaxes(x + y, 0, 1)", "(x + y).transpose(0, 1)"),
        ("ops.swapaxes(ops.cast(x, 'int32'), 0, 1)", "x.to(torch.int32).transpose(0, 1)"),
        ("ops.cast(x, y.dtype)", "x.to(y.dtype)"),
        ("ops.take(x, i, axis=0)", "x[i]"),
        ("ops.take(x, i, axis=2)", "x.index_select(2, i)"),
        ("ops.transpose(x, (1, *rest, 0))", "x.permute(1, *rest, 0)"),
        ("ops.transpose(x, axes)", "x.permute(*axes)"),
        ("ops.zeros((2, n), dtype=q.k.dtype)", "q.k.new_zeros((2, n))"),
        ("ops.zeros((2, n), dtype='int32')", "torch.zeros((2, n), dtype='int32')"),  # no form: the name alone
        ("f(ops.exp(ops.swapaxes(x, 0, 1)), 'é', ops.exp)", "f(torch.exp(x.transpose(0, 1)), 'é', torch.exp)"),
    ],
)
def test_calls_are_spelled(neutral, spelled):
    assert TORCH.respell(neutral) == spelled


def test_comments_and_lines_stay():
    source = "def f(x):\n    # é: ops.exp\n    y = ops.swapaxes(\n        x,  # why\n        0,\n        1,\n    )\n"
    assert TORCH.respell(source) == "def f(x):\n    # é: ops.exp\n    y = x.transpose(0, 1)\n"


def test_what_means_something_else_is_not_called_by_its_name():
    with pytest.raises(LookupError, match="equal"):
        Spelling("torch.", {}, FORMS, only_named=True).respell("ops.equal(ops.swapaxes(x, 0, 1), y)")


#: Helpers that are written once, and that PyTorch's rules call.
SHARED = (
    *("onnx_lstm", "onnx_gru", "onnx_rnn", "onnx_attention", "rotary_embedding", "deform_conv", "col2im"),
    *("one_hot", "reverse_sequence", "count_ngrams", "max_roi_pool", "mel_weight_matrix"),
)


def test_helpers_call_what_pytorch_has():
    import torch

    from dlbridge.frameworks.pytorch import helpers

    copied = printing.helpers(helpers, SHARED)
    assert set(SHARED) < copied.keys()
    known = {"torch": torch, "F": torch.nn.functional}
    for text in copied.values():
        assert max(map(len, text.splitlines())) <= 120
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
                assert hasattr(known[node.value.id], node.attr), text
            assert not isinstance(node, ast.Name) or node.id != "ops"


@pytest.mark.parametrize("name", ["keras", "nnx"])
def test_no_spelling_makes_a_line_too_long(name):
    pytest.importorskip({"keras": "keras", "nnx": "flax"}[name])
    helpers = importlib.import_module(f"dlbridge.frameworks.{name}.helpers")
    for text in printing.helpers(helpers, printing.helper_names(helpers)).values():
        assert max(map(len, text.splitlines())) <= 120
