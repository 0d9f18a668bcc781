"""The PyTorch reader: names, structure, signatures and errors."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.frameworks.pytorch import reads
from dlbridge.frameworks.pytorch.fx import decompose
from dlbridge.frameworks.pytorch.graph import reading
from dlbridge.frameworks.rule_modules import import_rules


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels, momentum=0.3, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.25)

    def forward(self, x):
        return self.drop(self.relu(self.bn(self.conv(x)))) + x


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        x = self.blocks(self.stem(image))
        return self.head(x.mean((2, 3)))


def randomised(module):
    """The module in eval mode, with running statistics that are not 0 and 1."""
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return module.eval()


def test_state_dict_loads_into_what_is_written():
    module = randomised(Net())
    model = dlbridge.load(module, inputs=(torch.randn(2, 3, 9, 9),))
    live = model.to_pytorch()
    fresh = type(live)()
    fresh.load_state_dict(module.state_dict(), strict=True)
    image = torch.randn(5, 3, 9, 9)
    torch.testing.assert_close(fresh.eval()(image), module(image), rtol=0, atol=1e-6)


def test_names_and_training_facts_survive():
    from dlbridge.ops import traits

    model = dlbridge.load(Net(), inputs={"image": "float32[n,3,9,9]"})
    nodes = {n.name: n for n in model.graph}
    assert {"stem", "blocks.0.conv", "blocks.1.bn", "blocks.0.drop", "head"} <= set(nodes)
    assert traits.blocks(model.graph) == {"": "Net", "blocks": "Sequential", "blocks.0": "Block", "blocks.1": "Block"}
    norm = nodes["blocks.0.bn"]
    assert norm.attributes["momentum"].as_float() == pytest.approx(0.7)
    assert norm.metadata_props[traits.RUNNING_VARIANCE] == "unbiased"
    assert nodes["blocks.0.drop"].inputs[1].const_value.numpy() == pytest.approx(0.25)
    assert [(v.name, str(v.shape)) for v in model.inputs] == [("image", "[n,3,9,9]")]
    kinds = {v.name: traits.kind(v) for v in model.graph.initializers.values()}
    assert kinds["stem.weight"] == "parameter" and kinds["blocks.0.bn.running_mean"] == "buffer"


class OfConstants(torch.nn.Module):
    """Adds buffers that are no part of its state dict, as attention without a bias of its keys does."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(100.0))
        self.register_buffer("zeros", torch.zeros(100), persistent=False)
        self.register_buffer("halves", torch.full((100,), 0.5), persistent=False)

    def forward(self, x):
        return x * torch.cat([self.weight, self.zeros]) + torch.cat([self.weight, self.halves])


def test_a_repeated_number_is_printed_and_no_part_of_the_state_dict():
    module = OfConstants()
    model = dlbridge.load(module, inputs={"x": "float32[batch,200]"})
    assert 'self.register_buffer("zeros", torch.zeros((100,)), persistent=False)' in model.write("pytorch").text
    live = model.to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    x = torch.randn(3, 200)
    assert torch.equal(live(x), module(x))


