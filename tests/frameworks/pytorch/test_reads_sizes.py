"""Sizes that a PyTorch model's code asks about: kept in the signature, without effect, or refused on their line."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, SignatureError
from dlbridge.frameworks.inputs import parse_inputs
from dlbridge.ops import traits
from tests.helpers.argument_checks import asserts_numbers


class Net(nn.Module):
    """A module of one function of its input."""

    def __init__(self, function, *layers) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x):
        return self.function(self, x)


def load(function, spec="float32[batch,time,4]", *layers):
    torch.manual_seed(0)
    module = Net(function, *layers).eval()
    return module, dlbridge.load(module, inputs={"x": spec})


def constraints(model):
    return [c.text for c in traits.constraints(model.graph)]


def agrees(module, model, *shapes):
    live = model.to_pytorch()
    for shape in shapes:
        x = torch.randn(shape)
        torch.testing.assert_close(live(x), module(x), atol=1e-5, rtol=1e-5)


# --- the code takes another way ---------------------------------------------------------------------------------------


def _scaled(self, x):
    return x * 2 if x.shape[1] > 6 else x


def _as_many_steps_as_there_are(self, x):
    return sum(x[:, i] for i in range(x.shape[1] // 2))


def _window(self, x):
    return F.max_pool1d(x.transpose(1, 2), x.shape[1] // 2)


def _half_the_size(self, x):
    return F.interpolate(x, scale_factor=x.shape[1] / (x.shape[1] // 2 + 1))


def _only_one(self, x):
    return x * 3 if x.shape[1] == 1 else x


def _one_of_the_batch(self, x):
    return x.squeeze(0).sum(-1) if x.shape[0] == 1 else x.sum(1)


def _other_for_a_remainder(self, x):
    return F.pad(x, (0, 0, 0, 1)) if x.shape[1] % 4 else x


def _longer_than_wide(self, x):
    return x.cos() if x.shape[1] > 2 * x.shape[0] else x.sin()


CHOICES = [_scaled, _as_many_steps_as_there_are, _window, _half_the_size, _only_one, _one_of_the_batch]
CHOICES += [_other_for_a_remainder, _longer_than_wide]


@pytest.mark.parametrize("function", CHOICES, ids=lambda f: f.__name__)
def test_code_that_is_another_model_for_other_sizes_is_refused_on_its_line(function):
    with pytest.raises(DlbridgeError, match=r"another way for some sizes|code fixes it to") as caught:
        load(function)
    first = function.__code__.co_firstlineno
    assert caught.value.where == f"{__file__}:{first + 1}"


def test_bounds_that_the_user_states_are_kept():
    module, model = load(_scaled, "float32[batch,2<=time<=6,4]")
    assert constraints(model) == ["2 <= time <= 6"]
    agrees(module, model, (3, 2, 4), (1, 6, 4))
    module, model = load(_other_for_a_remainder, "float32[batch,4*time,4]")
    assert constraints(model) == []
    agrees(module, model, (3, 8, 4), (1, 4, 4))


def test_bounds_of_tensors_are_stated_with_their_names():
    module = Net(_scaled).eval()
    model = dlbridge.load(module, inputs={"x": torch.randn(2, 9, 4)}, dynamic={"x": {0: "batch", 1: "time>6"}})
    assert constraints(model) == ["time > 6"]
    with pytest.raises(SignatureError, match="does not keep time > 6"):
        dlbridge.load(module, inputs={"x": torch.randn(2, 5, 4)}, dynamic={"x": {1: "time>6"}})


def test_bounds_can_be_stated_on_the_command_line():
    assert parse_inputs(["x:float32[b,2<=n<=16,4]"]) == {"x": "float32[b,2<=n<=16,4]"}
    assert parse_inputs(["x: float32[b, 4]"]) == {"x": "float32[b,4]"}


def test_a_bound_that_does_not_settle_the_branch_is_not_enough():
    with pytest.raises(DlbridgeError, match="another way"):
        load(_scaled, "float32[batch,time<=9,4]")


# --- the code takes no other sizes ------------------------------------------------------------------------------------


def _assertion(self, x):
    assert x.shape[1] % 4 == 0
    return x.cos()


def _raises(self, x):
    if x.shape[1] > 100:
        raise ValueError("too long")
    return x.cos()


def _torch_check(self, x):
    torch._check(x.shape[1] >= 5)
    return x.cos()


def _positions(self, x):
    return x + self.layers[0].weight[: x.shape[1]]


def _halves(self, x):
    return x.view(x.shape[0], x.shape[1] // 2, 8)


def _squares(self, x):
    return x.transpose(1, 2) @ x[:, :, :1] + torch.zeros(x.shape[1], 1)[:4] * x.shape[1]


@pytest.mark.parametrize(
    ("function", "said", "shape"),
    [
        (_assertion, ["time % 4 == 0"], (2, 12, 4)),
        (_raises, ["time <= 100"], (2, 7, 4)),
        (_torch_check, ["time >= 5"], (2, 7, 4)),
        (_positions, ["time <= 32"], (2, 7, 4)),
        (_halves, ["time % 2 == 0"], (2, 6, 4)),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_sizes_that_the_code_does_not_take_are_part_of_the_signature(function, said, shape):
    module, model = load(function, "float32[batch,time,4]", nn.Embedding(32, 4))
    assert constraints(model) == said
    agrees(module, model, shape)
    text = model.write("pytorch").text
    assert f"For inputs of these sizes: {said[0]}." in text
    dlbridge.convert(model, "onnx")  # with its own check, on sizes that keep them


# --- the other way is the same ----------------------------------------------------------------------------------------


def _pads_if_need_be(self, x):
    missing = -x.shape[1] % 4
    if missing > 0:
        x = F.pad(x, (0, 0, 0, missing))
    return x.sum(1)


def _causal_where_there_is_more_than_one(self, x):
    return F.scaled_dot_product_attention(x, x, x, is_causal=bool(x.shape[1] > 1))


@pytest.mark.parametrize("function", [_pads_if_need_be, _causal_where_there_is_more_than_one])
def test_a_branch_whose_ways_compute_the_same_is_no_constraint(function):
    module, model = load(function)
    assert constraints(model) == []
    agrees(module, model, (2, 8, 4), (1, 5, 4), (3, 1, 4))


# --- one name is one size ---------------------------------------------------------------------------------------------


class Two(nn.Module):
    def forward(self, ids, mask):
        return ids[:, :, None] * mask.flip(0)[torch.arange(ids.shape[0])].unsqueeze(-1).sum(1, keepdim=True)


def _shapes(model):
    return [[str(d) for d in v.shape] for v in model.inputs]


def test_one_name_is_one_size():
    named = {"ids": "float32[batch,seq]", "mask": "float32[batch,seq]"}
    assert _shapes(dlbridge.load(Two(), inputs=named)) == [["batch", "seq"]] * 2
    tensors = {"ids": torch.ones(2, 5), "mask": torch.ones(2, 5)}
    dynamic = {"ids": {0: "batch", 1: "seq"}, "mask": {0: "batch", 1: "seq"}}
    assert _shapes(dlbridge.load(Two(), inputs=tensors, dynamic=dynamic)) == [["batch", "seq"]] * 2
    assert _shapes(dlbridge.load(Two(), inputs=tensors)) == [["batch", "5"]] * 2
    with pytest.raises(SignatureError, match="the size 'seq' is 5 in one example, 6 in another"):
        dlbridge.load(Two(), inputs={"ids": torch.ones(2, 5), "mask": torch.ones(2, 6)}, dynamic=dynamic)


def test_sizes_may_be_arithmetic_on_names_of_other_inputs():
    class Joined(nn.Module):
        def forward(self, x, y):
            return torch.cat([x, y[:, ::2]], 1).cos()

    model = dlbridge.load(Joined(), inputs={"x": "float32[b,n]", "y": "float32[b,2*n]"})
    assert _shapes(model) == [["b", "n"], ["b", "2*n"]]
    assert str(model.outputs[0].shape) == "[b,2*n]"
    dlbridge.convert(model, "onnx")


def test_examples_of_size_one_are_repeated():
    model = dlbridge.load(Two(), inputs=(torch.ones(1, 1), torch.ones(1, 1)), dynamic={"0": {1: "n"}, "1": {1: "n"}})
    assert _shapes(model) == [["1", "n"], ["1", "n"]]


# --- what stops an export ---------------------------------------------------------------------------------------------


def _length(self, x):
    return x.reshape(len(x), -1).cos()


def _distribution(self, x):
    return Normal(x, x.exp()).mean.tanh()


@pytest.mark.parametrize("function", [_length, _distribution, asserts_numbers], ids=lambda f: f.__name__)
def test_checks_of_arguments_do_not_stop_an_export(function):
    module, model = load(function)
    agrees(module, model, (3, 5, 4), (1, 2, 4))


def test_a_branch_on_numbers_is_refused_on_its_line():
    def choice(self, x):
        return x.cos() if x.sum() > 0 else x.sin()

    with pytest.raises(DlbridgeError, match="other values of a tensor") as caught:
        load(choice)
    assert caught.value.where == f"{__file__}:{choice.__code__.co_firstlineno + 1}"


def test_a_branch_on_sizes_that_depend_on_the_data_is_refused_on_its_line():
    def choice(self, x):
        return x.cos() if torch.nonzero(x).shape[0] > 3 else x.sin()

    with pytest.raises(DlbridgeError, match=r"torch\.export cannot export it(.|\n)*torch\.cond") as caught:
        load(choice)
    assert caught.value.where == f"Net ({__file__}:{choice.__code__.co_firstlineno + 1})"


@pytest.mark.parametrize("given", [False, True])
def test_the_causal_mask_of_torchs_transformer_is_a_mask(given):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)

        def forward(self, x, mask):
            own = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.encoder(x, mask=mask if given else own) + 0 * mask.sum()

    torch.manual_seed(0)
    module, x, mask = Model().eval(), torch.randn(2, 5, 8), torch.randn(5, 5)
    model = dlbridge.load(module, inputs=(x, mask))
    torch.testing.assert_close(model.to_pytorch()(x, mask), module(x, mask), atol=1e-5, rtol=1e-5)


# --- sizes that depend on the data ------------------------------------------------------------------------------------


def _marked(self, x):
    return torch.where(x > 0)[1]


def _repeated_by_a_constant(self, x):
    return torch.repeat_interleave(x, torch.tensor([1, 0, 2, 3]), dim=2)


def _repeated(self, x):
    return torch.repeat_interleave(x, (x[:, 0, 0] > 0).long() + 1, dim=0).cos()


def _branch_of_a_graph(self, x):
    return torch.cond(x.shape[1] > 4, lambda x: x.cos(), lambda x: x.sin(), (x,))


def _selected(self, x):
    return x[x > 0].cumsum(0)


DEPENDENT = [_marked, _repeated_by_a_constant, _repeated, _branch_of_a_graph, _selected]


@pytest.mark.parametrize("function", DEPENDENT, ids=lambda f: f.__name__)
def test_results_are_as_long_as_the_data_say(function):
    module, model = load(function)
    agrees(module, model, (3, 5, 4), (2, 4, 4), (4, 7, 4))


@pytest.mark.parametrize("spec", ["float32[batch,3,4]", "float32[2,3,4]"])
def test_vmap_is_read_as_ops_on_the_batch(spec):
    module, model = load(lambda self, x: torch.vmap(lambda r: self.layers[0](r) * r.norm())(x), spec, nn.Linear(4, 4))
    agrees(module, model, (2, 3, 4))


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d((5, 3)), nn.AdaptiveMaxPool2d((2, 6)), nn.AdaptiveAvgPool2d(7)])
def test_adaptive_pooling_takes_free_sizes(pool):
    module, model = load(lambda self, x: self.layers[0](x), "float32[batch,2,h,w]", pool)
    agrees(module, model, (1, 2, 20, 31), (2, 2, 7, 6), (1, 2, 9, 14))


# --- programs of others -----------------------------------------------------------------------------------------------


def test_windows_slide_along_free_sizes():
    module, model = load(lambda self, x: x.unfold(1, 4, 3), "float32[batch,time,4]")
    agrees(module, model, (2, 4, 4), (3, 12, 4))
    options = {"padding": (1, 0), "stride": (2, 1), "dilation": (1, 2)}
    module, model = load(lambda self, x: F.unfold(x, (3, 2), **options), "float32[batch,2,height,width]")
    agrees(module, model, (2, 2, 3, 3), (1, 2, 8, 5))


def test_what_an_exported_program_states_of_its_sizes_is_kept():
    module = Net(_raises).eval()
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", min=4, max=100)
    program = torch.export.export(module, (torch.randn(2, 8, 4),), dynamic_shapes=({0: batch, 1: time},))
    assert constraints(dlbridge.load(program)) == ["x_1 >= 4", "x_1 <= 100"]


def test_reading_changes_nothing_of_the_module():
    module = nn.Sequential(nn.LSTM(4, 4, batch_first=True)).train()
    before = dict(vars(module[0]))
    dlbridge.load(module, inputs={"input": "float32[batch,time,4]"})
    assert vars(module[0]).keys() == before.keys()
    assert module.training
    assert math.isfinite(sum(float(p.sum()) for p in module.parameters()))


class Shrunk(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.interpolate(x, mode="bilinear", scale_factor=0.4)


def test_a_condition_on_a_fraction_of_a_size_is_said_as_a_bound_of_it():
    example = torch.randn(2, 3, 20, 30)
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(Shrunk(), (example,), dynamic_shapes=({0: free, 2: free, 3: free},))
    model = dlbridge.load(program)
    assert [c.text for c in traits.constraints(model.graph) if c.names == {"x_2"}] == ["x_2 >= 5"]
    assert dlbridge.load(Shrunk(), inputs={"x": "float32[batch,3,h,w]"}).inputs


class Strided(torch.nn.Module):
    """Makes one frame of a few hundred samples, and goes on as if frames were any number."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 4, 10, stride=600)
        self.mix = torch.nn.Linear(4, 4)

    def forward(self, x):
        frames = self.conv(x.unsqueeze(1)).transpose(1, 2)
        batch, length, _ = frames.shape
        return self.mix(frames).view(batch, length, 2, 2).transpose(1, 2)


