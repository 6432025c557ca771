"""Ours: a producer and a runner that does nothing, each on a WebSocket of its own, in one process like the peers'.

`python -m bench.flows.hero URL rate FLOWS [CONTEXT]`, `… latency JOBS` or `… victim CONTEXT`; prints its figures as one
line of JSON. `victim` is somebody else, who loads a context every 10 ms until standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from pydantic_core import from_json, to_json

CAPACITY: Final = 100  # as BullMQ's concurrency
SUBMITTED_AT_ONCE: Final = 20  # flows a frame
IN_FLIGHT: Final = 400  # flows submitted and not yet acknowledged
PAUSE: Final = 0.01  # seconds between jobs when latency is measured
JOBS: Final = 5  # of a flow


def job(id: int, depends: list[int], context: int = 1) -> dict[str, Any]:
    return {
        "id": id,
        "caller_id": 7,
        "context_id": context,
        "script": "",
        "script_type": "Python",
        "timeout": 0,
        "retries": 0,
        "env_vars": {},
        "prerequisites": [],
        "depends": depends,
    }


def flow_of(id: int, jobs: list[dict[str, Any]], context: int = 1) -> dict[str, Any]:
    return {"id": id, "caller_id": 7, "context_id": context, "jobs": [one["id"] for one in jobs], "env_vars": {}}


def _submit(flow: int, jobs: list[dict[str, Any]], context: int = 1) -> dict[str, Any]:
    params = {"context_id": context, "flow": flow_of(flow, jobs, context), "jobs": jobs}
    return {"jsonrpc": "2.0", "id": flow, "method": "flow.submit", "params": params}


def _family(flow: int, context: int) -> dict[str, Any]:
    """One parent over four children."""
    first = flow * JOBS
    children = [first + at for at in range(4)]
    return _submit(flow, [*(job(id, [], context) for id in children), job(first + 4, children, context)], context)


class Client(WSListener):
    """Hands whole messages on, each as a list."""

    def __init__(self) -> None:
        self._parts = bytearray()
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._parts += frame.get_payload_as_bytes()
        if frame.fin:
            message = from_json(bytes(self._parts))
            self._parts.clear()
            self.received(message if isinstance(message, list) else [message])

    def send(self, message: Any) -> None:
        self.transport.send(WSMsgType.TEXT, to_json(message))

    def received(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            if "error" in message:
                raise SystemExit(f"refused: {message['error']}")


class Runner(Client):
    """Finishes what it gets at once."""

    def __init__(self, jobs: int, context: int = 1) -> None:
        super().__init__()
        self._context = context
        self.expect(jobs)

    def expect(self, jobs: int) -> None:
        """So many are to come; then `done` is set."""
        self._left = jobs
        self.arrivals: list[float] = []
        self.done = asyncio.Event()

    def received(self, messages: list[dict[str, Any]]) -> None:
        super().received(messages)
        now = time.perf_counter()
        assignments = [message["params"] for message in messages if message.get("method") == "runner.job"]
        if not assignments:
            return
        self.arrivals += [now] * len(assignments)
        self.send(
            [
                {
                    "jsonrpc": "2.0",
                    "id": params["job"]["id"],
                    "method": "job.finish",
                    "params": {
                        "context_id": self._context,
                        "caller_id": 7,
                        "id": params["job"]["id"],
                        "token": params["token"],
                        "result": {"a": "1"},
                    },
                }
                for params in assignments
            ]
        )
        self._left -= len(assignments)
        if self._left <= 0:
            self.done.set()

    async def subscribe(self) -> None:
        runner = {"id": 1, "pubkey": "bench", "address": "127.0.0.1", "topic": "runner1", "local": True}
        context = {"context_id": self._context}
        params = {**context, "runner_id": 1, "script_types": ["Python"], "capacity": CAPACITY}
        self.send({"jsonrpc": "2.0", "id": 0, "method": "runner.create", "params": {**context, "runner": runner}})
        self.send({"jsonrpc": "2.0", "id": 0, "method": "runner.subscribe", "params": params})
        await asyncio.sleep(0.5)


class Producer(Client):
    """Keeps so many flows submitted and unacknowledged."""

    def __init__(self, flows: int, context: int = 1) -> None:
        super().__init__()
        self._flows = flows
        self._context = context
        self._next = 0
        self._in_flight = 0

    def more(self, flows: int) -> None:
        """Submit as many again."""
        self._flows += flows
        self.start()

    def start(self) -> None:
        while self._next < self._flows and self._in_flight + SUBMITTED_AT_ONCE <= IN_FLIGHT:
            count = min(SUBMITTED_AT_ONCE, self._flows - self._next)
            self.send([_family(flow, self._context) for flow in range(self._next, self._next + count)])
            self._next += count
            self._in_flight += count

    def received(self, messages: list[dict[str, Any]]) -> None:
        super().received(messages)
        self._in_flight -= len(messages)
        self.start()


async def connected(url: str, client: Any) -> Any:
    await ws_connect(lambda: client, url, max_frame_size=1 << 26)
    return client


async def rate(url: str, flows: int, context: int = 1) -> dict[str, float]:
    """Jobs a second, from the first flow sent to the last job's end reported."""
    runner = await connected(url, Runner(flows * JOBS, context))
    producer = await connected(url, Producer(flows, context))
    await runner.subscribe()
    began = time.perf_counter()
    producer.start()
    await runner.done.wait()
    return {"jobs_per_s": flows * JOBS / (time.perf_counter() - began)}