class NormAct(nn.BatchNorm2d):
    """Batch norm and an activation in one module, as timm has it."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.SiLU()

    def forward(self, x):
        mean, var, training = self.running_mean, self.running_var, self.training
        x = nn.functional.batch_norm(x, mean, var, self.weight, self.bias, training, self.momentum, self.eps)
        return self.act(x)


def test_a_batch_norm_that_does_more_is_torchs_own_layer():
    module = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4), nn.Conv2d(4, 4, 1), NormAct(4)))
    live = dlbridge.load(module, inputs={"input": "float32[batch,3,8,8]"}).to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    x = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(live(x), module(x), rtol=0, atol=1e-6)
    torch.testing.assert_close(live.train()(x), module.train()(x), rtol=0, atol=1e-6)
    for key in ("1.running_mean", "1.running_var", "3.running_mean", "3.running_var"):
        torch.testing.assert_close(live.state_dict()[key], module.state_dict()[key], rtol=0, atol=1e-6)


class Encoding(nn.Module):
    def __init__(self, shared):
        super().__init__()
        self.position = shared
        self.own = nn.Linear(4, 4)

    def forward(self, x):
        return self.own(torch.relu(self.position(x))) + x


def test_a_layer_that_blocks_share_is_in_each_of_them():
    shared = nn.Linear(4, 4)
    module = nn.Sequential(Encoding(shared), Encoding(shared))
    live = dlbridge.load(module, inputs={"input": "float32[batch,4]"}).to_pytorch()
    live.load_state_dict(module.state_dict(), strict=True)
    x = torch.randn(5, 4)
    torch.testing.assert_close(live(x), module(x), rtol=0, atol=1e-6)
    assert len(list(live.parameters())) == len(list(module.parameters()))


def test_fold_is_one_op():
    module = nn.Sequential(nn.Unfold(3, padding=1, stride=2), nn.Fold((7, 8), 3, padding=1, stride=2))
    model = dlbridge.load(module, inputs={"input": "float32[batch,2,7,8]"})
    assert "F.fold(" in model.write("pytorch").text or "nn.Fold(" in model.write("pytorch").text
    x = torch.randn(3, 2, 7, 8)
    torch.testing.assert_close(model.to_pytorch()(x), module(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rank", "wanted"), [(4, "channels_last"), (5, "channels_last_3d")])
def test_weights_are_in_the_memory_format_that_is_asked_for(rank, wanted):
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if rank == 4 else (nn.Conv3d, nn.BatchNorm3d)
    module = nn.Sequential(conv(3, 4, 3), norm(4), nn.ReLU(), conv(4, 5, 2)).eval()
    x = torch.randn(2, 3, *[6, 5, 7][: rank - 2])
    model = dlbridge.load(module, inputs={"input": f"float32[batch,{','.join(map(str, x.shape[1:]))}]"})
    live = model.to_pytorch(memory_format=wanted)
    form = getattr(torch, wanted)
    convs = [p for p in live.parameters() if p.dim() == rank]
    assert len(convs) == 2
    assert all(p.is_contiguous(memory_format=form) and not p.is_contiguous() for p in convs)
    with torch.no_grad():
        torch.testing.assert_close(live(x), module(x))
        assert live(x).is_contiguous(memory_format=form)
    live.load_state_dict(module.state_dict(), strict=True)
    assert all(p.is_contiguous(memory_format=form) for p in convs)


def test_a_written_module_can_be_copied():
    live = dlbridge.load(nn.Sequential(nn.Linear(3, 2)), inputs={"input": "float32[batch,3]"}).to_pytorch()
    again = copy.deepcopy(live)
    x = torch.randn(2, 3)
    assert torch.equal(live(x), again(x))
    assert all(a is not b for a, b in zip(live.parameters(), again.parameters(), strict=True))


class _Digamma(nn.Module):
    def forward(self, x):
        return torch.digamma(x)


def test_what_is_taken_apart_for_one_size_alone_is_refused(monkeypatch):
    def for_four_rows(x):
        return x * 2 if x.shape[0] == 4 else x * 3

    table = {**decompose._table(), torch.ops.aten.digamma.default: for_four_rows}
    monkeypatch.setattr(decompose, "_table", lambda: table)
    import_rules(reads)
    monkeypatch.delitem(reading.RULES, "aten.digamma")
    with pytest.raises(dlbridge.errors.UnsupportedOpError, match=r"digamma.*for one size of its input alone"):
        dlbridge.load(_Digamma(), inputs=(torch.randn(4, 3),))
    model = dlbridge.load(_Digamma(), inputs=(torch.randn(4, 3),), dynamic={})
    assert [node.op_type for node in model.graph] == ["Mul"]


def test_an_attribute_that_depends_on_an_unknown_size_is_refused_until_the_size_is_given():
    class Dilated(nn.Module):
        """A convolution with as wide holes as there are samples."""

        def forward(self, x, kernels):
            return torch.nn.functional.conv2d(x, kernels, dilation=x.shape[0])

    inputs = (torch.randn(2, 3, 9, 9), torch.randn(4, 3, 3, 3))
    with pytest.raises(dlbridge.errors.UnsupportedOpError, match=r"'dilations' depends on a size.*dynamic=\{\}"):
        dlbridge.load(Dilated(), inputs=inputs)
    live = dlbridge.load(Dilated(), inputs=inputs, dynamic={}).to_pytorch()
    torch.testing.assert_close(live(*inputs), Dilated()(*inputs))


class FiltersOfEach(nn.Module):
    """Filters of its own for each sample, as convolutions in groups: StyleGAN2, and two groups a sample (CondConv)."""

    def forward(self, x, filters, bias, upward):
        batch, channels, height, width = x.shape
        joined = x.reshape(1, batch * channels, height, width)
        y = torch.nn.functional.conv2d(joined, filters.flatten(0, 1), bias.flatten(), stride=2, groups=2 * batch)
        up = torch.nn.functional.conv_transpose2d(y, upward.flatten(0, 1), stride=2, padding=1, groups=batch)
        return up.reshape(batch, -1, *up.shape[2:])


def test_each_sample_has_filters_of_its_own_where_the_batch_is_free():
    def inputs(batch, height, width):
        shapes = [(4, height, width), (6, 2, 3, 2), (6,), (6, 5, 3, 3)]
        return tuple(torch.randn(batch, *shape) for shape in shapes)

    sizes = {"x": "[batch,4,h,w]", "filters": "[batch,6,2,3,2]", "bias": "[batch,6]", "upward": "[batch,6,5,3,3]"}
    model = dlbridge.load(FiltersOfEach(), inputs=sizes)
    live = model.to_pytorch()
    for batch, height, width in ((1, 5, 7), (4, 12, 6)):
        given = inputs(batch, height, width)
        torch.testing.assert_close(live(*given), FiltersOfEach()(*given))


class Scaled(nn.Module):
    """Names an input and an output as it names its own parameters (open_clip's ``logit_scale``)."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(0.5))

    def forward(self, shift):
        scale = self.scale.exp()
        return {"y": shift * scale + self.shift, "scale": scale}


def test_a_name_of_a_weight_is_no_name_of_an_input_or_output(tmp_path):
    module = Scaled()
    model = dlbridge.load(module, inputs={"shift": "float32[batch,3]"})
    assert [v.name for v in model.inputs] == ["shift_1"]
    assert [v.name for v in model.outputs] == ["y", "scale_1"]
    dlbridge.convert(model, "onnx", tmp_path / "m.onnx")
    model.to_pytorch().load_state_dict(module.state_dict(), strict=True)
