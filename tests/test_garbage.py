"""The garbage collector's settings during a conversion, and after it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

import dlbridge
from dlbridge.errors import FileError
from dlbridge.frameworks import protocol
from dlbridge.garbage import fewer_searches
from tests.helpers.paths import EXAMPLES

DESCRIPTION = EXAMPLES / "mlp_784.yaml"


@pytest.fixture(autouse=True)
def usual_threshold() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """The thresholds at which frameworks are told to write."""
    seen = []
    write = protocol.Framework.write

    def spied(self: protocol.Framework, *args: object, **options: object) -> object:
        seen.append(gc.get_threshold())
        return write(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(protocol.Framework, "write", spied)
    return seen


def test_a_conversion_searches_less_often_and_leaves_the_setting_as_it_was(during: list[tuple[int, int, int]]) -> None:
    dlbridge.convert(DESCRIPTION, "onnx")
    assert during and all(first > 700 and rest == [10, 10] for first, *rest in during)
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("own", [(0, 10, 10), (50_000, 5, 5)])
def test_what_the_user_has_set_stays(own: tuple[int, int, int], during: list[tuple[int, int, int]]) -> None:
    gc.set_threshold(*own)
    dlbridge.load(DESCRIPTION).write("onnx")
    assert during == [own]


def test_what_another_thread_sets_meanwhile_stays() -> None:
    with fewer_searches():
        gc.set_threshold(900, 10, 10)
    assert gc.get_threshold()[0] == 900


def test_the_collector_stays_on() -> None:
    with fewer_searches(), fewer_searches():
        assert gc.isenabled() and gc.get_threshold()[0] > 0


def test_an_error_leaves_the_setting_as_it_was() -> None:
    with pytest.raises(FileError):
        dlbridge.load("missing.onnx")
    assert gc.get_threshold() == (700, 10, 10)
