"""What is compared with what: the table of throughput scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from bench.calls import Answer, Kind

__all__ = ["SCENARIOS", "Contender", "Scenario"]

Scheme = Literal["http", "ws"]

WINDOW: Final = 64  # messages a WebSocket connection has in flight
BATCH: Final = 100  # calls in a batch
BATCH_WINDOW: Final = 4
GOAL: Final = 0.75  # of the bare library's calls a second


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure.

    Attributes:
        name: as the table shows it.
        server: `coordinator`, or one of bench.peers.
        answer: what it answers.
        fsync: of a coordinator; None is the product's default, or the one chosen on the command line.
    """

    name: str
    server: str
    answer: Answer
    fsync: Literal["always", "everysec"] | None = None


OURS: Final = Contender("coordinator", "coordinator", "result")
ALWAYS: Final = Contender("fsync always", "coordinator", "result", "always")
EVERYSEC: Final = Contender("fsync everysec", "coordinator", "result", "everysec")
STORE: Final = Contender("Hypercorn + HGETALL", "store", "canned")
HYPERCORN: Final = Contender("bare Hypercorn", "hypercorn", "canned")
ECHO: Final = Contender("bare echo", "trio-websocket", "echo")
COALESCED: Final = Contender("coalesced echo", "coalesced", "echo")
ASYNCIO: Final = Contender("raw asyncio", "asyncio", "canned")
PICOWS: Final = Contender("picows echo", "picows", "echo")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table: the same load on two servers, one right after the other.

    Attributes:
        group: the name `--only` takes.
        calls, batch, connections, window, contexts: see bench.load.LoadSpec.
        subject, reference: the ratio is the subject's calls per second by the reference's.
        goal: what the ratio should be at least.
    """

    group: str
    scheme: Scheme
    calls: Kind
    connections: int
    subject: Contender
    reference: Contender
    batch: int = 1
    window: int = 1
    contexts: int = 1
    goal: float | None = None

    @property
    def shape(self) -> str:
        """The load in words."""
        parts = [f"{self.connections} conn."]
        if self.scheme == "ws":
            parts.append(f"window {self.window}")
        if self.batch > 1:
            parts.append(f"batches of {self.batch}")
        if self.contexts > 1:
            parts.append(f"{self.contexts} contexts")
        return ", ".join(parts)


def _http(
    group: str, kind: Kind, connections: int, subject: Contender = OURS, *, batch: int = 1, goal: float | None = None
) -> Scenario:
    return Scenario(group, "http", kind, connections, subject, HYPERCORN, batch=batch, goal=goal)


def _ws(
    group: str,
    kind: Kind,
    connections: int,
    subject: Contender = OURS,
    *,
    batch: int = 1,
    window: int = WINDOW,
    contexts: int = 1,
    goal: float | None = None,
) -> Scenario:
    return Scenario(
        group, "ws", kind, connections, subject, ECHO, batch=batch, window=window, contexts=contexts, goal=goal
    )


def _fsync(connections: int, window: int, contexts: int = 1) -> Scenario:
    return Scenario("fsync", "ws", "create", connections, ALWAYS, EVERYSEC, window=window, contexts=contexts)


SCENARIOS: Final = (
    _http("http-load", "load", 1, goal=GOAL),
    _http("http-load", "load", 20, goal=GOAL),
    _http("http-store", "load", 1, STORE),
    _http("http-create", "create", 1),
    _http("http-create", "create", 20),
    _http("http-batch", "load", 1, batch=BATCH),
    _http("http-batch", "load", 20, batch=BATCH),
    _ws("ws-load", "load", 1, goal=GOAL),
    _ws("ws-load", "load", 20, goal=GOAL),
    _ws("ws-create", "create", 1),
    _ws("ws-create", "create", 20),
    _ws("ws-batch", "load", 20, batch=BATCH, window=BATCH_WINDOW),
    _ws("ws-contexts", "load", 20, contexts=20),
    _ws("ws-coalesced", "load", 1, COALESCED),
    _ws("ws-coalesced", "load", 20, COALESCED),
    _fsync(1, 1),
    _fsync(1, WINDOW),
    _fsync(20, 1),
    _fsync(20, WINDOW),
    _fsync(20, WINDOW, contexts=20),
    _http("generator", "load", 1, ASYNCIO),
    _http("generator", "load", 20, ASYNCIO),
    _http("generator", "load", 20, ASYNCIO, batch=BATCH),
    _ws("generator", "load", 1, PICOWS),
    _ws("generator", "load", 20, PICOWS),
)
