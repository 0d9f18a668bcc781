"""A report as a table for the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from dlbridge.verification.report import Report


def table(report: Report) -> Table:
    """One row for each route: its largest relative error against the judge, at which sizes, and the verdict."""
    rows = Table(title=f"{escape(report.model)}: each route against {report.judge}", title_justify="left")
    rows.add_column("route")
    rows.add_column("largest error", justify="right")
    rows.add_column("bound", justify="right")
    rows.add_column("at")
    rows.add_column("")
    for route, check in report.worst().items():
        error = max(check.errors.values(), default=float("inf"))
        sizes = ", ".join(f"{k}={v}" for k, v in check.sizes.items())
        verdict = f"[green]agrees[/green] {escape(check.message)}"
        if not check.passed:
            verdict = f"[red]departs[/red] {escape(check.reason)}"
        rows.add_row(route, f"{error:.1e}", f"{check.bound:.0e}", escape(sizes), verdict)
        if route in report.departures:
            rows.add_row("", "", "", "", escape(report.departures[route]))
    for route, why in report.failures.items():
        rows.add_row(route, "-", "-", "", f"[red]failed[/red] {escape(why)}")
    for route, why in report.left_out.items():
        rows.add_row(route, "-", "-", "", f"not tried: {escape(why)}")
    return rows
