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
from dlbridge.verification.table import table

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
    different = max(
        float(np.abs(trained.weights[key] - weight).max())
        for result in results.values()
        for key, weight in result.model.weights.items()
    )
    console.print(f"largest difference of any weight between {' and '.join(names)}: {different:.1e}")

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
