"""Where the files of this repository are that tests read."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
EXAMPLES = ROOT / "examples"
#: The example models, in the order of their names.
EXAMPLE_FILES = sorted(EXAMPLES.glob("*.yaml"))
#: What is printed for models, and ledgers of what is refused.
GOLDEN = TESTS / "golden"
