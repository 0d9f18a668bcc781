"""Every torchvision classification, segmentation, video and flow architecture: PyTorch -> PyTorch, ONNX, Keras.

``python -m tests.sweeps.test_torchvision [name ...]`` prints the table.
"""

from __future__ import annotations

import pytest
import torch

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision)

torchvision = pytest.importorskip("torchvision")

from tests.sweeps.measure import measure, randomised, table

#: Smallest image that an architecture takes, where 64 is too small.
SIZES = {"inception_v3": 96, "alexnet": 96, "googlenet": 96, "vit_b_16": 224, "vit_b_32": 224, "vit_l_16": 224}
CLASSIFICATION = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "densenet161",
    "efficientnet_b0",
    "efficientnet_b4",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mnasnet1_3",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "regnet_y_1_6gf",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "squeezenet1_0",
    "squeezenet1_1",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vgg11_bn",
    "vgg16",
    "vit_b_16",
    "vit_b_32",
]
SEGMENTATION = ["deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "fcn_resnet50", "lraspp_mobilenet_v3_large"]
VIDEO = ["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t"]
FLOW = ["raft_small"]
ALL = [*CLASSIFICATION, *SEGMENTATION, *VIDEO, *FLOW]


def build(name: str):
    """(module, example inputs, fresh inputs of another batch size)."""
    torch.manual_seed(0)
    if name in FLOW:
        module = randomised(torchvision.models.optical_flow.raft_small(weights=None))
        example, fresh = ([torch.rand(n, 3, 128, 128) * 2 - 1 for _ in range(2)] for n in (2, 3))
        return module, tuple(example), tuple(fresh)
    if name in SEGMENTATION:
        module = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    elif name in ("googlenet", "inception_v3"):
        module = torchvision.models.get_model(name, weights=None, init_weights=False)
    else:
        module = torchvision.models.get_model(name, weights=None)
    if name in VIDEO:
        shape = (3, 16, 224, 224) if name.startswith("mvit") else (3, 14, 224, 224) if name == "s3d" else (3, 8, 64, 64)
    else:
        size = 224 if name == "maxvit_t" else SIZES.get(name, 64)
        shape = (3, size, size)
    return randomised(module), (torch.randn(2, *shape),), (torch.randn(3, *shape),)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_architecture(name):
    row = measure(name, *build(name))
    print(row)
    assert row.passed, str(row)


if __name__ == "__main__":
    table(ALL, build)
