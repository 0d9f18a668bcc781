"""``dlbridge inspect --web`` and the table of a model in a notebook."""

import shutil
import subprocess

import onnx
import pytest
from click.testing import CliRunner

import dlbridge
from dlbridge import web
from dlbridge.cli import cli

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


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


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_shows_two_thousand_nodes(tmp_path):
    path = web.save(_chain(2000), tmp_path / "m.html")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path / 'profile'}"]
    found = subprocess.run([CHROMIUM, *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert 'data-nodes="2000"' in found.stdout
