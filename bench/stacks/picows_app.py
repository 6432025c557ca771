"""picows on uvloop with a pipelined connection to Valkey, over WebSocket only: all of a call is done in callbacks.

`python -m bench.stacks.picows_app SOCKET` prints its port, then serves until it is terminated.
"""

from __future__ import annotations

import sys
from functools import partial

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.stacks.pipelined import Jobs


class _Connection(WSListener):
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._jobs.ask(frame.get_payload_as_bytes(), partial(transport.send, WSMsgType.TEXT))
        elif frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


async def _serve() -> None:
    jobs = await Jobs.connected(sys.argv[1])

    def accepted(_: WSUpgradeRequest) -> WSListener:
        return _Connection(jobs)

    server = await ws_create_server(accepted, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
