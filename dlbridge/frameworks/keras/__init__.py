"""Keras 3: read from its graph of layers and operations, written as a functional model, trained by ``fit``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dlbridge.decoding import Task
from dlbridge.errors import require
from dlbridge.frameworks import ModularFramework, Trains, option
from dlbridge.frameworks.options import EXAMPLE, ChannelsLastOptions, CommonReadOptions, Flag, inputs_option


@dataclass(frozen=True)
class ReadOptions(CommonReadOptions):
    """How a Keras model is read."""

    inputs: Mapping[str, Any] | None = inputs_option(
        "An input, e.g. 'image:float32[batch,28,28,1]': needed for a subclassed model that was never called; elsewhere "
        "it narrows what the model says."
    )
    example: Any = option(None, EXAMPLE, python_only=True)
    custom_objects: Mapping[str, Any] | Sequence[str] = option(
        (),
        "A Python module or file whose classes and functions the model's file names, e.g. 'mylayers.py'. It is run.",
        flag=Flag("custom-objects", "MODULE", tuple),
    )
    task: Task | None = option(
        None,
        "What a model of keras_hub is to do: 'generate' reads a decoder for prompts and steps, with its cache among "
        "the inputs.",
    )
    trust_code: bool = option(False, "Run the Python code that a file, a folder or a Lambda layer holds.")


@dataclass(frozen=True)
class WriteOptions(ChannelsLastOptions):
    """How a Keras model is written."""


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """TensorFlow's libraries write to file descriptor 2 while they load, before they look at any log level."""
    sys.stderr.flush()
    kept, void = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(void, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(void)


class Keras(ModularFramework):
    name = "keras"
    title = "Keras"
    extra = "keras"
    packages = ("keras", "tensorflow", "tf2onnx")
    exporter = "tf2onnx"
    live_classes = ("keras.Model",)
    suffixes = (".keras", ".h5")
    file_suffixes = (".keras",)
    weights_file = "model.weights.h5"
    trains = Trains(precisions=None)

    def part(self, name: str) -> Any:
        if "tensorflow" not in sys.modules and os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "3":
            with _silent_stderr():
                require("keras", self.extra)
        return super().part(name)

    def parts(self, source: Any, task: str, *, trust_code: bool = False) -> dict[str, str]:
        return self.part("generation").parts(source, task)

    def weights_one_by_one(self, live: Any) -> Mapping[str, Any]:
        return self.part("runner").LiveWeights(live)

    def import_packages(self) -> None:
        with _silent_stderr():
            super().import_packages()

    def prepare_command_line(self) -> None:
        """TensorFlow turns oneDNN on by itself on some processors only; without it no channels-first convolution runs
        on a CPU."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

    def save_memory(self) -> None:
        """TensorFlow with oneDNN keeps what is free in a pool of its own otherwise; training is slower without that."""
        os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


FRAMEWORK = Keras()
