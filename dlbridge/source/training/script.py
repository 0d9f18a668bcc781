"""What the scripts of all frameworks share: the head of the file, and how its data are read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dlbridge.errors import TrainingError
from dlbridge.runtime.images import IMAGE_SUFFIXES
from dlbridge.source.names import argument_names
from dlbridge.source.program import Source
from dlbridge.source.tree.code import literal_text as text


def file(
    about: str,
    source: Source,
    imports: list[str],
    script: Any,
    *parts: list[str],
    made: str = 'np.array({}, "float32")',
) -> str:
    """The whole file: imports, the source of the model, and definitions, of which the last is that of ``main``.

    Args:
        about: Its docstring.
        source: The model.
        imports: The lines that import what the definitions use.
        script: The data.
        parts: The lines of each definition.
        made: The code of an array of the framework from a list of numbers.
    """
    imported, model = _head(source, [*imports, *image_imports(script)])
    gap = ["", ""]
    lines = [f'"""{about}"""', "", *imported, "", "HERE = Path(__file__).parent", *gap, *model, *gap]
    lines += _helpers(script, made)
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
TAKEN: tuple[str, ...] = ("kept", "held", "split", "standardized", "CLASSES", "SUFFIXES", "MEAN", "STD")
TAKEN += ("Image", "ImageOps", "pictures", "read", "resized", "augmented", "place", "scaler")
_SPLIT = '''def split(label, share):
    """The last rows of every class validate."""
    held = np.zeros(len(label), bool)
    for name in np.unique(label):
        rows = np.flatnonzero(label == name)
        held[rows[round(len(rows) * (1 - share)) :]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)'''.splitlines()
_PICTURES = '''def pictures(folder):
    """The paths of the images, and the numbers of their classes, which are the names of the folders."""
    paths = sorted(path for path in folder.glob("[!.]*/**/*") if path.suffix.lower() in SUFFIXES)
    labels = [CLASSES.index(path.relative_to(folder).parts[0]) for path in paths]
    return np.array(paths), np.array(labels)'''.splitlines()
_READ = '''def read(path):
    """An image as the model takes it."""
    with Image.open(path) as image:
        pixels = np.array(ImageOps.exif_transpose(image).convert("{mode}"))
    return resized(pixels[{axes}])[0]'''.splitlines()
_STANDARDIZED = '''def standardized(x, rows):
    """Each column by its mean and deviation in these rows."""
    columns = x[rows].reshape(-1, x.shape[-1]).astype("float64")
    mean, std = columns.mean(0), columns.std(0)
    std[std <= 1e-12 * np.abs(mean)] = 1  # a column that never changes
    return (x - mean.astype("float32")) / std.astype("float32")'''.splitlines()


def image_imports(script: Any) -> list[str]:
    """The imports of a script for its images."""
    return ["from PIL import Image, ImageOps"] if script.images is not None and script.images.is_folder else []


def _image_files(images: Any) -> list[str]:
    """The functions that read a folder of images."""
    if images is None or not images.is_folder:
        return []
    mode, axes = {1: "L", 3: "RGB", 4: "RGBA"}[images.channels], "None, ..., None" if images.channels == 1 else "None"
    return [*_PICTURES, "", "", *(line.replace("{mode}", mode).replace("{axes}", axes) for line in _READ), "", ""]


def _constants(script: Any, made: str) -> list[str]:
    """What is known before the data is read: the names of classes, the files that are images, means and deviations."""
    lines, images = [], script.images
    if script.classes is not None:
        lines.append(f"CLASSES = {text(list(script.classes))}")
    if images is not None and images.is_folder:
        lines.append(f"SUFFIXES = {text(list(IMAGE_SUFFIXES))}")
    if images is not None and images.is_normalized:
        shape = (-1, 1, 1) if images.channels_axis == 1 else (-1,)
        for name, numbers in (("MEAN", images.mean), ("STD", images.std)):
            lines.append(f"{name} = {made.format(text(list(numbers)))}.reshape({text(shape)[1:-1].rstrip(',')})")
    return [*lines, "", ""] if lines else []


def _helpers(script: Any, made: str) -> list[str]:
    """What stands above the functions of a script for its data: constants, the split, the columns, image files."""
    lines = _constants(script, made)
    if script.share is not None:
        lines += [*_SPLIT, "", ""]
    if script.standardized:
        lines += [*_STANDARDIZED, "", ""]
    return lines + _image_files(script.images)


def parts(script: Any) -> tuple[str, str]:
    """The code that chooses the rows that are trained on, and those that validate; empty where all are trained on."""
    if script.kept is None:
        return "", ""
    return ("kept", "held") if script.share is not None else (f":{script.kept}", f"{script.kept}:")


def reading(source: Source, script: Any, names: list[str], target: str, *, made: str = "{}") -> list[str]:
    """The lines that read the data: a variable for each array. ``made`` makes of an array what the framework takes."""
    if script.images is not None and script.images.is_folder:
        return _reading_files(script, names[0], target, made)
    columns = {column.name: column for column in script.inputs}
    inputs = []
    for name, column in zip(names, (columns[n] for n in source.inputs), strict=True):
        around = f"standardized({{}}, {_slice(parts(script)[0])})" if column.name in script.standardized else "{}"
        is_image = script.images is not None and script.images.is_prepared
        code = f"resized(data[{text(column.name)}])" if is_image else made.format(_array(column, around))
        inputs.append(f"{name} = {code}")
    labels = _array(script.target)
    if script.classes is not None:
        labels = f"np.array([CLASSES.index(name) for name in data[{text(script.target.name)}]])"
    lines = [f"data = np.load(HERE / {text(script.data)})"]
    if script.share is None:
        return [*lines, *inputs, f"{target} = {made.format(labels)}"]
    shape = script.target.row
    by = target
    if shape:
        by = f"{target}.argmax(1)" if shape[0] > 1 else f"{target}[:, 0]"
    lines += [f"{target} = {labels}", f"kept, held = split({by}, {text(script.share)})", *inputs]
    return lines if made == "{}" else [*lines, f"{target} = {made.format(target)}"]


def _reading_files(script: Any, name: str, target: str, made: str) -> list[str]:
    """The lines that read a folder of images: their paths, and the target."""
    lines = [f"{name}, {target} = pictures(HERE / {text(script.data)})"]
    if script.share is not None:
        lines.append(f"kept, held = split({target}, {text(script.share)})")
    shape = "" if script.target.shape is None else f".reshape({', '.join(map(str, (-1, *script.target.shape)))})"
    dtype = "" if script.target.dtype == "int64" else f'.astype("{script.target.dtype}")'
    of = made.format(f"{target}{dtype}{shape}")
    return lines if of == target else [*lines, f"{target} = {of}"]


def _array(column: Any, around: str = "{}") -> str:
    """The code of an array of the data, as the model takes it. ``around`` is done with it in the shape of the file."""
    shape = "" if column.shape is None else f".reshape({', '.join(map(str, (-1, *column.shape)))})"
    return around.format(f'data[{text(column.name)}].astype("{column.dtype}")') + shape


def _slice(part: str) -> str:
    """A part of the rows as an object."""
    if ":" not in part:
        return part or "slice(None)"
    return f"slice({part.removeprefix(':')})"


def has_rows(script: Any, rank: int) -> bool:
    """Whether the target of a loss of classes is a row of probabilities for each place, rather than a class number."""
    return len(script.target.row) + 1 == rank


def check_loss(loss: Any, known: Collection[str], rank: int) -> None:
    """Refuse a loss that a framework has no class of its own for.

    Raises:
        TrainingError: It names the loss and what is set of it.
    """
    own = {"of", "target", "op", "from_logits", "delta", "sample_weight"}
    usual = {name: field.default for name, field in type(loss).model_fields.items()}
    changed = [n for n in type(loss).model_fields if n not in own and getattr(loss, n) != usual[n]]
    is_plain = rank == 2 or loss.class_axis != -1 or loss.kind == "numbers"
    if loss.op not in known or changed or not is_plain or (loss.ending is not None and not loss.reads_logits):
        what = " with ".join([loss.op, *([", ".join(changed)] if changed else [])])
        raise TrainingError(f"a script has no words for the loss {what}", hint="dlbridge train has them")
