"""Spans, as a real OTLP/HTTP receiver gets them."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from .conftest import Plane, wait_for

pytestmark = pytest.mark.slow

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes what exporters send; `spans` are the protocol's own messages."""

    def __init__(self) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        self.spans: list[Any] = []
        self.services: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for attribute in group.resource.attributes:
                        if attribute.key == "service.name":
                            collector.services.add(attribute.value.string_value)
                    for scope in group.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """The tests' output is for failures."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_a_request_is_a_span_within_its_callers_trace(
    served: Plane, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    served.publish(served.model("1", weights=(float("inf"), 0.0)))
    served.start()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    path, body = "/v1/models/m:predict", {"instances": [[1, 2], [3, 4]], "id": "traced"}
    assert served.client.post(path, json=body, headers=headers).is_success
    failing = {"instances": [[0, 2]], "id": "spoilt"}  # 0 * inf is no number
    assert served.client.post(path, json=failing).status_code == 500
    wait_for(lambda: len(collector.spans) == 2, "the spans")
    spans = {_attributes(span)["homeostat.id"]: span for span in collector.spans}
    span = spans["traced"]
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.name == "infer m"
    assert _attributes(span) | {"homeostat.rows": 2} == {
        "homeostat.model": "m",
        "homeostat.version": "1",
        "homeostat.arm": "champion",
        "homeostat.id": "traced",
        "homeostat.rows": 2,
    }
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 5e9
    assert spans["spoilt"].status.code == 2
    assert "no number" in spans["spoilt"].status.message
    assert spans["spoilt"].parent_span_id == b""
    assert collector.services == {"homeostat"}


def test_a_collector_that_is_away_costs_no_answer_and_no_drain(
    served: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    served.publish(served.model("1"))
    served.start()
    assert served.server is not None
    process = served.server._children[0].process
    assert all(served.predict([1, 2]).is_success for _ in range(20))
    served.stop()
    assert process is not None
    assert process.returncode == 0


def test_without_a_collector_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys, homeostat.serving.worker as w; assert w.traces() is None;"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"[]"


def _attributes(span: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
