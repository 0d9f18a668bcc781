"""How many threads run an op, where nobody says it: one, unless a call has so much work that more of them pay.

A thread that is woken for an op costs some microseconds, whatever the op does: in a model of small ops two threads take
up to twice the time of one, and of large ops they lose nothing. Results do not depend on it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from dlbridge.errors import SignatureError
from dlbridge.runtime import graph_cache, values
from dlbridge.runtime.signature import Port, Signature

#: Seconds of work in a call from which on threads pay: to wake one for each of a hundred ops takes 0.4 ms.
_LARGE = 5e-3
#: Bytes of a model whose calls are large: to read its weights takes a core about that long.
_LARGE_FILE = 64 << 20
#: Seconds that a trial may take; what takes longer is large.
_TRIAL = 0.25
#: What free sizes behind the first may be in a trial, the first that the model takes.
_SIZES = (64, 1)
_RUNS = 3


def is_one_enough(session: onnxruntime.InferenceSession, name: str, rows: int) -> bool:
    """Whether a call of a model has so little work that a second thread would not pay.

    It is run on zeros and the time of the processor is taken, which does not depend on what else the machine does.

    Args:
        session: The model, with one thread.
        name: What messages call it.
        rows: Its first size in a call, where that is free.
    """
    signature = Signature(session, name)
    outputs = [port.name for port in signature.outputs]
    for size in _SIZES:
        try:
            feed = signature.check(_zeros(signature.inputs, rows, size))
        except SignatureError:
            continue  # the model takes no such sizes
        seconds = _seconds(session, outputs, feed)
        if seconds is not None:
            return seconds < _LARGE
    return False


def is_large_file(file: Path) -> bool:
    """Whether the weights of a model alone say that its calls are large."""
    if file.stat().st_size >= _LARGE_FILE:
        return True
    if not graph_cache.has_external_data(file.read_bytes()):
        return False
    return any(path.stat().st_size >= _LARGE_FILE for path in file.parent.iterdir() if path.is_file())


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _zeros(ports: Sequence[Port], rows: int, size: int) -> dict[str, np.ndarray]:
    """Zeros for each input: free first sizes are ``rows``, other free sizes are ``size``."""
    names = {s for port in ports for s in port.shape if isinstance(s, str)}
    first = {port.shape[0] for port in ports if port.shape}
    sizes = {name: rows if name in first else size for name in names}
    return {port.name: port.zeros(sizes) for port in ports}


def _seconds(
    session: onnxruntime.InferenceSession, outputs: Sequence[str], feed: Mapping[str, values.Value]
) -> float | None:
    """Seconds of the processor for one run, the least of some; None where it cannot be run."""
    run, options = values.runner(session), onnxruntime.RunOptions()
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        options.terminate = True

    timer = threading.Timer(_TRIAL, end)
    timer.daemon = True
    timer.start()
    best = float("inf")
    try:
        for _ in range(_RUNS):
            begun = time.thread_time()
            run(outputs, feed, options)
            best = min(best, time.thread_time() - begun)
            if best < _LARGE:
                break
    except Exception:  # onnxruntime's exceptions have no base class of their own
        if not is_late.is_set():
            return None
    finally:
        timer.cancel()
    return best
