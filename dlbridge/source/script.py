"""What the scripts of all frameworks share: the head of the file, and how its data are read."""

from __future__ import annotations

from typing import Any

from dlbridge.errors import TrainingError
from dlbridge.source.code import literal_text as text
from dlbridge.source.names import argument_names
from dlbridge.source.program import Source


def file(about: str, source: Source, imports: list[str], script: Any, *parts: list[str]) -> str:
    """The whole file: imports, the source of the model, and definitions, of which the last is that of ``main``.

    Args:
        about: Its docstring.
        source: The model.
        imports: The lines that import what the definitions use.
        script: The data.
        parts: The lines of each definition.
    """
    imported, model = _head(source, imports)
    gap = ["", ""]
    lines = [f'"""{about}"""', "", *imported, "", "HERE = Path(__file__).parent", *gap, *model, *gap, *_helpers(script)]
    for part in parts:
        lines += [*part, *gap]
    return "\n".join([*lines, 'if __name__ == "__main__":', "    main()"]) + "\n"


def _head(source: Source, imports: list[str]) -> tuple[list[str], list[str]]:
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


#: Variables of what is trained on and of what validates, and what else the lines here use.
TAKEN = ("kept", "held", "split", "standardized", "CLASSES")
_SPLIT = '''def split(label, share):
    """The last rows of every class validate."""
    held = np.zeros(len(label), bool)
    for name in np.unique(label):
        rows = np.flatnonzero(label == name)
        held[rows[round(len(rows) * (1 - share)) :]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)'''.splitlines()
_STANDARDIZED = '''def standardized(x, rows):
    """Each column by its mean and deviation in these rows."""
    columns = x[rows].reshape(-1, x.shape[-1]).astype("float64")
    mean, std = columns.mean(0), columns.std(0)
    std[std <= 1e-12 * np.abs(mean)] = 1  # a column that never changes
    return (x - mean.astype("float32")) / std.astype("float32")'''.splitlines()


def _helpers(script: Any) -> list[str]:
    """What stands above the functions of a script for its data: the names of the classes, the split, the columns."""
    lines: list[str] = []
    if script.classes is not None:
        lines += [f"CLASSES = {text(list(script.classes))}", "", ""]
    if script.share is not None:
        lines += [*_SPLIT, "", ""]
    if script.standardized:
        lines += [*_STANDARDIZED, "", ""]
    return lines


def parts(script: Any) -> tuple[str, str]:
    """The code that chooses the rows that are trained on, and those that validate; empty where all are trained on."""
    if script.kept is None:
        return "", ""
    return ("kept", "held") if script.share is not None else (f":{script.kept}", f"{script.kept}:")


def reading(source: Source, script: Any, names: list[str], target: str, *, made: str = "{}") -> list[str]:
    """The lines that read the data: a variable for each array. ``made`` makes of an array what the framework takes."""
    columns = {column.name: column for column in script.inputs}
    inputs = []
    for name, column in zip(names, (columns[n] for n in source.inputs), strict=True):
        around = f"standardized({{}}, {_slice(parts(script)[0])})" if column.name in script.standardized else "{}"
        inputs.append(f"{name} = {made.format(_array(column, around))}")
    labels = _array(script.target)
    if script.classes is not None:
        labels = f"np.array([CLASSES.index(name) for name in data[{text(script.target.name)}]])"
    lines = [f"data = np.load(HERE / {text(script.data)})"]
    if script.share is None:
        return [*lines, *inputs, f"{target} = {made.format(labels)}"]
    shape = script.target.row
    by = f"{target}.argmax(1)" if shape and shape[0] > 1 else f"{target}[:, 0]" if shape else target
    lines += [f"{target} = {labels}", f"kept, held = split({by}, {text(script.share)})", *inputs]
    return lines if made == "{}" else [*lines, f"{target} = {made.format(target)}"]


def _array(column: Any, around: str = "{}") -> str:
    """The code of an array of the data, as the model takes it. ``around`` is done with it in the shape of the file."""
    shape = "" if column.shape is None else f".reshape({', '.join(map(str, (-1, *column.shape)))})"
    return around.format(f'data[{text(column.name)}].astype("{column.dtype}")') + shape


def _slice(part: str) -> str:
    """A part of the rows as an object."""
    if ":" not in part:
        return part or "slice(None)"
    return f"slice({part.removeprefix(':')})"


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
