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
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json
from redis.asyncio import Redis

from coordinator.models import Job, JobCreateParams, JobLoadParams

_STORE_CONNECTIONS: Final = 64
_TEXT: Final = {"script", "script_type", "status"}  # members kept as they are; the others as JSON


class LoadCall(BaseModel):
    jsonrpc: Literal["2.0"]
    id: int | str | None
    method: Literal["job.load"]
    params: JobLoadParams


class CreateCall(BaseModel):
    jsonrpc: Literal["2.0"]
    id: int | str | None
    method: Literal["job.create"]
    params: JobCreateParams


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


Call = Annotated[LoadCall | CreateCall, Field(discriminator="method")]
Reply = Result | Failure
MESSAGE: Final[TypeAdapter[LoadCall | CreateCall | list[Call]]] = TypeAdapter(Call | list[Call])
REPLY: Final[TypeAdapter[Reply]] = TypeAdapter(Reply)
REPLIES: Final[TypeAdapter[list[Reply]]] = TypeAdapter(list[Reply])


class Jobs:
    """Jobs as hashes in Valkey."""

    def __init__(self, store: Redis, upsert: str) -> None:
        """`upsert` is the id of the script."""
        self._store = store
        self._upsert = upsert
        self._slots = asyncio.Semaphore(_STORE_CONNECTIONS)

    def request(self, on: Any, call: LoadCall | CreateCall) -> Any:
        """Put the call's command `on` a pipeline, or send it right away if that is the store itself."""
        params = call.params
        if isinstance(params, JobLoadParams):
            return on.hgetall(f"{params.context_id}:job:{params.caller_id}:{params.id}")
        job = params.job
        fields: list[str | bytes] = []
        for name, value in job.model_dump(exclude_unset=True).items():
            fields += (name, value if name in _TEXT else to_json(value))
        return on.evalsha(self._upsert, 1, f"{params.context_id}:job:{job.caller_id}:{job.id}", *fields)

    async def answer(self, message: str | bytes) -> bytes:
        """The reply to a JSON-RPC message: a call or a batch of them, which is one pipeline."""
        try:
            calls = MESSAGE.validate_json(message)
        except ValidationError:
            return REPLY.dump_json(Failure(id=None, error=Error(code=-32600, message="Invalid Request")))
        if not isinstance(calls, list):
            async with self._slots:
                found = await self.request(self._store, calls)
            return REPLY.dump_json(self._reply(calls, found), exclude_none=True)  # optional members, not sent either
        async with self._slots, self._store.pipeline(transaction=False) as pipeline:
            for call in calls:
                self.request(pipeline, call)
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
            members[name] = value.decode() if name in _TEXT else from_json(value)
        return Result(id=call.id, result=Job.model_validate(members))


@contextlib.asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    async with Redis(unix_socket_path=sys.argv[1], max_connections=_STORE_CONNECTIONS) as store:
        upsert = await store.script_load(Path(__file__).with_name("upsert.lua").read_text())
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