def test_a_size_that_is_computed_and_is_one_in_the_example_stays_free():
    module = Strided().eval()
    model = dlbridge.load(module, inputs={"x": "float32[batch,samples]"})
    x = torch.randn(3, 4000)
    live = frameworks.get("pytorch").load(dlbridge.convert(model, "pytorch"))
    torch.testing.assert_close(live(x), module(x))


class Patches(torch.nn.Module):
    """Normalises along the channels, which stand first."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.LayerNorm(8)
        self.mix, self.last = torch.nn.Conv2d(8, 8, 2, stride=2), torch.nn.Conv2d(8, 8, 2, stride=2)

    def forward(self, x):
        x = self.conv(x)
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.gelu(self.mix(x))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.last(x).mean((2, 3))


def test_how_a_tensor_lies_in_memory_is_asked_of_no_size():
    model = dlbridge.load(Patches().eval(), inputs={"x": "float32[batch,3,height,width]"})
    assert [c.text for c in traits.constraints(model.graph)] == ["height >= 16", "width >= 16"]


class OddFrames(torch.nn.Module):
    """Halves and doubles the frames, and fills up where one has got lost."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 4, 10, stride=80)

    def forward(self, x):
        frames = self.conv(x.unsqueeze(1))
        doubled = F.avg_pool1d(frames, 2).repeat_interleave(2, -1)
        if doubled.shape[-1] < frames.shape[-1]:
            doubled = F.pad(doubled, (0, 1))
        return doubled


