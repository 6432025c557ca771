"""What a process that serves counts, as /metrics shows it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import Metric

from coordinator import __version__
from coordinator.metrics import Metrics, gauge, measured
from coordinator.rpc.access.audit.writer import LogWriter
from coordinator.rpc.access.limits import CallerLimits
from coordinator.rpc.http.server import HttpServer
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.websocket.server import WebSocketFrontEnd
from coordinator.storage.library import OURS
from coordinator.supervision import FAULTS, faults

__all__ = ["metrics_of"]


def metrics_of(
    dispatcher: Dispatcher,
    http_server: HttpServer,
    websocket: WebSocketFrontEnd,
    limits: CallerLimits | None,
    audit: LogWriter | None,
    access_log: LogWriter | None,
    of_the_store: Callable[[], Iterable[Metric]],
) -> Metrics:
    """Those of one process. `of_the_store`: what is counted there."""

    def families() -> Iterator[Metric]:
        build = {"version": __version__, "python": platform.python_version(), "library": str(OURS)}
        yield gauge("build_info", "What runs here.", tuple(build), {tuple(build.values()): 1})
        yield from measured()
        yield from of_the_store()

    directory, engine = dispatcher.directory, dispatcher.engine
    tallies = http_server.tally, websocket.tally
    return Metrics(
        {
            "calls_total": ("Calls received, each of a batch counted.", lambda: dispatcher.calls),
            "messages_limited_total": (
                "Messages refused because their caller was over its limits.",
                lambda: 0 if limits is None else limits.refused,
            ),
            "calls_expired_total": ("Calls not answered by their deadline.", lambda: directory.expired),
            "supervisor_crashes_total": ("Supervisors that crashed and were restarted.", lambda: directory.crashes),
            "internal_faults_total": (FAULTS, faults),
            "calls_pending": ("Calls in mailboxes or being served.", lambda: directory.pending),
            "contexts_active": ("Contexts with a mailbox.", lambda: directory.active_contexts),
            "store_connections": ("Supervisors alive, each with a connection.", lambda: directory.connections),
            "subscriptions": ("Runners and followers of flows subscribed.", lambda: engine.contexts.subscriptions),
            "runners_held_back_total": (
                "Times a runner was to get less because it had failed all it got; runner.list says which.",
                lambda: engine.runners_held_back,
            ),
            "connections_refused_total": (
                "Clients refused because --max-connections were connected.",
                lambda: sum(tally.refused for tally in tallies),
            ),
            "accept_failures_total": (
                "Times a client could not be accepted for want of descriptors or memory.",
                lambda: sum(tally.failures for tally in tallies),
            ),
            "audit_lines_lost_total": (
                "Lines of the audit log that could not be written, or held any longer.",
                lambda: 0 if audit is None else audit.lost,
            ),
            "access_lines_lost_total": (
                "Lines of the access log that could not be written, or held any longer.",
                lambda: 0 if access_log is None else access_log.lost,
            ),
            "http_connections": ("HTTP clients connected.", lambda: http_server.connections),
            "websocket_connections": ("WebSocket clients connected.", lambda: websocket.connections),
            "limited_callers": (
                "Callers whose limits are counted now.",
                lambda: 0 if limits is None else limits.callers,
            ),
            "runners_connected": (
                "Runners subscribed, once for each context they take jobs of.",
                lambda: sum(1 for _ in engine.contexts.runners()),
            ),
            "runners_busy": (
                "Those of them that have an attempt.",
                lambda: sum(bool(runner.held) for runner in engine.contexts.runners()),
            ),
            "runner_capacity": (
                "Attempts they may have at a time.",
                lambda: sum(runner.capacity for runner in engine.contexts.runners()),
            ),
            "attempts_held": (
                "Attempts they have.",
                lambda: sum(len(runner.held) for runner in engine.contexts.runners()),
            ),
        },
        families,
    )
