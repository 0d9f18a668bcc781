"""The Open Inference Protocol over HTTP."""

import gzip
import json
import zlib

import numpy as np
import pytest


def test_what_the_server_says_of_itself(server):
    assert server.ask("GET", "/v2/health/live")[0] == 200
    assert server.ask("GET", "/v2/health/ready")[0] == 200
    status, found, _ = server.ask("GET", "/v2")
    assert status == 200 and found["name"] == "dlbridge" and "binary_tensor_data" in found["extensions"]


def test_what_it_says_of_a_model(server):
    found = server.ask("GET", "/v2/models/rows/versions/1")[1]
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert server.ask("GET", "/v2/models/rows/config")[1]["max_batch_size"] == 4
    assert server.ask("GET", "/v2/models/rows/ready")[0] == 200
    rows = server.ask("POST", "/v2/repository/index")[1]
    assert {(row["name"], row["state"]) for row in rows} >= {("rows", "READY"), ("double", "READY")}


def test_inference_with_json(server):
    status, found, _ = server.infer("double", [[1, 2, 3]])
    assert status == 200
    assert found["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [2.0, 4.0, 6.0]}]


def test_nested_json_and_an_id(server):
    entry = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [[1, 2, 3], [4, 5, 6.5]]}
    found = server.ask("POST", "/v2/models/double/versions/1/infer", {"inputs": [entry], "id": "mine"})[1]
    assert found["id"] == "mine" and found["outputs"][0]["data"][-1] == 13.0


def binary(x: np.ndarray, **output) -> tuple[bytes, str]:
    entry = {"name": "x", "shape": x.shape, "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    outputs = [{"name": "y", "parameters": {"binary_data": True, **output}}]
    header = json.dumps({"inputs": [entry], "outputs": outputs}).encode()
    return header + x.tobytes(), str(len(header))


@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_binary_data(server, encoding):
    x = np.random.default_rng(0).standard_normal((300, 3), np.float32)
    body, length = binary(x)
    headers = {"Inference_Header_Content_Length": length}
    if encoding is not None:
        body = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](body)
        headers |= {"Content_Encoding": encoding, "Accept_Encoding": encoding}
    status, found, answer = server.ask("POST", "/v2/models/double/infer", body, **headers)
    assert status == 200, found
    if encoding is not None:
        assert answer["content-encoding"] == encoding
        found = zlib.decompress(found, zlib.MAX_WBITS | 32)
    size = int(answer["inference-header-content-length"])
    assert np.array_equal(np.frombuffer(found[size:], np.float32).reshape(x.shape), x * 2)


def test_classification(server):
    entry = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 3, 2]}
    outputs = [{"name": "y", "parameters": {"classification": 2}}]
    found = server.ask("POST", "/v2/models/double/infer", {"inputs": [entry], "outputs": outputs})[1]
    assert found["outputs"][0]["data"] == ["6.000000:1", "4.000000:2"]


ENTRY = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
#: Body of a request to ``rows`` -> (status, a word of the message).
WRONG = [
    (b"", 400, "no JSON"),
    (b"[1]", 400, "no JSON object"),
    ({}, 400, "no list of inputs"),
    ({"inputs": [1]}, 400, "no JSON object"),
    ({"inputs": []}, 400, "no tensor came"),
    ({"inputs": [{**ENTRY, "name": "z"}]}, 400, "no tensor came"),
    ({"inputs": [ENTRY, {**ENTRY, "name": "z"}]}, 400, "no input 'z'"),
    ({"inputs": [ENTRY, ENTRY]}, 400, "twice"),
    ({"inputs": [{**ENTRY, "datatype": "FP99"}]}, 400, "no datatype"),
    ({"inputs": [{**ENTRY, "datatype": "FP64"}]}, 400, "takes FP32"),
    ({"inputs": [{**ENTRY, "shape": [1, 4]}]}, 400, "wants 4 elements"),
    ({"inputs": [{**ENTRY, "shape": [3, 1]}]}, 400, "takes the shape"),
    ({"inputs": [{**ENTRY, "shape": [-1, -3]}]}, 400, "no shape"),
    ({"inputs": [{**ENTRY, "shape": [True, 3]}]}, 400, "no shape"),
    ({"inputs": [{**ENTRY, "shape": [1 << 39, 3]}]}, 400, "wants"),
    ({"inputs": [{**ENTRY, "shape": [0, 3], "data": []}]}, 400, "0 rows"),
    ({"inputs": [{**ENTRY, "data": ["a", "b", "c"]}]}, 400, "not FP32"),
    ({"inputs": [{**ENTRY, "data": [[1, 2], [3]]}]}, 400, "no tensor"),
    ({"inputs": [{**ENTRY, "data": [1, 2, {}]}]}, 400, "not FP32"),
    ({"inputs": [{**ENTRY, "parameters": {"binary_data_size": 12}}]}, 400, "not in the body"),
    ({"inputs": [ENTRY], "outputs": [{"name": "q"}]}, 400, "no output 'q'"),
    ({"inputs": [ENTRY], "outputs": 3}, 400, "no list"),
    ({"inputs": [ENTRY], "id": 3}, 400, "no string"),
    ({"inputs": [ENTRY], "parameters": {"timeout": -1}}, 400, "timeout"),
    ({"inputs": [{**ENTRY, "shape": [5, 3], "data": [0] * 15}]}, 400, "from 1 to 4"),
]


@pytest.mark.parametrize(("body", "status", "word"), WRONG)
def test_what_is_wrong_with_a_request_is_said(server, body, status, word):
    found = server.ask("POST", "/v2/models/rows/infer", body)
    assert found[0] == status and word in found[1]["error"], found


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nope/infer", 404),
        ("POST", "/v2/models/rows/versions/7/infer", 404),
        ("POST", "/v2/models/rows/versions/x/infer", 404),
        ("POST", "/infer", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/..%2f..%2fetc", 404),
        ("GET", "/nowhere", 404),
        ("DELETE", "/v2/models/rows", 405),
        ("POST", "/v2/repository/models/nope/load", 404),
        ("POST", "/v2/repository/models/..%2F..%2Fetc/load", 404),
    ],
)
def test_what_is_not_there(server, method, path, status):
    found = server.ask(method, path, {"inputs": [ENTRY]} if method == "POST" and path.endswith("infer") else None)
    assert found[0] == status and found[1]["error"], found


@pytest.mark.parametrize("length", ["-1", "x", "9999999", "9" * 5000])
def test_a_header_length_that_is_none(server, length):
    status, found, _ = server.ask(
        "POST", "/v2/models/rows/infer", {"inputs": [ENTRY]}, Inference_Header_Content_Length=length
    )
    assert status == 400 and "inference-header-content-length" in found["error"]


def test_a_compressed_body_is_bounded(server):
    body = gzip.compress(b" " * (300 << 20), 1)
    status, found, _ = server.ask("POST", "/v2/models/rows/infer", body, Content_Encoding="gzip")
    assert status == 413, found


def test_metrics_count_what_was_asked(server):
    server.infer("double", [[1, 2, 3]])
    text = server.ask("GET", "/metrics")[1].decode()
    lines = [line for line in text.splitlines() if line.startswith("nv_inference_request_success_total")]
    assert any('model="double"' in line and float(line.split()[-1]) >= 1 for line in lines), text
    found = server.ask("GET", "/v2/models/double/stats")[1]["model_stats"][0]
    assert found["inference_stats"]["success"]["count"] >= 1
