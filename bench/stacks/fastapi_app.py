"""FastAPI on uvicorn (uvloop, httptools, websockets) with redis.asyncio (hiredis).

`python -m bench.stacks.fastapi_app SOCKET` prints its port, then serves until it is terminated.

Over WebSocket each message is a task of its own, so that a connection's calls are under way together and are answered
as they are ready: redis.asyncio has one command a connection under way, and taking one message after the other would
leave a client waiting for Valkey most of the time. A semaphore bounds the connections to Valkey, which is quicker than
redis.asyncio's BlockingConnectionPool.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json
from redis.asyncio import Redis

from bench.stacks.jobs import TEXT, UPSERT, CreateCall, LoadCall, command, parsed
from coordinator.models import Job

_STORE_CONNECTIONS: Final = 64


class Error(BaseModel):
    code: int
    message: str


class Result(BaseModel):
    jsonrpc: Literal["2.0"] = "2.0"
    id: int | str | None
    result: Job


class Failure(BaseModel):
    jsonrpc: Literal["2.0"] = "2.0"
    id: int | str | None
    error: Error


Reply = Result | Failure
REPLY: Final[TypeAdapter[Reply]] = TypeAdapter(Reply)
REPLIES: Final[TypeAdapter[list[Reply]]] = TypeAdapter(list[Reply])


class Jobs:
    """Jobs as hashes in Valkey."""

    def __init__(self, store: Any, upsert: str) -> None:
        """`upsert` is the id of the script."""
        self._store = store
        self._upsert = upsert
        self._slots = asyncio.Semaphore(_STORE_CONNECTIONS)

    async def answer(self, message: str | bytes) -> bytes:
        """The reply to a JSON-RPC message: a call or a batch of them, which is one pipeline."""
        calls = parsed(message)
        if calls is None:
            return REPLY.dump_json(Failure(id=None, error=Error(code=-32600, message="Invalid Request")))
        if not isinstance(calls, list):
            async with self._slots:
                found = await self._store.execute_command(*command(calls, self._upsert))
            return REPLY.dump_json(self._reply(calls, found), exclude_none=True)  # optional members, not sent either
        async with self._slots, self._store.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command(*command(call, self._upsert))
            found = await pipeline.execute()
        replies = [self._reply(call, fields) for call, fields in zip(calls, found, strict=True)]
        return REPLIES.dump_json(replies, exclude_none=True)

    @staticmethod
    def _reply(call: LoadCall | CreateCall, found: dict[bytes, bytes] | list[bytes]) -> Reply:
        fields = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
        if not fields:
            return Failure(id=call.id, error=Error(code=-32001, message="Not Found"))
        members = {}
        for key, value in fields.items():
            name = key.decode()
            members[name] = value.decode() if name in TEXT else from_json(value)
        return Result(id=call.id, result=Job.model_validate(members))


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    async with Redis(unix_socket_path=sys.argv[1], max_connections=_STORE_CONNECTIONS) as store:
        upsert = await store.script_load(UPSERT)
        app.state.jobs = Jobs(store, upsert)
        yield


async def post(request: Request) -> Response:
    return Response(await request.app.state.jobs.answer(await request.body()), media_type="application/json")


async def stream(websocket: WebSocket) -> None:
    jobs: Jobs = websocket.app.state.jobs

    async def exchange(message: str) -> None:
        await websocket.send_text((await jobs.answer(message)).decode())

    await websocket.accept()
    try:
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(exchange(await websocket.receive_text()))
    except* WebSocketDisconnect:
        pass


def main() -> None:
    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_api_route("/", post, methods=["POST"])
    app.add_api_websocket_route("/", stream)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="websockets-sansio", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
