"""A slice of ``make hostile``: requests, configurations and repositories that were made to do harm."""

import pytest

from tests.helpers import serving_fuzz

COUNTS = {"http": 1000, "grpc": 1000, "image": 500, "config": 400, "repository": 150}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "count"), COUNTS.items())
def test_what_is_hostile_is_taken_or_refused_in_words(kind, count, tmp_path):
    serving_fuzz.watch()
    folder = serving_fuzz.folder_for(tmp_path)
    served = serving_fuzz.Served(folder / "model")
    outcomes = set()
    for number in range(count):
        outcome, wrong = serving_fuzz.tried(kind, number, 0, folder, served)
        assert wrong is None, f"{kind} {number}: {wrong}"
        outcomes.add(outcome)
    assert kind == "repository" or outcomes == {"taken", "refused"}
