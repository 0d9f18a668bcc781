"""Optimised graphs that are kept, so that a model is optimised when it is loaded first and not each time."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

LOG = logging.getLogger("dlbridge.runtime")
_MODEL, _WEIGHTS = "model.onnx", "weights.bin"
#: What stands in an ONNX file where a tensor names the file that holds its elements (a key of ``external_data``).
_EXTERNAL = b"\x0a\x08location"


def load(
    file: Path,
    folder: Path,
    options: onnxruntime.SessionOptions,
    providers: Sequence[tuple[str, dict[str, str]]],
) -> onnxruntime.InferenceSession:
    """Load a model from its optimised graph, which is written first where the folder does not have it.

    The graph is found by the bytes of the model, the version of onnxruntime, and the processor, whose instructions it
    is made for. A kept graph that cannot be loaded is written anew.

    Args:
        file: The model.
        folder: Where optimised graphs are kept.
        options: The options of the session.
        providers: The execution providers.
    """
    kept = folder / _key(file)
    if kept.is_dir():
        level = options.graph_optimization_level
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(str(kept / _MODEL), options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions have no base class of their own
            LOG.warning("the optimised graph %s cannot be loaded, it is written anew: %s", kept, error)
            options.graph_optimization_level = level
            shutil.rmtree(kept, ignore_errors=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder, prefix=".made-"))
    except OSError as error:
        LOG.warning("optimised graphs cannot be kept in %s: %s", folder, error)
        return onnxruntime.InferenceSession(str(file), options, providers=providers)
    try:
        options.optimized_model_filepath = str(made / _MODEL)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        if not kept.exists():  # another process may have been quicker
            os.replace(made, kept)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return session


def has_external_data(content: bytes) -> bool:
    """Whether tensors of a model file are in other files of its folder."""
    return _EXTERNAL in content


def _key(file: Path) -> str:
    """What a model, this onnxruntime and this processor are together."""
    found = hashlib.blake2b(digest_size=20)
    for part in (onnxruntime.__version__, platform.machine(), _instructions()):
        found.update(f"{part}\n".encode())
    content = file.read_bytes()
    found.update(content)
    if has_external_data(content):
        # the elements are in other files of the folder; all that are there count, whichever are meant
        for path in sorted(p for p in file.parent.iterdir() if p.is_file() and p != file):
            found.update(f"{path.name}\n{path.stat().st_size}\n".encode())
            with path.open("rb") as stream:
                while piece := stream.read(1 << 24):
                    found.update(piece)
    return found.hexdigest()


def _instructions() -> str:
    """The instructions that the processor has, where the system says them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
