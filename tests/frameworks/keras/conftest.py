"""The weights of Keras' models are the same in every run of a test."""

import pytest


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed what Keras, numpy and Python draw, so that no comparison fails by chance."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