def test_another_way_for_some_sizes_is_found_behind_strides():
    with pytest.raises(DlbridgeError, match="takes another way for some sizes"):
        dlbridge.load(OddFrames().eval(), inputs={"x": "float32[batch,samples]"})


def _of_three(self, x):
    return torch.einsum("bti,btj,bti->btij", x, x[:, :, 1:], x)


def _of_three_in_a_list(self, x):
    return torch.einsum("bti,btj,bti->btij", [x, x[:, :, 1:], x])


@pytest.mark.parametrize("function", [_of_three, _of_three_in_a_list], ids=lambda f: f.__name__[1:])
def test_the_order_in_which_einsum_contracts_fixes_no_size(function):
    pytest.importorskip("opt_einsum")  # which computes that order with numbers
    module, model = load(function)
    assert [str(size) for size in model.inputs[0].shape] == ["batch", "time", "4"]
    agrees(module, model, (2, 6, 4), (3, 5, 4))


_MATRIX = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

PINNED = {
    "take_along_dim": lambda self, x: torch.take_along_dim(x, x.argsort(1)[:, :2], 1),
    "take_along_dim of one row": lambda self, x: x.take_along_dim(x[:1].argsort(1), 1),
    "take_along_dim of all": lambda self, x: torch.take_along_dim(x, x.flatten().argsort()),
    "kron": lambda self, x: torch.kron(x, _MATRIX[:2, :1]),
    "kron of other ranks": lambda self, x: torch.kron(_MATRIX[0, :2], x),
    "multi_dot": lambda self, x: torch.linalg.multi_dot([x, _MATRIX, _MATRIX.T]),
    "chain_matmul": lambda self, x: torch.chain_matmul(x, _MATRIX, _MATRIX.T),
    "diff of bits": lambda self, x: (x > 0).diff(dim=1),
    "cov": lambda self, x: torch.cov(x.T, correction=0),
    "corrcoef": lambda self, x: x.T.corrcoef(),
    "gaussian_nll_loss": lambda self, x: F.gaussian_nll_loss(x, x * 2, x.square(), full=True, reduction="none"),
}


