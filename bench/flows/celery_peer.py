"""Celery, chords of four under one body on a worker of two processes.

`python -m bench.flows.celery_peer SOCKET FLOWS` prints its figures as a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from celery import Celery, chord

_SOCKET = os.environ.get("BENCH_SOCKET", "")
app = Celery("bench.flows.celery_peer", broker=f"redis+socket://{_SOCKET}", backend=f"redis+socket://{_SOCKET}")
app.conf.worker_prefetch_multiplier = 100


@app.task(name="nothing")  # type: ignore[untyped-decorator]
def nothing(*_: Any) -> dict[str, str]:
    return {"a": "1"}


def rate(flows: int) -> dict[str, float]:
    """Jobs a second, from the first flow sent to the last one's result."""
    app.control.ping(timeout=10)  # the worker is up
    began = time.perf_counter()
    results = [chord([nothing.s() for _ in range(4)])(nothing.s()) for _ in range(flows)]
    for result in results:
        result.get(timeout=300)
    return {"jobs_per_s": flows * 5 / (time.perf_counter() - began)}


if __name__ == "__main__":
    if not _SOCKET:
        environment = {**os.environ, "BENCH_SOCKET": sys.argv[1]}
        command = [sys.executable, "-m", "celery", "-A", "bench.flows.celery_peer", "worker", "-c", "2", "-l", "ERROR"]
        worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            subprocess.run(
                [sys.executable, "-m", "bench.flows.celery_peer", *sys.argv[1:]], env=environment, check=True
            )
        finally:
            worker.terminate()
            worker.wait(30)
    else:
        print(json.dumps(rate(int(sys.argv[2]))))
