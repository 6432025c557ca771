"""What is compared with what: the table of throughput scenarios."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, Literal

from bench.calls import Answer
from coordinator.load.messages import Kind

__all__ = ["SCENARIOS", "Beside", "Contender", "Scenario"]

Scheme = Literal["http", "ws"]

WINDOW: Final = 64  # messages a WebSocket connection has in flight
BATCH: Final = 100  # calls in a batch
BATCH_WINDOW: Final = 4


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure.

    Attributes:
        name: as the table shows it.
        server: `coordinator`, one of bench.peers, or one of bench.stacks.
        answer: what it answers.
        fsync: of its store; None is the product's default, or the one chosen on the command line.
        workers: processes of a coordinator.
        is_tls: it is a coordinator that speaks TLS.
        has_logins: it is a coordinator that has its callers log in; those here are admins.
        is_audited: it is a coordinator that keeps an audit log.
    """

    name: str
    server: str
    answer: Answer
    fsync: Literal["always", "everysec"] | None = None
    workers: int = 1
    is_tls: bool = False
    has_logins: bool = False
    is_audited: bool = False


OURS: Final = Contender("coordinator", "coordinator", "result")
TWO_WORKERS: Final = Contender("2 workers", "coordinator", "result", workers=2)
SECURE: Final = Contender("coordinator, TLS", "coordinator", "result", is_tls=True)
AUDITED: Final = Contender("coordinator, audited", "coordinator", "result", is_audited=True)
LOGGED_IN: Final = Contender("coordinator, logged in", "coordinator", "result", has_logins=True)
ALWAYS: Final = Contender("fsync always", "coordinator", "result", "always")
EVERYSEC: Final = Contender("fsync everysec", "coordinator", "result", "everysec")
FASTAPI: Final = Contender("FastAPI", "fastapi", "result")
FASTIFY: Final = Contender("Fastify", "fastify", "result")
JSONRPSEE: Final = Contender("jsonrpsee", "jsonrpsee", "result")
UVICORN: Final = Contender("uvicorn", "uvicorn", "result")
PICOWS_JOBS: Final = Contender("picows", "picows-jobs", "result")
STORE: Final = Contender("Hypercorn + HGETALL", "store", "canned")
HYPERCORN: Final = Contender("bare Hypercorn", "hypercorn", "canned")
ECHO: Final = Contender("bare echo", "trio-websocket", "echo")
COALESCED: Final = Contender("coalesced echo", "coalesced", "echo")
ASYNCIO: Final = Contender("raw asyncio", "asyncio", "canned")
PICOWS: Final = Contender("picows echo", "picows", "echo")


@dataclass(frozen=True, slots=True)
class Beside:
    """A server the subject is compared with.

    Attributes:
        rate: the goal for the subject's calls a second by this one's: at least.
        p50: the goal for the subject's median latency by this one's: at most.
    """

    contender: Contender
    rate: float | None = None
    p50: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """The same load on several servers, one right after the other.

    Attributes:
        group: the name `--only` takes.
        calls, batch, connections, window, contexts: see bench.load.LoadSpec.
        subject, beside: ratios are the subject's by that of each of the others.
        rounds: at most so many; one with 64,000 calls in flight takes its time.
        quick: whether a quick run has it.
    """

    group: str
    scheme: Scheme
    calls: Kind
    connections: int
    subject: Contender
    beside: tuple[Beside, ...]
    batch: int = 1
    window: int = 1
    contexts: int = 1
    rounds: int | None = None
    quick: bool = False

    @property
    def contenders(self) -> list[Contender]:
        return [self.subject, *(beside.contender for beside in self.beside)]

    @property
    def shape(self) -> str:
        """The load in words."""
        parts = [f"{self.connections:,} conn."]
        if self.scheme == "ws":
            parts.append(f"window {self.window}")
        if self.batch > 1:
            parts.append(f"batches of {self.batch}")
        if self.contexts > 1:
            parts.append(f"{self.contexts} contexts")
        return f"{self.calls}, {', '.join(parts)}"

    def without(self, servers: Collection[str]) -> Scenario | None:
        """The same but for these servers; None if there is nothing left to compare."""
        left = tuple(beside for beside in self.beside if beside.contender.server not in servers)
        return replace(self, beside=left) if left and self.subject.server not in servers else None


def _stream(kind: Kind, connections: int, window: int) -> Scenario:
    """Single calls over WebSocket."""
    at_goal = connections == 20 and window == WINDOW
    beside = [
        Beside(COALESCED, 0.9 if at_goal else None),
        Beside(FASTAPI, 1.25 if at_goal else None, 1.0 if window == 1 else None),
        Beside(FASTIFY, 1.0 if window == 1 else None),
        Beside(JSONRPSEE, 0.5 if at_goal else None),
    ]
    if window == 1 or at_goal:
        beside.append(Beside(PICOWS_JOBS, 1.0))
    if kind == "load" and window == WINDOW and connections in (1, 20):
        beside.insert(0, Beside(ECHO))
    return Scenario(
        f"ws-{kind}",
        "ws",
        kind,
        connections,
        OURS,
        tuple(beside),
        window=window,
        rounds=1 if connections * window > 20_000 else None,
        quick=at_goal or (kind == "load" and connections == window == 1),
    )


