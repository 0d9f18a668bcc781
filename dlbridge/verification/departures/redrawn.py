"""Why models departed whose weights are drawn anew: a class or function that was named makes others at each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlbridge import loading
from dlbridge.verification.certificate import hash_weights
from dlbridge.verification.report import Report

__all__ = ["explain"]


def explain(report: Report, source: Any, others: Sequence[Any], read: Mapping[str, Any]) -> None:
    """Set the hint of a report that did not pass, where one of the models is another one each time it is made.

    Args:
        report: What the verification returned.
        source: The model that was verified, as it was given.
        others: The models that it was compared with, as they were given.
        read: The options of reading.
    """
    if report.passed or not others:
        return
    for named, options in [(source, read), *((other, loading.of_others(read)) for other in others)]:
        if loading.is_name(named) and _weights(named, options) != _weights(named, options):
            report.hint = (
                f"{named} makes other weights each time that it is called: "
                "give it some (--weights FILE, weights=...), or fix its seed"
            )
            return


def _weights(name: str, options: Mapping[str, Any]) -> str:
    return hash_weights(loading.load_other(name, options))
