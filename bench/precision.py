"""Less precision in ONNX files: size, speed in onnxruntime here, and whether the largest number stays at its place.

``make precision`` writes what it finds to ``docs/precision.md``. Each model runs in a process of its own. The CNN of
digits is trained (by the demo's data), the three large models have random weights, as nothing is downloaded.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from bench.cases import Failure, numbers_of

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "precision.md"

#: What is asked for -> the arguments of ``convert``.
RECIPES = {
    "float16": "dtype='float16'",
    "bfloat16": "dtype='bfloat16'",
    "int8": "quantize='int8'",
    "int8-static": "quantize='int8-static'",
    "int4": "quantize='int4'",
}
#: Model -> the code that makes ``model`` (as ``dlbridge.load`` gives it) and ``data`` (input -> rows).
MODELS = {
    "digits CNN, trained": """
        sys.path.insert(0, "examples")
        from demo import digits
        seen, held_out = digits()
        model = dlbridge.train(dlbridge.load("examples/cnn_digits.yaml"), seen, framework="pytorch").model
        data, fitted = {"image": held_out["image"]}, {"image": seen["image"][:256]}
    """,
    "ResNet-50": """
        import torchvision_cpu, torchvision
        module = torchvision.models.resnet50()
        with torch.no_grad():  # statistics of a batch, as a trained model has them
            [module(torch.randn(8, 3, 224, 224)) for _ in range(10)]
        model = dlbridge.load(module.eval(), inputs={"x": "float32[batch,3,224,224]"})
        data, fitted = ({"x": rng.normal(size=(16, 3, 224, 224)).astype("float32")} for _ in range(2))
    """,
    "BERT base": """
        import torchvision_cpu, transformers
        module = transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=16)).eval()
        model = dlbridge.load(module, inputs={"input_ids": "int64[batch,seq]"})
        data, fitted = ({"input_ids": rng.integers(0, 30522, size=(16, 64))} for _ in range(2))
    """,
    "a decoder of 110 M parameters": """
        import torchvision_cpu, transformers
        config = transformers.LlamaConfig(
            hidden_size=768, num_hidden_layers=12, num_attention_heads=12, vocab_size=32000, intermediate_size=2048,
            tie_word_embeddings=True)
        module = transformers.LlamaForCausalLM(config).eval()
        model = dlbridge.load(module, inputs={"input_ids": "int64[batch,seq]"}, cache=False)
        data, fitted = ({"input_ids": rng.integers(0, 32000, size=(8, 64))} for _ in range(2))
    """,
}
_PROGRAM = """
import json, os, sys, textwrap, time, warnings
sys.path[:0] = [{root!r}, {sweeps!r}]
os.chdir({root!r})
warnings.simplefilter("ignore")
import numpy as np, torch, dlbridge
torch.manual_seed(0)
rng = np.random.default_rng(0)
{making}
found = []
from dlbridge import precision
from dlbridge.passes import narrowing
full = model.write("onnx")
for kind, options in {recipes!r}.items():
    asked = eval(f"dict({{options}})")
    recipe = precision.recipe("onnx", calibrate=fitted, **asked)
    try:
        written = recipe.write(model, "onnx", {{}})
    except dlbridge.errors.DlbridgeError as error:
        found.append([kind, str(error).splitlines()[0]])
        continue
    held = precision.recipe("onnx", calibrate=data, **asked)
    loss = held.loss(model, full, written, [])
    output = next(iter(loss.outputs.values()))
    times = loss.milliseconds
    found.append([kind, loss.bytes.before, loss.bytes.after, times and times.before, times and times.after,
                  output.relative, output.argmax, output.rows, loss.nodes[0].node, loss.nodes[0].op])
    print(found[-1], file=sys.stderr)
