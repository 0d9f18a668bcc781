"""``python -m dlbridge.conformance.coverage``: the page of what is read, what is written, and what tests it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import onnx

from dlbridge.ops import traits

#: Types of the standard that are no tensors of numbers.
_OTHER_TYPES = ("seq(", "optional(", "map(", "tensor(string)")
Used = dict[str, dict[str, list[str]]]


def registries() -> dict[str, dict[Any, Any]]:
    """Registry -> its rules, all loaded: what PyTorch and Keras read and write."""
    rules: dict[str, dict[Any, Any]] = {}
    for name in ("pytorch", "keras"):
        for kind in ("reads", "writes"):
            package = importlib.import_module(f"dlbridge.frameworks.{name}.{kind}")
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{module.name}")
        rules[f"{name} writes"] = importlib.import_module(f"dlbridge.frameworks.{name}.rules").rules.table
    site = importlib.import_module("dlbridge.frameworks.keras.site")
    reading = importlib.import_module("dlbridge.frameworks.pytorch.reading")
    rules["aten"], rules["aten of complex numbers"] = reading.RULES, reading.COMPLEX_RULES
    rules["keras layers"], rules["keras ops"] = site.LAYERS, site.OPERATIONS
    return rules


@click.command()
@click.argument("used", nargs=-1, type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--conformance", type=click.Path(exists=True, path_type=Path), required=True, help="Node tests' results.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("docs/coverage.md"), show_default=True)
def main(used: tuple[Path, ...], conformance: Path, output: Path) -> None:
    """Write the page of coverage from the files that say which tests USED which rules."""
    output.write_text(page(_merged(used), json.loads(conformance.read_text())), encoding="utf-8")


def _merged(files: Iterable[Path]) -> Used:
    """Registry -> rule -> the tests that used it, from every worker."""
    found: Used = {}
    for file in files:
        for registry, rules in json.loads(file.read_text()).items():
            for rule, tests in rules.items():
                found.setdefault(registry, {}).setdefault(rule, []).extend(tests)
    return found


def page(used: Used, conformance: dict[str, list[dict[str, Any]]]) -> str:
    """The page in Markdown."""
    rules = registries()
    lines = [
        "# Coverage",
        "",
        "What dlbridge reads and writes, and the tests that use each rule (made by `make coverage`).",
        "",
        *_onnx(rules, conformance),
        *_aten(*((rules[kind], used.get(kind, {})) for kind in ("aten", "aten of complex numbers"))),
        *_keras("layers", rules["keras layers"], used.get("keras layers", {})),
        *_keras("ops", rules["keras ops"], used.get("keras ops", {})),
    ]
    return "\n".join(lines) + "\n"


def _onnx(rules: dict[str, dict[Any, Any]], conformance: dict[str, list[dict[str, Any]]]) -> list[str]:
    """All ops of the standard's default domain: each is read as it is."""
    scores = {name: _scores(found) for name, found in conformance.items()}
    lines = [
        "## ONNX ops",
        "",
        "Every op is read as it stands, from every opset. *body*: written as the function that it is in the standard;",
        "*no*: refused by name. The numbers are the standard's node tests of the op that pass, of those in scope.",
        "",
        "| op | to PyTorch | tests | to Keras | tests |",
        "|---|---|---|---|---|",
    ]
    for schema in _schemas():
        cells = []
        for name in ("pytorch", "keras"):
            keys = [("", schema.name), ("dlbridge.channels_last", schema.name)]
            known = any(key in rules[f"{name} writes"] for key in keys)
            body = schema.has_function or schema.has_context_dependent_function
            passed, total = scores.get(name, {}).get(schema.name, (0, 0))
            cells += ["yes" if known else "body" if body else "no", f"{passed}/{total}" if total else ""]
        lines.append(f"| {schema.name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _schemas() -> list[onnx.defs.OpSchema]:
    newest: dict[str, onnx.defs.OpSchema] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        fits = schema.domain == "" and schema.since_version <= traits.IR_OPSET
        if fits and schema.since_version > getattr(newest.get(schema.name), "since_version", 0):
            newest[schema.name] = schema
    kept = [s for s in newest.values() if not s.deprecated and not _is_of_other_types(s)]
    return sorted(kept, key=lambda schema: schema.name)


def _is_of_other_types(schema: onnx.defs.OpSchema) -> bool:
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    values = [*schema.inputs, *schema.outputs]
    return any(all(t.startswith(_OTHER_TYPES) for t in allowed.get(v.type_str, [v.type_str])) for v in values)


def _scores(results: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    from dlbridge.conformance.cases import node_cases

    family = {case.name: case.family for case in node_cases()}
    total = Counter(family.get(r["name"], "composed") for r in results)
    passed = Counter(family.get(r["name"], "composed") for r in results if r["reason"] is None)
    return {op: (passed[op], count) for op, count in total.items()}


def _aten(*kinds: tuple[dict[str, Any], dict[str, list[str]]]) -> list[str]:
    """Of real tensors and of complex ones: (rules, which tests used them)."""
    import torch

    core = {
        f"aten.{name.removeprefix('aten::').partition('.')[0]}"
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("aten::") and _is_core(torch, name)
    }
    known = {(place, key) for place, (rules, _) in enumerate(kinds) for key in rules}
    names = sorted({".".join(key.split(".")[:2]) for _, key in known} | core)
    lines = [
        "## ATen ops",
        "",
        "The ops that PyTorch's reader has a rule for, and the rest of PyTorch's core opset. *decomposed*: read as the",
        "ops that PyTorch itself takes it apart into; *no*: refused, all in one error. The many ops beyond the core",
        "are decomposed too where PyTorch can, and refused by name where it cannot.",
        "",
        "| op | read | tested by |",
        "|---|---|---|",
    ]
    for name in names:
        keys = [(place, k) for place, k in known if k == name or k.startswith(f"{name}.")]
        tests = sorted({t for place, k in keys for t in kinds[place][1].get(k, [])})
        read = "yes" if keys else "decomposed" if _is_decomposed(torch, name) else "no"
        lines.append(f"| {name} | {read} | {_tests(tests)} |")
    return [*lines, ""]


def _is_decomposed(torch: Any, name: str) -> bool:
    packet, table = getattr(torch.ops.aten, name.removeprefix("aten.")), torch._decomp.core_aten_decompositions()
    composite = "CompositeImplicitAutograd"
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    return any(o in table or torch._C._dispatch_has_kernel_for_dispatch_key(o.name(), composite) for o in overloads)


def _is_core(torch: Any, name: str) -> bool:
    packet, _, overload = name.removeprefix("aten::").partition(".")
    op = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
    return op is not None and torch.Tag.core in op.tags


def _keras(kind: str, rules: dict[str, Any], used: dict[str, list[str]]) -> list[str]:
    import keras

    if kind == "layers":
        known = [n for n in dir(keras.layers) if isinstance(getattr(keras.layers, n), type)]
        missing, note = "opened", "A layer without a rule is opened: called on symbolic tensors, which records its ops."
    else:
        known = _operations(keras)
        missing, note = "no", "By the classes that record the functions of `keras.ops`; other functions call these."
    lines = [f"## keras.{kind}", "", note, "", f"| {kind[:-1]} | read | tested by |", "|---|---|---|"]
    for name in sorted({*known, *rules}):
        lines.append(f"| {name} | {'yes' if name in rules else missing} | {_tests(used.get(name, []))} |")
    return [*lines, ""]


def _operations(keras: Any) -> list[str]:
    """The classes of Keras' operations, which are where its functions are."""
    modules = [keras.src.ops.__dict__[n] for n in ("numpy", "nn", "core", "math", "linalg", "image")]
    return [
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, keras.Operation) and value.__module__ == module.__name__
    ]


def _tests(tests: Iterable[str]) -> str:
    """The test files, and how many tests of each."""
    files = Counter(test.partition("::")[0] for test in tests)
    return ", ".join(f"{file} ({count})" for file, count in sorted(files.items()))


if __name__ == "__main__":
    main()
