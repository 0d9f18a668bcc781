"""Text -> plain data, with the line of every piece.

Scalars are read by the core schema of YAML 1.2 (of which JSON is a part), not by YAML 1.1: ``1e-3`` is a number and
``no`` is a word. Tags are refused, and so are documents that grow out of hand when their aliases are expanded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from dlbridge.errors import DescriptionError, DlbridgeError, FileError
from dlbridge.limits import limits, raise_hint

Path_ = tuple[Any, ...]

#: At most one in so many of the values that a document may have can come from aliases.
ALIASED = 10

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURROGATES = re.compile(r"(?<!\\)\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "Infinity"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF", "-Infinity"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN", "NaN"), float("nan")),
}


@dataclass
class Document:
    """Plain data and where it came from.

    Attributes:
        data: dicts, lists, strings, numbers, booleans and None.
        name: What errors call the document: a file name, ``<description>`` for text, "" for data given in Python.
        lines: Path of keys and indices -> line number; empty for data given in Python.
    """

    data: Any
    name: str = ""
    lines: dict[Path_, int] = field(default_factory=dict)

    def where(self, path: Path_) -> str | None:
        """``file.yaml:12`` for the innermost part of ``path`` that has a line; for plain data ``nodes[2].op``."""
        if not self.lines:
            return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".") or None
        line = next(self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines)
        return f"{self.name}:{line}"

    def fail(
        self, path: Path_, message: str, hint: str | None = None, kind: type[DlbridgeError] = DescriptionError
    ) -> NoReturn:
        """Raise the error for the data at ``path``."""
        raise kind(message, where=self.where(path), hint=hint)


def read(source: str | Path | Mapping[str, Any], *, is_description: bool = True) -> Document:
    """A description as a document.

    Args:
        source: A path to a ``.yaml`` or ``.json`` file, the text of one (anything with a line break or a brace), or
            data already in Python.
        is_description: Whether it must be a mapping, as a description is.

    Raises:
        DescriptionError: When the text is broken, too big, or says a key twice.
        FileError: When there is no such file or it is no text.
    """
    if isinstance(source, Mapping):
        return Document(dict(source))
    if isinstance(source, str) and ("\n" in source or "{" in source):
        return parse(source, "<description>")
    path = Path(source)
    try:
        _check_length(path.stat().st_size, str(path))
        found = parse(path.read_text(encoding="utf-8"), str(path), is_description=is_description)
    except OSError as error:
        raise FileError(error.strerror or "cannot be read", where=str(path)) from None
    except UnicodeDecodeError:
        raise FileError("is not UTF-8 text", where=str(path), hint="a description is a YAML or JSON file") from None
    return found


def parse(text: str, name: str, *, is_description: bool = True) -> Document:
    """YAML or JSON text as a document. See :func:`read`."""
    _check_length(len(text), name)
    if text.lstrip().startswith("{"):  # JSON may be indented by tabs and write one character as two, YAML may not
        text = _SURROGATES.sub(lambda pair: json.loads(f'"{pair[0]}"'), text.replace("\t", " "))
    builder = _Builder(name)
    try:
        events = yaml.parse(text, Loader=_LOADER)
        document = builder.document(events)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(str(part) for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 1
        raise DescriptionError(
            f"not valid YAML: {reason}", where=f"{name}:{line}", hint="check the indentation, colons and brackets there"
        ) from None
    except yaml.YAMLError as error:
        raise DescriptionError(f"not valid YAML: {error}".partition("\n")[0], where=name) from None
    if is_description and not isinstance(document.data, dict):
        raise DescriptionError("is not a description", where=name, hint="it begins with 'dlbridge: 1' and 'name: ...'")
    return document


def _check_length(count: int, where: str) -> None:
    if count > limits().text:
        raise DescriptionError(f"larger than {limits().text:,} characters", where=where, hint=raise_hint("text"))


class _Builder:
    """Builds data from YAML events, counting as it goes."""

    def __init__(self, name: str) -> None:
        self.result = Document(None, name)
        self.anchors: dict[str, tuple[Any, Path_, int]] = {}  # name -> (data, path, number of values)
        self.values = self.aliased = 0

    def document(self, events: Iterator[Any]) -> Document:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.result.data = self.value(next(events), events, ())
                next(events)  # the document's end
                break
        if any(isinstance(event, yaml.DocumentStartEvent) for event in events):
            raise DescriptionError("holds more than one YAML document", where=self.result.name)
        return self.result

    def fail(self, event: Any, message: str, hint: str | None = None) -> NoReturn:
        raise DescriptionError(message, where=f"{self.result.name}:{event.start_mark.line + 1}", hint=hint)

    def value(self, event: Any, events: Iterator[Any], path: Path_) -> Any:
        before = self.values
        self.count(event)
        if len(path) > limits().depth:
            self.fail(event, f"nested deeper than {limits().depth} levels", raise_hint("depth"))
        self.result.lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, path)
        if event.tag not in (None, "!"):
            self.fail(event, f"the tag {event.tag} is not allowed", "a description holds plain YAML")
        data: Any
        if isinstance(event, yaml.ScalarEvent):
            data = self.scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            data = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                data.append(self.value(item, events, (*path, len(data))))
        else:
            data = self.mapping(events, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = (data, path, self.values - before)
        return data

    def scalar(self, event: Any) -> Any:
        try:
            event.value.encode()
            return event.value if event.style or event.tag == "!" else _scalar(event.value)
        except UnicodeEncodeError:
            self.fail(event, "half of a character stands there, which is no text")
        except ValueError:  # Python reads no number of thousands of digits
            self.fail(event, f"the number {event.value[:20]}... has too many digits")

    def mapping(self, events: Iterator[Any], path: Path_) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(item := next(events), yaml.MappingEndEvent):
            if not isinstance(item, yaml.ScalarEvent):
                self.fail(item, "a key is a word")
            key = str(item.value)
            self.scalar(item)
            if key in data:
                first = self.result.lines[*path, key]
                self.fail(item, f"the key '{key}' is given twice", f"it is given in line {first} already")
            self.result.lines[*path, key] = item.start_mark.line + 1  # type: ignore[union-attr]
            data[key] = self.value(next(events), events, (*path, key))
        return data

    def alias(self, event: Any, path: Path_) -> Any:
        if event.anchor not in self.anchors:
            self.fail(event, f"the alias *{event.anchor} has no anchor &{event.anchor} before it")
        data, origin, size = self.anchors[event.anchor]
        self.aliased += size  # counted before copying, so that a document of nested aliases is refused in time
        if self.aliased > limits().values // ALIASED:
            what = f"its aliases stand for more than {limits().values // ALIASED:,} values"
            self.fail(event, what, raise_hint("values"))
        self.count(event, size)
        return self.copy(data, origin, path)

    def copy(self, data: Any, origin: Path_, path: Path_) -> Any:
        """A copy, so that a change to one use does not affect another."""
        self.result.lines.setdefault(path, self.result.lines[origin])
        if isinstance(data, dict):
            return {k: self.copy(v, (*origin, k), (*path, k)) for k, v in data.items()}
        if isinstance(data, list):
            return [self.copy(v, (*origin, i), (*path, i)) for i, v in enumerate(data)]
        return data

    def count(self, event: Any, more: int = 1) -> None:
        self.values += more
        if self.values > limits().values:
            what = f"holds more than {limits().values:,} values, where each use of an alias counts"
            self.fail(event, what, raise_hint("values"))


def _scalar(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


# --- writing ----------------------------------------------------------------------------------------------------------


class _Dumper(_DUMPER):  # type: ignore[misc, valid-type]
    """Block style at the top, one line for each thing that fits; strings that would be read otherwise are quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_string(dumper: Any, text: str) -> Any:
    plain = _scalar(text) == text and isinstance(_scalar(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


def _represent_float(dumper: Any, number: float) -> Any:
    word = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(number), repr(number))
    if "e" in word and "." not in word:
        word = word.replace("e", ".0e")  # YAML 1.1 has no float without a point
    return dumper.represent_scalar("tag:yaml.org,2002:float", word)


_Dumper.add_representer(str, _represent_string)
_Dumper.add_representer(float, _represent_float)
_Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=_short(v)))
_Dumper.add_representer(
    dict, lambda d, v: d.represent_mapping("tag:yaml.org,2002:map", v.items(), flow_style=_short(v))
)


def _short(data: Any) -> bool:
    """Whether something is written in one line: it is small and holds no deep nesting."""
    return len(json.dumps(data, default=str)) <= 100 or (isinstance(data, list) and not _has_mapping(data))


def _has_mapping(data: list[Any]) -> bool:
    return any(isinstance(v, dict) or (isinstance(v, list) and _has_mapping(v)) for v in data)


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as YAML text that :func:`parse` reads back to the same data."""
    return yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=118)
