"""What the scripts of all frameworks share: the head of the file, and how its data are read."""

from __future__ import annotations

from typing import Any

from dlbridge.errors import TrainingError
from dlbridge.source.code import literal_text as text
from dlbridge.source.names import argument_names
from dlbridge.source.program import Source


def head(source: Source, imports: list[str]) -> tuple[list[str], list[str]]:
    """The imports of a script, sorted, and the rest of the source of the model."""
    lines = source.text.rstrip().split("\n")
    count = next(i for i, line in enumerate(lines) if line and not line.startswith(("import ", "from ")))
    found = dict.fromkeys([*imports, *(line for line in lines[:count] if line)])
    plain = sorted((line for line in found if line.startswith("import ")), key=lambda line: line.split()[1].lower())
    parts = sorted((line for line in found if line.startswith("from ")), key=lambda line: line.split()[1].lower())
    return [*plain, *parts], lines[count:]


def variables(source: Source, script: Any, taken: tuple[str, ...]) -> tuple[list[str], str]:
    """The names of the variables of the inputs and of the target."""
    columns = {column.name: column for column in script.inputs}
    *names, target = argument_names([*(columns[n].name for n in source.inputs), script.target.name], taken)
    return names, target


def reading(source: Source, script: Any, names: list[str], target: str, *, made: str = "{}") -> list[str]:
    """The lines that read the data: a variable for each array. ``made`` makes of an array what the framework takes."""
    columns = {column.name: column for column in script.inputs}
    lines = [f"data = np.load(HERE / {text(script.data)})"]
    for name, column in zip([*names, target], [*(columns[n] for n in source.inputs), script.target], strict=True):
        array = f'data[{text(column.name)}].astype("{column.dtype}")'
        shape = "" if column.shape is None else f".reshape({', '.join(map(str, (-1, *column.shape)))})"
        lines.append(f"{name} = {made.format(array + shape)}")
    return lines


def check_loss(loss: Any, known: dict[str, str], rank: int) -> None:
    """Refuse a loss that a framework has no class of its own for.

    Raises:
        TrainingError: It names the loss and what is set of it.
    """
    own = {"of", "target", "weight", "op", "from_logits", "delta", "sample_weight"}
    usual = {name: field.default for name, field in type(loss).model_fields.items()}
    changed = [n for n in type(loss).model_fields if n not in own and getattr(loss, n) != usual[n]]
    is_plain = rank == 2 or loss.class_axis != -1 or loss.kind == "numbers"
    if loss.op not in known or changed or not is_plain or (loss.ending is not None and not loss.reads_logits):
        what = " with ".join([loss.op, *([", ".join(changed)] if changed else [])])
        raise TrainingError(f"a script has no words for the loss {what}", hint="dlbridge train has them")
