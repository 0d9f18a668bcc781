"""What usual modules of PyTorch come to: the lines that a person would write, and the same numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dlbridge
from dlbridge import frameworks

WRITTEN = [f for f in ("pytorch", "keras", "nnx") if f in frameworks.names()]


def body(text, name):
    """The lines of a method or function, without indentation."""
    lines = text[text.index(f"def {name}(") :].splitlines()[1:]
    end = next((i for i, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    return [line.strip() for line in lines[:end] if line.strip()]


def written(module, framework, inputs):
    """What a module is written as, and that again as a live model."""
    source = dlbridge.load(module, inputs=inputs).write(framework)
    return source, frameworks.get(framework).load(source)


class Double(nn.Sequential):
    def __init__(self, given, made) -> None:
        super().__init__(nn.Conv2d(given, made, 3, padding=1), nn.ReLU())


class Up(nn.Module):
    """A step of a U-Net, as it is often written: what comes up is padded to what it meets."""

    def __init__(self, given, made) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(given, given // 2, 2, stride=2)
        self.conv = Double(given, made)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        dy, dx = x2.size()[2] - x1.size()[2], x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down1 = Double(3, 4), nn.Sequential(nn.MaxPool2d(2), Double(4, 8))
        self.down2, self.up1, self.up2 = nn.Sequential(nn.MaxPool2d(2), Double(8, 16)), Up(16, 8), Up(8, 4)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        return self.up2(self.up1(self.down2(x2), x2), x1)


@pytest.mark.parametrize("framework", WRITTEN)
def test_a_unet_pads_to_what_it_meets(framework):
    torch.manual_seed(0)
    module = UNet().eval()
    source, live = written(module, framework, {"x": "float32[batch,3,h,w]"})
    for sizes in ((8, 12), (9, 7), (11, 16)):
        x = torch.randn(2, 3, *sizes)
        (made,) = frameworks.get(framework).run(live, {"x": x.numpy()}).values()
        np.testing.assert_allclose(made, module(x).detach(), atol=1e-5)
    assert source.text.count("class Up") == 1
    if framework == "pytorch":
        assert "F.pad(x1, (0, x2.shape[3] - x1.shape[3], 0, x2.shape[2] - x1.shape[2]))" in source.text
    if framework == "keras":
        assert source.text.count("ops.transpose(") + source.text.count("Permute(") == 2  # of the input and the output
        assert "[0, 0, ops.shape(x2)[1] - ops.shape(x1)[1], ops.shape(x2)[2] - ops.shape(x1)[2]]" in source.text


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.table, self.layers = nn.Embedding(20, 8), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids):
        return self.layers(self.table(ids), src_key_padding_mask=ids == 0)


@pytest.mark.parametrize("framework", WRITTEN)
def test_an_encoder_of_torchs_reads_like_one(framework):
    torch.manual_seed(0)
    module = Encoder().eval()
    source, live = written(module, framework, {"ids": "int64[batch,time]"})
    ids = torch.tensor([[3, 4, 0, 0], [5, 1, 2, 0], [7, 8, 9, 1]])
    (made,) = frameworks.get(framework).run(live, {"ids": ids.numpy()}).values()
    np.testing.assert_allclose(made, module(ids).detach(), atol=1e-5)
    if framework == "pytorch":
        text = source.text[source.text.index("class MultiheadAttention") :]
        assert "self.out_proj = nn.Linear(8, 8)" in text
        assert body(text, "forward")[:2] == [
            "x = F.linear(x, self.in_proj_weight, self.in_proj_bias)",
            "q, k, v = x.chunk(3, dim=2)",
        ]
        live.load_state_dict(module.state_dict())  # the same keys


def masks():
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    padding = torch.tensor([[False, False, False, True, True], [False] * 5])
    return {
        "none": {},
        "causal": {"attn_mask": causal, "is_causal": True},
        "booleans": {"attn_mask": causal.isinf()},
        "each head": {"attn_mask": torch.randn(4, 5, 5)},
        "padding": {"key_padding_mask": padding},
        "both": {"key_padding_mask": padding, "attn_mask": causal.isinf()},
    }


class Attention(nn.Module):
    """Attention of x to itself, or of x to y, with or without its weights."""

    def __init__(self, options, given, mask, weights) -> None:
        super().__init__()
        self.attention, self.given, self.options = nn.MultiheadAttention(8, 2, **options), given, weights
        self.names = list(mask)
        for name, value in mask.items():
            self.register_buffer(name, value) if isinstance(value, torch.Tensor) else setattr(self, name, value)

    def forward(self, x, y):
        given = {"self": (x, x, x), "keys": (x, y, y), "all": (x, y, y + 1)}[self.given]
        how = {name: getattr(self, name) for name in self.names}
        made, weights = self.attention(*given, **how, **self.options)
        return made if weights is None else (made, weights)


@pytest.mark.parametrize("mask", masks())
@pytest.mark.parametrize("given", ["self", "keys", "all"])
@pytest.mark.parametrize("weights", [{"need_weights": False}, {}, {"average_attn_weights": False}], ids=str)
def test_attention_is_what_torch_computes(mask, given, weights):
    torch.manual_seed(0)
    how = masks()[mask]
    if "is_causal" in how and weights != {"need_weights": False}:
        how.pop("is_causal")
    options = {"batch_first": given != "keys", "bias": mask != "padding"}
    module = Attention(options, given, how, weights).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    sizes = "2,5,8" if options["batch_first"] else "5,2,8"
    x, y = (torch.randn(*map(int, sizes.split(","))) for _ in "xy")
    model = dlbridge.load(module, inputs={"x": f"float32[{sizes}]", "y": f"float32[{sizes}]"})
    wanted, made = module(x, y), model.to_pytorch()(x, y)
    wanted, made = ([v] if isinstance(v, torch.Tensor) else list(v) for v in (wanted, made))
    for a, b in zip(made, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
