"""Layers that act in training alone: dropout and noise."""

from __future__ import annotations

from dlbridge.frameworks.pytorch.rules import first_output, rules
from dlbridge.ops.extension import DOMAIN, shared_axes
from dlbridge.source.definitions import LAYER
from dlbridge.source.op import Emit, Layer, Op
from dlbridge.source.training.training_only import gaussian, in_training
from dlbridge.source.tree.code import Code, Literal, call, code


@rules("Dropout")
def dropout(op: Op) -> Emit | Code:
    """Dropout does nothing at inference, but for a node that says it is training."""
    ratio = op.scalar(1) if op.has(1) else 0.5
    ratio = code("{}.item()", op[1]) if ratio is None else ratio
    training = op.scalar(2) if op.has(2) else False
    if training is None or op.used(1):
        both = call("dropout", op.x, ratio, code("{}.item()", op[2]) if training is None else bool(training))
        return Emit(both if len(op.node.outputs) == 2 else code("{}[0]", both))
    if training or isinstance(ratio, Code) or op.functional:
        return Emit(call("F.dropout", op.x, ratio, training=bool(training)), targets=first_output(op))
    return Emit(
        call(LAYER, op.x), Layer(call("nn.Dropout", *([] if ratio == 0.5 else [ratio]))), targets=first_output(op)
    )


def _torch_layer(op: Op, name: str) -> Emit | Code:
    ratio = op.attr("ratio")
    return in_training(op, code(f"nn.{name}()") if ratio == 0.5 else code(f"nn.{name}({{p}})", p=ratio))


@rules("BroadcastDropout", domain=DOMAIN)
def broadcast_dropout(op: Op) -> Emit | Code:
    rank, axes, ratio = op.rank(), shared_axes(op.node), op.attr("ratio")
    if not axes:
        return _torch_layer(op, "Dropout")
    if 3 <= rank <= 5 and axes == list(range(2, rank)):
        return _torch_layer(op, f"Dropout{rank - 2}d")
    if axes == list(range(1, rank)):
        return in_training(op, code("DropPath({drop_path})", drop_path=ratio))
    return in_training(op, code(f"BroadcastDropout({{p}}, {tuple(axes)})", p=ratio))


@rules("AlphaDropout", domain=DOMAIN)
def alpha_dropout(op: Op) -> Emit | Code:
    axes = shared_axes(op.node)
    if not axes:
        return _torch_layer(op, "AlphaDropout")
    if axes == list(range(2, op.rank())):
        return _torch_layer(op, "FeatureAlphaDropout")
    return in_training(op, code(f"BroadcastAlphaDropout({{p}}, {tuple(axes)})", p=op.attr("ratio")))


gaussian(rules, lambda kind, what, number: call(kind, Literal(number, {"ratio": "p"}.get(what, what))))


@rules("Augmentation", domain=DOMAIN)
def augmentation(op: Op) -> Emit | Code:
    """In PyTorch images are augmented where data are loaded, not in the model, where its name alone stays."""
    return in_training(op, code("nn.Identity()"))
