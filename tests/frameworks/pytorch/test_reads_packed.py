"""Reading packed and padded sequences: what a model computes of sequences of unequal length, in every target."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

import dlbridge


class Recurrent(nn.Module):
    def __init__(self, kind, packing, padding, **options) -> None:
        super().__init__()
        self.first = packing.get("batch_first", False)
        self.layer = kind(4, 3, batch_first=self.first, **options)
        self.packing, self.padding = packing, padding

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, **self.packing)
        outputs, states = self.layer(packed)
        total = x.shape[1 if self.first else 0] if "total_length" in self.padding else None
        y, n = pad_packed_sequence(outputs, batch_first=self.first, **{**self.padding, "total_length": total})
        return y, n, (states[0] if isinstance(states, tuple) else states)


FIRST, UNSORTED = {"batch_first": True}, {"batch_first": True, "enforce_sorted": False}


@pytest.mark.parametrize(
    ("kind", "packing", "padding", "options"),
    [
        (nn.LSTM, UNSORTED, {"total_length": ...}, {"bidirectional": True}),
        (nn.LSTM, UNSORTED, {}, {"num_layers": 2, "bidirectional": True}),
        (nn.GRU, {}, {"padding_value": -1.0}, {}),
        (nn.GRU, UNSORTED, {"total_length": ..., "padding_value": 2.0}, {"num_layers": 2}),
        (nn.RNN, FIRST, {}, {"nonlinearity": "relu"}),
    ],
)
@pytest.mark.parametrize("free", [True, False])
def test_recurrent_layers_take_packed_sequences(kind, packing, padding, options, free):
    torch.manual_seed(0)
    module = Recurrent(kind, packing, padding, **options).eval()
    sizes = ("batch", "time") if free else ("3", "5")
    first = packing.get("batch_first", False)
    shape = sizes if first else sizes[::-1]
    model = dlbridge.load(module, inputs={"x": f"float32[{','.join(shape)},4]", "lengths": f"int64[{sizes[0]}]"})
    x = torch.randn((3, 5, 4) if first else (5, 3, 4))
    lengths = torch.tensor([2, 4, 3] if not packing.get("enforce_sorted", True) else [4, 3, 1])
    wanted = [v.detach().numpy() for v in module(x, lengths)]
    model.to_pytorch().load_state_dict(module.state_dict())  # layers in a stack are one
    for made in (model.to_pytorch()(x, lengths), _run_onnx(model, x, lengths)):
        for a, b in zip(made, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(a.detach() if isinstance(a, torch.Tensor) else a), b, atol=1e-6)


def _run_onnx(model, *arrays):
    import onnxruntime

    session = onnxruntime.InferenceSession(model.to_onnx_bytes() if hasattr(model, "to_onnx_bytes") else _bytes(model))
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, (a.numpy() for a in arrays), strict=True)))


def _bytes(model) -> bytes:
    import onnx_ir as ir

    return ir.to_proto(model.to_onnx()).SerializeToString()


class Between(nn.Module):
    """A layer on the packed steps themselves, so that none of padding is seen; and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.GRU(4, 3, batch_first=True)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        moved = packed._replace(data=torch.cos(self.first(packed.data)))
        y, _ = pad_packed_sequence(self.second(moved)[0], batch_first=True)
        return y, packed.data.mean(0)


def test_what_is_computed_of_packed_steps_sees_no_padding():
    torch.manual_seed(0)
    module = Between().eval()
    model = dlbridge.load(module, inputs={"x": "float32[batch,time,4]", "lengths": "int64[batch]"})
    x, lengths = torch.randn(3, 5, 4), torch.tensor([2, 5, 1])
    for made, wanted in zip(model.to_pytorch()(x, lengths), module(x, lengths), strict=True):
        torch.testing.assert_close(made, wanted, atol=1e-6, rtol=1e-5)


class Padded(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options

    def forward(self, a, b):
        return pad_sequence([a, b], **self.options)


@pytest.mark.parametrize("options", [{"batch_first": True, "padding_value": -1.0}, {"padding_side": "left"}, {}])
def test_sequences_are_padded_to_the_longest(options):
    model = dlbridge.load(Padded(**options), inputs={"a": "float32[n,3]", "b": "float32[m,3]"})
    live = model.to_pytorch()
    for n, m in ((2, 4), (5, 3), (3, 3)):
        a, b = torch.randn(n, 3), torch.randn(m, 3)
        torch.testing.assert_close(live(a, b), pad_sequence([a, b], **options))