print(json.dumps(found))
"""


def run(names: Sequence[str] = tuple(MODELS)) -> list[dict[str, object]]:
    """A row for each model and precision."""
    rows: list[dict[str, object]] = []
    for name in names:
        sweeps = str(ROOT / "tests" / "sweeps")
        making = "\n".join(line.removeprefix(" " * 8) for line in MODELS[name].splitlines())
        found = numbers_of(_PROGRAM.format(root=str(ROOT), sweeps=sweeps, making=making, recipes=RECIPES))
        if isinstance(found, Failure):
            rows.append(_row(name, "-", found))
            continue
        for measured in found:
            rows.append(_row(name, *measured))
    return rows


def _row(name: str, kind: str, *measured: object) -> dict[str, object]:
    columns = ("MB before", "MB after", "ms before", "ms after", "relative error", "arg-max agrees", "most is lost at")
    if len(measured) == 1:
        return {"model": name, "precision": kind, **dict.fromkeys(columns, "-"), columns[-1]: measured[0]}
    before, after, slow, fast, error, argmax, rows, node, op = measured
    cells = (
        f"{before / 1e6:.3g}",
        f"{after / 1e6:.3g}",
        f"{slow:.3g}" if slow else "no kernels",
        f"{fast:.3g}" if fast else "no kernels",
        f"{error:.1e}",
        f"{argmax:.1%} of {rows}",
        f"{node} ({op})",
    )
    return {"model": name, "precision": kind, **dict(zip(columns, cells, strict=True))}


def page(rows: Sequence[dict[str, object]]) -> str:
    """The page of these rows, in Markdown."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row.values()) + " |" for row in rows]
    machine = f"{platform.machine()}, {_processor()}, onnxruntime {onnxruntime.__version__}"
    return _TEXT.format(table="\n".join(lines), machine=machine)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


_TEXT = """# Less precision

<!-- written by `make precision`; change bench/precision.py -->

```console
$ dlbridge convert net.pt2 --to onnx -o net.onnx --dtype float16
$ dlbridge convert net.pt2 --to onnx -o net.onnx --quantize int8-static --calibrate images.npz
$ dlbridge convert net.pt2 --to onnx -o net.onnx --quantize int4 --keep-float32 lm_head
```

In Python: `dlbridge.convert(net, "onnx", "net.onnx", quantize="int4", keep_float32=["lm_head"])`.

| asked for | weights | computed in | made by |
|---|---|---|---|
| `--dtype float16`, `bfloat16` | that type | that type; float32 where it is needed | dlbridge |
| `--quantize int8` | int8 | int8, with ranges found at run time | onnxruntime's `quantize_dynamic` |
| `--quantize int8-static` | int8 by channel | int8, with ranges from `--calibrate FILE` | `quantize_static`, QDQ |
| `--quantize int4` | int4 in blocks of 32 | float; `--dtype float16` may be added | `MatMulNBits`, a weight at a time |

**What keeps float32** with `--dtype`: normalisations, softmax and what is added to its scores, reductions and the
functions that PyTorch's autocast keeps; what is computed from positions and masks before a weight is read (the angles
of rotary embeddings); nodes that read a number which the type does not hold (a weight beyond 65504, an epsilon of
1e-12 in float16); graphs within `If`, `Loop`, `Scan`; and what `--keep-float32 NAME` names, a node or a block. A mask
of float32's lowest number becomes the type's lowest, not minus infinity. Inputs and outputs keep their types, so
callers notice nothing.

**What the certificate says.** The conversion itself is compared as always, in float32; that part is a proof. What is
lost then is in `loss`: the relative error of each output, the share of rows whose largest number stays at its place,
the nodes that lose most by themselves, size and speed before and after. It is *measured* on the inputs that it names,
and held to no bound: other inputs may lose more. Random inputs say little about a classifier; `--calibrate FILE`
measures on your data. `--dtype` is measured with each result rounded to the type, as devices with kernels of the type
do it. Outputs that are no longer finite are an error that names the first node out of range.

## Measured

{machine}. The CNN is trained, and measured on images that it was not trained or calibrated on; the other models have
random weights, whose largest logits are nearer to each other than those of trained models, and random inputs. Time is
of one run of 8 rows (64 tokens, or one image each). *no kernels*: onnxruntime has no bfloat16 on a CPU, and widens
float16 to float32 there: both are for other devices.

{table}
"""


if __name__ == "__main__":
    found = run(sys.argv[1:] or tuple(MODELS))
    PAGE.write_text(page(found), encoding="utf-8")
    print(page(found))
