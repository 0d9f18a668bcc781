"""What all tests share: which are run by default, and which frameworks each needs.

``pytest -m "not keras"`` runs what needs no Keras. Where a framework is not installed, tests that need it are skipped.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Generator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.frameworks_needed import PACKAGES, frameworks_needed, missing
from tests.helpers.paths import TESTS

pytest_plugins = ["tests.helpers.rules_used"]

# As the command line does: TensorFlow turns oneDNN, and with it channels-first convolution, on by itself on some
# CPUs only.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# The suite decides what lands, so chance has no part in it: Hypothesis tries the same examples in every run
# (``--hypothesis-profile=default`` tries others), and takes its time on a machine that has other work.
settings.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

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


def _seed() -> None:
    """Seed whatever draws weights and inputs: numbers that float32 rounds differ by the same amount in every run."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _seed()
    for framework in PACKAGES:
        if item.get_closest_marker(framework) and missing(framework):
            pytest.skip(f"needs {framework}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, pytest.CollectReport, object]:
    """Skip a file of tests that imports a framework which is not installed; what a file makes on import is seeded."""
    _seed()
    report = yield
    if report.failed:
        for framework in filter(missing, PACKAGES):
            if any(f"No module named '{package}'" in report.longreprtext for package in PACKAGES[framework]):
                report.outcome = "skipped"
                report.longrepr = (str(collector.path), 0, f"Skipped: needs {framework}")
    return report
