"""Whole models through the ONNX file that torch.onnx (both exporters) or tf2onnx makes: ONNX -> PyTorch, ONNX -> Keras.

``python -m tests.sweeps.test_through_onnx [torchvision|script|timm|transformers|keras] [name ...] [--keep=FOLDER]``
prints the table: the error of each target against the original on fresh inputs of another batch size, and the lines
that are printed. ``script`` is torchvision by the TorchScript exporter. With ``--keep`` the exported files are made once.
"""

from __future__ import annotations

import gc
import importlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.sweeps import torchvision_cpu  # noqa: F401  (before torchvision)

pytest.importorskip("torchvision")

from tests.sweeps.measure import Row, _own_error, flat

import dlbridge
from dlbridge import frameworks
from dlbridge.verification.compare import relative_error

TARGETS = ("pytorch", "keras")
#: What the TorchScript exporter is tried on.
SCRIPT = [
    "resnet18",
    "densenet121",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "shufflenet_v2_x0_5",
    "vit_b_32",
    "swin_t",
]
SCRIPT += ["convnext_tiny", "googlenet", "squeezenet1_1", "deeplabv3_mobilenet_v3_large", "r3d_18", "vgg11_bn"]


@dataclass
class Source:
    """A file, what to feed it, and what the original made of that."""

    inputs: list[np.ndarray]
    wanted: list[np.ndarray]
    own_error: Callable[[], float]
    export: Callable[[Path], object]


def of_torchvision(name: str, *, script: bool = False) -> Source:
    from tests.sweeps.test_torchvision import build

    return _of_images(*build(name), script=script)


def of_timm(name: str) -> Source:
    from tests.sweeps.test_timm import build

    return _of_images(*build(name))


def _of_images(module, example, fresh, *, script: bool = False) -> Source:
    dynamic = tuple({0: torch.export.Dim("batch")} for _ in example)
    return _of_torch(module, example, fresh, dynamic, script)


def of_transformers(name: str) -> Source:
    from tests.sweeps.test_transformers import build

    module, example, fresh, dynamic = build(name)
    axes = {key: dict.fromkeys(dims, torch.export.Dim.DYNAMIC) for key, dims in dynamic.items()}
    return _of_torch(module, example, fresh, axes, script=False)


def _of_torch(module, example, fresh, dynamic, script: bool) -> Source:
    call = (lambda m, x: m(**x)) if isinstance(fresh, dict) else (lambda m, x: m(*x))
    with torch.no_grad():
        wanted = [v.numpy() for v in flat(call(module, fresh))]

    def export(path: Path) -> None:
        """With dynamic sizes; where torch.onnx cannot, with those of the fresh inputs."""
        try:
            _export(path, module, example, dynamic, script)
        except torch.onnx.OnnxExporterError:
            _export(path, module, fresh, None, script)

    leaves = [v.numpy() for v in (fresh.values() if isinstance(fresh, dict) else fresh)]
    return Source(leaves, wanted, lambda: _own_error(module, fresh, call, wanted), export)


def _export(path: Path, module, inputs, dynamic, script: bool) -> None:
    named = {"kwargs": inputs, "args": ()} if isinstance(inputs, dict) else {"args": inputs}
    if script:
        names = [f"input_{number}" for number in range(len(inputs))]
        axes = {name: {0: "batch"} for name in names} if dynamic else {}
        options = {"opset_version": 17, "input_names": names, "dynamic_axes": axes}
    else:
        options = {"dynamic_shapes": dynamic, "optimize": True}
    # The strides that the fused kernel leaves are not those of what torch.onnx puts in its place.
    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")
        torch.onnx.export(module, f=path, dynamo=not script, verbose=False, **named, **options)


def of_keras(name: str) -> Source:
    import keras
    from tests.helpers.keras_reading import inputs_of, outputs_of
    from tests.sweeps.test_keras_applications import build, own_error

    from dlbridge.frameworks.keras.onnx_export import export

    keras.utils.set_random_seed(0)
    model = build(name)
    read = frameworks.get("keras").read(model)
    data = inputs_of(read)
    wanted = outputs_of(model, list(data.values()), list(data))
    return Source(
        list(data.values()),
        wanted,
        lambda: own_error(read, data, wanted),
        lambda path: export(model, read, path, opset=18),
    )


def _names(sweep: str) -> list[str]:
    return list(importlib.import_module(f"tests.sweeps.{sweep}").ALL)


KINDS: dict[str, tuple[Callable[[str], Source], Callable[[], list[str]]]] = {
    "torchvision": (of_torchvision, lambda: _names("test_torchvision")),
    "script": (lambda name: of_torchvision(name, script=True), lambda: SCRIPT),
    "timm": (of_timm, lambda: _names("test_timm")),
    "transformers": (of_transformers, lambda: _names("test_transformers")),
    "keras": (of_keras, lambda: _names("test_keras_applications")),
}


def measure(kind: str, name: str, folder: Path, targets: tuple[str, ...] = TARGETS) -> Row:
    """Export (unless the file is there), read, write each target, compare."""
    row, path = Row(f"{kind} {name}"), folder / f"{kind}_{name}.onnx"
    row.strict = "-"
    source = KINDS[kind][0](name)
    if not path.exists():
        try:
            source.export(path)
        except Exception as error:
            row.failures["EXPORT"] = f"{type(error).__name__}: {error}"[:200]
            return row
    start = time.time()
    try:
        model = dlbridge.load(path)
    except Exception as error:
        row.failures["read"] = f"{type(error).__name__}: {error}"[:1500]
        return row
    row.seconds["read"] = time.time() - start
    arrays = {value.name: array for value, array in zip(model.inputs, source.inputs, strict=True)}
    for target in targets:
        start = time.time()
        try:
            framework = frameworks.get(target)
            written = dlbridge.convert(model, target)
            row.mismatch += f" {target}: {len(written.text.splitlines())} lines"
            live = framework.load(written)
            row.seconds[target] = time.time() - start
            made = list(framework.run(live, arrays).values())
            pairs = zip(made, source.wanted, strict=True)
            row.errors[target] = max((relative_error(m, w) for m, w in pairs), default=0.0)
        except Exception as error:
            row.failures[target] = f"{type(error).__name__}: {error}"[:1500]
        gc.collect()
    if any(error > row.bound for error in row.errors.values()):
        row.bound = max(row.bound, 4 * source.own_error())
    if row.bound > 1e-5:
        row.mismatch += f" bound {row.bound:.1e}"
    return row


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind][1]()])
def test_architecture(kind, name, tmp_path):
    row = measure(kind, name, tmp_path)
    print(row)
    if "EXPORT" in row.failures:
        pytest.skip(str(row))
    assert row.passed, str(row)


if __name__ == "__main__":
    words = [a for a in sys.argv[1:] if not a.startswith("--")]
    kinds = [word for word in words if word in KINDS] or list(KINDS)
    names = [word for word in words if word not in KINDS]
    kept = next((a[7:] for a in sys.argv if a.startswith("--keep=")), None)
    with tempfile.TemporaryDirectory() as made_here:
        for each_kind in kinds:
            for each in names or KINDS[each_kind][1]():
                try:
                    found = measure(each_kind, each, Path(kept or made_here))
                    print(found, found.mismatch, flush=True)
                except Exception as trouble:
                    print(f"{each_kind} {each}  SOURCE {type(trouble).__name__}: {str(trouble)[:300]}", flush=True)