@pytest.mark.parametrize("case", PINNED)
def test_what_torch_computes_from_plain_numbers_fixes_no_size(case):
    module, model = load(PINNED[case], "float32[rows,4]")
    assert str(model.inputs[0].shape[0]) == "rows"
    agrees(module, model, (6, 4), (9, 4))


def test_differences_along_a_free_size():
    module, model = load(lambda self, x: torch.diff(x, n=2, dim=1, append=x[:, :1]))
    assert [str(size) for size in model.inputs[0].shape] == ["batch", "time", "4"]
    agrees(module, model, (2, 6, 4), (3, 9, 4))


class RoundedDown(nn.Module):
    """Quotients of what may be negative: a ceiling, half of a difference, a negative divisor."""

    def forward(self, x, y):
        n, more = x.shape[1], y.shape[1] - x.shape[1]
        padded = F.pad(x, (more // 2, more - more // 2))
        return padded + y, x[:, : -(-n // 4)], torch.arange(-(-n // 3)) + n // -3, torch.tensor(more // 4)


@pytest.mark.parametrize("framework", ["pytorch", "onnx", "keras"])
def test_quotients_of_sizes_are_rounded_down_as_python_does(framework):
    there = frameworks.get(framework)
    model = dlbridge.load(RoundedDown(), inputs={"x": "float32[batch,n]", "y": "float32[batch,m]"})
    source = there.write(model)
    live = there.load(source)
    for n, m in ((9, 4), (4, 9), (8, 11), (11, 8)):
        x, y = torch.randn(2, n), torch.randn(2, m)
        made = there.run(live, {"x": x.numpy(), "y": y.numpy()})
        for got, right in zip(made.values(), RoundedDown()(x, y), strict=True):
            torch.testing.assert_close(torch.from_numpy(got), right)
    assert framework == "onnx" or "-(-x.shape[1] // 4)" in source.text.replace("ops.shape(x)", "x.shape")


def test_a_size_of_which_only_multiples_fit_is_named_so():
    def unshuffled(self, x):
        return F.pixel_unshuffle(x, 3)

    with pytest.raises(DlbridgeError) as refused:
        load(unshuffled, "float32[batch,2,h,6]")
    assert refused.value.hint == "if only multiples of 3 fit, name the size so: 3*n"
    module, model = load(unshuffled, "float32[batch,2,3*h,6]")
    agrees(module, model, (2, 2, 6, 6), (1, 2, 3, 6))
