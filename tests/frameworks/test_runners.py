"""Running what was written, in every framework that is installed."""

import onnx_ir as ir
import pytest

from dlbridge import frameworks
from dlbridge.errors import SignatureError
from dlbridge.model import Model

WRITERS = [f.name for f in frameworks.all_frameworks() if f.is_installed and f.name != frameworks.STANDARD]


@pytest.mark.parametrize("name", WRITERS)
def test_an_input_without_an_array_is_named(name):
    graph = "g (float[2] x, float[2] scale) => (float[2] y) { y = Mul(x, scale) }"
    model = Model(ir.from_onnx_text(f'<ir_version: 10, opset_import: ["": 23]> {graph}'))
    framework = frameworks.get(name)
    live = framework.load(framework.write(model))
    with pytest.raises(SignatureError, match="scale"):
        framework.run(live, {"x": [1.0, 2.0]})
