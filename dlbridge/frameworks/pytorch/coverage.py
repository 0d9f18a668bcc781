"""What of PyTorch is read and written: its rules, and the ops of ATen beside them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dlbridge.frameworks import Coverage, Section
from dlbridge.frameworks.pytorch import compat, reads, writes
from dlbridge.frameworks.pytorch.graph import reading
from dlbridge.frameworks.pytorch.rules import rules
from dlbridge.frameworks.rule_modules import import_rules

_NOTE = """\
The ops that PyTorch's reader has a rule for, and the rest of PyTorch's core opset. *decomposed*: read as the
ops that PyTorch itself takes it apart into; *no*: refused, all in one error. The many ops beyond the core
are decomposed too where PyTorch can, and refused by name where it cannot."""


def coverage() -> Coverage:
    """All rules, loaded."""
    import_rules(reads, writes)
    tables = {"aten": reading.RULES, "aten of complex numbers": reading.COMPLEX_RULES}
    return Coverage(rules.table, tables, _sections)


def _sections(used: Mapping[str, Mapping[str, list[str]]]) -> list[Section]:
    known: dict[str, list[str]] = {}
    for table, table_rules in (("aten", reading.RULES), ("aten of complex numbers", reading.COMPLEX_RULES)):
        for key in table_rules:
            known.setdefault(".".join(key.split(".")[:2]), []).extend(used.get(table, {}).get(key, []))
    rows = []
    for name in sorted({*known, *_core_ops()}):
        rows.append((name, _said(name, known), sorted(set(known.get(name, [])))))
    return [Section("ATen ops", _NOTE, "op", rows)]


def _said(name: str, known: Mapping[str, list[str]]) -> str:
    if name in known:
        return "yes"
    return "decomposed" if _is_decomposed(name) else "no"


def _core_ops() -> set[str]:
    names = (n for n in compat.operator_names() if n.startswith("aten::") and _is_core(n))
    return {f"aten.{name.removeprefix('aten::').partition('.')[0]}" for name in names}


def _is_core(name: str) -> bool:
    packet, _, overload = name.removeprefix("aten::").partition(".")
    op = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
    return op is not None and torch.Tag.core in op.tags


def _is_decomposed(name: str) -> bool:
    packet, table = getattr(torch.ops.aten, name.removeprefix("aten.")), compat.core_decompositions()
    composite = "CompositeImplicitAutograd"
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    return any(o in table or compat.has_kernel(o.name(), composite) for o in overloads)
