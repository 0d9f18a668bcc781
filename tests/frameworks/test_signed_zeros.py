"""0 and -0 are equal: the first of them comes first, whatever its sign."""

import numpy as np
import pytest
import torch

import dlbridge
from dlbridge import frameworks

pytestmark = pytest.mark.pytorch


class Order(torch.nn.Module):
    def forward(self, x):
        return torch.sort(x, dim=-1, stable=True), torch.sort(x, dim=-1, stable=True, descending=True)


@pytest.mark.parametrize("framework", ["pytorch", "keras", "nnx", "onnx"])
def test_zeros_of_both_signs_keep_their_order(framework):
    model = dlbridge.load(Order().eval(), inputs={"x": "float32[batch,6]"})
    x = np.array([[0.0, -0.0, 0.0, -1.0, -0.0, 2.0]], np.float32)
    up, places, down, places_down = frameworks.get(framework).run(model.to(framework), {"x": x}).values()
    assert (places.tolist(), places_down.tolist()) == ([[3, 0, 1, 2, 4, 5]], [[5, 0, 1, 2, 4, 3]])
    assert (up.tolist(), down.tolist()) == ([[-1, 0, 0, 0, 0, 2]], [[2, 0, 0, 0, 0, -1]])
