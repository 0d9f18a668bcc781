"""Masks of attention that hold the most negative number, which onnxruntime takes for minus infinity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks

LOWEST = float(np.finfo(np.float32).min)


class Masked(torch.nn.Module):
    def __init__(self, fill):
        super().__init__()
        self.fill = fill

    def forward(self, x, keep):
        mask = torch.where(keep[:, None, None], 0.5, self.fill)
        y = torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        return torch.nn.functional.scaled_dot_product_attention(y, x, x, attn_mask=mask)


@pytest.mark.parametrize("fill", [LOWEST, -1e9, -np.inf])
def test_a_query_all_of_whose_keys_are_masked(fill):
    module = Masked(fill)
    x, keep = torch.randn(2, 1, 4, 8), torch.tensor([[True, False, True, True], [False] * 4])
    model = dlbridge.load(module, inputs={"x": "float32[batch,1,n,8]", "keep": "bool[batch,n]"})
    source = dlbridge.convert(model, "onnx", check=False)
    runner = frameworks.get("onnx")
    (found,) = runner.run(runner.load(source), {"x": x.numpy(), "keep": keep.numpy()}).values()
    np.testing.assert_allclose(found, module(x, keep), atol=1e-5)
    raised = [node for node in source.ir.graph if node.op_type == "Equal"]
    assert len(raised) == (fill == LOWEST), "once for the two that read the mask, and only where it can matter"


def test_a_mask_that_is_given():
    class Given(torch.nn.Module):
        def forward(self, x, mask):
            return torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    x, mask = torch.randn(2, 1, 4, 8), torch.full((2, 1, 4, 4), LOWEST)
    model = dlbridge.load(Given(), inputs={"x": "float32[batch,1,n,8]", "mask": "float32[batch,1,n,n]"})
    runner = frameworks.get("onnx")
    live = runner.load(dlbridge.convert(model, "onnx", check=False))
    (found,) = runner.run(live, {"x": x.numpy(), "mask": mask.numpy()}).values()
    np.testing.assert_allclose(found, Given()(x, mask), atol=1e-5)
