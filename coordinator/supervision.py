"""What happens when something raises an exception that nothing was written for.

It is logged with an incident, it is counted, and it ends neither the process nor its neighbours: a task that is
supervised is started again, anything else that is contained goes on with what comes next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import trio

from coordinator.backoff import Backoff
from coordinator.errors import InternalError

__all__ = ["FAULTS", "contain", "faults", "report", "supervise"]

log = structlog.get_logger("coordinator.supervision")

FAULTS: Final = "Exceptions nothing was written for; the log has each with its incident."  # for the page of metrics
BACKOFF_BASE: Final = 0.05  # seconds before the first restart, about
BACKOFF_CAP: Final = 2.0
SOUND_AFTER: Final = 10.0  # seconds of running after which a task's earlier crashes no longer count


class _Count:
    """What this process has counted, like everything else on its page of metrics."""

    reported = 0


def faults() -> int:
    """How many faults this process has reported so far."""
    return _Count.reported


def report(what: str, error: BaseException, **where: object) -> InternalError:
    """Log an exception under a new incident, and count it. Never raises.

    Args:
        what: what raised it, as a noun.
        where: more for the log.

    Returns what whoever waits may be answered with.
    """
    _Count.reported += 1
    fault = InternalError()
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    log.error("an internal fault", what=what, incident=fault.incident, exc_info=error, **where)
    return fault


@contextmanager
def contain(what: str, **where: object) -> Iterator[None]:
    """Report what the body raises, and go on behind it. A cancellation passes, also one that comes with a fault."""
    try:
        yield
    except* Exception as error:
        report(what, error, **where)


async def supervise(what: str, task: Callable[[], Awaitable[object]], **where: object) -> None:
    """Run a task until it returns. Whenever it raises, report that and start it again after a pause that grows.

    Args:
        what: the task, as a noun, for the log.
        task: called for each start.
    """
    backoff = Backoff(cap=BACKOFF_CAP, base=BACKOFF_BASE)
    failures = 0
    while True:
        begun = trio.current_time()
        with contain(what, **where):
            await task()
            return
        failures = 1 if trio.current_time() - begun > SOUND_AFTER else failures + 1
        await trio.sleep(backoff.compute(failures))
