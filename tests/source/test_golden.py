"""What is printed for the examples. A change in tests/golden/ is reviewed like code.

``DLBRIDGE_UPDATE_GOLDEN=1 pytest tests/source -k golden`` writes the files anew.
"""

import pytest

import dlbridge
from tests.helpers.golden import FRAMEWORKS, assert_golden
from tests.helpers.paths import EXAMPLE_FILES, GOLDEN


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("example", EXAMPLE_FILES, ids=lambda p: p.stem)
def test_printed_source_is_the_golden_one(example, framework):
    assert_golden(dlbridge.load(example).write(framework).text, f"{example.stem}.{framework}.py")


@pytest.mark.pytorch
def test_golden_files_are_of_models_that_exist():
    pytest.importorskip("transformers")
    from tests.helpers.decoders import DECODERS
    from tests.helpers.golden_models import MODELS

    names = [*(e.stem for e in EXAMPLE_FILES), *MODELS]
    known = {f"{name}.{framework}" for name in names for framework in FRAMEWORKS}
    known |= {f"{name}.{framework}" for name in DECODERS for framework in ("pytorch", "keras")}
    assert {p.stem for p in GOLDEN.glob("*.py")} == known
