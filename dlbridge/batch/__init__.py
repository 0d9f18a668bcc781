"""Batch inference: a deployed model over many rows of Parquet, or many images, that need not fit into memory.

The rows are cut into *units* (some row groups of a file, some images). Each unit becomes one part of the output folder,
and a part is there whole or not at all. So a run that was stopped goes on where it was, several processes or machines
can share the units, and every row is in the output once: as a result, or as a rejected row with its reason.

dlbridge.batch.run("models/digits", ["in/*.parquet"], "out")
"""

from __future__ import annotations

from dlbridge.batch.job import Job
from dlbridge.batch.running import Summary, run

__all__ = ["Job", "Summary", "run"]
