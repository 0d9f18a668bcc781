"""Batch runs on Ray Data: each worker loads the model once, and Ray gives it one unit after the other."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import ray
import ray.data

from dlbridge.batch.job import Done, Job, Worker
from dlbridge.errors import DlbridgeError, from_parts
from dlbridge.ray_cluster import connected


def run_units(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Done]:
    """Run units on the workers of a Ray cluster: the one that this process is connected to, or ``RAY_ADDRESS`` names,
    or one of this machine that is begun for the run.

    The files, of the model, of the data and of the results, must be under the same paths on all machines.

    Args:
        job: The job.
        numbers: The units to run.
        workers: How many workers, of one CPU each (one GPU each, where the first provider is CUDA).

    Yields:
        What became of each unit, in any order. A unit whose worker died is run again; since a part is whole or not
        there, none is written twice.
    """
    Worker(job, threads=1)  # finds out whether the data fit the model, before a cluster is begun
    if not numbers:
        return
    with connected():
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.data.DataContext.get_current().enable_progress_bars = False  # the command has one
        needs = {"num_gpus": 1} if job.providers[0].startswith("cuda") else {"num_cpus": 1}
        units = ray.data.from_items([{"number": n} for n in numbers], override_num_blocks=len(numbers))
        results = units.map(
            _RayWorker,
            fn_constructor_args=(job, os.getcwd()),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(numbers))),
            **needs,
        )
        for row in results.iter_rows():
            yield _done(row)


class _RayWorker:
    """Runs units, and says what became of each as a row of Ray's. An error is a row too: Ray would wrap it."""

    def __init__(self, job: Job, folder: str) -> None:
        os.chdir(folder)  # the paths of a job may be from there
        self._worker = Worker(job, threads=job.threads or 1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["number"])
        try:
            return {**asdict(self._worker.run(number)), "problem": ""}
        except DlbridgeError as error:
            return {"number": number, "rows": 0, "rejected": 0, "problem": json.dumps(error.parts())}


def _done(row: dict[str, Any]) -> Done:
    problem = row.pop("problem")
    if not problem:
        return Done(**row)
    raise from_parts(json.loads(problem))
