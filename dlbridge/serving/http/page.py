"""The HTML page that the server shows at ``/``."""

from __future__ import annotations

from importlib.resources import files


def html() -> str:
    """The page, one file that needs nothing else."""
    return (files("dlbridge.serving.http") / "page.html").read_text(encoding="utf-8")
