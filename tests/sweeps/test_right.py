"""No false alarm on a hundred right models: what dlbridge writes for PyTorch, Keras and ONNX is verified and agrees.

``python -m tests.sweeps.test_right [group or name ...]`` prints the table (``make right``).
"""

from __future__ import annotations

import sys
import time

import pytest
import torch

import dlbridge
from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision, which timm imports)
from tests.verification.test_right import MODELS as SMALL

ROUTES = ("pytorch", "keras", "onnx")
#: Group -> its models. Those of ``small`` and ``transformers`` get every set of inputs, the images those of a conversion.
GROUPS = {
    "small": list(SMALL),
    "transformers": [
        *("Bert", "Albert", "DistilBert", "Electra", "DebertaV2", "FNet", "ModernBert", "MPNet", "RoFormer"),
        *("GPT2", "GPTNeoX", "Llama", "Mistral", "Qwen3", "Gemma2", "Phi", "OPT", "Bloom", "Falcon"),
        *("T5", "Bart", "ViT", "Segformer", "ConvNextV2"),
    ],
    "torchvision": [
        *("resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "mnasnet0_5"),
        *("regnet_y_400mf", "efficientnet_b0", "densenet121", "googlenet", "convnext_tiny", "swin_t"),
    ],
    "timm": [
        *("test_nfnet", "lcnet_050", "mobilenetv4_conv_small_050", "convnext_atto", "tinynet_e", "ghostnet_050"),
        *("resnet10t", "vit_tiny_patch16_224", "beit_base_patch16_224", "xcit_nano_12_p16_224", "pit_ti_224"),
        *("mixer_s32_224", "starnet_s050", "edgenext_xx_small", "efficientvit_b0"),
    ],
    "keras": ["MobileNet", "MobileNetV2", "MobileNetV3Small", "DenseNet121", "EfficientNetB0", "NASNetMobile"],
}
ALL = [(group, name) for group, names in GROUPS.items() for name in names]


def loaded(group: str, name: str):
    """The model, as a user would read it."""
    torch.manual_seed(1)
    if group == "small":
        make, sizes = SMALL[name]
        return dlbridge.load(make().eval(), inputs={key: "float32" + size for key, size in sizes.items()})
    if group == "keras":
        from tests.sweeps import test_keras_applications

        return dlbridge.load(test_keras_applications.build(name))
    from tests.sweeps.measure import named_inputs

    if group == "transformers":
        from tests.sweeps import test_transformers as sweep
    elif group == "torchvision":
        from tests.sweeps import test_torchvision as sweep
    else:
        from tests.sweeps import test_timm as sweep
    module, example, _, *dynamic = sweep.build(name)
    return dlbridge.load(module, inputs=named_inputs(module, example, dynamic[0] if dynamic else None))


def verified(group: str, name: str):
    """The report."""
    battery = "full" if group in ("small", "transformers") else "quick"
    return dlbridge.verify(loaded(group, name), routes=list(ROUTES), battery=battery)


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), ALL)
def test_a_right_model_raises_no_alarm(group, name):
    verified(group, name).require()


def main() -> int:
    """Print the table of the groups or models that the command line names; the number of alarms."""
    wanted, alarms = sys.argv[1:], 0
    chosen = [pair for pair in ALL if not wanted or wanted.count(pair[0]) or wanted.count(pair[1])]
    for group, name in chosen:
        start = time.time()
        try:
            report = verified(group, name)
        except dlbridge.errors.DlbridgeError as error:
            alarms += 1
            print(f"{group:13}{name:32}ERROR  {type(error).__name__}: {str(error)[:600]}", flush=True)
            continue
        alarms += not report.passed
        decided = [check for check in report.checks if check.decided]
        worst = max((check.excess for check in decided if not check.message), default=0.0)
        said = f"{len(decided):4} comparisons, largest {worst:.2f} of its bound, {time.time() - start:5.1f} s"
        print(f"{group:13}{name:32}{'agrees' if report.passed else 'ALARM'}  {said}", flush=True)
        if not report.passed:
            failed = {
                **report.failures,
                **{r: c.reason for r, c in report.worst().items() if not c.passed and c.decided},
            }
            print("    " + "\n    ".join(f"{route}: {why[:700]}" for route, why in failed.items()), flush=True)
    print(f"{len(chosen)} models, {alarms} alarms")
    return alarms


if __name__ == "__main__":
    sys.exit(main())
