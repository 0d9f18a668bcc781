"""The report as an HTML page: what it says, that it needs nothing else, and that names in it are text."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from dlbridge.model import Model
from dlbridge.verification.departures.departure import Departure
from dlbridge.verification.inputs.coverage import Coverage
from dlbridge.verification.pages import page
from dlbridge.verification.pages.charts import Decades
from dlbridge.verification.report import Check, Report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</title><script>alert(1)</script>"


def model(name="tiny"):
    x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[2, 3])
    node = ir.node("Relu", [x], name="act")
    (y,) = node.outputs
    y.name, y.dtype, y.shape = "y", ir.DataType.FLOAT, ir.Shape([2, 3])
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 28}, name=name)
    return Model(ir.Model(graph, ir_version=10))


def report(**given):
    good = Check("keras", {"batch": 2}, {"y": 1e-7}, 1e-5, True, inputs="plain")
    bad = Check("pytorch", {"batch": 2}, {"y": 3e-2}, 1e-5, False, inputs="plain")
    said = "the first node whose inputs agree and whose outputs do not is node 'act' (Relu)"
    departed = {"pytorch": Departure(said, "act", "Relu")}
    pairs = {("keras", "pytorch"): 3e-2}
    coverage = Coverage(nodes=1, reached=1, inputs={"x": (-3.0, 4.0)}, unreached=["If 'act': no input takes a branch"])
    depth = {"pytorch": {"act": 3e-2}, "keras": {"act": 1e-7}}
    given = {
        "checks": [good, bad],
        "pairs": pairs,
        "departures": departed,
        "coverage": coverage,
        "depth": depth,
        **given,
    }
    return Report("tiny", **given)


class Reader(HTMLParser):
    """The text of a page by element, and the elements that fetch something."""

    FETCHING = ("script", "link", "img", "iframe", "object", "embed")

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.fetching, self.classes = [], {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in self.FETCHING:
            self.fetching.append(tag)
        if tag != "meta":
            self.open.append(tag)
        self.classes.append(dict(attributes).get("class"))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)


def test_the_verdict_comes_first_and_names_the_route_and_the_node():
    found = Reader(page.html(report(), model()))
    (verdict,) = [text for text in found.text["p"] if "agree" in text][:1]
    assert verdict == "Pytorch does not agree with the original."
    assert "verdict bad" in found.classes
    assert any("node 'act' (Relu)" in text for text in found.text["div"])
    assert "If 'act': no input takes a branch" in found.text["li"]


def test_a_page_of_what_agrees():
    found = Reader(page.html(report(checks=report().checks[:1], departures={}), model()))
    assert "Every route agrees with the original." in found.text["p"] and "verdict good" in found.classes


def test_nothing_compared_is_not_a_good_verdict():
    found = Reader(page.html(Report("tiny"), model()))
    assert "Nothing was compared." in found.text["p"] and "verdict doubt" in found.classes


def test_the_departing_node_is_marked_in_the_picture():
    text = page.html(report(), model())
    assert text.count('stroke="#d00"') == 1
    assert 'stroke="#d00"' not in page.html(report(departures={}), model())


def test_a_page_needs_nothing_else_and_its_elements_are_closed():
    found = Reader(page.html(report(), model(), {"keras": {"loss": [1.0, 0.1]}, "pytorch": {"loss": [1.0, 0.1]}}))
    assert not found.fetching and not found.open


@pytest.mark.parametrize("place", ["model", "judge", "route", "message", "departure", "input", "strategy", "gap"])
def test_a_name_is_text_wherever_it_stands(place):
    given = report()
    match place:
        case "model":
            given.model = HOSTILE
        case "judge":
            given.judge = HOSTILE
        case "route":
            given.failures[HOSTILE] = HOSTILE
        case "message":
            given.checks[1].message = HOSTILE
        case "departure":
            given.departures["pytorch"] = Departure(HOSTILE, cause=HOSTILE)
        case "input":
            given.coverage.inputs = {HOSTILE: (0.0, 1.0)}
        case "strategy":
            given.checks[1].inputs = HOSTILE
        case "gap":
            given.coverage.unreached = [HOSTILE]
    text = page.html(given, model(HOSTILE))
    assert "<script" not in text
    assert any(HOSTILE in "".join(parts) for parts in Reader(text).text.values())


@pytest.mark.parametrize("numbers", [[], [0.0], [np.inf, np.nan], [1e-300, 1e300], [1.0]])
def test_an_axis_takes_any_numbers(numbers):
    axis = Decades(numbers, 10, 110)
    assert all(10 <= axis(n) <= 110 for n in numbers if n == n)
    assert 2 <= len(list(axis.ticks())) <= 12


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 1000])
def test_a_browser_shows_it_on_a_phone_and_on_a_screen_and_prints_it(tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(page.html(report(), model(), {"keras": {"loss": [1.0, 0.1]}}))
    common = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    script = "document.title = document.documentElement.scrollWidth + ' ' + window.innerWidth"
    checked = tmp_path / "checked.html"
    checked.write_text(file.read_text().replace("</body>", f"<script>{script}</script></body>"))
    shown = subprocess.run([*common, "--dump-dom", checked.as_uri()], capture_output=True, text=True, timeout=60)
    scrolled, inner = Reader(shown.stdout).text["title"][0].split()
    assert int(scrolled) <= int(inner), "the page is wider than the screen"
    subprocess.run([*common, f"--print-to-pdf={tmp_path / 'report.pdf'}", file.as_uri()], check=True, timeout=60)
    assert Path(tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
