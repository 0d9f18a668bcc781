"""Recurrent layers that take the batch first, as what they read was turned for them: never what was not turned."""

import pytest
import torch
from torch import nn

import dlbridge


class Turned(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.drop, self.again = nn.Dropout(0.3), nn.Dropout(0.2)
        self.first, self.second = nn.LSTM(4, 3), nn.GRU(3, 3)
        self.own_forward = forward

    def forward(self, x):
        return self.own_forward(self, x)


def dropped(net, x):
    return net.first(net.again(net.drop(x.transpose(0, 1))))[0].transpose(0, 1)


def dropped_for_others(net, x):
    x = net.drop(x.transpose(0, 1))
    return net.first(x)[0].transpose(0, 1), x * 2


def in_a_row(net, x):
    return net.second(net.drop(net.first(net.again(x.transpose(0, 1)))[0]))[0].transpose(0, 1)


def of_states(net, x):
    y, (h, _) = net.first(x.transpose(0, 1))
    return y.transpose(0, 1), net.second(h)[0].transpose(0, 1)


@pytest.mark.parametrize("forward", [dropped, dropped_for_others, in_a_row, of_states], ids=lambda f: f.__name__)
def test_numbers_and_shapes_are_those_of_the_module(forward):
    torch.manual_seed(0)
    net = Turned(forward).eval()
    model = dlbridge.load(net, inputs={"x": "float32[batch,time,4]"})
    made = model.to_pytorch().eval()
    for batch, time in [(2, 3), (3, 3)]:
        x = torch.randn(batch, time, 4)
        torch.testing.assert_close(made(x), net(x))


def test_dropout_between_a_turn_and_a_layer_keeps_no_turn():
    text = dlbridge.load(Turned(dropped).eval(), inputs={"x": "float32[batch,time,4]"}).write("pytorch").text
    assert "transpose" not in text
    assert "batch_first=True" in text
