"""How a flow under way is shown: a table that is kept up to date on a terminal, a line an event elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import trio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coordinator.cli.flow_state import ENDED, FlowState, JobState, duration
from coordinator.cli.output import say
from coordinator.models import FlowEvent
from coordinator.printable import visible

__all__ = ["LiveView", "PlainView", "View", "log_lines", "view_for"]

REFRESH_EVERY: Final = 0.1
NAME_WIDTH: Final = 24
_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_STYLES: Final = {"Finished": "green", "Error": "bold red", "Started": "cyan", "Dispatched": "yellow", "Waiting": "dim"}
_MARKS: Final = {"Finished": "✔", "Error": "✘", "Dispatched": "●", "Waiting": "·"}


class View(Protocol):
    """Shows a flow from `begin` on. `run` is a task beside, cancelled in the end; `shows_logs`: all lines are shown."""

    shows_logs: bool

    def begin(self, state: FlowState) -> None: ...

    def show(self, event: FlowEvent) -> None:
        """The state has just changed by this event."""

    async def run(self) -> None: ...


def view_for(*, plain: bool) -> View:
    """What suits standard output."""
    console = Console()
    return PlainView() if plain or not console.is_terminal or console.is_dumb_terminal else LiveView(console)


# -- lines


class PlainView:
    """Says nothing of jobs becoming ready, nor of the flow itself, of which others speak."""

    shows_logs = True

    def __init__(self, write: Callable[[str], None] = say) -> None:
        self._write = write
        self._state: FlowState

    def begin(self, state: FlowState) -> None:
        self._state = state
        self._width = min(NAME_WIDTH, max((len(job.name) for job in state.jobs.values()), default=0))

    def show(self, event: FlowEvent) -> None:
        job = self._state.jobs.get(event.job_id) if event.job_id is not None else None
        if event.kind == "log" and job is not None:
            for line in log_lines(event, job.name, self._width):
                self._write(line)
        elif event.kind == "job" and job is not None and (event.status != "Dispatched" or event.reason):
            self._write(f"{job.name:{self._width}} > {_what_happened(job, event)}")

    async def run(self) -> None:
        await trio.sleep_forever()


def log_lines(event: FlowEvent, name: str, width: int) -> Iterable[str]:
    """`NAME | line`, with `!` for the standard error."""
    mark = "!" if event.stream == "stderr" else "|"
    return (f"{name:{width}} {mark} {line}" for line in event.lines or [])


def _what_happened(job: JobState, event: FlowEvent) -> str:
    details = []
    if event.status == "Started":
        details = [f"attempt {job.attempt}", *([f"on {job.runner}"] if job.runner else [])]
    elif event.status in ENDED and (seconds := job.seconds(event.at)) is not None:
        details = [duration(seconds)]
    failure = f": {event.reason}" if event.reason else ""
    if event.status == "Dispatched":
        return f"attempt {job.attempt} failed{failure}; it is tried again"
    shown = f" ({', '.join(details)})" if details else ""
    return f"{job.shown_status}{shown}{failure}"


# -- table


class LiveView:
    shows_logs = False

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state: FlowState

    def begin(self, state: FlowState) -> None:
        self._state = state

    def show(self, event: FlowEvent) -> None:
        pass  # drawn at the next refresh

    async def run(self) -> None:
        with Live(console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self.render(time.time_ns() // 1_000_000), refresh=True)
                    await trio.sleep(REFRESH_EVERY)
            finally:
                live.update(self.render(time.time_ns() // 1_000_000), refresh=True)

    def render(self, now: int) -> RenderableType:
        """The table at `now`, ms; not higher than the terminal."""
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, expand=True)
        for width in (len(f"level {len(self._state.levels)}"), None, 11, 10):
            table.add_column(no_wrap=True, width=width)
        table.add_column(no_wrap=True, width=10)
        table.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
        room = self._console.height - 3
        fits = len(self._state.jobs) <= room
        sums_up = not fits and len(self._state.levels) <= room // 2
        room -= len(self._state.levels) if sums_up else 0
        for number, level in enumerate(self._state.levels):
            if sums_up:
                table.add_row(f"level {number}", Text(_counts(level), style="dim"))
            jobs = level if fits else sorted(filter(_is_news, level), key=_interest)[: max(0, room)]
            room -= len(jobs)
            for at, job in enumerate(jobs):
                first = at == 0 and not sums_up
                table.add_row(Text(f"level {number}" if first else "", style="dim"), *_cells(job, now))
        return Group(table, self._summary(now))

    def _summary(self, now: int) -> Text:
        state = self._state
        text = Text(f"flow {state.id} ").append(state.status, style=_STYLES.get(state.status, ""))
        if state.started_at is not None:
            text.append(f"  {duration(max(0, ((state.ended_at or now) - state.started_at) / 1000))}")
        return text.append(f"  {_counts(state.jobs.values())}", style="dim")


def _is_news(job: JobState) -> bool:
    return job.status in ("Started", "Error")


def _interest(job: JobState) -> bool:
    return job.status != "Error"


def _counts(jobs: Iterable[JobState]) -> str:
    return ", ".join(f"{count} {status}" for status, count in Counter(job.shown_status for job in jobs).items())


def _cells(job: JobState, now: int) -> list[Text]:
    status = job.shown_status
    mark = _MARKS.get(status) or _FRAMES[now // 100 % len(_FRAMES)]
    seconds = job.seconds(now)
    name = job.name if len(job.name) <= NAME_WIDTH else job.name[: NAME_WIDTH - 1] + "…"
    return [
        Text(name),
        Text(f"{mark} {status}", style=_STYLES.get(status, "")),
        Text("" if seconds is None else duration(seconds), justify="right"),
        Text(f"attempt {job.attempt}" if job.attempt else "", style="" if job.attempt > 1 else "dim"),
        Text(_cell(job.failure), style="red") if job.failure else Text(_cell(job.line), style="dim"),
    ]


def _cell(text: str) -> str:
    return visible(text).expandtabs(4)
