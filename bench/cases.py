"""Cases that run in a process of their own, and what becomes of one that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping


class Failure(str):
    """Why a case has no numbers. It stands in the table, and ends the benchmarks with an error."""


def numbers_of(program: str, **environment: str | None) -> list[float] | Failure:
    """The list that a Python program prints as JSON in its last line.

    Args:
        program: Its code.
        environment: Variables that are set for it; None for one that is to be absent.
    """
    variables: Mapping[str, str | None] = {**os.environ, **environment}
    given = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=given)
    if done.returncode == 0:
        return json.loads(done.stdout.strip().splitlines()[-1])
    print(done.stderr, file=sys.stderr)
    return Failure((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:60])


def failures(rows: list[dict[str, object]]) -> list[str]:
    """Those among the rows of a table that have no numbers, and why."""
    found = []
    for row in rows:
        why = next((value for value in row.values() if isinstance(value, Failure)), None)
        if why is not None:
            found.append(f"{next(iter(row.values()))}: {why}")
    return found
