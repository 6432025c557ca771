"""Load of jobs that run: flows that no-op runners finish at once, and subscribers that are told of changes.

Of flows, a latency is from when a flow was due to the answer to the call that finished its last job; a wait is from
when a job was ready (its flow due, or the last job that it depends on reported as finished) to its runner having it.
Of a fan-out, a latency is from when a change was due to its arrival at one subscriber. What caused it carries when it
was due, as the clock that all processes of a machine share has it: a log line as its text, a flow as its id.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO, Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from pydantic_core import from_json, to_json

from coordinator.client.address import Address
from coordinator.client.credentials import Credentials
from coordinator.client.stream import tls_context
from coordinator.load.connections import MAX_FRAME, BaseClient
from coordinator.load.generator import DRAIN, CountingMeter, End, Generator, Step
from coordinator.load.messages import Refused
from coordinator.load.shape import Shape

__all__ = ["Jobs", "JobsSpec", "NotReady", "due_of", "id_of"]

LEASE: Final = 3600.0  # seconds; what is held while logs are published has no heartbeat but these
READY: Final = 20.0  # seconds that the jobs whose logs are published may take to their runner
QUIET: Final = 0.5  # seconds in which nothing comes, after which nothing more is expected
LOOK: Final = 0.005  # seconds between two looks at how late the process is
CALLS_AT_ONCE: Final = 100  # of a batch
GRAIN: Final = 4e-6  # seconds between two ids of flows that carry when they were due
_IDS: Final = 2**32

Reply = Callable[[dict[str, Any], float], None]
Heard = Callable[[list[dict[str, Any]], float], None]


class NotReady(Exception):
    """What the load needs is not there; the text says why and what to do."""


def id_of(due: float, epoch: float) -> int:
    """The id of a flow that was due then; 0 is none."""
    return round((due - epoch) / GRAIN) % (_IDS - 1) + 1


def due_of(id: int, epoch: float) -> float:
    return (id - 1) * GRAIN + epoch


@dataclass(frozen=True, slots=True)
class JobsSpec:
    """What a process has, and what it does with it.

    Attributes:
        scenario: flows, or fanout.
        contexts: those of its flows, one after the other.
        script_type: of its jobs.
        first_id: of its flows and jobs.
        submitters: connections that submit flows, or publish changes; `window`: what is in flight on each.
        runners: context, id and token ('' for the token of all) of each runner; `capacity`: jobs it has at once.
        width, depth: of flows, see Shape.
        followed: context and flow of each subscriber, the flow 0 for all of the context.
        held: how many flows of one job there are, with ids from 1, whose logs are published; 0: flows are published.
        listeners: how many subscribers all processes have for each of those flows, or else for each context.
        epoch: when ids of flows that carry when they were due begin.
        latencies: the file; what jobs waited goes to one beside it, named `.waits`.
    """

    scenario: str
    url: str
    contexts: list[int]
    caller: int
    script_type: str
    first_id: int
    submitters: int
    window: int
    runners: list[tuple[int, int, str]]
    capacity: int
    width: int
    depth: int
    followed: list[tuple[int, int]]
    held: int
    listeners: list[int]
    epoch: float
    latencies: str
    token: str = ""
    ca: str = ""
    certificate: str = ""


class _Socket(WSListener):
    """Sends calls and hands replies and notifications on."""

    def __init__(self, meter: CountingMeter) -> None:
        self._meter = meter
        self._heard: Heard | None = None
        self._transport: WSTransport | None = None
        self._parts = bytearray()
        self._pending: dict[int, Reply] = {}
        self._next = 0
        self._closing = False
        self.is_lost = False

    def listen(self, heard: Heard) -> None:
        """Have notifications, as they come together, and when they came."""
        self._heard = heard

    def call(self, method: str, params: dict[str, Any], then: Reply) -> dict[str, Any]:
        """A call, for `send`; `then` is given its reply and when that came."""
        self._next += 1
        self._pending[self._next] = then
        return {"jsonrpc": "2.0", "id": self._next, "method": method, "params": params}

    def send(self, calls: list[dict[str, Any]]) -> None:
        """In batches, if it is more than one."""
        assert self._transport is not None
        if self._closing or self.is_lost:
            return
        for at in range(0, len(calls), CALLS_AT_ONCE):
            some = calls[at : at + CALLS_AT_ONCE]
            self._transport.send(WSMsgType.TEXT, to_json(some if len(some) > 1 else some[0]))

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Call once, and wait for the result. Raises NotReady."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def then(reply: dict[str, Any], _: float) -> None:
            if not future.done():
                future.set_result(reply)

        self.send([self.call(method, params, then)])
        try:
            async with asyncio.timeout(READY):
                reply = await future
        except TimeoutError:
            raise NotReady(f"{method} was not answered within {READY:g} s") from None
        if "error" in reply:
            raise NotReady(f"{method} was refused: {reply['error'].get('message')}")
        result: dict[str, Any] = reply["result"]
        return result

    def close(self) -> None:
        self._closing = True
        if self._transport is not None:
            self._transport.send_close()
            self._transport.disconnect()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type not in (WSMsgType.TEXT, WSMsgType.CONTINUATION):
            return
        now = perf_counter()
        if frame.fin and not self._parts:
            message = from_json(frame.get_payload_as_bytes())
        else:
            self._parts += frame.get_payload_as_bytes()
            if not frame.fin:
                return
            message = from_json(bytes(self._parts))
            self._parts.clear()
        messages = message if isinstance(message, list) else [message]
        told = []
        for item in messages:
            if "method" in item:
                told.append(item)
            elif (then := self._pending.pop(item.get("id"), None)) is not None:
                then(item, now)
            else:
                self._meter.fail(f"an answer to nothing: {item!r}")
        if told and self._heard is not None:
            self._heard(told, now)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if not self._closing:
            self.is_lost = True
            self._meter.lost("the server closed a WebSocket")


@dataclass(slots=True)
class _Flow:
    due: float
    submitter: _Submitter
    slot: int
    ready: list[float]


@dataclass(slots=True)
class _Held:
    """An attempt at a job whose logs are published."""

    context: int
    id: int
    runner: _Socket
    token: str


@dataclass(slots=True)
class _State:
    flows: dict[tuple[int, int], _Flow] = field(default_factory=dict)
    held: list[_Held] = field(default_factory=list)
    submitted: int = 0
    expected: int = 0
    delivered: int = 0
    arrived_at: float = 0.0
    last_id: int = 0


class _Submitter(BaseClient):
    """Submits flows, or publishes changes, as its window lets it."""

    def __init__(self, load: Jobs, socket: _Socket, window: int) -> None:
        super().__init__(load.meter, window)
        self._load = load
        self._socket = socket

    def send(self, slot: int, since: float) -> None:
        self._sent_at[slot] = since
        self._load.submit(self, self._socket, slot, since)

    def flush(self) -> None:
        """Each was written as it was sent: what is submitted together would be answered together."""

    def close(self) -> None:
        self._socket.close()

    def go_on(self, slot: int, now: float, wait: float = 0.0) -> None:
        self._go_on(slot, now, wait)
        self.flush()


class Jobs(Generator):
    """The generator of both."""

    def __init__(self, spec: JobsSpec) -> None:
        self.load_spec = spec
        self.address = Address.parse(spec.url)
        self.meter = CountingMeter()
        self.clients = []
        self.late = array("d")
        shown = Credentials(certificate=Path(spec.certificate)) if spec.certificate else None
        self.tls = tls_context(spec.ca or None, shown) if self.address.is_secure else None
        self._shape = Shape(spec.width, spec.depth)
        self._state = _State()
        self._sockets: list[_Socket] = []
        self._waits = array("d")
        self._waits_file: BinaryIO = Path(spec.latencies + ".waits").open("ab")  # noqa: SIM115 - closed with the process

    # -- connecting

    async def connect(self) -> None:
        spec = self.load_spec
        runners: list[_Socket] = []
        for context, id, token in spec.runners:
            runners.append(await self._connected(token))
            await self._work(runners[-1], context, id)
        for _ in range(spec.submitters):
            self.clients.append(_Submitter(self, await self._connected(), spec.window))
        if spec.held and spec.submitters:
            await self._until_held()
        limit = asyncio.Semaphore(32)

        async def follow(context: int, flow: int) -> None:
            async with limit:
                await self._follow(context, flow)

        async with asyncio.TaskGroup() as tasks:
            for context, flow in spec.followed:
                tasks.create_task(follow(context, flow))
        self.meter.connections = len(self._sockets)

    async def _connected(self, token: str = "") -> _Socket:
        socket = _Socket(self.meter)
        shown = token or self.load_spec.token
        headers = {"Authorization": f"Bearer {shown}"} if shown else None
        await ws_connect(
            lambda: socket, self.address.url, max_frame_size=MAX_FRAME, ssl_context=self.tls, extra_headers=headers
        )
        self._sockets.append(socket)
        return socket

    async def _work(self, socket: _Socket, context: int, id: int) -> None:
        spec = self.load_spec
        socket.listen(lambda told, now: self._assigned(socket, told, now))
        given = {"context_id": context, "runner_id": id, "script_types": [spec.script_type], "capacity": spec.capacity}
        await socket.ask("runner.subscribe", {**given, "lease": LEASE, "batch": True})

    async def _until_held(self) -> None:
        """Wait until the jobs whose logs are published are at a runner."""
        held, wanted = self._state.held, self.load_spec.held
        try:
            async with asyncio.timeout(READY):
                while len(held) < wanted:  # noqa: ASYNC110 - before there is load
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise NotReady(
                f"{len(held)} of {wanted} jobs reached a runner within {READY:g} s: is the context paused, or "
                "are other runners there?"
            ) from None

    async def _follow(self, context: int, flow: int) -> None:
        socket = await self._connected()
        if flow:
            status = await socket.ask("flow.status", {"context_id": context, "id": flow})
            socket.listen(self._log_arrived)
            after = {"after": status["last_event"]} if status.get("last_event") else {}
            await socket.ask("flow.subscribe", {"context_id": context, "id": flow, "batch": True, **after})
        else:
            socket.listen(self._change_arrived)
            await socket.ask("context.subscribe", {"context_id": context, "batch": True})

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()
        self._waits_file.close()

    # -- a step

    async def step(self, step: Step, latencies: BinaryIO) -> End:
        state = self._state
        state.expected = state.delivered = 0
        state.flows.clear()
        self._waits = array("d")
        looking = asyncio.create_task(self._look_for_delay())
        try:
            end = await super().step(step, latencies)
        finally:
            looking.cancel()
        end.expected, end.delivered = state.expected, state.delivered
        return end

    async def _look_for_delay(self) -> None:
        """Find out how late this process reads what has come: it would count as the coordinator's delay."""
        while True:
            due = perf_counter() + LOOK
            await asyncio.sleep(LOOK)
            if self.meter.measuring:
                self.late.append(perf_counter() - due)

    async def _stop(self, ended: asyncio.Event, loads: list[asyncio.Task[None]]) -> None:
        await super()._stop(ended, loads)
        if self.load_spec.scenario != "fanout":
            return
        now = began = perf_counter()
        while now - max(self._state.arrived_at, began) < QUIET and now - began < DRAIN:
            await asyncio.sleep(0.02)
            now = perf_counter()

    def _write(self, latencies: BinaryIO) -> int:
        waits, self._waits = self._waits, array("d")
        waits.tofile(self._waits_file)
        self._waits_file.flush()
        return super()._write(latencies)

    # -- what is sent

    def submit(self, submitter: _Submitter, socket: _Socket, slot: int, due: float) -> None:
        """Submit a flow, or publish a change."""
        if self.load_spec.scenario == "flows":
            self._submit_flow(submitter, socket, slot, due)
        elif self.load_spec.held:
            self._publish_log(submitter, slot, due)
        else:
            self._publish_flow(submitter, socket, slot, due)

    def _submit_flow(self, submitter: _Submitter, socket: _Socket, slot: int, due: float) -> None:
        spec, state, jobs = self.load_spec, self._state, self._shape.jobs
        context = spec.contexts[state.submitted % len(spec.contexts)]
        first = spec.first_id + state.submitted * jobs
        state.submitted += 1
        flow = _Flow(due, submitter, slot, [due] * jobs)
        state.flows[context, first] = flow

        def then(reply: dict[str, Any], now: float) -> None:
            if "error" in reply and state.flows.pop((context, first), None) is not None:
                submitter.go_on(slot, now, self._refused(reply))

        params = self._shape.submit(context, spec.caller, first, first, spec.script_type)
        socket.send([socket.call("flow.submit", params, then)])

    def _publish_flow(self, submitter: _Submitter, socket: _Socket, slot: int, due: float) -> None:
        spec, state = self.load_spec, self._state
        id = max(id_of(due, spec.epoch), state.last_id + 1)  # two that are due at once are told apart
        state.last_id = id
        target = state.submitted % len(spec.contexts)
        context = spec.contexts[target]
        state.submitted += 1
        params = Shape(1, 1).submit(context, spec.caller, id, id, spec.script_type)
        socket.send([socket.call("flow.submit", params, self._published(submitter, slot, target))])

    def _publish_log(self, submitter: _Submitter, slot: int, due: float) -> None:
        state = self._state
        held = state.held[state.submitted % len(state.held)]
        target = held.id - 1
        state.submitted += 1
        of = {"context_id": held.context, "caller_id": self.load_spec.caller, "id": held.id, "token": held.token}
        call = held.runner.call("job.log", {**of, "lines": [repr(due)]}, self._published(submitter, slot, target))
        held.runner.send([call])

    def _published(self, submitter: _Submitter, slot: int, target: int) -> Reply:
        def then(reply: dict[str, Any], now: float) -> None:
            if "error" in reply:
                submitter.go_on(slot, now, self._refused(reply))
                return
            self._state.expected += self.load_spec.listeners[target]
            if self.meter.measuring:
                self.meter.changes += 1
            submitter.go_on(slot, now)

        return then

    def _refused(self, reply: dict[str, Any]) -> float:
        """Count an error. Returns the seconds after which to go on."""
        refused = Refused(0, reply["error"])
        self.meter.refused(refused)
        return max(0.02, min(refused.again_after, 1.0))

    # -- what comes

    def _assigned(self, socket: _Socket, told: list[dict[str, Any]], now: float) -> None:
        """Finish jobs at once. One that is nobody's here goes back to those it is for."""
        spec, calls = self.load_spec, []
        for item in told:
            if item["method"] != "runner.job":
                continue
            params = item["params"]
            job = params["job"]
            of = {
                "context_id": params["context_id"],
                "caller_id": job["caller_id"],
                "id": job["id"],
                "token": params["token"],
            }
            if job["script"] or job["caller_id"] != spec.caller:
                self.meter.fail(f"a job of somebody else in context {params['context_id']} was given back")
                calls.append(socket.call("job.fail", {**of, "error": "not for a load tester", "lost": True}, _ignored))
            elif spec.scenario == "flows":
                calls.append(self._finish(socket, of, now))
            elif spec.held and job["id"] <= spec.held:
                self._state.held.append(_Held(params["context_id"], job["id"], socket, params["token"]))
            else:
                calls.append(socket.call("job.finish", of, self._finished_change))
        socket.send(calls)

    def _finish(self, socket: _Socket, of: dict[str, Any], now: float) -> dict[str, Any]:
        spec, jobs = self.load_spec, self._shape.jobs
        place = (of["id"] - spec.first_id) % jobs
        key = of["context_id"], of["id"] - place
        flow = self._state.flows.get(key)
        follower = self._shape.follower(place)
        if flow is not None:  # else it is of a step that ended before it
            if self.meter.measuring or self.meter.stopping:
                self._waits.append(now - flow.ready[place])
            if follower is not None:
                flow.ready[follower] = perf_counter()

        def then(reply: dict[str, Any], at: float) -> None:
            if "error" in reply:
                self._refused(reply)
                return
            if self.meter.measuring:
                self.meter.jobs += 1
            if follower is None and (ended := self._state.flows.pop(key, None)) is not None:
                self.meter.took(at - ended.due)
                ended.submitter.go_on(ended.slot, at)

        return socket.call("job.finish", of, then)

    def _finished_change(self, reply: dict[str, Any], _: float) -> None:
        if "error" in reply:
            self._refused(reply)

    def _log_arrived(self, told: list[dict[str, Any]], now: float) -> None:
        for item in told:
            event = self._event(item)
            if event.get("kind") == "log":
                for line in event["lines"]:
                    self._arrived(float(line), now)

    def _change_arrived(self, told: list[dict[str, Any]], now: float) -> None:
        for item in told:
            event = self._event(item)
            if event.get("kind") == "flow" and event.get("status") == "Started":
                self._arrived(due_of(event["flow_id"], self.load_spec.epoch), now)

    def _event(self, item: dict[str, Any]) -> dict[str, Any]:
        params: dict[str, Any] = item["params"]
        if item["method"] not in ("flow.event", "context.event"):
            self.meter.fail(f"{item['method']}: {params.get('reason', 'a subscription ended')}")
            return {}
        if params.get("missed"):
            self.meter.fail("a subscriber was told that it missed events")
        if self.meter.measuring:
            self.meter.events += 1
        return params

    def _arrived(self, due: float, now: float) -> None:
        self._state.delivered += 1
        self._state.arrived_at = now
        self.meter.took(now - due)


def _ignored(_: dict[str, Any], __: float) -> None:
    """It is a courtesy."""
