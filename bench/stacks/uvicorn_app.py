"""A bare ASGI app on uvicorn (uvloop, httptools) with a pipelined connection to Valkey, over HTTP only.

`python -m bench.stacks.uvicorn_app SOCKET` prints its port, then serves until it is terminated.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import uvicorn

from bench.stacks.pipelined import Jobs


class _App:
    """Whatever is posted, to whatever path, is a message."""

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self._loop = asyncio.get_running_loop()
            self._jobs = await Jobs.connected(sys.argv[1])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        event = await receive()
        message = event["body"]
        while event["more_body"]:
            event = await receive()
            message += event["body"]
        answered: asyncio.Future[bytes] = self._loop.create_future()
        self._jobs.ask(message, answered.set_result)
        reply = await answered
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        _App(),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
