"""Functions and classes that make a model, by name: ``package.module:function``, ``mynet:Net``, ``mynet.py:Net``.

They are called with arguments that the user gives (``--arg hidden=64``), and may return example inputs, too.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlbridge import frameworks
from dlbridge.errors import DlbridgeError, suggest

_NAME = re.compile(r"(?P<module>.*[^:]):(?P<attribute>[A-Za-z_][\w.]*)\Z")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


def is_name(text: str) -> bool:
    """Whether a text is of the form ``package.module:attribute`` or ``folder/file.py:attribute``."""
    match = _NAME.match(text)
    return match is not None and (bool(_DOTTED.match(match["module"])) or match["module"].endswith(".py"))


@dataclass(frozen=True)
class Made:
    """What the function or class of a name has made: a model, and what is known of it.

    Attributes:
        model: A live model of a framework.
        name: The last part of the name.
        example: Example inputs that the function returned beside the model; None where it returned none.
        framework: The framework that reads the model; None where none does.
    """

    model: Any
    name: str
    example: Any = None
    framework: frameworks.Framework | None = None


def make(name: str, arguments: Mapping[str, Any] | None = None) -> Made:
    """The model of that name: an object of a module, or what a class or function of it returns.

    Args:
        name: ``package.module:attribute`` or ``folder/file.py:attribute``.
        arguments: Arguments of the class or function, by name.

    Raises:
        DlbridgeError: When there is no such object, it does not take these arguments, or its code raises an error.
    """
    found = find(name)
    last = name.rpartition(":")[2].rpartition(".")[2]
    is_model = frameworks.reader_of(found) is not None
    if is_model or not callable(found):
        if arguments:
            raise DlbridgeError(f"it is a {type(found).__name__}, which takes no arguments", where=name)
        return Made(found, last, None, frameworks.reader_of(found))
    _check_arguments(found, arguments or {}, name)
    try:
        made = found(**(arguments or {}))
    except DlbridgeError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code raises what it likes
        raise DlbridgeError(f"its code raised {type(error).__name__}: {error}", where=_place(error, name)) from error
    is_pair = isinstance(made, tuple) and len(made) == 2 and frameworks.reader_of(made[0]) is not None
    if isinstance(made, tuple) and not is_pair:
        kinds = ", ".join(type(part).__name__ for part in made)
        hint = "it may return a model, or a model and its example inputs"
        raise DlbridgeError(f"it returned a tuple of {kinds or 'nothing'}", where=name, hint=hint)
    model, example = made if is_pair else (made, None)
    return Made(model, last, example, frameworks.reader_of(model))


def fill(made: Made, weights: Path, *, strict: bool = True) -> None:
    """Put the weights of a file into a model that was made.

    Raises:
        DlbridgeError: When no framework reads the model, or the weights do not fit it.
    """
    if made.framework is None:
        raise DlbridgeError(f"there are no weights for a {type(made.model).__qualname__}", where=str(weights))
    made.framework.fill(made.model, weights, strict=strict)


def _check_arguments(function: Any, arguments: Mapping[str, Any], name: str) -> None:
    """Refuse arguments that a class or function does not take, and name those that it needs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # classes written in C have none
        return
    parameters = signature.parameters.values()
    known = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for given in arguments:
        if given not in known and not takes_any:
            hint = suggest(given, known) or f"it takes: {', '.join(known) or 'no arguments'}"
            raise DlbridgeError(f"it takes no argument '{given}'", where=name, hint=hint)
    missing = [p.name for p in parameters if p.name in known and p.default is p.empty and p.name not in arguments]
    if missing:
        raise DlbridgeError(
            f"it cannot be called without {' and '.join(repr(each) for each in missing)}",
            where=name,
            hint=f"say --arg {missing[0]}=VALUE or --config FILE (arguments={{'{missing[0]}': ...}})",
        )


