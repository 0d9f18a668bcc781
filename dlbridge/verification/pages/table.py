"""A report as a table for the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from dlbridge.verification.report import Check, Report


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
        sizes = ", ".join([*(f"{k}={v}" for k, v in check.sizes.items()), check.inputs])
        rows.add_row(route, f"{error:.1e}", f"{check.bound:.0e}", escape(sizes), _verdict(check))
        if route in report.departures:
            rows.add_row("", "", "", "", escape(str(report.departures[route])))
    for route, why in report.failures.items():
        rows.add_row(route, "-", "-", "", f"[red]failed[/red]: {escape(why)}")
    for route, why in report.left_out.items():
        rows.add_row(route, "-", "-", "", f"not tried: {escape(why)}")
    return rows


def _verdict(check: Check) -> str:
    """What a check shows, and why, as markup."""
    if check.passed:
        verdict, why = "[green]agrees[/green]", check.message
    else:
        verdict, why = "[red]departs[/red]", check.reason
    if not check.decided:
        verdict, why = "[yellow]shows nothing[/yellow]", check.message
    return f"{verdict}: {escape(why)}" if why else verdict


def coverage_lines(report: Report) -> list[str]:
    """What the inputs have not reached, and which were not tried, as lines of text."""
    coverage = report.coverage
    if coverage is None:
        return []
    lines = [f"reached: {coverage.reached} of {coverage.nodes} nodes"]
    lines += [f"rows of {name}: {read} of {rows}" for name, (read, rows) in coverage.tables.items()]
    lines += [f"not reached: {text}" for text in coverage.unreached]
    lines += [f"dead: {text}" for text in coverage.dead]
    lines += [f"not tried: {text}" for text in report.inputs_left_out]
    return [*lines, *([coverage.trouble] if coverage.trouble else [])]
