"""What all tests share: which are run by default, and which frameworks each needs.

``pytest -m "not keras"`` runs what needs no Keras. Where a framework is not installed, tests that need it are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from tests.helpers.frameworks_needed import PACKAGES, frameworks_needed, missing
from tests.helpers.paths import TESTS

pytest_plugins = ["tests.helpers.rules_used"]

# As the command line does: TensorFlow turns oneDNN, and with it channels-first convolution, on by itself on some
# CPUs only.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

#: Marks of tests that are run only where ``-m`` names them.
ASKED_FOR = ("slow", "gpu")

#: Folders and files whose tests are marked ``quick``: chosen by their time, so that something of every part is among
#: them and ``make quick`` takes less than two minutes on two cores.
QUICK = (
    *("cli/test_cli.py", "description/test_bad_descriptions.py", "ops/test_attributes.py", "ops/test_initializers.py"),
    *("passes", "runtime/test_runtime.py", "source/test_concats.py", "source/test_golden.py", "source/test_loops.py"),
    *("source/test_source.py", "test_constraints.py", "training/test_targets.py"),
    *("frameworks/keras/test_compat.py", "frameworks/keras/test_reader.py", "frameworks/keras/test_reads_code.py"),
    *("frameworks/keras/test_reads_files.py", "frameworks/keras/test_reads_layers.py"),
    *("frameworks/onnx/test_entry.py", "frameworks/onnx/test_writer.py", "frameworks/test_partial.py"),
    *("frameworks/pytorch/test_compat.py", "frameworks/pytorch/test_reader.py", "frameworks/pytorch/test_writer.py"),
    *("verification/test_inputs.py", "verification/test_measure.py"),
)


def pytest_configure(config: pytest.Config) -> None:
    for mark in ASKED_FOR:
        chosen = config.option.markexpr
        if mark not in chosen:
            config.option.markexpr = f"({chosen}) and not {mark}" if chosen else f"not {mark}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    quick = [TESTS / name for name in QUICK]
    for item in items:
        if any(path in (item.path, *item.path.parents) for path in quick):
            item.add_marker("quick")
        if isinstance(item, pytest.Function):
            for framework in frameworks_needed(item):
                item.add_marker(framework)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for framework in PACKAGES:
        if item.get_closest_marker(framework) and missing(framework):
            pytest.skip(f"needs {framework}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, object]:
    """Skip a file of tests that imports a framework which is not installed."""
    report = yield
    if report.failed:
        for framework in filter(missing, PACKAGES):
            if any(f"No module named '{package}'" in report.longreprtext for package in PACKAGES[framework]):
                report.outcome = "skipped"
                report.longrepr = (str(collector.path), 0, f"Skipped: needs {framework}")
    return report
