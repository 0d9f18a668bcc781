"""Functions and classes that make a model, by name: ``package.module:function``, ``mynet:Net``, ``mynet.py:Net``."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from dlbridge.errors import DlbridgeError

_NAME = re.compile(r"(?P<module>.*[^:]):(?P<attribute>[A-Za-z_][\w.]*)\Z")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


def is_name(text: str) -> bool:
    """Whether a text is of the form ``package.module:attribute`` or ``folder/file.py:attribute``."""
    match = _NAME.match(text)
    return match is not None and (bool(_DOTTED.match(match["module"])) or match["module"].endswith(".py"))


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
    try:
        found: Any = _import_file(Path(module)) if module.endswith(".py") else _import(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, OSError) as error:
        raise DlbridgeError(
            f"cannot import it: {error}",
            where=name,
            hint="name an installed module, or a file of the current folder: mynet:Net, models/mynet.py:Net",
        ) from None
    return found


def _import(module: str) -> Any:
    top, folder = module.partition(".")[0], Path.cwd()
    is_here = (folder / f"{top}.py").is_file() or (folder / top).is_dir()
    if is_here and top not in sys.modules and importlib.util.find_spec(top) is None:
        _make_importable(folder)
    return importlib.import_module(module)


def _import_file(path: Path) -> Any:
    """Run a file as a module of its own; its neighbours can be imported, as in ``python file.py``."""
    if not path.is_file():
        raise ImportError(f"there is no file {path}")
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # Another module of that name, imported or not, stays what it is for those that import it.
    name = path.stem if known is None and importlib.util.find_spec(path.stem) is None else f"{path.stem}_file"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    _make_importable(path.parent)
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