def _place(error: BaseException, name: str) -> str:
    """``mynet:Net (mynet.py:12)``: the innermost line of an error that is in code of the user's own."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{name} ({error.filename}:{error.lineno})"
    others = (str(Path(__file__).parent), sysconfig.get_path("stdlib"), "<")
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [
        (file, line) for file, line in frames if not file.startswith(others) and "site-packages" not in Path(file).parts
    ]
    return f"{name} ({own[-1][0]}:{own[-1][1]})" if own else name


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Argument name -> value, of ``hidden=64``: the value is JSON, and what is no JSON is the text itself.

    Raises:
        ValueError: When a text is not of that form, or says a name twice.
    """
    found = split_pairs(texts, "name=value")
    wrong = next((name for name in found if not name.isidentifier()), None)
    if wrong is not None:
        raise ValueError(f"'{wrong}' is not the name of an argument")
    return {name: _json_or_text(value) for name, value in found.items()}


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def split_pairs(texts: Iterable[str], form: str) -> dict[str, str]:
    """What is left of the equals sign -> what is right of it.

    Args:
        texts: What was given.
        form: What an error says each should have been: ``name=value``.

    Raises:
        ValueError: When a text is not of that form, or says a name twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"'{text}' is not of the form {form}")
        if name in found:
            raise ValueError(f"'{name}' is given twice")
        found[name] = value
    return found


def read_arguments(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The arguments in a YAML or JSON file: a mapping by name.

    Raises:
        DlbridgeError: When the file is missing, broken, or holds something else.
    """
    from dlbridge.description import document

    found = document.read(Path(path), is_description=False)
    if not isinstance(found.data, dict):
        raise DlbridgeError("it holds no arguments by name", where=str(path), hint="one a line: 'hidden: 64'")
    return found.data


def find(name: str) -> Any:
    """The object of that name; its module is imported, from the current folder where it is found nowhere else.

    The folder comes last on Python's path, so that a file in it never takes the place of an installed package.

    Args:
        name: ``package.module:attribute`` or ``folder/file.py:attribute``; attributes may be dotted.

    Raises:
        DlbridgeError: When there is no such module or attribute, or importing it fails.
    """
    match = _NAME.match(name)
    assert match is not None
    module, attribute = match["module"], match["attribute"]
    hint = "name an installed module, or a file of the current folder: mynet:Net, models/mynet.py:Net"
    found = _imported(module, name, hint)
    for part in attribute.split("."):
        if not hasattr(found, part):
            owner = f"module '{found.__name__}'" if inspect.ismodule(found) else f"'{type(found).__name__}'"
            hint = suggest(part, dir(found)) or hint
            raise DlbridgeError(f"cannot import it: {owner} has no attribute '{part}'", where=name, hint=hint)
        found = getattr(found, part)
    return found


def imported(module: str) -> Any:
    """A module, imported as :func:`find` does it: ``package.module``, or ``folder/file.py``.

    Raises:
        DlbridgeError: When there is no such module, or importing it fails.
    """
    return _imported(module, module, "name an installed module, or a file: mylayers, folder/mylayers.py")


def _imported(module: str, name: str, hint: str) -> Any:
    """A module. An error of its own code is told with its line; ``hint`` is for a module that is not there."""
    try:
        return _module(module)
    except DlbridgeError:
        raise
    except ImportError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise DlbridgeError(f"cannot import it: {error}", where=name, hint=hint) from None
        hint = "a file that imports from its own package is named as a part of it: package.module:Net"
        if isinstance(error, ModuleNotFoundError):
            hint = f"install what it imports for the Python that runs dlbridge, {sys.executable}"
        raise DlbridgeError(f"cannot import it: {error}", where=_place(error, name), hint=hint) from None
    except (Exception, SystemExit) as error:  # the user's own code raises what it likes
        what = f"importing it raised {type(error).__name__}: {error}"
        raise DlbridgeError(what, where=_place(error, name)) from error


def _module(name: str) -> Any:
    if not name.endswith(".py"):
        return _import(name)
    if not Path(name).is_file():
        raise ModuleNotFoundError(f"there is no file {name}", name=name)
    return _import_file(Path(name))


def _import(module: str) -> Any:
    top, folder = module.partition(".")[0], Path.cwd()
    is_here = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
    if is_here and top not in sys.modules and importlib.util.find_spec(top) is None:
        _make_importable(folder)
    return importlib.import_module(module)


def _import_file(path: Path) -> Any:
    """Run a file as a module of its own. It can import its neighbours, as in ``python file.py``, and what is in the
    current folder, if it lies below it: where a project is, its files import each other from its top."""
    path = path.resolve()
    name = path.stem.replace(".", "_")  # a dot would stand for a package
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # Another module of that name, imported or not, stays what it is for those that import it.
    if known is not None or importlib.util.find_spec(name) is not None:
        name = f"{name}_file"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    _make_importable(path.parent)
    if path.is_relative_to(Path.cwd()):
        _make_importable(Path.cwd())
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the module of a class
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _make_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()
