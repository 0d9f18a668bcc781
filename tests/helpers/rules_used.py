"""With ``DLBRIDGE_RULES_USED=rules.json``, which tests used which rule is written, for ``docs/coverage.md``.

Each worker writes a file of its own (``rules.gw0.json``).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

TARGET = os.environ.get("DLBRIDGE_RULES_USED")
_current = ""
_used: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))


def pytest_sessionstart(session: pytest.Session) -> None:
    if TARGET:
        from dlbridge.conformance.coverage import registries

        for registry, rules in registries().items():
            for key, rule in rules.items():
                rules[key] = _recording(registry, key, rule)


def _recording(registry, key, rule):
    name = ".".join(key).lstrip(".") if isinstance(key, tuple) else key
    function = rule if callable(rule) else rule.function

    @functools.wraps(function)
    def record(*arguments, **keywords):
        _used[registry][name].add(_current)
        return function(*arguments, **keywords)

    return record if callable(rule) else dataclasses.replace(rule, function=record)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    global _current
    _current = item.nodeid.partition("[")[0].removeprefix("tests/")
    return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if TARGET:
        found = {registry: {k: sorted(v) for k, v in rules.items()} for registry, rules in _used.items()}
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        Path(TARGET).with_suffix(f".{worker}.json").write_text(json.dumps(found, indent=1))
