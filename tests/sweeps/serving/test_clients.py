"""NVIDIA's own clients, unmodified, in an environment of their own (``make serving``)."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.helpers.paths import ROOT
from tests.helpers.serving import start, write_entry

pytestmark = pytest.mark.slow
CLIENT = Path(os.environ.get("DLBRIDGE_TRITON_PYTHON", ROOT / ".venv-triton" / "bin" / "python"))


def test_tritonclient(tmp_path):
    if not CLIENT.exists():
        pytest.skip(f"no tritonclient at {CLIENT}: make serving")
    write_entry(tmp_path, "double")
    write_entry(tmp_path, "slow", "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 200000 }")
    write_entry(tmp_path, "batched", "max_batch_size: 8 dynamic_batching { max_queue_delay_microseconds: 20000 }")
    running = start(tmp_path)
    script = Path(__file__).with_name("triton_client.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [CLIENT, script, str(running.port), str(running.grpc_port)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert running.stop() == 0
    assert done.returncode == 0 and "all passed" in done.stdout, done.stderr
