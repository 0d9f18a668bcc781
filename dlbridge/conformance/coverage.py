"""``python -m dlbridge.conformance.coverage``: writes the page of what is read, what is written, and what tests it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import onnx

from dlbridge import frameworks
from dlbridge.ops import traits

#: Types of the standard that are not tensors of numbers.
_OTHER_TYPES = ("seq(", "optional(", "map(", "tensor(string)")
Used = dict[str, dict[str, list[str]]]


def covered() -> dict[str, frameworks.Coverage]:
    """Name -> the rules, of every framework that is installed and keeps rules."""
    found = {f.name: f.coverage() for f in frameworks.writers() if f.is_installed}
    return {name: coverage for name, coverage in found.items() if coverage is not None}


def registries() -> dict[str, dict[Any, Any]]:
    """Registry -> its rules, all loaded: what the frameworks read and write."""
    rules: dict[str, dict[Any, Any]] = {}
    for name, coverage in covered().items():
        rules |= {f"{name} writes": coverage.writes, **coverage.reads}
    return rules


@click.command()
@click.argument("used", nargs=-1, type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--conformance", type=click.Path(exists=True, path_type=Path), required=True, help="Node tests' results.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/coverage.md"), show_default=True)
def main(used: tuple[Path, ...], conformance: Path, output: Path) -> None:
    """Write the page of coverage from the files that say which tests USED which rules."""
    output.write_text(page(_merged(used), json.loads(conformance.read_text())), encoding="utf-8")


def _merged(files: Iterable[Path]) -> Used:
    """Merge the files of all workers: registry -> rule -> the tests that used it."""
    found: Used = {}
    for file in files:
        for registry, rules in json.loads(file.read_text()).items():
            for rule, tests in rules.items():
                found.setdefault(registry, {}).setdefault(rule, []).extend(tests)
    return found


def page(used: Used, conformance: dict[str, list[dict[str, Any]]]) -> str:
    """The page in Markdown."""
    coverages = covered()
    lines = [
        "# Coverage",
        "",
        "What dlbridge reads and writes, and the tests that use each rule (made by `make coverage`).",
        "",
        *_onnx(coverages, conformance),
    ]
    for coverage in coverages.values():
        for section in coverage.sections(used):
            lines += _section(section)
    return "\n".join(lines) + "\n"


def _section(section: frameworks.Section) -> list[str]:
    lines = [f"## {section.title}", "", *section.note.splitlines(), ""]
    lines += [f"| {section.column} | read | tested by |", "|---|---|---|"]
    lines += [f"| {name} | {read} | {_tests(tests)} |" for name, read, tests in section.rows]
    return [*lines, ""]


def _onnx(coverages: dict[str, frameworks.Coverage], conformance: dict[str, list[dict[str, Any]]]) -> list[str]:
    """All ops of the standard's default domain: each is read as it is."""
    scores = {name: _scores(found) for name, found in conformance.items()}
    lines = [
        "## ONNX ops",
        "",
        "Every op is read as it stands, from every opset. *body*: written as the function that it is in the standard;",
        "*no*: refused by name. The numbers are the standard's node tests of the op that pass, of those in scope.",
        "",
        f"| op | {' | '.join(f'to {frameworks.get(name).title or name} | tests' for name in coverages)} |",
        "|---" * (1 + 2 * len(coverages)) + "|",
    ]
    for schema in _schemas():
        body = schema.has_function or schema.has_context_dependent_function
        cells = []
        for name, coverage in coverages.items():
            keys = [("", schema.name), ("dlbridge.channels_last", schema.name)]
            known = any(key in coverage.writes for key in keys)
            passed, total = scores.get(name, {}).get(schema.name, (0, 0))
            instead = "body" if body else "no"
            cells += ["yes" if known else instead, f"{passed}/{total}" if total else ""]
        lines.append(f"| {schema.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _schemas() -> list[onnx.defs.OpSchema]:
    newest: dict[str, onnx.defs.OpSchema] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        fits = schema.domain == "" and schema.since_version <= traits.IR_OPSET
        if fits and schema.since_version > getattr(newest.get(schema.name), "since_version", 0):
            newest[schema.name] = schema
    kept = [s for s in newest.values() if not s.deprecated and not _is_of_other_types(s)]
    return sorted(kept, key=lambda schema: schema.name)


def _is_of_other_types(schema: onnx.defs.OpSchema) -> bool:
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    values = [*schema.inputs, *schema.outputs]
    return any(all(t.startswith(_OTHER_TYPES) for t in allowed.get(v.type_str, [v.type_str])) for v in values)


def _scores(results: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    from dlbridge.conformance.cases import node_cases

    family = {case.name: case.family for case in node_cases()}
    total = Counter(family.get(r["name"], "composed") for r in results)
    passed = Counter(family.get(r["name"], "composed") for r in results if r["reason"] is None)
    return {op: (passed[op], count) for op, count in total.items()}


def _tests(tests: Iterable[str]) -> str:
    """The test files, and how many tests of each."""
    files = Counter(test.partition("::")[0] for test in tests)
    return ", ".join(f"{file} ({count})" for file, count in sorted(files.items()))


if __name__ == "__main__":
    main()
