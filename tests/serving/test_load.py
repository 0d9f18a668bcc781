"""``dlbridge bench``: what it asks, and what it says where nothing is answered."""

import json

import numpy as np
import pytest

from dlbridge import runtime
from dlbridge.errors import SignatureError
from dlbridge.serving import load
from tests.helpers.onnx_text import save_graph
from tests.helpers.serving import start


def test_scalars_are_asked_as_the_server_takes_them(tmp_path):
    file = save_graph(tmp_path / "ein modell.onnx", "(float s, int64 k) => (float y, int64 z)", "y = Neg(s) z = Neg(k)")
    arrays = load.sample(runtime.load(file).signature)
    message = load.request(file.stem, arrays)
    assert b"POST /v2/models/ein%20modell/infer" in message
    running = start(file)
    try:
        head, body = message.split(b"\r\n\r\n", 1)
        size = head.decode().partition("Inference-Header-Content-Length: ")[2].partition("\r\n")[0]
        path = "/v2/models/ein%20modell/infer"
        assert running.ask("POST", path, body, Inference_Header_Content_Length=size)[0] == 200
        assert json.loads(body[: int(size)])["inputs"][0]["shape"] == [1]
    finally:
        running.stop()


def test_sizes_are_those_that_the_model_takes():
    class Signature:
        inputs = (runtime.Port("x", np.dtype("float32"), ("n", "m")),)

        def __init__(self, multiple):
            self.multiple = multiple

        def check(self, arrays):
            if arrays["x"].shape[1] % self.multiple:
                raise SignatureError("the model takes others")

    assert load.sample(Signature(4), rows=3)["x"].shape == (3, 4)
    with pytest.raises(SignatureError, match="others"):
        load.sample(Signature(1000))
