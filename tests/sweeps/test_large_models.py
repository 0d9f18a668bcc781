"""A decoder of 12 GB (``DLBRIDGE_LARGE_GB``) from sharded safetensors to the files of each target, as a stream.

Takes as much room on disk twice. ``python -m pytest -m slow tests/sweeps/test_large_models.py -s``
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.helpers import large_model

#: MiB of anonymous memory that a conversion may take, frameworks and all.
MOST = 2048
#: The smallest room on disk that is to be left, in bytes.
ROOM = 10 * 10**9

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("large")
    gigabytes = float(os.environ.get("DLBRIDGE_LARGE_GB", "12"))
    if shutil.disk_usage(base).free < 2 * gigabytes * 1e9 + ROOM:
        pytest.skip(f"there is no room for twice {gigabytes} GB on disk")
    size = large_model.make(base / "decoder", gigabytes)
    print(f"\n{size / 1e9:.1f} GB in shards")
    yield base / "decoder"
    shutil.rmtree(base)


@pytest.mark.parametrize("framework", ["onnx", "pytorch", "keras", "nnx", "description"])
def test_a_large_model_is_converted_as_a_stream(framework, folder):
    out = folder.parent / f"out-{framework}"
    command = [sys.executable, "-m", "tests.helpers.large_model", str(folder), framework, str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        assert done.returncode == 0, done.stderr[-2000:]
        found = json.loads(done.stdout.strip().splitlines()[-1])
        written = sum(path.stat().st_size for path in out.rglob("*"))
        print(f"{framework}: {written / 1e9:.1f} GB written, {found}")
        assert written > 0.99 * sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        assert found["anonymous"] < MOST
    finally:
        shutil.rmtree(out, ignore_errors=True)
