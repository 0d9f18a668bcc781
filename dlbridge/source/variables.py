"""Names of the variables in printed code."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import onnx_ir as ir

from dlbridge.ops import traits
from dlbridge.ops.keys import op_key
from dlbridge.source.blocks import is_weight
from dlbridge.source.definitions import Line, Written
from dlbridge.source.names import Names, identifier, last_word
from dlbridge.source.op import Layer


def input_names(
    values: Sequence[ir.Value], taken: Iterable[str], *, is_root: bool, path: str = ""
) -> dict[ir.Value, str]:
    """What a body calls its inputs: the model's by their names, a block's by its author's parameters.

    Where these are not known, a block's first input is ``x``, and others are called by what they are: what another
    block makes is called as that is. ``path`` is the block's own.
    """
    names = Names(*taken)
    found = {}
    for index, value in enumerate(values):
        parameter = None if is_root else traits.called(value).get(path)
        if parameter is not None and identifier(parameter.replace(".", "_")) == parameter.replace(".", "_"):
            found[value] = names.fresh(identifier(parameter))
            continue
        said = author_name(value) or author_name(value, traits.TOWARDS)
        last = said or _neighbour(value, path) or last_word(value.name or "x")
        if not is_root and not value.is_graph_input():
            last = last.rstrip("0123456789").rstrip("_")
        in_block = not is_root and index == 0 and (len(values) == 1 or not value.is_graph_input())
        found[value] = names.fresh("x" if in_block else identifier(last))
    return found


def _neighbour(value: ir.Value, path: str) -> str | None:
    """The name of the block beside ``path`` that makes a value."""
    node, parent = value.producer(), path.rpartition(".")[0]
    scope = traits.scope(node) if node is not None else ""
    inside = f"{parent}." if parent else ""
    if not path or not scope.startswith(inside) or not scope[len(inside) :]:
        return None
    return given_name(scope[len(inside) :].partition(".")[0])


def output_names(values: Sequence[ir.Value]) -> dict[ir.Value, str]:
    """What the body of a model with several outputs calls these, where a person gave them names."""
    found = {v: identifier(v.name or "") for v in values if not re.fullmatch(r"(output_?)?\d*", v.name or "")}
    return found if len(values) > 1 else {}


def name_values(
    written: Written,
    inputs: Mapping[ir.Value, str],
    kept: frozenset[str] = frozenset(),
    reserved: Iterable[str] = (),
    named: Mapping[ir.Value, str] | None = None,
) -> dict[ir.Value, str]:
    """A variable's name for each value of a block: that of an operand where this is the operand's last use.

    A value that is read again much later, as a skip connection is, gets a name of its own, by what makes it.

    ``kept`` names are read again after the block and stay as they are. No variable hides a function that the block
    calls, or has a name that is ``reserved``. ``named`` are names that values are to have.
    """
    reserved, path = {*reserved, *names_read(written)}, written.block.path
    readings: dict[ir.Value, list[int]] = {}
    for index, line in enumerate(written.lines):
        for value in set(line.code.values()):
            readings.setdefault(value, []).append(index)
    for value in written.block.outputs:
        readings.setdefault(value, []).append(len(written.lines))
    last_read = {value: found[-1] for value, found in readings.items()}
    labels = _labels(written, readings)
    names = dict(inputs)
    alive = set(inputs.values())
    for index, line in enumerate(written.lines):
        ending = [names[v] for v in line.code.values() if v in names and last_read[v] == index]
        for value in set(line.code.values()):
            if (
                value in names
                and last_read[value] == index
                and names[value] not in kept | _read_after(names, last_read, index)
            ):
                alive.discard(names[value])
        for target in line.targets:
            if target not in last_read:
                names[target] = "_"
                continue
            reusable = [n for n in ending if n not in alive and _may_take_over(line, n)]
            flows = "x" in inputs.values() and "out" not in alive and _flows_on(written, readings[target])
            fresh = "out" if flows else line.hint
            fresh = "x" if "x" not in alive else fresh
            at_once = len(line.targets) == 1 and readings[target] == [index + 1]
            given = [(named or {}).get(target), *_given_names(line, target, path, labels.get(target), at_once)]
            wanted = [name for name in given if name is not None]
            if wanted:
                free = (name for name in [*wanted, line.label] if name and name not in alive | reserved)
                reusable, fresh = [], next(free, wanted[0])
            reusable.sort(key=lambda name: name != "x")
            taken = Names(*alive, *reserved)
            names[target] = _of_all(reusable, taken) if reusable else taken.fresh(fresh)
            alive.add(names[target])
    return names


def _given_names(line: Line, value: ir.Value, path: str, label: str | None, at_once: bool) -> list[str | None]:
    """What people call a value that a line makes, the best name first: in the module at ``path``, else in the block
    that makes it.

    A block's ``label`` tells more than a name within it, and names within it more than that of a list that they are in.
    An item of a list that is read ``at_once`` has no number.
    """
    elsewhere = traits.called(value).get(path)
    if elsewhere is not None and at_once:
        elsewhere = elsewhere.partition(".")[0]
    here = [identifier(elsewhere) if elsewhere else None]
    inside = [author_name(value), author_name(value, traits.TOWARDS)]
    node = value.producer()
    if node is None or traits.scope(node) == path:
        return [*here, *inside, label]
    is_item = elsewhere is not None and "." in elsewhere
    apart = {author_name(target) or author_name(target, traits.TOWARDS) for target in line.targets}
    if is_item and None not in apart and len(apart) == len(line.targets):
        return [*inside, *here, label]
    says_nothing = elsewhere is not None and inside[0] in ("x", "out")
    return [*here, label, line.label if says_nothing else None, *inside]


def author_name(value: ir.Value, trait: str = traits.VARIABLE) -> str | None:
    """A variable's name from the code that a value was read from; None where that has none."""
    said = traits.variable(value, trait)
    return identifier(said) if said else None


