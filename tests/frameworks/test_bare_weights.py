"""Weights that no layer holds are variables in Keras and NNX, which are not taken wherever a tensor is."""

import pytest

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error

torch = pytest.importorskip("torch")

FORMS = {
    "compared with a number": lambda m, x, k: x * (m.scale > 0),
    "compared with another": lambda m, x, k: x * (m.scale <= m.limit),
    "an array compared with it": lambda m, x, k: torch.bucketize(m.scale, torch.tensor([-0.5, 0.0, 1.0])) + x,
    "not equal": lambda m, x, k: x + (m.scale != 0),
    "an integer compared": lambda m, x, k: (m.steps > 0) & (x > 0),
    "shifted": lambda m, x, k: m.steps >> k,
    "in a function of JAX": lambda m, x, k: m.scale.erf() * x,
    "in an activation": lambda m, x, k: m.scale.softmax(0) * torch.nn.functional.silu(m.scale) * x,
    "as indices": lambda m, x, k: x.scatter(1, m.places, m.scale[None].expand(x.shape)),
    "stacked": lambda m, x, k: torch.stack([m.scale, m.limit]) + x[:1],
    "stacked in the middle": lambda m, x, k: torch.stack([m.scale, x[0], m.limit]).cumsum(0),
    "stacked many times": lambda m, x, k: torch.stack([m.scale] * 3) + x[:1],
}


class Bare(torch.nn.Module):
    def __init__(self, forms):
        super().__init__()
        self.forms = forms
        self.scale = torch.nn.Parameter(torch.tensor([-0.7, 0.0, 1.3]))
        self.limit = torch.nn.Parameter(torch.tensor([0.1, -0.2, 1.3]))
        self.register_buffer("steps", torch.tensor([-5, 0, 7], dtype=torch.int32))
        self.register_buffer("places", torch.tensor([[2, 0, 1], [1, 2, 0]]))

    def forward(self, x, k):
        return tuple(form(self, x, k) for form in self.forms)


@pytest.mark.parametrize("framework", ["keras", "nnx"])
@pytest.mark.parametrize("forms", [*([f] for f in FORMS), list(FORMS)], ids=lambda f: f[0] if len(f) == 1 else "all")
def test_a_bare_weight(forms, framework):
    there = pytest.importorskip({"keras": "keras", "nnx": "flax.nnx"}[framework]) and frameworks.get(framework)
    module = Bare([FORMS[f] for f in forms]).eval()
    model = dlbridge.load(module, inputs={"x": "float32[2,3]", "k": "int32[2,3]"})
    x, k = torch.tensor([[0.5, -2.0, 3.0], [1.0, 0.0, -1.0]]), torch.tensor([[0, 1, 2], [3, 1, 1]], dtype=torch.int32)
    given = {v.name: a.numpy() for v, a in zip(model.inputs, (x, k), strict=False)}
    got = there.run(there.load(there.write(model)), given)
    for made, right in zip(got.values(), module(x, k), strict=True):
        assert made.dtype == right.detach().numpy().dtype
        assert relative_error(made, right.detach().numpy()) <= 1e-6
