"""``dlbridge inspect --web`` and the table of a model in a notebook."""

import onnx
import pytest
from click.testing import CliRunner

import dlbridge
from dlbridge import web
from dlbridge.cli import cli
from dlbridge.verification import verify
from tests.helpers import browser

needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium")


def _chain(count):
    """A model of so many nodes, in blocks of ten."""
    names = [f"block{i // 10}.relu{i}" for i in range(count)]
    nodes = [onnx.helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"], name) for i, name in enumerate(names)]
    ports = [onnx.helper.make_tensor_value_info(name, 1, ["n", 4]) for name in ("x0", f"x{count}")]
    graph = onnx.helper.make_graph(nodes, "chain", ports[:1], ports[1:])
    imports = [onnx.helper.make_opsetid("", 20)]
    return dlbridge.load(onnx.helper.make_model(graph, opset_imports=imports, ir_version=10))


def test_the_page_has_blocks_nodes_and_code():
    text = web.page(_chain(30))
    assert text.count('class="node"') == 30 and text.count("<details") == 3
    assert "F.relu" in text and "http" not in text


def test_what_a_model_calls_itself_is_text_and_no_markup():
    model = _chain(3)
    model.graph.name = "<script>alert(1)</script>"
    assert "<script>alert" not in web.page(model)
    assert "<script>" not in model._repr_html_()


def test_the_command_writes_it(tmp_path):
    text = '<ir_version: 10, opset_import: ["": 20]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    found = CliRunner().invoke(cli, ["inspect", str(tmp_path / "m.onnx"), "--web", str(tmp_path / "m.html")])
    assert found.exit_code == 0 and "page:" in found.output
    assert (tmp_path / "m.html").read_text().startswith("<!doctype html>")


def test_a_verification_gives_errors_by_node_and_the_code_that_was_read(tmp_path):
    torch = pytest.importorskip("torch")

    class Doubling(torch.nn.Module):
        def forward(self, x):
            return torch.tanh(x) * 2  # said by the author

    model = dlbridge.load(Doubling(), inputs={"x": "float32[b,4]"})
    errors = verify(model, routes=["onnx"], battery="quick", by_node=True).depth
    text = web.page(model, errors)
    assert "said by the author" in text and text.count('class="error"') == 2


@needs_chromium
def test_a_browser_shows_two_thousand_nodes(tmp_path):
    path = web.save(_chain(2000), tmp_path / "m.html")
    with browser.page() as page:
        page.open(path.as_uri())
        assert page.until("document.body && Number(document.body.dataset.nodes)") == 2000
        page.run("document.querySelector('details summary').click()")
        page.run("document.querySelector('.node').click()")
        assert page.run("document.querySelectorAll('.chosen').length") == 1
        assert page.run("document.querySelectorAll('.to').length") == 1
        assert page.problems == []


@needs_chromium
def test_a_block_shows_the_class_it_was_read_from(tmp_path):
    torch = pytest.importorskip("torch")

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(2, 2, 3)

        def forward(self, x):
            return torch.relu(self.conv(x))

    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Block(), Block()

        def forward(self, x):
            return self.second(self.first(x))

    model = dlbridge.load(Stack(), inputs={"x": "float32[b,2,9]"})
    with browser.page() as page:
        page.open(web.save(model, tmp_path / "m.html").as_uri())
        page.until("document.body && document.body.dataset.nodes")
        shown = "[...document.querySelectorAll('.original [data-of]')].filter(e => !e.hidden).map(e => e.dataset.of)"
        assert page.run(shown) == ["Stack"]
        page.run("document.querySelector('details summary').click()")
        assert page.run(shown) == ["Block"]
        assert page.run("document.querySelector('.code .marked').textContent").startswith("class Block")
        assert page.problems == []
