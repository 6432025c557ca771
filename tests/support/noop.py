"""A runner that finishes whatever it gets at once, as fast as Python can."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from pydantic_core import from_json, to_json
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

__all__ = ["NoopRunner", "noop_runner"]


class NoopRunner:
    """Answers each frame of assignments with one batch of finishes.

    Attributes:
        finished: attempts whose end was acknowledged.
        refused: error replies.
    """

    def __init__(self, socket: WebSocketConnection) -> None:
        self._socket = socket
        self.finished = 0
        self.refused: list[Any] = []

    async def run(self) -> None:
        """Until the connection ends."""
        try:
            while True:
                message = from_json(await self._socket.get_message())
                items = message if isinstance(message, list) else [message]
                assigned = [item["params"] for item in items if item.get("method") == "runner.job"]
                if assigned:
                    await self._socket.send_message(to_json([_finish(params) for params in assigned]).decode())
                replies = [item for item in items if "method" not in item]
                self.refused += [reply for reply in replies if "error" in reply]
                self.finished += sum("result" in reply for reply in replies)
        except ConnectionClosed:
            pass


def _finish(assignment: dict[str, Any]) -> dict[str, Any]:
    job = assignment["job"]
    params = {
        "context_id": assignment["context_id"],
        "caller_id": job["caller_id"],
        "id": job["id"],
        "token": assignment["token"],
        "result": {"n": "1"},
    }
    return {"jsonrpc": "2.0", "id": job["id"], "method": "job.finish", "params": params}


@asynccontextmanager
async def noop_runner(url: str, context: int, id: int) -> AsyncIterator[NoopRunner]:
    """One connected, subscribed and at work. The runner must have been created."""
    async with open_websocket_url(
        url, max_message_size=16 * 1024 * 1024, receive_buffer_size=256 * 1024, disconnect_timeout=2
    ) as socket:
        runner = NoopRunner(socket)
        subscribe = {"context_id": context, "runner_id": id, "script_types": ["Python"], "capacity": 256}
        call = {"jsonrpc": "2.0", "id": 0, "method": "runner.subscribe", "params": subscribe}
        await socket.send_message(to_json(call).decode())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runner.run)
            yield runner
            nursery.cancel_scope.cancel()
