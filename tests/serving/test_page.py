"""The page at ``/`` in a browser: models, live figures, and a model tried on numbers and on an image."""

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from tests.helpers import browser
from tests.helpers.serving import start, write_entry

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium")
MODEL = "[...document.querySelectorAll('.model')].find(m => m.querySelector('h2').textContent === '{}')"


def write_brightness(repository) -> None:
    """Write a model of images: the mean of each of its three colours."""
    x = helper.make_tensor_value_info("image", TensorProto.FLOAT, ("batch", 3, 4, 6))
    y = helper.make_tensor_value_info("mean", TensorProto.FLOAT, ("batch", 3))
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    node = helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0)
    graph = helper.make_graph([node], "brightness", [x], [y], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (repository / "brightness" / "1").mkdir(parents=True)
    save(model, repository / "brightness" / "1" / "model.onnx")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    repository = tmp_path_factory.mktemp("repository")
    write_entry(repository, "double")
    write_brightness(repository)
    (repository / "broken" / "1").mkdir(parents=True)
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"nothing")
    found = start(repository)
    yield found
    assert found.stop() == 0


@pytest.fixture(scope="module")
def page(running):
    with browser.page() as found:
        found.open(f"http://127.0.0.1:{running.port}/")
        found.until("document.querySelectorAll('.ports tr').length === 4")
        yield found
        assert not found.problems


def test_models_and_what_they_take(page):
    names = page.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    states = page.run("[...document.querySelectorAll('.state')].map(s => s.textContent)")
    assert dict(zip(names, states, strict=True)) == {"brightness": "READY", "broken": "UNAVAILABLE", "double": "READY"}
    assert page.run(f"{MODEL.format('double')}.querySelector('.ports').innerText").split("\n") == [
        "input\tx\tFP32[?, 3]",
        "output\ty\tFP32[?, 3]",
    ]
    assert "cannot load" in page.run(f"{MODEL.format('broken')}.querySelector('.reason').textContent")


def test_a_model_is_tried_on_numbers(page):
    model = MODEL.format("double")
    page.run(f"{model}.querySelector('details').open = true")
    page.run(f"{model}.querySelector('.run').click()")
    text = page.until(f"{model}.querySelector('pre').textContent")
    given = page.run(f"JSON.parse({model}.querySelector('textarea').value).inputs[0].data")
    assert text.startswith("y: FP32[1, 3]")
    found = [float(number) for number in text.split("\n")[1].split(",")]
    assert np.allclose(found, np.float32(2) * np.float32(given))


def test_a_model_is_tried_on_an_image(page, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (60, 40), (255, 102, 0)).save(tmp_path / "orange.png")
    model = MODEL.format("brightness")
    page.run(f"{model}.querySelector('details').open = true")
    page.run(f"{model}.querySelector('input').id = 'image'")
    page.choose_file("#image", tmp_path / "orange.png")
    page.until(f"JSON.parse({model}.querySelector('textarea').value).inputs[0].data[0] === 1")
    page.run(f"{model}.querySelector('.run').click()")
    text = page.until(f"{model}.querySelector('pre').textContent")
    assert text.startswith("mean: FP32[1, 3]")
    assert np.allclose([float(n) for n in text.split("\n")[1].split(",")], [1, 0.4, 0], atol=1e-4)


def test_figures_are_live(page, running):
    cell = f"{MODEL.format('double')}.querySelectorAll('.figures td')[0].textContent"
    page.until(f"{cell} === '0'")
    for _ in range(30):
        running.infer("double", [[1, 2, 3]])
    assert float(page.until(f"Number({cell}) > 0 && {cell}")) > 0


def test_what_is_asked_wrongly_is_said(page):
    model = MODEL.format("double")
    page.run(f"{model}.querySelector('textarea').value = '{{}}'")
    page.run(f"{model}.querySelector('pre').textContent = ''")
    page.run(f"{model}.querySelector('.run').click()")
    assert "no list of inputs" in page.until(f"{model}.querySelector('pre').textContent")
    page.problems.clear()  # the browser notes each 400


def test_a_server_that_wants_a_token(tmp_path):
    write_entry(tmp_path / "repository", "double")
    (tmp_path / "token").write_text("s3cret")
    running = start(tmp_path / "repository", "--token-file", str(tmp_path / "token"))
    with browser.page() as page:
        page.open(f"http://127.0.0.1:{running.port}/")
        page.until("!document.querySelector('#login').hidden")
        assert page.run("document.querySelectorAll('.model').length") == 0
        for token, models in (("wrong", 0), ("s3cret", 1)):
            page.run(f"document.querySelector('#login input').value = '{token}'")
            page.run("document.querySelector('#login button').click()")
            page.until(f"document.querySelector('#login').hidden === {str(bool(models)).lower()}")
            page.until(f"document.querySelectorAll('.model').length === {models}")
        page.until("document.querySelectorAll('.ports tr').length === 2")
    assert running.ask("GET", "/v2")[0] == 401
    assert running.stop() == 0
