"""The load of one half. It runs small flows in one context, as often as it is told to.

`python -m bench.flows.half URL CONTEXT` reads words, a line each: `connect` has it open its next connection, first the
runner's, then the producer's, and say the port of its end; a number has it run so many flows and say the seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

from bench.flows.hero import JOBS, Producer, Runner, connected


def _say(figures: dict[str, Any]) -> None:
    print(json.dumps(figures), flush=True)


async def _serve(url: str, context: int) -> None:
    loop = asyncio.get_running_loop()
    runner, producer = Runner(0, context), Producer(0, context)
    waiting = [runner, producer]
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "connect":
            client = await connected(url, waiting.pop(0))
            if client is runner:
                await runner.subscribe()
            _say({"port": client.transport.underlying_transport.get_extra_info("sockname")[1]})
            continue
        flows = int(line)
        runner.expect(flows * JOBS)
        began = time.perf_counter()
        producer.more(flows)
        await runner.done.wait()
        _say({"seconds": time.perf_counter() - began})


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
