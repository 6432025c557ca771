"""RQ, on a worker that does not fork.

`python -m bench.flows.rq_peer SOCKET FLOWS` prints its figures as a line of JSON.
"""

from __future__ import annotations

import json
import sys
import time

import redis
from rq import Queue, SimpleWorker


def nothing() -> dict[str, str]:
    return {"a": "1"}


def rate(socket: str, flows: int) -> dict[str, float]:
    """Jobs a second, from the first flow enqueued to the last job's end."""
    connection = redis.Redis(unix_socket_path=socket)
    queue = Queue("bench", connection=connection)
    nothing = "bench.flows.rq_peer.nothing"  # by name: RQ takes no function of __main__
    began = time.perf_counter()
    for _ in range(flows):
        children = queue.enqueue_many([Queue.prepare_data(nothing) for _ in range(4)])
        queue.enqueue(nothing, depends_on=children)
    SimpleWorker([queue], connection=connection).work(burst=True, logging_level="ERROR")
    return {"jobs_per_s": flows * 5 / (time.perf_counter() - began)}


if __name__ == "__main__":
    print(json.dumps(rate(sys.argv[1], int(sys.argv[2]))))
