"""Random numbers: PyTorch's own, from a generator of the node's seed where it has one."""

from __future__ import annotations

from typing import Any

from dlbridge.frameworks.pytorch.rules import placed, rules, torch_dtype
from dlbridge.source.op import Op
from dlbridge.source.tree.code import Code, Raw, call, code


def _generator(op: Op) -> dict[str, Any]:
    seed = op.attr("seed")
    return {} if seed is None else {"generator": Raw(f"torch.Generator().manual_seed({int(seed)})")}


@rules("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
def random(op: Op) -> Code:
    like = op.key.endswith("Like")
    shape: Any = tuple(op.sizes()) if like else tuple(op.attr("shape"))
    options = {"dtype": torch_dtype(op, op.out_dtype()), **_generator(op)}
    if "Normal" in op.key:
        scale, shift = op.attr("scale"), op.attr("mean")
        numbers = call("torch.randn", shape, **options)
    else:
        shift = op.attr("low")
        scale = op.attr("high") - shift
        numbers = call("torch.rand", shape, **options)
    numbers = numbers if "generator" in options else placed(numbers)  # a generator is the CPU's
    numbers = numbers if scale == 1 else code("{scale} * {}", numbers, scale=scale)
    return numbers if shift == 0 else code("{} + {shift}", numbers, shift=shift)


@rules("Bernoulli")
def bernoulli(op: Op) -> Code:
    return code("{}.to({})", call("torch.bernoulli", op.x, **_generator(op)), torch_dtype(op, op.out_dtype()))


@rules("Multinomial")
def multinomial(op: Op) -> Code:
    chances = code("{}.softmax(-1)", op.x)
    drawn = call("torch.multinomial", chances, op.attr("sample_size"), replacement=True, **_generator(op))
    return code("{}.to({})", drawn, torch_dtype(op, op.out_dtype()))
