"""Traces by OpenTelemetry: a span for each call, and one for each attempt of a run that a traced call has started. Of
the extra `otel`, and imported only where that is wanted.

The SDK exports spans in a thread of its own, from a queue that is bounded: what is too much for that is dropped, and
calls go on. Where to, how many of them, and what the service is called say the variables OTEL_* that all programs with
this SDK have.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
import trio
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from coordinator import __version__
from coordinator.storage.functions.effects import AttemptEnded
from coordinator.storage.keys import ContextKey
from coordinator.tracing import span_of_attempt

__all__ = ["Telemetry"]

log = structlog.get_logger("coordinator.telemetry")

SHUTDOWN_TIMEOUT: Final = 5.0  # seconds for what is not exported yet in the end, whatever the collector does
MAX_REASON: Final = 1000
TRACES: Final = "/v1/traces"
OK: Final = "ok"


class _Ids(RandomIdGenerator):
    """Makes ids at random, but for a span whose id is known before.

    Attributes:
        next: that id. It is used by the loop's thread alone, which makes all spans.
    """

    def __init__(self) -> None:
        self.next: int | None = None

    def generate_span_id(self) -> int:
        known, self.next = self.next, None
        return super().generate_span_id() if known is None else known


class _CallSpan:
    """See CallSpan."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: Span | NonRecordingSpan) -> None:
        self._span = span
        self.traceparent = _traceparent(span.get_span_context())

    def end(self, outcome: str, attributes: dict[str, str | int | float]) -> None:
        span = self._span
        span.set_attributes(attributes)
        if outcome != OK:
            span.set_attribute("rpc.response.status_code", outcome)
            span.set_attribute("error.type", outcome)
            span.set_status(Status(StatusCode.ERROR))
        span.end()


class Telemetry:
    """Exports the spans of this process.

    Args:
        endpoint: the collector's URL; '' for that of the variables OTEL_*.
        name: ours among the coordinators that share the store.
    """

    def __init__(self, endpoint: str, name: str) -> None:
        resource = Resource.create({SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: name})
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "herocoordinator"}))
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        url = f"{endpoint.rstrip('/').removesuffix(TRACES)}{TRACES}" if endpoint else None
        exporter = OTLPSpanExporter(endpoint=url)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("herocoordinator", __version__)

    def begin(self, method: str, transport: str, traceparent: str) -> _CallSpan:
        """The span of a call that begins now, in the trace that this names; '' for one of its own."""
        attributes = {
            "rpc.system.name": "jsonrpc",
            "rpc.method": method,
            "network.protocol.name": _PROTOCOLS[transport],
        }
        parent = _parent(traceparent) if traceparent else Context()
        return _CallSpan(self._tracer.start_span(method, parent, SpanKind.SERVER, attributes))  # type: ignore[arg-type]

    def attempt(self, context: ContextKey, ended: AttemptEnded) -> None:
        """An attempt has ended that belongs to a trace."""
        attributes: dict[str, str | int] = {
            "herocoordinator.context_id": context or 0,
            "herocoordinator.run": ended.run,
            "herocoordinator.caller_id": ended.caller_id,
            "herocoordinator.job_id": ended.job_id,
            "herocoordinator.attempt": ended.number,
            "herocoordinator.runner_id": ended.runner_id,
            "herocoordinator.outcome": ended.outcome,
        }
        if ended.request_id:
            attributes["herocoordinator.request_id"] = ended.request_id
        self._ids.next = int(span_of_attempt(ended.token), 16)
        try:
            span = self._tracer.start_span(
                f"job {ended.job_id}",
                _parent(ended.traceparent),
                SpanKind.CONSUMER,
                attributes,
                start_time=ended.begun * 1_000_000,
            )
        finally:
            self._ids.next = None
        if ended.outcome != "finished":
            span.set_attribute("error.type", ended.outcome)
            span.set_status(Status(StatusCode.ERROR, (ended.reason or "")[:MAX_REASON]))
        span.end(max(ended.begun, ended.ended) * 1_000_000)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """While this lasts spans are exported, and in the end those that remain, as far as that takes no longer than
        SHUTDOWN_TIMEOUT: the SDK's own end has no deadline."""
        try:
            yield
        finally:
            with trio.move_on_after(SHUTDOWN_TIMEOUT, shield=True) as scope:
                await trio.to_thread.run_sync(self._provider.shutdown, abandon_on_cancel=True)
            if scope.cancelled_caught:
                log.warning("the last spans could not be exported in time", seconds=SHUTDOWN_TIMEOUT)


_PROTOCOLS: Final = {"http": "http", "ws": "websocket"}


def _traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _parent(traceparent: str) -> Context:
    """A context in which the span is current that this names."""
    _, trace, span, flags, *_ = traceparent.split("-", 4)
    named = SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16) & 1))
    return set_span_in_context(NonRecordingSpan(named), Context())
