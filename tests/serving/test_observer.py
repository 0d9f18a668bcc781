"""What the server tells of requests: lines in its log, traces for OpenTelemetry."""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import numpy as np
import pytest

from dlbridge.repository import messages
from dlbridge.serving.logs import JsonFormatter, TextFormatter
from tests.helpers.serving import start, write_entry

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}


def over_grpc(server, **metadata):
    request = messages.ModelInferRequest(model_name="double", id="from-grpc")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    request.raw_input_contents.append(np.ones(3, np.float32).tobytes())
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            messages.ModelInferRequest.SerializeToString,
            messages.ModelInferResponse.FromString,
        )
        return call(request, metadata=tuple(metadata.items()))


@pytest.fixture
def repository(tmp_path):
    write_entry(tmp_path / "repository", "double")
    return tmp_path / "repository"


def test_a_line_of_json_for_each_request(repository, tmp_path):
    log = tmp_path / "log"
    server = start(repository, "--log-requests", "--log-format", "json", log=log)
    _, _, headers = server.ask("POST", "/v2/models/double/infer", {"inputs": [X]}, X_Request_Id="mine")
    server.ask("POST", "/v2/models/double/infer", {"inputs": [X], "id": "in-the-body"})
    server.ask("POST", "/v2/models/double/infer", {"inputs": []})
    server.ask("POST", "/v2/models/absent/infer", {"inputs": [X]})
    over_grpc(server)
    server.stop()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [line for line in lines if line["message"] == "request"]
    assert headers["x-request-id"] == "mine"
    assert [line["id"] for line in told[:2]] == ["mine", "in-the-body"] and told[4]["id"] == "from-grpc"
    assert [line["protocol"] for line in told] == ["http"] * 4 + ["grpc"]
    assert [line["status"] for line in told] == ["OK", "OK", "INVALID", "NOT_FOUND", "OK"]
    assert "no tensor came" in told[2]["error"] and told[2]["level"] == "WARNING"
    for line in (told[0], told[4]):
        assert line["version"] == "1" and 0 <= line["queue_ms"] <= line["total_ms"]
        assert 0 < line["run_ms"] <= line["total_ms"]


def test_requests_have_no_lines_where_they_are_not_asked_for(repository, tmp_path):
    log = tmp_path / "log"
    server = start(repository, log=log)
    server.infer("double", [[1, 2, 3]])
    server.stop()
    assert "request" not in log.read_text() and "loaded double" in log.read_text()


class Collector(BaseHTTPRequestHandler):
    """Takes traces as OpenTelemetry's collector does."""

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *line):
        pass


@pytest.fixture
def collector():
    found = HTTPServer(("127.0.0.1", 0), Collector)
    found.bodies = []
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def test_traces_go_where_opentelemetry_is_told(repository, collector):
    trace = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    server = start(repository, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_SERVICE_NAME="digits")
    server.ask("POST", "/v2/models/double/infer", {"inputs": [X]}, traceparent=PARENT)
    server.ask("POST", "/v2/models/double/infer", {"inputs": []})
    over_grpc(server, traceparent=PARENT)
    server.stop()
    sent = [trace.ExportTraceServiceRequest.FromString(body) for body in collector.bodies]
    resources = [resource for request in sent for resource in request.resource_spans]
    names = {a.value.string_value for r in resources for a in r.resource.attributes if a.key == "service.name"}
    assert names == {"digits"}
    spans = [span for r in resources for scope in r.scope_spans for span in scope.spans]
    requests = [span for span in spans if span.name == "infer double"]
    assert [span.trace_id.hex() == TRACE for span in requests] == [True, False, True]
    assert [span.status.code for span in requests] == [0, 2, 0]
    whole = requests[0]
    parts = {span.name: span for span in spans if span.parent_span_id == whole.span_id}
    queue, run = parts["queue"], parts["run"]
    times = [
        whole.start_time_unix_nano,
        queue.start_time_unix_nano,
        queue.end_time_unix_nano,
        run.end_time_unix_nano,
        whole.end_time_unix_nano,
    ]
    assert times == sorted(times) and run.start_time_unix_nano == queue.end_time_unix_nano


FORGED = 'a\nERROR forged "x" status=OK'
RECORD = logging.makeLogRecord({"msg": "request", "fields": {"id": FORGED, "status": "INVALID"}})


def test_a_line_for_people_stays_one_line_whatever_a_client_sends():
    assert TextFormatter().format(RECORD).endswith(f"request id={json.dumps(FORGED)} status=INVALID")


def test_a_line_for_machines_stays_one_line_whatever_a_client_sends():
    line = JsonFormatter().format(RECORD)
    assert "\n" not in line and json.loads(line)["id"] == FORGED
