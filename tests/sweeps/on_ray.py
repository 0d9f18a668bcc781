"""Spreads sweeps over Ray: ``python -m tests.sweeps.on_ray tests/sweeps/test_timm.py --workers 8 -k resnet``.

Each worker takes some of the models after the other, in a pytest of its own: a model that brings one down costs the
few that were with it, which are told.
"""

from __future__ import annotations

import os
import subprocess
import sys

import click
import ray
from ray.util import ActorPool

#: Models in one pytest: starting one costs as much as a small model.
_TOGETHER = 6


@ray.remote(num_cpus=1)
class _Worker:
    def run(self, ids: list[str]) -> tuple[int, int, str]:
        """(models, exit code, the end of what pytest printed) of some models."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow", *ids]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return len(ids), done.returncode, done.stdout[-4000:]


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1))
@click.option("-k", "expression", default="", help="Only the models that it names, as pytest takes it.")
def main(files: tuple[str, ...], workers: int, expression: str) -> None:
    """Run the slow tests of FILES on Ray. Ends with 1 where one fails."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-o", "addopts=", "-q", "-m", "slow", *files]
    command += ["-k", expression] if expression else []
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    ids = [line for line in listed.stdout.splitlines() if "::" in line]
    if not ids:
        raise click.ClickException(f"there are no such tests\n{listed.stdout[-2000:]}")
    ray.init(log_to_driver=False)
    pool = ActorPool([_Worker.remote() for _ in range(workers)])
    parts = [ids[start : start + _TOGETHER] for start in range(0, len(ids), _TOGETHER)]
    done, failed = 0, 0
    for count, code, text in pool.map_unordered(lambda worker, part: worker.run.remote(part), parts):
        done += count
        if code:
            failed += 1
            click.echo(text)
        click.echo(f"{done} of {len(ids)} models")
    if failed:
        raise click.ClickException(f"{failed} of {len(parts)} parts have models that fail")


if __name__ == "__main__":
    main()
