"""Numbers in a graph that stem from a fixed batch follow it where the batch is made free."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import dlbridge
from dlbridge.frameworks.onnx.stated_sizes import reshaped
from dlbridge.passes.sizes import Size

#: Sizes before a reshape in the file, the same now, the sizes after it in the file, and what they are now.
RESHAPES = [
    ([1, 196, 768], ["b", 196, 768], [1, 196, 12, 64], "b 196 12 64"),
    ([196, 1, 768], [196, "b", 768], [196, 12, 64], "196 12*b 64"),
    ([196, 12, 64], [196, "12*b", 64], [196, 1, 768], "196 b 768"),
    ([196, 12, 64], [196, "12*b", 64], [196, 768], "196*b 768"),
    ([196, 768], ["196*b", 768], [196, 1, 768], "196 b 768"),
    ([1, 512, 7, 7], ["b", 512, "h", "w"], [1, 512, 49], "b 512 h*w"),
    ([1, 512, 1, 1], ["b", 512, 1, 1], [1, 512], "b 512"),
    ([1, 3, 4], ["b", 3, 4], [12], "12*b"),
    ([1, 8, 8, 7, 7, 96], ["b", 8, 8, 7, 7, 96], [64, 49, 96], "64*b 49 96"),
    ([64, 49, 96], ["64*b", 49, 96], [1, 8, 8, 7, 7, 96], "b 8 8 7 7 96"),
    ([8, 196, 768], ["b", 196, 768], [8, 196, 12, 64], "b 196 12 64"),
]
_GRAPHS = {
    "a full shape": "(float[1,3,4] x) => (float[1,12] y) <int64[2] s = {1,12}> { a = Relu(x) \n y = Reshape(a, s) }",
    "all in one row": "(float[1,3,4] x) => (float[1,12] y) <int64[2] s = {1,-1}> { r = Reshape(x, s) \n y = Relu(r) }",
    "a token for each row": (
        "(float[1,2,3] x) => (float[1,3,3] y) <float[1,1,3] t = {1,2,3}> { y = Concat<axis=1>(t, x) }"
    ),
    "an expanded one": (
        "(float[1,1,3] x) => (float[1,4,3] y) <int64[3] s = {1,4,3}> { e = Expand(x, s) \n y = Relu(e) }"
    ),
    "a size to resize to": (
        "(float[1,2,4,4] x) => (float[1,2,8,8] y) <int64[4] s = {1,2,8,8}>"
        '{ y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x,,,s) }'
    ),
    "the batch in the middle": (
        "(float[1,2,4] x) => (float[1,2,4] y) <int64[3] s = {2,2,2}, int64[3] r = {2,1,4}>"
        "{ t = Transpose<perm=[1,0,2]>(x) \n h = Reshape(t, s) \n p = Transpose<perm=[1,0,2]>(h) \n a = Softmax(p)"
        "\n q = Transpose<perm=[1,0,2]>(a) \n b = Reshape(q, r) \n y = Transpose<perm=[1,0,2]>(b) }"
    ),
}


@pytest.mark.parametrize(("before", "now", "after", "right"), RESHAPES)
def test_the_free_size_takes_the_place_of_the_number(before, now, after, right):
    found = reshaped(before, [Size.of(size) for size in now], after)
    assert " ".join(map(str, found)) == right


@pytest.mark.parametrize("what", _GRAPHS)
def test_each_row_comes_out_as_it_does_alone(what):
    graph = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 20]> g {_GRAPHS[what]}')
    sizes = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    model = dlbridge.load(graph, inputs={"x": f"[batch,{','.join(map(str, sizes[1:]))}]"})
    x = np.random.default_rng(0).standard_normal((3, *sizes[1:])).astype("float32")
    alone = dlbridge.load(graph).original
    right = np.concatenate([alone({"x": row[None]})["y"] for row in x])
    live = model.to_pytorch()
    np.testing.assert_allclose(live(torch.from_numpy(x)).numpy(), right, atol=1e-6)
    np.testing.assert_allclose(model.original({"x": x})["y"], right, atol=1e-6)


class _Vit(nn.Module):
    """Patches, a class token, attention with the batch in the middle, and an LSTM that begins with zeros."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 4)
        self.rnn = nn.LSTM(16, 8, batch_first=True)

    def forward(self, x):
        batch = x.shape[0]
        x = self.patches(x).reshape(batch, 16, 4).permute(0, 2, 1)
        x = torch.cat([self.token.expand(batch, -1, -1), x], 1)
        rows = x.transpose(0, 1)
        x = x + self.attention(rows, rows, rows)[0].transpose(0, 1)
        return self.rnn(x)[0].mean(1)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_a_fixed_batch_that_torch_exports(tmp_path, dynamo):
    torch.manual_seed(0)
    module, path = _Vit().eval(), tmp_path / "vit.onnx"
    more = {"verbose": False} if dynamo else {}
    torch.onnx.export(module, (torch.randn(1, 3, 8, 8),), path, dynamo=dynamo, input_names=["x"], **more)
    live = dlbridge.load(path, inputs={"x": "[batch,3,8,8]"}).to_pytorch()
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        assert (live(x) - module(x)).abs().max() < 1e-5
