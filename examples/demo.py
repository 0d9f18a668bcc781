"""The main job, end to end: one description, every framework, several ONNX files, one answer.

Trains the digits CNN in PyTorch, in Keras, and in Flax NNX where its extra is installed (``pip install
'dlbridge[nnx]'``), from the same seed; draws the loss curves, takes the trained model through all ONNX exports, shows
that every route agrees, and classifies held-out images with onnxruntime.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import dlbridge
from dlbridge import frameworks, runtime, training
from dlbridge.passes import precision
from dlbridge.verification.pages.table import table

HERE = Path(__file__).parent
OUT = Path("out/demo")
console = Console()


def digits() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """scikit-learn's digits, 1797 images of 8 x 8 pixels: what to train on, and what to hold out."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    seen = train_test_split(images, data.target.astype(np.int64), test_size=0.2, random_state=0, stratify=data.target)
    x_train, x_test, y_train, y_test = seen
    return {"image": x_train, "label": y_train}, {"image": x_test, "label": y_test}


def main() -> None:
    model = dlbridge.load(HERE / "cnn_digits.yaml")
    console.rule(f"[bold]{model.name}: one description")
    console.print((HERE / "cnn_digits.yaml").read_text(), markup=False)
    names = shown()
    console.rule("[bold]the same model in each framework")
    for framework in names:
        dlbridge.convert(model, framework, OUT / framework, force=True)
        console.print(f"{OUT / framework / 'model.py'}: {len(model.write(framework).text.splitlines())} lines")

    seen, held_out = digits()
    console.rule("[bold]trained in each, from the same seed, on the same batches")
    results = {name: dlbridge.train(model, seen, framework=name) for name in names}
    picture = training.plot({name: r.history for name, r in results.items()}, OUT / "loss.png", force=True)
    console.print(f"loss curves: {picture}")
    scores = Table("trained in", "held-out accuracy", "last training loss")
    for name, result in results.items():
        scores.add_row(name, f"{accuracy(result.model, held_out):.2%}", f"{result.history['loss'][-1]:.6f}")
    console.print(scores)
    trained = results[names[0]].model
    explain_differences(model, seen, {name: result.model for name, result in results.items()})

    console.rule("[bold]every route, judged by what is not under test")
    report = dlbridge.verify(trained)
    console.print(table(report))
    console.print(f"largest difference between any two routes: {report.largest_difference:.1e}")
    report.require()

    console.rule("[bold]served by onnxruntime")
    dlbridge.convert(trained, "onnx", OUT / "repository" / model.name, force=True)
    session = runtime.load(OUT / "repository" / model.name)
    answers = session(image=held_out["image"][:10])["logits"].argmax(-1)
    console.print(f"held-out images say {held_out['label'][:10].tolist()}, the model says {answers.tolist()}")
    for name, result in results.items():
        if accuracy(result.model, held_out) < 0.95:
            raise SystemExit(f"{name} reached less than 95 % on held-out digits")


def explain_differences(model: dlbridge.Model, seen: dict[str, np.ndarray], trained: dict[str, dlbridge.Model]) -> None:
    """Say how far the weights of the frameworks are apart, and what rounding in float32 alone makes of it."""
    first, *others = trained
    wide = precision.convert(model, "float64")
    exact = {name: dlbridge.train(wide, seen, framework=name).model for name in trained}
    table = Table("largest difference of a weight, by its largest number", "difference", "in the weight")
    for name in others:
        table.add_row(f"{first} and {name}, in float32", *farthest(trained[first], trained[name]))
    for name in trained:
        table.add_row(f"{name} in float32 and in float64: rounding alone", *farthest(exact[name], trained[name]))
    for name in others:
        table.add_row(f"{first} and {name}, in float64", *farthest(exact[first], exact[name]))
    console.print(table)
    console.print("Steps of training enlarge rounding: what float32 rounds, it rounds in every framework by itself.")


def farthest(a: dlbridge.Model, b: dlbridge.Model) -> tuple[str, str]:
    """The largest difference of a weight, relative to the largest number of that weight, and its name."""
    apart = {
        name: float(np.abs(weight - b.weights[name]).max() / max(np.abs(weight).max(), 1e-12))
        for name, weight in a.weights.items()
        if weight.dtype.kind == "f"
    }
    name = max(apart, key=lambda key: apart[key])
    return f"{apart[name]:.1e}", name


def shown() -> list[str]:
    """The frameworks to write and train in: PyTorch and Keras, and others that are installed beside them."""
    others = [f for f in frameworks.all_frameworks() if f.trains is not None and f.name not in ("pytorch", "keras")]
    for other in others:
        if not other.is_installed:
            console.print(f"{other.title} is left out: it is not installed (pip install 'dlbridge[{other.extra}]')")
    return ["pytorch", "keras", *(other.name for other in others if other.is_installed)]


def accuracy(model: dlbridge.Model, data: dict[str, np.ndarray]) -> float:
    """Share of held-out images that onnxruntime classifies right with the model's weights."""
    path = model.write("onnx").save(OUT / f"{model.name}.onnx", force=True)
    logits = runtime.load(path)(image=data["image"])["logits"]
    return float((logits.argmax(-1) == data["label"]).mean())


if __name__ == "__main__":
    main()
