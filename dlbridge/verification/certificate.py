"""The certificate: what a verification was asked, what it ran on, and what it found, as one JSON document.

``schemas/certificate.schema.json`` is made from the classes here. A certificate of something that can be found again (a
file, the name of a function) can be checked: the same verification is run, and what has changed is told.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import dlbridge
from dlbridge import frameworks
from dlbridge.errors import FileError
from dlbridge.json_types import finite
from dlbridge.model import Model
from dlbridge.ops.keys import op_key
from dlbridge.ops.strings import as_bytes, is_text
from dlbridge.verification.loss import Loss
from dlbridge.verification.report import Report
from dlbridge.verification.routes import devices_of

SCHEMA_FILE = "schemas/certificate.schema.json"
#: Packages whose versions matter beside those of the frameworks.
_PACKAGES = ("numpy", "onnx", "onnx-ir", "onnxruntime")
#: An error that is more than this many times the one before, and more than the bound's hundredth, has changed.
_CHANGED = 10.0


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Request(_Part):
    """What was asked, so that it can be asked again."""

    source: str | None = Field(None, description="The file, folder or name of the model; null for a live one.")
    others: list[str] = Field([], description="The other models that were compared.")
    to: str | None = Field(None, description="The framework that a conversion wrote; null of a verification.")
    read: dict[str, Any] = Field({}, description="The options of reading.")
    options: dict[str, Any] = Field({}, description="The options of the verification, or of writing.")


class Hashes(_Part):
    """SHA-256 of what was verified."""

    graph: str = Field(description="Of the nodes of the neutral form: ops, attributes, connections.")
    weights: str = Field(description="Of the names, types, shapes and numbers of the initializers.")
    inputs: list[str] = Field(description="Of each set of inputs, in order.")


class Hardware(_Part):
    """What it ran on."""

    machine: str
    system: str
    processors: int
    providers: list[str] = Field(description="Where the routes ran.")


class RouteResult(_Part):
    """What was found of one route."""

    passed: bool
    largest_error: float | None = Field(description="Relative to the row, channel or whole; null if it has none.")
    bound: float | None = Field(description="What is allowed there.")
    by_row: float | None = Field(None, description="The largest error relative to the largest number of its row.")
    ulps: float | None = Field(None, description="The largest error of a number that is not small, in units of it.")
    argmax: float | None = Field(None, description="The share of rows whose largest number is at the judge's place.")
    ties: int = Field(0, description="Rows whose two largest numbers are too near to tell which is the largest.")
    undecided: int = Field(0, description="Sets of inputs that show nothing, because rounding alone moves them as far.")


class Certificate(_Part):
    """What a verification has found."""

    version: Literal[1] = 1
    model: str
    passed: bool
    judge: str = Field(description="What the routes were compared with.")
    precision: str = Field(description="The types that the judge ran in.")
    request: Request
    hashes: Hashes
    versions: dict[str, str]
    hardware: Hardware
    routes: dict[str, RouteResult]
    checks: list[dict[str, Any]] = Field(description="Each route on each set of inputs.")
    pairs: list[dict[str, Any]] = Field(description="The largest difference between any two routes.")
    failures: dict[str, str] = Field(description="Route -> why it could not be built or run.")
    departures: dict[str, dict[str, Any]] = Field(description="Route -> where its numbers first depart.")
    left_out: dict[str, str] = Field(description="Route -> why it was not tried.")
    inputs_left_out: list[str] = Field(description="Inputs that were not tried, with the reason.")
    processing: dict[str, Any] | None = Field(
        None, description="The certificate of what was written with its processing, where it was."
    )
    loss: Loss | None = Field(
        None,
        description="What was lost by less precision, where that was asked for: all else is of the model before.",
    )
    training: list[dict[str, Any]] = Field([], description="Gradients and steps of training, if they were compared.")
    coverage: dict[str, Any] | None = Field(description="What the inputs have reached.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of certificates."""
    schema = Certificate.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def certify(report: Report, request: Request | None = None) -> dict[str, Any]:
    """The certificate of a report, as JSON types.

    Args:
        report: The report of a verification.
        request: What was asked.
    """
    found, model, cases = report.to_json(), report.subject, report.cases
    assert model is not None
    del found["hint"]  # what to do now is no part of what was found
    certificate = Certificate(
        request=request or Request(),
        hashes=Hashes(graph=hash_graph(model), weights=hash_weights(model), inputs=[hash_arrays(c) for c in cases]),
        versions=versions(),
        hardware=Hardware(
            machine=platform.machine(),
            system=platform.platform(),
            processors=os.cpu_count() or 1,
            providers=devices_of({check.route for check in report.checks}),
        ),
        routes=_routes(report),
        **found,
    )
    # NaN and infinities are no JSON
    cleaned: dict[str, Any] = finite(certificate.model_dump(mode="python"))
    return cleaned