def _of_all(names: Sequence[str], taken: Names) -> str:
    """The first of these names; of ``boxes_0``, ``boxes_1`` and more, ``boxes``."""
    stems = {re.sub(r"_\d+$", "", name) for name in names}
    stem = stems.pop()
    return stem if len(names) > 1 and not stems and stem not in taken.taken else names[0]


def _may_take_over(line: Line, name: str) -> bool:
    """Whether a result may have the name of an operand that ends: not where it is another thing."""
    if len(line.targets) > 1:
        return False
    return line.label is None or name in ("x", "out", line.label, line.hint)


def names_read(written: Written) -> set[str]:
    """The names of functions and modules that the code of a block reads."""
    return set().union(*(line.code.names() for line in written.lines))


def _flows_on(written: Written, readings: list[int]) -> bool:
    """Whether all that is done with a value is to compute the next one from it."""
    return (
        len(readings) == 1
        and readings[0] < len(written.lines)
        and len({v for v in written.lines[readings[0]].code.values() if not is_weight(v)}) == 1
    )


def _labels(written: Written, readings: Mapping[ir.Value, list[int]]) -> dict[ir.Value, str]:
    """The names that people gave to what is kept.

    Where the names of several differ by numbers alone, and each ends before the next begins, they are one variable:
    what has ended frees its memory.
    """
    found: dict[ir.Value, str] = {}
    lives: dict[str, list[tuple[ir.Value, range]]] = {}
    for index, line in enumerate(written.lines):
        target = line.targets[0]
        if line.label and len(line.targets) == 1 and target in readings and _is_kept(readings[target], index):
            found[target] = line.label
            life = range(index, readings[target][-1])
            lives.setdefault(re.sub(r"\d+", "", line.label), []).append((target, life))
    for name, group in lives.items():
        apart = all(a.stop <= b.start for (_, a), (_, b) in pairwise(group))
        if len(group) > 1 and apart:
            found |= dict.fromkeys((value for value, _ in group), identifier(name, "out"))
    return found


def _is_kept(readings: list[int], made: int) -> bool:
    """Whether a value that line ``made`` makes is read more than once, and not by the lines that follow alone."""
    return len(readings) > 1 and readings[-1] > made + len(readings)


def _read_after(names: Mapping[ir.Value, str], last_read: Mapping[ir.Value, int], index: int) -> set[str]:
    """Names of values that are read after line ``index``."""
    return {name for value, name in names.items() if last_read.get(value, -1) > index}


def hint(node: ir.Node, layer: Layer | None = None) -> str:
    """A variable's name from a node's: ``layer1.0.conv1`` -> ``conv``; for functions, ``out``."""
    if layer is not None and layer.called is not None:  # which is the node's name, too
        return op_key(node).lower()
    last = (node.name or "").rpartition(".")[2].rstrip("0123456789").rstrip("_")
    if last[:1].isdigit():  # of a list's item: blocks.1_to_channels_last
        last = last_word(node.name or "").rstrip("0123456789").rstrip("_")
    return identifier(last.lower(), "out") if last else "out"


def hint_of_path(path: str) -> str:
    """A variable's name from a block's path: ``layer1.0`` -> ``layer``."""
    words = [p for p in path.split(".") if not p.isdigit()]
    return identifier(words[-1].rstrip("0123456789").rstrip("_").lower(), "x") if words else "x"


def given_name(name: str) -> str | None:
    """A variable's name from the name that a person gave to a layer or block; None when it is a number."""
    last = name.rpartition(".")[2].lower()
    return None if not last or last[0].isdigit() else identifier(last)
