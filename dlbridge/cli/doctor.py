"""``dlbridge doctor``: says what is installed here, and what can be done with it."""

from __future__ import annotations

import re
from typing import Any

import click

from dlbridge import __version__
from dlbridge.cli.common import EXPLAINED, json_option, print_json, quiet_frameworks
from dlbridge.frameworks import Framework, all_frameworks

#: What no installation goes without.
_CORE = ("numpy", "onnx", "onnx-ir", "onnxruntime", "safetensors", "pydantic", "PyYAML", "click", "rich")


@click.command(short_help="Say what is installed, and what works with it.")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Say which frameworks, extras and execution providers are installed and work: each framework is imported.

    Exits with 1 when something that is installed does not work."""
    quiet_frameworks()
    found = examine()
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["troubles"]:
        ctx.exit(EXPLAINED)


def examine() -> dict[str, Any]:
    """What is installed here, as JSON types."""
    import platform

    rows = [_framework(framework) for framework in all_frameworks()]
    core = {name: _version(name) for name in _CORE}
    providers = _providers()
    troubles = [f"{name} is not installed" for name, number in core.items() if number is None]
    troubles += [f"{row['name']}: {row['trouble']}" for row in rows if row["trouble"]]
    return {
        "dlbridge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "core": core,
        "frameworks": rows,
        "extras": _extras(),
        "providers": providers,
        "troubles": troubles,
    }


def _framework(framework: Framework) -> dict[str, Any]:
    """A framework: the versions of its packages, and what is wrong where importing them fails."""
    versions = {package: _version(package) for package in framework.packages}
    trouble = None
    if framework.is_installed:
        missing = [package for package, number in versions.items() if number is None]
        if missing:
            trouble = f"{', '.join(missing)} is not installed beside it"
        else:
            trouble = _failure(framework)
    return {
        "name": framework.name,
        "installed": framework.is_installed,
        "works": framework.is_installed and trouble is None,
        "versions": versions,
        "reads": framework.reads,
        "trains": framework.trains is not None,
        "install": f"pip install 'dlbridge[{framework.extra}]'" if framework.extra else None,
        "trouble": trouble,
    }


def _failure(framework: Framework) -> str | None:
    """Why a framework cannot be imported; None where it can."""
    try:
        framework.import_packages()
    except Exception as error:  # a broken installation raises nearly anything
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        return f"importing it fails: {type(error).__name__}: {reason}"
    return None


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _extras() -> dict[str, list[str]]:
    """Extra of dlbridge -> the packages of it that are not installed."""
    from importlib.metadata import PackageNotFoundError, requires

    found: dict[str, list[str]] = {}
    try:
        declared = requires("dlbridge") or []
    except PackageNotFoundError:  # it is run from its sources
        return found
    for text in declared:
        requirement, _, marker = text.partition(";")
        extra = re.search(r"extra == [\"']([^\"']+)", marker)
        if extra is None:
            continue
        package = _package(requirement)
        missing = found.setdefault(extra[1], [])
        if package != "dlbridge" and _version(package) is None:
            missing.append(package)
    return found


def _package(requirement: str) -> str:
    """``ray`` of ``ray[data,serve]>=2.50``."""
    match = re.match(r"[\w.-]+", requirement)
    return match[0] if match else requirement


def _providers() -> list[str]:
    """The execution providers of onnxruntime here."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def _print(found: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(f"dlbridge {found['dlbridge']}, Python {found['python']}, {found['platform']}", markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("framework", "works", "versions", "what to do"):
        table.add_column(column)
    for row in found["frameworks"]:
        versions = ", ".join(f"{name} {number}" for name, number in row["versions"].items() if number)
        works = "no" if row["installed"] else "not installed"
        works = "yes" if row["works"] else works
        to_do = row["trouble"] or ("" if row["installed"] else row["install"] or "")
        table.add_row(*(escape(cell) for cell in (row["name"], works, versions, to_do)))
    console.print(table)
    core = [f"{name} {number or 'missing'}" for name, number in found["core"].items()]
    console.print(f"core: {', '.join(core)}", markup=False)
    console.print(f"providers of onnxruntime: {', '.join(found['providers'])}", markup=False)
    for extra, missing in found["extras"].items():
        if missing:
            console.print(f"extra '{extra}' lacks: {', '.join(missing)}", markup=False)
    for trouble in found["troubles"]:
        console.print(f"trouble: {trouble}", markup=False)
