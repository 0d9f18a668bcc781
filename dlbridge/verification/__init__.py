"""Verification: the same inputs through every framework and exporter, judged against PyTorch in float64."""

from dlbridge.verification.compare import Check, Report, verify

__all__ = ["Check", "Report", "verify"]
