"""A server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("grpc")

from tests.helpers.serving import Running, start, write_entry

BATCHED = "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 20000 }"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the models ``double`` (as it is), ``batched`` and ``rows`` (at most 4 rows)."""
    repository = tmp_path_factory.mktemp("repository")
    write_entry(repository, "double")
    write_entry(repository, "batched", BATCHED)
    write_entry(repository, "rows", "max_batch_size: 4")
    running = start(repository)
    yield running
    running.stop()