def _single(kind: Kind, connections: int) -> Scenario:
    """Single calls over HTTP."""
    beside = Beside(HYPERCORN, 0.9), Beside(FASTAPI), Beside(FASTIFY, 1.0), Beside(JSONRPSEE), Beside(UVICORN, 1.0)
    quick = connections == 20 or (kind == "load" and connections == 1)
    return Scenario(f"http-{kind}", "http", kind, connections, OURS, beside, quick=quick)


def _batches(scheme: Scheme, kind: Kind, connections: int) -> Scenario:
    bare = (Beside(HYPERCORN),) if scheme == "http" else ()
    return Scenario(
        f"{scheme}-batch",
        scheme,
        kind,
        connections,
        OURS,
        (*bare, Beside(FASTAPI, 3.0), Beside(FASTIFY), Beside(JSONRPSEE, 1.0)),
        batch=BATCH,
        window=BATCH_WINDOW if scheme == "ws" else 1,
        quick=kind == "load" and connections == 20,
    )


def _fsync(connections: int, window: int, contexts: int = 1) -> Scenario:
    beside = (Beside(EVERYSEC),)
    return Scenario("fsync", "ws", "create", connections, ALWAYS, beside, window=window, contexts=contexts)


def _workers(scheme: Scheme, kind: Kind) -> Scenario:
    window = BATCH_WINDOW if scheme == "ws" else 1
    beside = (Beside(OURS),)
    return Scenario("workers", scheme, kind, 20, TWO_WORKERS, beside, batch=BATCH, window=window, contexts=20)


def _tls(scheme: Scheme, connections: int, window: int, goal: float) -> Scenario:
    """TLS beside clear text."""
    return Scenario("tls", scheme, "load", connections, SECURE, (Beside(OURS, goal),), window=window)


def _auth(scheme: Scheme, kind: Kind, connections: int, window: int, goal: float) -> Scenario:
    """Callers that have logged in beside open ones."""
    return Scenario("auth", scheme, kind, connections, LOGGED_IN, (Beside(OURS, goal),), window=window)


def _audit(scheme: Scheme, connections: int, window: int) -> Scenario:
    """Calls that are written to an audit log, beside the same without one."""
    return Scenario("audit", scheme, "create", connections, AUDITED, (Beside(OURS),), window=window)


def _generator(scheme: Scheme, connections: int, batch: int = 1) -> Scenario:
    """The load generator before a server that does next to nothing."""
    subject, beside = (ASYNCIO, HYPERCORN) if scheme == "http" else (PICOWS, ECHO)
    window = WINDOW if scheme == "ws" else 1
    quick = connections == 20 and batch == 1
    return Scenario(
        "generator", scheme, "load", connections, subject, (Beside(beside),), batch=batch, window=window, quick=quick
    )


KINDS: Final[tuple[Kind, ...]] = ("load", "create")

SCENARIOS: Final = (
    *(_stream("load", connections, window) for connections in (1, 20, 200, 1_000) for window in (1, WINDOW)),
    *(_stream("create", connections, 1) for connections in (1, 20, 200, 1_000)),
    *(_stream("create", connections, WINDOW) for connections in (1, 20, 200)),
    Scenario("ws-contexts", "ws", "load", 20, OURS, (Beside(COALESCED),), window=WINDOW, contexts=20),
    _batches("ws", "load", 1),
    _batches("ws", "load", 20),
    _batches("ws", "create", 20),
    *(_single(kind, connections) for kind in KINDS for connections in (1, 20, 200)),
    Scenario("http-store", "http", "load", 1, STORE, (Beside(HYPERCORN),)),
    _batches("http", "load", 1),
    _batches("http", "load", 20),
    _batches("http", "create", 20),
    _fsync(1, 1),
    _fsync(1, WINDOW),
    _fsync(20, 1),
    _fsync(20, WINDOW),
    _fsync(20, WINDOW, contexts=20),
    Scenario("fsync", "http", "create", 1, EVERYSEC, (Beside(HYPERCORN),)),
    _workers("http", "load"),
    _workers("ws", "load"),
    _workers("ws", "create"),
    _tls("ws", 20, WINDOW, 0.6),
    _tls("ws", 20, 1, 0.5),
    _tls("ws", 1, 1, 0.5),
    _tls("http", 1, 1, 0.5),
    _tls("http", 20, 1, 0.5),
    _auth("ws", "load", 20, WINDOW, 0.97),
    _auth("ws", "create", 20, WINDOW, 0.97),
    _auth("http", "load", 20, 1, 0.95),
    _auth("http", "create", 20, 1, 0.95),
    _audit("ws", 20, WINDOW),
    _audit("http", 20, 1),
    _generator("http", 1),
    _generator("http", 20),
    _generator("http", 20, batch=BATCH),
    _generator("ws", 1),
    _generator("ws", 20),
)