def _routes(report: Report) -> dict[str, RouteResult]:
    found = {}
    for route, worst in report.worst().items():
        checks = [c for c in report.checks if c.route == route]
        figures = [f for c in checks for f in c.figures.values()]
        found[route] = RouteResult(
            passed=all(c.passed for c in checks if c.decided),
            largest_error=max(worst.errors.values(), default=None),
            bound=worst.bound,
            by_row=max((f.by_row for f in figures if f.by_row is not None), default=None),
            ulps=max((f.ulps for f in figures if f.ulps is not None), default=None),
            argmax=min((f.argmax for f in figures if f.argmax is not None), default=None),
            ties=sum(f.ties for f in figures),
            undecided=sum(not c.decided for c in checks),
        )
    return found


def versions() -> dict[str, str]:
    """The versions of Python, dlbridge, and the packages that took part."""
    found = {"python": platform.python_version(), "dlbridge": dlbridge.__version__}
    packages = [*_PACKAGES, *(p for framework in frameworks.all_frameworks() for p in framework.packages)]
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# --- hashes -----------------------------------------------------------------------------------------------------------


def hash_graph(model: Model) -> str:
    """SHA-256 of the nodes: ops, attributes, connections, and the signature."""
    digest = hashlib.sha256()
    for value in (*model.inputs, *model.outputs):
        digest.update(f"{value.name} {value.dtype} {value.shape}\n".encode())
    for node in model.graph.all_nodes():
        attributes = "".join(f" {name}={_said(a)}" for name, a in sorted(node.attributes.items()))
        inputs = ",".join((v.name or "") if v is not None else "" for v in node.inputs)
        outputs = ",".join(v.name or "" for v in node.outputs)
        digest.update(f"{op_key(node)} {inputs} {outputs}{attributes}\n".encode())
    return digest.hexdigest()


def _said(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        return hash_arrays({"": attribute.as_tensor().numpy()})
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        return "graph"  # its nodes are among all nodes
    return repr(attribute.value)


def hash_weights(model: Model) -> str:
    """SHA-256 of the weights and constants: names, types, shapes, numbers. They are read one at a time."""
    values = sorted(model.graph.initializers.values(), key=lambda value: value.name or "")
    pairs = ((v.name or "", v.const_value.numpy()) for v in values if v.const_value is not None)
    return _hash(pairs)


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays by name."""
    return _hash(sorted(arrays.items()))


def _hash(pairs: Iterable[tuple[str, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for name, array in pairs:
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        if is_text(array):
            digest.update(as_bytes(array))
        elif array.size:
            digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


# --- checking ---------------------------------------------------------------------------------------------------------


def read(path: str | os.PathLike[str]) -> Certificate:
    """A certificate from its file.

    Raises:
        FileError: When there is none, or it is no certificate.
    """
    try:
        return Certificate.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise FileError(f"it cannot be read: {error.strerror}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        why = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].lower())))
        raise FileError(f"it is no certificate: {why}", where=str(path)) from None


def changes(before: Certificate, now: Certificate) -> list[str]:
    """What has changed between two certificates of the same request, as sentences; the gravest first."""
    found = []
    if before.passed != now.passed:
        found.append(f"the verdict: it {_verdict(before.passed)}, and {_verdict(now.passed)} now")
    for route in sorted(before.routes.keys() | now.routes.keys()):
        old, new = before.routes.get(route), now.routes.get(route)
        if old is None or new is None:
            found.append(f"{route}: it was {'not ' if old is None else ''}compared, and is {'' if new else 'not '}now")
        elif old.passed != new.passed:
            found.append(f"{route}: it {_verdict(old.passed)}, and {_verdict(new.passed)} now")
        elif _grew(old, new):
            found.append(f"{route}: its largest error was {old.largest_error:.1e}, and is {new.largest_error:.1e}")
    if before.hashes.graph != now.hashes.graph:
        found.append("the graph of the model is another one")
    if before.hashes.weights != now.hashes.weights:
        found.append("the weights of the model are others")
    if before.hashes.inputs != now.hashes.inputs:
        found.append("the inputs are others")
    for package in sorted(before.versions.keys() | now.versions.keys()):
        old_version, new_version = before.versions.get(package, "not there"), now.versions.get(package, "not there")
        if old_version != new_version:
            found.append(f"{package} was {old_version}, and is {new_version}")
    for name in Hardware.model_fields:
        one, other = getattr(before.hardware, name), getattr(now.hardware, name)
        if one != other:
            found.append(f"{name} was {one}, and is {other}")
    return found


def _verdict(passed: bool) -> str:
    return "agrees" if passed else "departs"


def _grew(old: RouteResult, new: RouteResult) -> bool:
    if old.largest_error is None or new.largest_error is None:
        return old.largest_error != new.largest_error
    return new.largest_error > _CHANGED * old.largest_error and new.largest_error > (new.bound or 0.0) / 100


def dumps(certificate: Mapping[str, Any]) -> str:
    """A certificate as the text of its file."""
    return json.dumps(certificate, indent=2) + "\n"
