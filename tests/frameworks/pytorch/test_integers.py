"""Arithmetic of integers as torch computes it, which wraps round where a type ends: in all types, into all targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks

DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
TARGETS = ["pytorch", "keras", "onnx"]


def _shifts(x, y, count):
    bits = torch.iinfo(x.dtype).bits
    fixed = [n for amount in (0, 1, 3, bits - 2, bits - 1, bits, 70) for n in (x << amount, x >> amount)]
    return [*fixed, x << count, x >> count, 3 << count]


def _powers(x, y, count):
    return [x**0, x**1, x**2, x**3, x**9, x.square()]


def _powers_by_tensors(x, y, count):
    return [x**count, 2**count, (-3) ** count if x.dtype.is_signed else 3**count]


def _divisions(x, y, count):
    by_tensor = [x // y, x % y, torch.fmod(x, y), torch.div(x, y, rounding_mode="trunc")]
    return [*by_tensor, x // 3, x // 4, x % 5, x.div(2, rounding_mode="trunc")]


def _sums(x, y, count):
    kept = [x + y, x - y, 7 - x, x * 3, -x, torch.add(x, y, alpha=3), torch.addcmul(x, y, y, value=2)]
    return [*kept, x[:, 1:].cumsum(1), x + torch.tensor(100, dtype=x.dtype) * 2]


def _sums_in_the_type(x, y, count):
    return [x.sum(1), x.sum(1, dtype=x.dtype), x.cumsum(1, dtype=x.dtype), x.prod(1, dtype=x.dtype), x @ y.T, x.amax(1)]


#: What onnxruntime has no exact kernels for: it computes powers and sums of integers in floats.
NOT_IN_ONNXRUNTIME = {_powers_by_tensors, _sums_in_the_type}


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize(
    "function", [_shifts, _powers, _powers_by_tensors, _divisions, _sums, _sums_in_the_type], ids=lambda f: f.__name__
)
def test_integers_wrap_round_as_in_torch(function, dtype):
    limits, generator = torch.iinfo(dtype), torch.Generator().manual_seed(0)
    x = torch.randint(max(limits.min, -(2**40)), min(limits.max, 2**40), (3, 6), generator=generator).to(dtype)
    x[0, :4] = torch.tensor([limits.min, limits.max, 0, 1]).to(dtype)
    y = torch.randint(1, 120, (3, 6), generator=generator).to(dtype)
    y = y * torch.tensor([1, -1, 1, 1, -1, 1]).to(dtype) if dtype.is_signed else y
    count = torch.randint(0, limits.bits + 2, (3, 6), generator=generator).to(dtype)

    class Net(torch.nn.Module):
        def forward(self, x, y, count):
            return tuple(function(x, y, count))

    wanted = [v.numpy() for v in Net()(x, y, count)]
    spec = f"{str(dtype).removeprefix('torch.')}[rows,6]"
    model = dlbridge.load(Net(), inputs={"x": spec, "y": spec, "count": spec})
    given = {"x": x.numpy(), "y": y.numpy(), "count": count.numpy()}
    for target in TARGETS:
        unable = dtype == torch.int16 or function in NOT_IN_ONNXRUNTIME
        if target == "onnx" and unable:
            continue
        framework = frameworks.get(target)
        live = framework.load(framework.write(model))
        names = {v.name for v in model.inputs}
        answers = framework.run(live, {k: v for k, v in given.items() if k in names}).values()
        for place, (answer, right) in enumerate(zip(answers, wanted, strict=True)):
            np.testing.assert_array_equal(answer, right, err_msg=f"{target}: {place}")
            assert answer.dtype == right.dtype
