"""What a server says that cannot start, or has nothing to serve."""

import socket
import subprocess
import sys

import pytest

from dlbridge.errors import DlbridgeError
from dlbridge.serving import Settings
from tests.helpers.serving import affine


@pytest.mark.parametrize("token", ["", "  ", "one\ntwo"])
def test_a_token_that_nobody_has_to_know_is_refused(token):
    with pytest.raises(DlbridgeError, match="empty, or has more"):
        Settings(token=token).check()


def test_a_certificate_that_is_none_is_told_before_anything_is_loaded(tmp_path):
    file = tmp_path / "cert.pem"
    file.write_text("no certificate")
    with pytest.raises(DlbridgeError, match="no TLS certificate"):
        Settings(certificate=file, key=file).check()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_port_in_use_is_told(tmp_path, protocol):
    file = affine(tmp_path / "model.onnx")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"http": "0", "grpc": "0", protocol: str(taken.getsockname()[1])}
        command = [sys.executable, "-m", "dlbridge", "serve", str(file)]
        options = ["--http-port", ports["http"], "--grpc-port", ports["grpc"]]
        found = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60)
    assert found.returncode == 1 and "is the port in use?" in found.stderr and "Traceback" not in found.stderr


def test_a_token_file_that_is_no_text_is_told(tmp_path):
    file, token = affine(tmp_path / "model.onnx"), tmp_path / "token"
    token.write_bytes(b"\xff\xfe")
    command = [sys.executable, "-m", "dlbridge", "serve", str(file), "--token-file", str(token)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 1 and "it holds no token" in found.stderr
