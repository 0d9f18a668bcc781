"""``python -m dlbridge.conformance``: prints the score of the standard's node tests for each framework."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click
import onnx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dlbridge import frameworks
from dlbridge.conformance.cases import Case, Result, all_node_cases, node_cases, run_case

#: What onnxruntime 1.32 passes of these tests, in percent, by the same rules of comparison.
ONNXRUNTIME_PERCENT = 86.1


@click.command()
@click.option("--in", "names", multiple=True, help="A framework [default: all that are installed].")
@click.option("--match", default="", help="Only tests whose name contains this.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all results here.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a page that lists every failure here.")
def main(names: tuple[str, ...], match: str, json_file: Path | None, report: Path | None) -> None:
    """Run ONNX's node tests on the models that dlbridge writes."""
    console = Console()
    cases = [c for c in node_cases() if match in c.name]
    results = {name: _run(name, cases, console) for name in names or writers()}
    for name, found in results.items():
        console.print(_table(name, cases, found))
    if json_file is not None:
        json_file.write_text(json.dumps({n: [vars(r) for r in found] for n, found in results.items()}, indent=1))
    if report is not None:
        report.write_text(page(results), encoding="utf-8")


def writers() -> list[str]:
    """The frameworks that are installed, except the standard itself, whose tests these are."""
    found = [f.name for f in frameworks.writers() if f.is_installed]
    return [name for name in found if name != frameworks.STANDARD]


def _run(framework: str, cases: list[Case], console: Console) -> list[Result]:
    with Progress(console=console, transient=True) as progress:
        return [run_case(case, framework) for case in progress.track(cases, description=framework)]


def _table(framework: str, cases: list[Case], results: list[Result]) -> Table:
    families: dict[str, list[Result]] = {}
    for case, result in zip(cases, results, strict=True):
        families.setdefault(case.family, []).append(result)
    table = Table(title=f"{framework}: {summary(results)}")
    for column in ("op", "passed", "first failure"):
        table.add_column(column)
    for family, found in sorted(families.items()):
        failed = [r for r in found if r.reason is not None]
        if failed:
            table.add_row(
                family, f"{len(found) - len(failed)}/{len(found)}", f"{failed[0].name}: {failed[0].reason}"[:120]
            )
    return table


def summary(results: list[Result]) -> str:
    """``1600 of 1624 (98.5 %); with narrow types 1682 of 1788 (94.1 %); 0 wrong numbers``."""
    usual = [r for r in results if not r.narrow]

    def score(found: list[Result]) -> str:
        passed = sum(r.reason is None for r in found)
        return f"{passed} of {len(found)} ({100 * passed / max(len(found), 1):.1f} %)"

    wrong = sum(r.wrong for r in results)
    return f"{score(usual)}; with types below 8 bits and 8-bit floats {score(results)}; {wrong} wrong numbers"


def page(results: dict[str, list[Result]]) -> str:
    """The report in Markdown: the score, and every failure with its reason."""
    lines = [
        "# Conformance",
        "",
        f"ONNX {onnx.__version__}'s own node tests (default domain, tensors only, no random ops), run on the models",
        "that dlbridge writes: the tests' tolerances; dtypes and shapes must match. Made by `make conformance`.",
        f"onnxruntime itself passes {ONNXRUNTIME_PERCENT} % of all of them.",
        "",
    ]
    left_out = Counter(why for why in map(Case.out_of_scope, all_node_cases()) if why is not None)
    lines += [f"Left out: {', '.join(f'{count} {why}' for why, count in left_out.items())}.", ""]
    for framework, found in results.items():
        lines += [f"## {framework}", "", f"{summary(found)}.", ""]
        reasons: dict[str, list[str]] = {}
        for result in found:
            if result.reason is not None:
                reasons.setdefault(_cause(result), []).append(result.name)
        for reason, tests in sorted(reasons.items(), key=lambda item: -len(item[1])):
            lines += [f"- {reason}: {', '.join(f'`{t}`' for t in tests)}"]
        lines.append("")
    return "\n".join(lines)


def _cause(result: Result) -> str:
    """The reason, without the details that differ between tests that fail for the same cause."""
    reason = (result.reason or "").replace("|", "-")
    if result.wrong:
        return "a wrong number, given without an error"
    head, _, rest = reason.partition(": ")
    last = rest.rpartition(": ")[2] if "has no dtype" in rest else rest
    return f"{head}: {last}"[:240]


if __name__ == "__main__":
    main()
