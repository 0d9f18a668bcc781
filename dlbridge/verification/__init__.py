"""Verification: the same inputs through every framework and exporter, judged against the original in float64."""

from dlbridge.verification.compare import verify
from dlbridge.verification.report import Check, Report

__all__ = ["Check", "Report", "verify"]