async def latency(url: str, jobs: int) -> dict[str, float]:
    """Seconds from sending a flow of one job to its runner having it, one at a time."""
    runner = await connected(url, Runner(jobs))
    producer = await connected(url, Producer(0))
    await runner.subscribe()
    sent = []
    for number in range(jobs):
        sent.append(time.perf_counter())
        producer.send(_submit(number, [job(number, [])]))
        await asyncio.sleep(PAUSE)
    await runner.done.wait()
    waits = sorted(arrival - start for start, arrival in zip(sent, runner.arrivals, strict=True))
    return {"p50_ms": waits[jobs // 2] * 1000, "p99_ms": waits[jobs * 99 // 100] * 1000}


class _Victim(Client):
    def __init__(self) -> None:
        super().__init__()
        self.due: list[float] = []
        self.waits: list[float] = []

    def received(self, messages: list[dict[str, Any]]) -> None:
        super().received(messages)
        for message in messages:
            if message["id"]:
                self.waits.append(time.perf_counter() - self.due[message["id"] - 1])


async def victim(url: str, context: int) -> dict[str, float]:
    """Milliseconds from when a call was due to its answer."""
    client = await connected(url, _Victim())
    fields = {"id": context, "admins": [7], "readers": [], "executors": []}
    client.send({"jsonrpc": "2.0", "id": 0, "method": "context.create", "params": {"context": fields}})
    await asyncio.sleep(0.2)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    began = time.perf_counter()
    while not ended.done():
        client.due.append(began + len(client.due) * PAUSE)
        await asyncio.sleep(max(0.0, client.due[-1] - time.perf_counter()))
        call = {"jsonrpc": "2.0", "id": len(client.due), "method": "context.load", "params": {"id": context}}
        client.send(call)
    await asyncio.sleep(1.0)
    waits = sorted(client.waits)
    at = {"p50_ms": len(waits) // 2, "p99_ms": len(waits) * 99 // 100, "max_ms": len(waits) - 1}
    return {name: waits[place] * 1000 for name, place in at.items()}


RUNS: Final[dict[str, Callable[..., Coroutine[Any, Any, dict[str, float]]]]] = {
    "rate": rate,
    "latency": latency,
    "victim": victim,
}

if __name__ == "__main__":
    _, target, what, *amounts = sys.argv
    figures = asyncio.run(RUNS[what](target, *map(int, amounts)))
    print(json.dumps(figures))
