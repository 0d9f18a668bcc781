"""Training for quantised numbers (fake_quantize, QAT) and quantised graphs are read, run and trained as in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import UnsupportedOpError


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(3, 4), function
        self.register_buffer("scale", torch.tensor([0.01, 0.02, 0.05, 0.1]))
        self.register_buffer("zero", torch.tensor([0, 1, -2, 3], dtype=torch.int32))

    def forward(self, x):
        return self.function(self, self.linear(x))


def _quantized_graph(net, y):
    q, ops = (0.05, 3, 0, 255, torch.uint8), torch.ops.quantized_decomposed
    channels = (net.scale, net.zero.long(), 1, -128, 127, torch.int8)
    y = ops.dequantize_per_tensor(ops.quantize_per_tensor(y, *q), *q)
    return ops.dequantize_per_channel(ops.quantize_per_channel(y, *channels), *channels)


FUNCTIONS = {
    "per tensor": lambda n, y: torch.fake_quantize_per_tensor_affine(y, 0.05, 3, -128, 127),
    "few bits": lambda n, y: torch.fake_quantize_per_tensor_affine(y, 0.05, 3, 0, 7),
    "tensors": lambda n, y: torch.fake_quantize_per_tensor_affine(y, n.scale[2], n.zero[2], 0, 255),
    "per channel": lambda n, y: torch.fake_quantize_per_channel_affine(y, n.scale, n.zero, 1, -128, 127),
    "of the weight": lambda n, y: (
        y @ torch.fake_quantize_per_channel_affine(torch.eye(4) * 0.3, n.scale, n.zero, 0, -8, 7)
    ),
    "quantised graph": _quantized_graph,
}


@pytest.mark.parametrize("size", ["batch", "5"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_quantisation_into_all_targets(name, size):
    torch.manual_seed(0)
    net, x = Net(FUNCTIONS[name]).eval(), torch.randn(5, 3)
    _agree(net, x, f"float32[{size},3]")


def _agree(net, x, spec):
    right = net(x).detach().numpy()
    model = dlbridge.load(net, inputs={"input" if isinstance(net, nn.Sequential) else "x": spec})
    for target in ("pytorch", "keras", "onnx"):
        framework = frameworks.get(target)
        live = framework.load(framework.write(model))
        (answer,) = framework.run(live, {model.inputs[0].name: x.numpy()}).values()
        np.testing.assert_allclose(answer, right, 1e-5, 1e-6, err_msg=target)


def _qat(observes):
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).train()
    net.qconfig = torch.ao.quantization.get_default_qat_qconfig("x86")
    net = torch.ao.quantization.prepare_qat(net)
    net(torch.randn(20, 3))
    return net.eval() if observes else net.eval().apply(torch.ao.quantization.disable_observer)


@pytest.mark.filterwarnings("ignore")
def test_a_module_prepared_for_quantisation():
    torch.manual_seed(0)
    _agree(_qat(observes=False), torch.randn(4, 3), "float32[batch,3]")
    with pytest.raises(UnsupportedOpError, match="disable_observer"):
        dlbridge.load(_qat(observes=True), inputs=(torch.randn(4, 3),))


def test_gradients_pass_through_quantisation_where_nothing_is_cut():
    keras = pytest.importorskip("keras")
    torch.manual_seed(0)
    net, x = Net(FUNCTIONS["few bits"]), torch.randn(6, 3)
    model = dlbridge.load(net.eval(), inputs={"x": "float32[batch,3]"})
    wanted = torch.autograd.grad(net(x).pow(2).sum(), net.linear.weight)[0]
    assert 0 < (wanted == 0).sum() < wanted.numel() or wanted.abs().sum() > 0
    live = model.to_pytorch()
    (made,) = torch.autograd.grad(live(x).pow(2).sum(), [p for n, p in live.named_parameters() if n.endswith("weight")])
    torch.testing.assert_close(made, wanted)
    tensorflow = pytest.importorskip("tensorflow")
    live = model.to_keras()
    with tensorflow.GradientTape() as tape:
        loss = keras.ops.sum(keras.ops.square(live(x.numpy())))
    kernel = next(v for v in live.trainable_variables if len(v.shape) == 2)
    np.testing.assert_allclose(np.asarray(tape.gradient(loss, kernel.value)).T, wanted, 1e-5, 1e-5)


@pytest.mark.parametrize(("shape", "dim"), [((5,), 0), ((4, 3), 0), ((4, 3), 1), ((4, 3), None), ((2, 3, 4), 1)])
def test_weight_norm_has_a_norm_for_each_slice(shape, dim):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(shape))

        def forward(self, x):
            return x * self.weight

    torch.manual_seed(0)
    net = nn.utils.parametrizations.weight_norm(Scaled(), "weight", dim).eval()
    with torch.no_grad():
        net.parametrizations.weight.original0.mul_(torch.rand_like(net.parametrizations.weight.original0) + 0.5)
    _agree(net, torch.randn(2, *shape), f"float32[batch,{','.join(map(str, shape))}]")
