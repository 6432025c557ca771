"""Records as registers: clients that write and read them, and whether what they saw can have been one register each.

Every write has a value that no other has. A value is there from some moment between the start of its write and the
first time that anybody knew of it, until at least the last time that somebody began to read it. If it was known before
the last read of it began, it was there all that time, its span, and no other value can have been there meanwhile. This
is what Gibbons and Korach (Testing Shared Memories, 1997) call zones: two spans must not overlap, and a value whose
whole life lies within the span of another cannot have been.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import trio

from tests.support.flows import fields_of_job

__all__ = ["Client", "History", "Seen", "violations"]

ANSWERED_WITHIN: Final = 10.0  # seconds after which a client gives up a call


@dataclass
class Seen:
    """What is known of one value: when its write began, and when it and the reads that saw it did and ended."""

    value: str
    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    reads: int = 0
    is_refused: bool = False  # the writer was told that it was not applied

    @property
    def known(self) -> float:
        """When somebody knew first that it had been written."""
        return min(self.ends, default=math.inf)

    @property
    def wanted(self) -> float:
        """When it was last asked for, or written."""
        return max(self.starts)


def violations(register: Iterable[Seen]) -> list[str]:
    """What one register cannot have shown."""
    values = [seen for seen in register if seen.ends]  # else nobody knows that it was ever there
    found = [f"{seen.value} was read though its write was refused" for seen in values if seen.is_refused and seen.reads]
    spans = sorted((seen for seen in values if seen.known < seen.wanted), key=lambda seen: seen.known)
    for one, other in itertools.pairwise(spans):
        if other.known < one.wanted:
            found.append(f"{one.value} was there until after {other.value} was, and the other way round")
    for span in spans:
        for seen in values:
            if seen.known >= seen.wanted and span.known < seen.wanted and seen.known < span.wanted:
                found.append(f"{seen.value} came and went while {span.value} was there")
    return found


class History:
    """What clients have seen of all registers.

    Attributes:
        acknowledged, uncertain, reads: calls of each kind.
    """

    def __init__(self) -> None:
        self.registers: dict[tuple[int, int], dict[str, Seen]] = defaultdict(dict)
        self.acknowledged = self.uncertain = self.reads = 0
        self._values = itertools.count(1)

    def new_value(self, register: tuple[int, int]) -> Seen:
        seen = Seen(str(next(self._values)), [time.monotonic()])
        self.registers[register][seen.value] = seen
        return seen

    def violations(self) -> list[str]:
        return [
            f"job {id} of context {context}: {violation}"
            for (context, id), seen in self.registers.items()
            for violation in violations(seen.values())
        ]


class Client:
    """Writes, deletes and reads at random, one call after the other, until it is cancelled."""

    def __init__(self, history: History, urls: Sequence[str], registers: Sequence[tuple[int, int]], seed: int) -> None:
        self._history = history
        self._urls = urls
        self._registers = registers
        self._random = random.Random(seed)

    async def run(self) -> None:
        while True:
            url = self._random.choice(self._urls)
            async with httpx.AsyncClient(base_url=url, timeout=ANSWERED_WITHIN, verify=False) as http:
                for _ in range(self._random.randint(1, 60)):
                    await self._call(http)

    async def _call(self, http: httpx.AsyncClient) -> None:
        register = self._random.choice(self._registers)
        context, id = register
        ids = {"context_id": context, "caller_id": 7, "id": id}
        how = self._random.random()
        if how < 0.5:
            await self._read(http, register, ids)
        elif how < 0.55:
            await self._write(http, register, "job.delete", ids)
        else:
            await self._write(http, register, "job.create", None)

    async def _read(self, http: httpx.AsyncClient, register: tuple[int, int], ids: dict[str, int]) -> None:
        start = time.monotonic()
        reply = await _post(http, "job.load", ids)
        if reply is None or "result" not in reply:
            return
        self._history.reads += 1
        seen = self._history.registers[register][reply["result"]["script"]]
        seen.starts.append(start)
        seen.ends.append(time.monotonic())
        seen.reads += 1

    async def _write(
        self, http: httpx.AsyncClient, register: tuple[int, int], method: str, ids: dict[str, int] | None
    ) -> None:
        seen = self._history.new_value(register)
        job = {**fields_of_job(register[0], register[1]), "script": seen.value}
        reply = await _post(http, method, ids or {"context_id": register[0], "job": job})
        if reply is not None and "result" in reply:
            self._history.acknowledged += 1
            seen.ends.append(time.monotonic())
            return
        self._history.uncertain += 1
        data = (reply or {}).get("error", {}).get("data") or {}
        seen.is_refused = data.get("may_have_been_applied") is False
        await trio.sleep(0.02)


async def _post(http: httpx.AsyncClient, method: str, params: dict[str, Any]) -> Any:
    """The reply; None if there is none."""
    try:
        response = await http.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return response.json()
    except (httpx.HTTPError, ValueError):
        await trio.sleep(0.05)
        return None
