"""``run_file``: a model over a file, batch by batch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlbridge.errors import SignatureError
from dlbridge.files import check_free
from dlbridge.runtime.readers import read_batches
from dlbridge.runtime.session import Session
from dlbridge.runtime.writers import check_suffix, writing_results


def run_file(
    session: Session,
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    batch_size: int = 32,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Run a model over a file (see ``readers``) and write its outputs (see ``writers``), in the order of the rows.

    A model whose inputs have a free first size (``batch``) gets ``batch_size`` rows at a time; one with a fixed first
    size gets that many; a model whose inputs have different first sizes gets everything at once.

    Args:
        session: The model.
        paths: The input file, or images.
        output: A ``.npz``, ``.npy``, ``.csv`` or ``.parquet`` file.
        batch_size: Rows at a time.
        force: Replace ``output``.
        progress: Called after each batch with a text.

    Returns:
        ``rows``, ``batches`` and ``seconds`` (in the model alone).

    Raises:
        FileError: When a file is missing, broken or hostile, or ``output`` exists; nothing is written then.
        SignatureError: When the data do not fit the model.
    """
    check_free(output, force=force)
    check_suffix(output, session.outputs)
    files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    size = _rows_at_a_time(session, batch_size)
    rows = batches = 0
    seconds = 0.0
    with writing_results(output, session.outputs, force=force) as append:
        for batch in read_batches(files, session.inputs, size):
            count = _count(batch)
            began = time.perf_counter()
            result = session(**batch)
            seconds += time.perf_counter() - began
            if batches or count == size:
                _check_rows(result, count, session)
            append(result)
            rows, batches = rows + count, batches + 1
            if progress is not None:
                progress(f"{rows} rows")
    return {"rows": rows, "batches": batches, "seconds": seconds}


def _rows_at_a_time(session: Session, batch_size: int) -> int | None:
    firsts = {p.shape[0] if p.shape else None for p in session.inputs}
    if any(not p.shape for p in session.inputs) or len(firsts) != 1:
        return None
    (first,) = firsts
    return first if isinstance(first, int) else batch_size


def _count(batch: dict[str, np.ndarray]) -> int:
    sizes = [len(a) for a in batch.values() if a.ndim]
    return sizes[0] if sizes else 1


def _check_rows(result: Any, count: int, session: Session) -> None:
    for port in session.outputs:
        array = result[port.name]
        if array.ndim == 0 or len(array) != count:
            raise SignatureError(
                f"the output {port} has no row for each of the {count} rows of a batch: shape {list(array.shape)}",
                where=session.name,
                hint="call the model on all the data at once, from Python",
            )
