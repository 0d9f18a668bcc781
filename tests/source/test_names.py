"""Names in printed code, and names in a graph."""

import pytest
from torch import nn

import dlbridge
from dlbridge.ops.names import python_name
from dlbridge.source.names import identifier, last_word


@pytest.mark.parametrize(
    ("text", "in_a_graph", "in_code"),
    [
        ("größe", "größe", "gr_e"),
        ("input", "input", "input_"),
        ("class", "class_", "class_"),
        ("cache.0", "cache_0", "cache_0"),
        ("0.weight", "_0_weight", "_0_weight"),
        ("x²", "x2", "x2"),
        ("...", "x", "x"),
    ],
)
def test_text_becomes_a_name(text, in_a_graph, in_code):
    assert (python_name(text), identifier(text)) == (in_a_graph, in_code)


def test_a_number_keeps_the_word_before_it():
    assert [last_word(path) for path in ("x", "decoder.x", "decoder.cache.0", "0")] == ["x", "x", "cache.0", "0"]


class Net(nn.Module):
    """Two convolutions read one image, beside inputs that are items of a list."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(3, 4, 3) for _ in range(2))

    def forward(self, image, cache):
        return self.blocks[0](image) * cache[0] + self.blocks[1](image) * cache[1]


@pytest.mark.parametrize("target", ["pytorch", "keras"])
def test_inputs_keep_names_that_can_be_read(target):
    model = dlbridge.load(Net(), inputs=("float32[2,3,8,8]", ["float32[2,1,1,1]"] * 2))
    text = dlbridge.convert(model, target).text
    assert "cache_0" in text and "cache_1" in text
    assert not any(word in text for word in ("_0_", " _0", " _1", "(_1"))
    assert target == "pytorch" or 'name="image"' in text
