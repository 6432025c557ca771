"""What a flow's jobs wrote: from its events, or from their results once those are gone."""

from __future__ import annotations

from coordinator.cli.connection import Place
from coordinator.cli.exit_codes import complain
from coordinator.cli.following import job_names
from coordinator.cli.output import say, say_raw
from coordinator.cli.progress import NAME_WIDTH, log_lines
from coordinator.client import Client, NotFound
from coordinator.models import BEGINNING, MAX_PAGE, Flow, FlowEvent

__all__ = ["show_logs"]


async def show_logs(client: Client, place: Place, id: int, follow: bool, raw: bool) -> int:
    """Print every line there is, and with `follow` those to come. Returns the exit status."""
    flow = await client.flow_load(context_id=place.context, id=id)
    printer = _Printer({} if raw else await job_names(client, flow), is_raw=raw)
    after = BEGINNING
    missed = False
    while True:
        page = await client.flow_events(context_id=place.context, id=id, after=after, limit=MAX_PAGE)
        missed = missed or page.missed
        for event in page.events:
            printer.show(event)
        if not page.events:
            break
        after = page.last_event
    if after == BEGINNING and flow.status in ("Finished", "Error"):
        complain(f"the events of flow {id} are no longer kept; these are the ends of its jobs' outputs")
        await _show_results(client, flow, printer)
    elif missed:
        complain(f"the first events of flow {id} are no longer kept; these are the ends of what jobs wrote before")
        await _show_tails(client, flow, printer)
    if follow:
        async with client.follow_flow(place.context, id, after) as events:
            async for event in events:
                printer.show(event)
    return 0


class _Printer:
    def __init__(self, names: dict[int, str], *, is_raw: bool) -> None:
        self._is_raw = is_raw
        self._names = names
        self.seen: set[int] = set()  # jobs of which there were lines
        self._width = min(NAME_WIDTH, max(map(len, names.values()), default=0))

    def show(self, event: FlowEvent) -> None:
        if event.kind == "log" and event.job_id is not None:
            self.seen.add(event.job_id)
        if event.kind == "log" and self._is_raw:
            for line in event.lines or []:
                say_raw(line)
        elif event.kind == "log" and event.job_id is not None:
            for line in log_lines(event, self._names.get(event.job_id, str(event.job_id)), self._width):
                say(line)


async def _show_results(client: Client, flow: Flow, printer: _Printer) -> None:
    for id in sorted(set(flow.jobs)):
        try:
            job = await client.job_load(context_id=flow.context_id, caller_id=flow.caller_id, id=id)
        except NotFound:
            complain(f"job {id} is no longer there")
            continue
        for stream in ("stdout", "stderr"):
            lines = job.result.get(stream, "").splitlines()
            printer.show(FlowEvent(event_id=BEGINNING, kind="log", at=0, job_id=id, stream=stream, lines=lines))


async def _show_tails(client: Client, flow: Flow, printer: _Printer) -> None:
    """What is kept of the jobs of which the flow's events have no lines any more."""
    for id in sorted({*flow.jobs} - printer.seen):
        try:
            tail = await client.job_tail(context_id=flow.context_id, caller_id=flow.caller_id, id=id)
        except NotFound:
            continue
        for report in tail.reports:
            event = FlowEvent(
                event_id=BEGINNING, kind="log", at=report.at, job_id=id, stream=report.stream, lines=report.lines
            )
            printer.show(event)
