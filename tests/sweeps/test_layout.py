"""Keras written from torchvision's architectures has no transposes beyond the interface's and the original's own.

Counted in the graph after the pass, and in the live model that is written from it.
"""

from __future__ import annotations

import pytest

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision)

torchvision = pytest.importorskip("torchvision")

import dlbridge
from dlbridge.passes import layout
from dlbridge.passes.prepare import prepare

INPUTS = {"x": "float32[batch,3,224,224]"}
NAMES = ["resnet50", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny", "swin_t", "deeplabv3_resnet50"]


def _transposes(graph) -> int:
    """Those of what is computed, not of weights."""

    def of_weights(value) -> bool:
        if value.is_initializer():
            return True
        maker = value.producer()
        return maker is not None and all(v is None or of_weights(v) for v in maker.inputs)

    return sum(n.op_type == "Transpose" and not of_weights(n.inputs[0]) for n in graph)


def _called(live) -> int:
    """Transposes that a live model calls, of weights too."""
    kinds = [type(operation) for operation in live.operations]
    own = {k.__name__ for k in kinds if not k.__module__.startswith("keras.")}
    assert own <= {"UnbiasedBatchNormalization", "Weight"}  # what is printed with it, and transposes nothing
    return sum(k.__name__ in ("Permute", "Transpose", "Moveaxis", "Swapaxes") for k in kinds)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_transposes_are_added(name):
    factory = getattr(torchvision.models, name, None) or getattr(torchvision.models.segmentation, name)
    options = {"weights_backbone": None} if name.startswith("deeplab") else {}
    model = dlbridge.load(factory(weights=None, **options).eval(), inputs=INPUTS)
    before = _transposes(model.graph)
    prepared = [prepare(model), prepare(model)]
    for each, io_layout in zip(prepared, ("same", "native"), strict=True):
        layout.channels_last(each.ir, io_layout=io_layout)
    same, native = (_transposes(each.graph) for each in prepared)
    print(f"{name}: {before} in the original, {same} with the interface's, {native} in native layout")
    images = 2 if name.startswith("deeplab") else 1  # the input, and for segmentation the output
    assert same <= before + images
    assert native <= before
    with_weights = sum(n.op_type == "Transpose" for n in model.graph)
    assert _called(model.to_keras()) - images <= with_weights
    assert _called(model.to_keras(io_layout="native")) <= with_weights
    if not before:
        assert (same, native) == (images, 0)
