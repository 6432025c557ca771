"""The load itself: generators measure, once or at one rate after another, and what they say is put together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import trio

from coordinator.client.reasons import first_of
from coordinator.load.generator import DRAIN, Step
from coordinator.load.measured import Measured, Second, new_histogram, record
from coordinator.load.plan import LoadFailed, Plan
from coordinator.load.processes import CONNECT_TIMEOUT, Process

__all__ = ["find_knee", "run_step"]


async def run_step(
    plan: Plan, processes: Sequence[Process], show: Callable[[Measured], None] = lambda _: None
) -> Measured:
    """Measure once. `show` is called with what there is so far, about twice a second.

    Raises:
        LoadFailed: a generator could not connect.
    """
    sending = 1 if plan.is_fanout else len(processes)
    step = Step(plan.rate / plan.batch / sending, plan.warm_up, plan.seconds, plan.storm)
    found = Measured(plan.rate, histogram=new_histogram(), unit=plan.unit, grain=plan.batch * sending)
    if plan.jobs is not None and not plan.is_fanout:
        found.waits = new_histogram()
    ticks: list[dict[str, Any]] = [{} for _ in processes]
    ends: list[dict[str, Any]] = []
    gathered: list[Any] = []

    async def follow(at: int) -> None:
        process = processes[at]
        await process.send(asdict(step if at < sending else replace(step, rate=0.0)))
        while True:
            said = await process.next()
            if "end" in said:
                ends.append(said["end"])
                return
            if "tick" in said:
                ticks[at] = said["tick"]
                latencies = process.latencies()
                record(found.histogram, latencies)
                gathered.append(latencies)
                if found.waits is not None:
                    record(found.waits, process.waits())
                if at == 0:
                    _sum_up(found, plan, ticks, gathered)
                    show(found)

    limit = plan.warm_up + plan.seconds + DRAIN + CONNECT_TIMEOUT
    try:
        with trio.fail_after(limit):
            async with trio.open_nursery() as nursery:
                for at in range(len(processes)):
                    nursery.start_soon(follow, at)
    except trio.TooSlowError:
        raise LoadFailed(f"the load generators did not end within {limit:g} s") from None
    except BaseExceptionGroup as group:
        raise first_of(group) from None
    _sum_up(found, plan, ticks, gathered)
    found.seconds = max(end["seconds"] for end in ends)
    found.late_ms = max(end["late_ms"] for end in ends)
    found.cpu_shares = [round(end["cpu_share"], 3) for end in ends]
    found.unanswered = sum(end["unanswered"] for end in ends)
    found.unsent = sum(end["unsent"] for end in ends)
    if plan.is_fanout:
        # More may have come than was acknowledged: what was refused in the end, or told again.
        found.undelivered = max(0, sum(end["expected"] - end["delivered"] for end in ends))
    found.fell_behind = any(end["fell_behind"] for end in ends)
    found.reply_bytes = sum(end["reply_bytes"] for end in ends)
    return found


def _sum_up(found: Measured, plan: Plan, ticks: list[dict[str, Any]], gathered: list[Any]) -> None:
    """Bring what was found up to what the generators have said, and note what was new in it."""
    present = [tick for tick in ticks if tick]
    if not present:
        return
    calls, errors = found.calls, found.errors
    found.messages = sum(tick["answered"] for tick in present)
    found.calls = sum(tick["changes"] for tick in present) if plan.is_fanout else found.messages * plan.batch
    found.jobs = sum(tick["jobs"] for tick in present)
    found.events = sum(tick["events"] for tick in present)
    for tick in present:
        found.reasons.update(tick["reasons"])
    found.seconds = max(tick["seconds"] for tick in present)
    found.refused = sum((Counter(tick["refused"]) for tick in present), Counter())
    found.faults = sum((Counter(tick["faults"]) for tick in present), Counter())
    latencies = np.concatenate(gathered) if gathered else np.zeros(0)
    gathered.clear()
    if len(latencies) == 0 and found.errors == errors:
        return
    p50, p99, p999 = np.quantile(latencies, [0.5, 0.99, 0.999]) * 1000 if len(latencies) else [math.nan] * 3
    behind = sum(tick["behind"] for tick in present)
    found.series.append(
        Second(found.seconds, found.calls - calls, found.errors - errors, behind, float(p50), float(p99), float(p999))
    )


async def find_knee(
    plan: Plan,
    processes: Sequence[Process],
    limit_ms: float,
    show: Callable[[Measured], None],
    say: Callable[[str], None],
) -> list[Measured]:
    """Raise the rate by a half until a p99 within `limit_ms` is not held any more, then halve the span between the last
    that was and the first that was not, until they are within 5 %. What was measured at each; the best one last."""
    closed = await run_step(replace(plan, rate=0.0, seconds=min(plan.seconds, 3.0)), processes, show)
    steps, good, bad, best = [closed], 0.0, math.inf, None
    rate = max(closed.per_second / 8, 10.0 * plan.batch)
    while bad / max(good, 1e-9) > 1.05 and rate >= 1.0:
        found = await run_step(replace(plan, rate=rate), processes, show)
        steps.append(found)
        is_held = found.keeps(limit_ms)
        p99 = f"p99 {found.ms(99):8.2f} ms" if found.measured else "nothing was answered"
        errors = f", {found.errors} errors" if found.errors else ""
        say(f"{rate:10,.0f} {plan.unit}/s: {p99}, {'held' if is_held else 'not held'}{errors}")
        if is_held:
            good, best = rate, found
        else:
            bad = rate
            if found.is_generator_limit:
                say("the load generator is what limits; give it more --processes, or a machine of its own")
        rate = rate * 1.5 if bad == math.inf else (good + bad) / 2 if good else rate / 2
    if best is not None:
        steps.append(best)
    return steps
