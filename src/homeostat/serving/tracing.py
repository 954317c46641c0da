"""OpenTelemetry spans of the requests that were computed, when a collector is configured.

The standard variables decide (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, ...). Spans are
made after the answer has left, and sent by a thread of the SDK's from a bounded queue.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from homeostat.core.errors import BadInput
from homeostat.serving.jobs import Job

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PATIENCE = 2.0
"""Seconds that the last spans have to be sent when the worker ends."""


def traces() -> Traces | None:
    """None unless a collector is named. Raises BadInput when its library is not installed."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return None
    return Traces()


class Traces:
    """Spans of requests: server spans within the caller's trace (W3C `traceparent`), or roots."""

    def __init__(self) -> None:
        """Raises BadInput."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace import SpanKind, Status, StatusCode
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise BadInput(
                f"{ENDPOINTS[0]} is set, and traces need the OpenTelemetry SDK",
                found=str(error),
                remedy="pip install 'homeostat[tracing]', or unset it",
            ) from error
        resource = Resource.create(
            {"service.name": os.environ.get("OTEL_SERVICE_NAME") or "homeostat"}
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("homeostat.serving")
        self._extract = TraceContextTextMapPropagator().extract
        self._kind, self._error = SpanKind.SERVER, StatusCode.ERROR
        self._status = Status

    def answered(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._span(job).end()

    def failed(self, job: Job, why: str) -> None:
        span = self._span(job)
        span.set_status(self._status(self._error, why))
        span.end()

    def close(self) -> None:
        """Send what is waiting, within PATIENCE."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(PATIENCE)

    def _span(self, job: Job) -> Any:
        trace = job.request.trace
        context = self._extract({"traceparent": trace}) if trace else None
        began = time.time_ns() - int((perf_counter() - job.started) * 1e9)
        return self._tracer.start_span(
            f"infer {job.served.model}",
            context,
            self._kind,
            {
                "homeostat.model": job.served.model,
                "homeostat.version": job.model.version,
                "homeostat.arm": str(job.chosen.arm),
                "homeostat.id": job.id,
                "homeostat.rows": job.n,
            },
            start_time=began,
        )
