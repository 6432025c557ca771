"""Ours: a producer and a runner that does nothing, each on a WebSocket of its own, in one process like the peers'.

`python -m bench.flows.hero URL rate FLOWS` or `… latency JOBS`; prints its figures as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Final

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from pydantic_core import from_json, to_json

CAPACITY: Final = 100  # as BullMQ's concurrency
SUBMITTED_AT_ONCE: Final = 20  # flows a frame
IN_FLIGHT: Final = 400  # flows submitted and not yet acknowledged
PAUSE: Final = 0.01  # seconds between jobs when latency is measured
JOBS: Final = 5  # of a flow


def _job(id: int, depends: list[int]) -> dict[str, Any]:
    return {
        "id": id,
        "caller_id": 7,
        "context_id": 1,
        "script": "",
        "script_type": "Python",
        "timeout": 0,
        "retries": 0,
        "env_vars": {},
        "prerequisites": [],
        "depends": depends,
    }


def _submit(flow: int, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    ids = [job["id"] for job in jobs]
    fields = {"id": flow, "caller_id": 7, "context_id": 1, "jobs": ids, "env_vars": {}}
    params = {"context_id": 1, "flow": fields, "jobs": jobs}
    return {"jsonrpc": "2.0", "id": flow, "method": "flow.submit", "params": params}


def _family(flow: int) -> dict[str, Any]:
    """One parent over four children."""
    first = flow * JOBS
    children = [first + at for at in range(4)]
    return _submit(flow, [*(_job(id, []) for id in children), _job(first + 4, children)])


class _Client(WSListener):
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


class _Runner(_Client):
    """Finishes what it gets at once."""

    def __init__(self, jobs: int) -> None:
        super().__init__()
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
                        "context_id": 1,
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
        params = {"context_id": 1, "runner_id": 1, "script_types": ["Python"], "capacity": CAPACITY}
        self.send({"jsonrpc": "2.0", "id": 0, "method": "runner.create", "params": {"context_id": 1, "runner": runner}})
        self.send({"jsonrpc": "2.0", "id": 0, "method": "runner.subscribe", "params": params})
        await asyncio.sleep(0.5)


class _Producer(_Client):
    """Keeps so many flows submitted and unacknowledged."""

    def __init__(self, flows: int) -> None:
        super().__init__()
        self._flows = flows
        self._next = 0
        self._in_flight = 0

    def start(self) -> None:
        while self._next < self._flows and self._in_flight + SUBMITTED_AT_ONCE <= IN_FLIGHT:
            count = min(SUBMITTED_AT_ONCE, self._flows - self._next)
            self.send([_family(flow) for flow in range(self._next, self._next + count)])
            self._next += count
            self._in_flight += count

    def received(self, messages: list[dict[str, Any]]) -> None:
        super().received(messages)
        self._in_flight -= len(messages)
        self.start()


async def _connected(url: str, client: Any) -> Any:
    await ws_connect(lambda: client, url, max_frame_size=1 << 26)
    return client


async def rate(url: str, flows: int) -> dict[str, float]:
    """Jobs a second, from the first flow sent to the last job's end reported."""
    runner = await _connected(url, _Runner(flows * JOBS))
    producer = await _connected(url, _Producer(flows))
    await runner.subscribe()
    began = time.perf_counter()
    producer.start()
    await runner.done.wait()
    return {"jobs_per_s": flows * JOBS / (time.perf_counter() - began)}


async def latency(url: str, jobs: int) -> dict[str, float]:
    """Seconds from sending a flow of one job to its runner having it, one at a time."""
    runner = await _connected(url, _Runner(jobs))
    producer = await _connected(url, _Producer(0))
    await runner.subscribe()
    sent = []
    for number in range(jobs):
        sent.append(time.perf_counter())
        producer.send(_submit(number, [_job(number, [])]))
        await asyncio.sleep(PAUSE)
    await runner.done.wait()
    waits = sorted(arrival - start for start, arrival in zip(sent, runner.arrivals, strict=True))
    return {"p50_ms": waits[jobs // 2] * 1000, "p99_ms": waits[jobs * 99 // 100] * 1000}


if __name__ == "__main__":
    _, target, what, amount = sys.argv
    figures = asyncio.run((rate if what == "rate" else latency)(target, int(amount)))
    print(json.dumps(figures))
