"""Layers with a weight norm: the layer itself, within PyTorch's function that gives it one."""

from __future__ import annotations

from dataclasses import replace

from dlbridge.frameworks.pytorch.legalise.weight_norms import LENGTHS, PARTS, WEIGHT
from dlbridge.frameworks.pytorch.rules import FORM, rules
from dlbridge.frameworks.pytorch.writes.convolution import conv, conv_transpose
from dlbridge.frameworks.pytorch.writes.linear import linear
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.tree.code import Default, Raw, call
from dlbridge.source.weights import Weight

_LAYERS = {"Conv": conv, "ConvTranspose": conv_transpose, "Linear": linear}


@rules("Conv", "ConvTranspose", "Linear", domain=FORM)
def normed(op: Op) -> Emit:
    made = _LAYERS[op.key](op)
    assert isinstance(made, Emit) and made.layer is not None
    axis, is_hooked = op.attr("axis"), bool(op.attr("is_hooked"))
    function = "nn.utils.weight_norm" if is_hooked else "nn.utils.parametrizations.weight_norm"
    new = call(function, made.layer.new, dim=Raw("None") if axis < 0 else Default(axis, 0))
    parts: dict[str, Weight] = {}
    for name, slot in zip(PARTS[is_hooked], (WEIGHT, LENGTHS), strict=True):
        held = op.initializer(slot)
        assert held is not None
        parts[name] = Weight.of(held)
    others = {slot: weight for slot, weight in made.layer.weights.items() if slot != "weight"}
    return replace(made, layer=Layer(new, parts | others, made.layer.frozen))
