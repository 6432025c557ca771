"""A process that generates load, see generator.py."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from coordinator.client.reasons import first_of
from coordinator.load.generator import Generator, Spec, Step, say
from coordinator.load.jobs import Jobs, JobsSpec, NotReady


class _Input(asyncio.StreamReaderProtocol):
    """What we are told, by the owner of the load: when that process is gone the load ends, in a step too."""

    is_working = True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.is_working:
            os._exit(1)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 26)  # a Spec may name many contexts
    _, told = await loop.connect_read_pipe(lambda: _Input(lines), sys.stdin)
    given = json.loads(await lines.readline())
    generator = Jobs(JobsSpec(**given)) if "runners" in given else Generator(Spec(**given))
    is_connected = isinstance(generator, Jobs)
    with Path(given["latencies"]).open("ab") as latencies:  # noqa: ASYNC230 - before there is load
        # Subscribers are all there before any process publishes what they have to be told.
        if is_connected and not await _connect(generator):
            return
        while True:
            told.is_working = False
            if not (line := await lines.readline()):
                break
            told.is_working = True
            step = Step(**json.loads(line))
            if not is_connected and not step.storm:
                is_connected = await _connect(generator)
                if not is_connected:
                    return
            try:
                end = await generator.step(step, latencies)
            except Exception as error:  # whatever a library says of a server that cannot be reached
                _say_failed(error)
                return
            say({"end": asdict(end)})
    generator.close()


async def _connect(generator: Generator) -> bool:
    try:
        await generator.connect()
    except Exception as error:  # whatever a library says of a server that cannot be reached
        _say_failed(error)
        return False
    say({"connected": len(generator.clients)})
    return True


def _say_failed(error: Exception) -> None:
    leaf = first_of(error)
    say({"failed": str(leaf) if isinstance(leaf, NotReady) else f"{type(leaf).__name__}: {leaf}"})


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else max(soft, 65536), hard))
    gc.disable()  # nothing here makes cycles worth collecting, and a collection would count as latency
    asyncio.run(_main())


if __name__ == "__main__":
    main()
