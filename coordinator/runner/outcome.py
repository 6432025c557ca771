"""How an attempt ended, and how that is said."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from coordinator.runner import inside
from coordinator.runner.environment import too_large
from coordinator.runner.isolate import Isolation
from coordinator.runner.output import Output
from coordinator.runner.results import Results, read_results
from coordinator.runner.spawn import Ended
from coordinator.runner.warden import CUT_OFF, NO_PROCESS, NO_SANDBOX, OUT_OF_MEMORY, SANDBOX_ENDED, Spec

__all__ = ["Ending", "Outcome", "explain", "last_line_of", "not_run", "outcome_of"]

_QUOTED: Final = 1000  # characters of a line that are quoted in an error
_MEBIBYTE: Final = 1024 * 1024
_UNREADABLE: Final = {
    inside.NO_RESULT_FILE: "it is no file any more",
    inside.RESULT_CLOSED: "the script has forbidden it, by its permissions or a limit",
}
_CUT_OFF: Final = "the runner was cut off from the coordinator for longer than the lease, and has stopped the script"


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended.

    Attributes:
        captured: what we know of it: stdout, stderr, exit_code.
        error: None if it succeeded.
        retry: false if another attempt makes no sense.
        values: what the script wrote as its result.
        is_lost: it was given up, which says nothing of the script: its lease was not renewed in time, or the runner
            leaves or could not run it.
        is_unfit: the runner could not run it, and may not be able to run any other.
    """

    captured: dict[str, str]
    error: str | None = None
    retry: bool = True
    values: dict[str, str] = field(default_factory=dict)
    is_lost: bool = False
    is_unfit: bool = False

    @property
    def result(self) -> dict[str, str]:
        """What becomes the job's result."""
        return {**self.captured, **self.values}


@dataclass
class Ending:
    """How a script was ended.

    Attributes:
        ended: None while `unknown` says why.
        has_begun: there may have been a process for the script.
        timed_out_after: seconds, 0 if it did not.
        is_ours: the runner has ended it, because its time was up or it was told to stop.
    """

    ended: Ended | None = None
    unknown: str = "it cannot be killed"
    has_begun: bool = True
    timed_out_after: int = 0
    is_ours: bool = False


def outcome_of(ending: Ending, spec: Spec, output: Output, result_file: Path, isolation: Isolation | None) -> Outcome:
    """What an attempt has come to: how its script ended, what it has written, and which of its limits it met."""
    results = _results_of(ending.ended, result_file)
    captured: dict[str, str] = {stream: capture.tail for stream, capture in output.captures.items()}
    ended = ending.ended
    if ended is None and not ending.has_begun and not ending.is_ours:
        return not_run(ending.unknown)
    if ended is None:
        return Outcome(captured, ending.unknown, values=results.values)
    if ended.by == NO_PROCESS:
        return not_run(f"cannot start a process: {os.strerror(ended.errno)}")
    result = {**captured, "exit_code": str(ended.status)}
    error, retry = None, True
    if ending.timed_out_after:
        error = f"timed out after {ending.timed_out_after} s"
    elif ended.by == OUT_OF_MEMORY:
        error = (
            f"memory limit exceeded: the script and what it started had {ended.memory / _MEBIBYTE:.0f} MiB, the "
            f"runner's --memory-limit is {spec['memory'] / _MEBIBYTE:.0f} MiB"
        )
    elif ended.by == NO_SANDBOX:
        error = f"there was no sandbox to be had for it: {last_line_of(captured['stderr']) or explain(ended.status)}"
    elif ended.by == SANDBOX_ENDED:
        error = f"its sandbox was ended: {explain(ended.status)}"
    elif ended.errno == errno.E2BIG:
        error, retry = too_large(spec["env"]), False
    elif ended.status != 0 or ended.found & inside.PROCESSES:
        last_line = last_line_of(captured["stderr"])
        error = explain(ended.status)
        error = f"{error}: {last_line}" if last_line else error
        error = _with_limit(error, last_line, ended, isolation)
    if results.fault is not None:
        output.note(results.fault)
        error = error or results.fault
    if ended.by == CUT_OFF and not ending.is_ours:
        return Outcome(result, _CUT_OFF, values=results.values, is_lost=True)
    has_no_interpreter = ended.errno not in {0, errno.E2BIG}
    is_unfit = not ending.is_ours and (ended.by == NO_SANDBOX or has_no_interpreter)
    return Outcome(result, error, retry, results.values, is_lost=is_unfit, is_unfit=is_unfit)


def _results_of(ended: Ended | None, result_file: Path) -> Results:
    for found, why in _UNREADABLE.items():
        if ended is not None and ended.found & found:
            return Results({}, f"HERO_RESULT cannot be read: {why}")
    return read_results(result_file)


def _with_limit(error: str, last_line: str, ended: Ended, isolation: Isolation | None) -> str:
    """What to say of a script that failed, with the limit of its sandbox that it came up against, if it did."""
    if isolation is None:
        return error

    def hit(found: int, *words: str) -> bool:
        return bool(ended.found & found) or any(word in last_line for word in words)

    if hit(inside.PROCESSES, os.strerror(errno.EAGAIN), "can't start new thread", "Cannot fork"):
        return (
            f"process limit exceeded: the script and what it started are to be at most {isolation.processes} "
            f"processes and threads, the runner's --process-limit ({error})"
        )
    if hit(inside.FILE, os.strerror(errno.EFBIG), "File size limit") or -ended.status == signal.SIGXFSZ:
        return f"file limit exceeded: the runner's --file-limit is {_mebibytes(isolation.file)} ({error})"
    if hit(inside.DISK, os.strerror(errno.ENOSPC)):
        return (
            f"disk limit exceeded: the runner's --disk-limit is {_mebibytes(isolation.disk)}, and a file for each "
            f"4 KiB of it ({error})"
        )
    return error


def not_run(why: str) -> Outcome:
    """That of an attempt whose script could not be run, for this reason."""
    return Outcome({}, why, is_lost=True, is_unfit=True)


def explain(status: int) -> str:
    """How a script with this status ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-status}"


def _mebibytes(size: int) -> str:
    return f"{size / _MEBIBYTE:g} MiB"


def last_line_of(text: str) -> str:
    """The last one that is not blank, as it is quoted."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "").strip()[:_QUOTED]
