"""What schemathesis makes of the OpenAPI description: no answer that the description does not know, and no 500."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.helpers.paths import ROOT
from tests.helpers.serving import start, write_entry

pytestmark = pytest.mark.slow
SCHEMATHESIS = Path(os.environ.get("DLBRIDGE_SCHEMATHESIS", ROOT / ".venv-triton" / "bin" / "st"))
#: Requests that it makes up for each operation.
EXAMPLES = os.environ.get("DLBRIDGE_SCHEMATHESIS_EXAMPLES", "100")


def test_the_openapi_description(tmp_path):
    if not SCHEMATHESIS.exists():
        pytest.skip(f"no schemathesis at {SCHEMATHESIS}: make serving")
    write_entry(tmp_path, "double")
    write_entry(tmp_path, "batched", "max_batch_size: 8 dynamic_batching { }")
    running = start(tmp_path)
    command = [SCHEMATHESIS, "run", f"http://127.0.0.1:{running.port}/openapi.json", "--max-examples", EXAMPLES]
    # bytes that fit the description of a body (any) need be no request; and what is unloaded is not there afterwards
    command += ["--phases", "coverage,fuzzing", "--exclude-checks", "positive_data_acceptance", "--continue-on-failure"]
    command += ["--exclude-path-regex", "/v2/repository/models/"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path, timeout=900
        )
        lives = running.infer("double", [[1, 2, 3]])[0] == 200
    finally:
        running.stop()
    print(done.stdout[-3000:])
    assert lives and done.returncode == 0
