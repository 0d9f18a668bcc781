"""Writes the schema of specifications, and the parts of ``docs/training.md`` that are made."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from dlbridge.training.formulas.loss_part import LossPart
from dlbridge.training.formulas.losses import LOSSES, names
from dlbridge.training.formulas.metrics import METRICS
from dlbridge.training.formulas.optimizers import OPTIMIZERS
from dlbridge.training.formulas.schedules import SCHEDULES
from dlbridge.training.spec import TrainingSpec
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs" / "training.md"
TABLES = {"Optimizers": OPTIMIZERS, "Losses": LOSSES, "Schedules": SCHEDULES, "Metrics": METRICS}


def replaced(text: str, part: str, new: str) -> str:
    """The page with another text between the marks of a part."""
    start, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
    head, _, rest = text.partition(start)
    return head + start + "\n" + new + "\n" + end + rest.partition(end)[2]


def definitions() -> str:
    """The tables of definitions."""
    lines = []
    for title, kinds in TABLES.items():
        lines += [f"### {title}", "", "| name | settings | formula |", "|---|---|---|"]
        for kind in kinds:
            lines.append(f"| `{names([kind])[0]}` | {_settings(kind)} | {_formula(kind)} |")
        lines.append("")
    return "\n".join(lines)


def _settings(kind: Any) -> str:
    usual = set(LossPart.model_fields)
    shown = []
    for name, field in kind.model_fields.items():
        if name not in ("op", "kind", "groups", "no_decay", *usual):
            shown.append(f"`{name}`" if field.is_required() else f"`{name}` {field.default}")
    return ", ".join(shown)


def _formula(kind: Any) -> str:
    return " ".join(inspect.getdoc(kind).split()).replace("|", "\\|")


def write(part: str, text: str, page: Path = PAGE) -> None:
    """Put a text into its part of the page."""
    page.write_text(replaced(page.read_text(), part, text))


def schema() -> dict[str, Any]:
    """The JSON Schema of a file of its own that holds a specification."""
    kinds = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return kinds | TrainingSpec.model_json_schema(by_alias=True) | {"title": "dlbridge training"}


if __name__ == "__main__":
    (ROOT / "schemas" / "training.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")
    write("definitions", definitions())
