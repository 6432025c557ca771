"""An OpenTelemetry collector: an HTTP server that takes OTLP as protobuf."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Collector", "attributes_of", "collector"]


class Collector:
    """What has come in so far.

    Attributes:
        url: its own.
        spans: all of them, in the order they came.
        services: the attributes of each service that has sent some, by the id of its instance.
        answers: unset while it keeps those who export waiting.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: dict[Any, dict[str, Any]] = {}
        self.answers = threading.Event()
        self.answers.set()
        self.url = ""

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            service = attributes_of(resource.resource)
            self.services[service["service.instance.id"]] = service
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def named(self, name: str) -> list[Span]:
        """The spans of this name."""
        return [span for span in self.spans if span.name == name]


def attributes_of(carrier: Any) -> dict[str, Any]:
    """Those of a span or resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in carrier.attributes}


@contextlib.contextmanager
def collector() -> Iterator[Collector]:
    """One that runs."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
            found.answers.wait(60)
            found.take(body)
            reply = ExportTraceServiceResponse().SerializeToString()
            with contextlib.suppress(OSError):  # whoever has sent it may be gone
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.answers.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
