"""``Source``: a model as source code of a framework, and the map from the framework's weights to the model's."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import linecache
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dlbridge.errors import FileError, SignatureError
from dlbridge.model import Model
from dlbridge.source.weights import Weight, to_initializers

__all__ = ["Source"]

#: What the names of files begin with that are executed from memory.
WRITTEN_FILE = "<dlbridge"
#: Counts the files that have been executed: two of one model are two.
_executed = itertools.count(1)


class _Shown:
    """Makes the text of an executed file known to tracebacks and ``inspect``, for as long as its names are in use."""

    def __init__(self, filename: str, text: str) -> None:
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        weakref.finalize(self, linecache.cache.pop, filename, None)


@dataclass(repr=False)
class Source:
    """A written model: one Python file that needs only its framework, plus weights.

    Attributes:
        framework: Name of the framework (``frameworks.names()``).
        model: The model that was written, after the passes that the writer ran.
        text: The Python file.
        entry: What to call in the file to get the live model (a class or a function without arguments).
        weights: The framework's weight key -> how it is made of the model's initializers.
        inputs: Names of the inputs, in the order in which the live model takes them.
        outputs: Names of the outputs, in the order in which it returns them.
        ties: (key, key) of weights that are one and the same.
        stand_ins: What is to be filled in by hand (``partial``): the name in the file, and what it stands for.
        origin: The model that was written, as it was given to the writer.
    """

    framework: str
    model: Model
    text: str
    entry: str
    weights: dict[str, Weight] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    ties: list[tuple[str, str]] = field(default_factory=list)
    stand_ins: dict[str, str] = field(default_factory=dict)
    origin: Model | None = None

    def __repr__(self) -> str:
        return f"<Source of {self.model.name} for {self.framework}: {self.text.count(chr(10))} lines>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Source:
        """Itself: a copy of a live model (an average of its weights, say) was written by the same source."""
        return self

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """(framework key, array) of every weight, one at a time, from the model's initializers."""
        for key in self.weights:
            yield key, self.array(key)

    def array(self, key: str) -> np.ndarray:
        """The array of one weight, by framework key."""
        return self.weights[key].read(self.model.weights)

    def in_order(self, made: Any) -> list[Any]:
        """What a call of the live model returns, as a list in the order of the outputs."""
        return self.model.in_order(made)

    def require_inputs(self, given: Mapping[str, np.ndarray]) -> None:
        """Check that there is an array for each input.

        Raises:
            SignatureError: When one is missing.
        """
        missing = [name for name in self.inputs if name not in given]
        if missing:
            raise SignatureError(f"no array given for the input(s) {', '.join(missing)}", where=self.model.name)

    def initializers(self, trained: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Initializer name -> array, from the arrays that the live model holds by framework key."""
        return to_initializers(self.weights, trained, self.model.weights)

    def of_file(self, path: Path) -> Source:
        """The source with the text of a file, which may have been changed by hand.

        Raises:
            FileError: When there is no such file, or its entry has another name.
        """
        try:
            text = path.read_text(encoding="utf-8")
            names = {node.name for node in ast.parse(text).body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        except (OSError, ValueError, SyntaxError) as error:
            raise FileError(f"it cannot be read: {error}", where=str(path)) from None
        if self.entry not in names:
            raise FileError(f"it has no '{self.entry}'", where=str(path), hint=f"it has {', '.join(sorted(names))}")
        return dataclasses.replace(self, text=text)

    def execute(self) -> dict[str, Any]:
        """Run the file and give its names. Tracebacks and ``inspect`` show its text."""
        names: dict[str, Any] = {"__name__": f"dlbridge_written_{self.model.name}".replace(".", "_")}
        filename = f"{WRITTEN_FILE} {self.framework} {self.model.name} {next(_executed)}>"
        names["__source__"] = _Shown(filename, self.text)
        exec(compile(self.text, filename, "exec"), names)
        return names

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write ``model.py`` and the weights in the framework's own format into a folder.

        Raises:
            FileError: When the folder exists and ``force`` is not set.
        """
        from dlbridge import frameworks

        return frameworks.get(self.framework).save(self, Path(folder), force=force)
