"""Submitting a flow file, following a flow to its end, and saying how it ended."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any, Final, cast

import trio

from coordinator.cli.connection import Place, interruptible, until_signal
from coordinator.cli.exit_codes import EXIT_ERROR, SIGNALLED, complain, first_leaf
from coordinator.cli.flow_file import FLOW_NAME, JOB_NAME, FlowFile
from coordinator.cli.flow_state import ENDED, FlowState, Names, duration, named
from coordinator.cli.output import plural, say
from coordinator.cli.progress import View
from coordinator.cli.sending import Sending
from coordinator.client import CannotConnect, Client, MethodNotFound, NoReply, NotFound, RpcError
from coordinator.models import ContextCreate, Flow, FlowReport, ScriptType
from coordinator.printable import visible

__all__ = [
    "DEFAULT_CALLER",
    "Exists",
    "flow_name",
    "flow_title",
    "introduction",
    "job_names",
    "missing_lines",
    "result_lines",
    "submit",
    "watch",
    "watch_with_hints",
]

DEFAULT_CALLER: Final = 1
LOOK_FOR_RUNNERS_EVERY: Final = 5.0
EXIT_DELETED: Final = -1
"""What `watch_with_hints` itself returns; the process ends with EXIT_ERROR."""
MAX_RANDOM: Final = 2**31 - 1
MANY: Final = 10_000  # jobs, whose ids are shorter so that the list of all of them fits a message
MAX_SHORT: Final = 10**8 - 1
SHOWN: Final = 20  # ids of jobs that are not there
ELSEWHERE: Final = {"$ref": "job.load"}  # in the place of a result that is too large for a flow's
OUTPUT: Final = ("stdout", "stderr", "exit_code")
"""Members of a result that the runner adds to what the script gave."""


class Exists(Exception):
    """There is a flow of this id already, and submitting it again would do nothing."""


class Deleted(Exception):
    """The flow was deleted while it was followed."""


# -- submitting


async def submit(client: Client, file: FlowFile, context: int, caller: int | None = None) -> tuple[int, dict[int, str]]:
    """Create the context if need be, then the flow, and start it. Returns its id, and its jobs' names by their ids.

    Args:
        caller: over the file's.

    Raises Exists for an id of the file's that is taken.
    """
    if caller is None:
        caller = DEFAULT_CALLER if file.caller is None else file.caller
    flow, first_job = await _unused_ids(client, file, context, caller)
    params = file.submission(context=context, caller=caller, flow=flow, first_job=first_job)
    try:
        await client.context_load(id=context)
    except NotFound:
        created = ContextCreate(id=context, admins=[caller], readers=[], executors=[caller])
        await client.context_create(context=created)
    sending = Sending(flow, len(params.jobs))
    try:
        with sending:
            await interruptible(
                partial(
                    client.submit_flow,
                    context_id=context,
                    flow=params.flow,
                    jobs=params.jobs,
                    on_progress=sending.show,
                )
            )
    except* (CannotConnect, NoReply, KeyboardInterrupt, SystemExit) as group:
        sending.explain(is_interrupted=isinstance(first_leaf(group), KeyboardInterrupt | SystemExit))
        raise
    return flow, file.names(first_job)


async def _unused_ids(client: Client, file: FlowFile, context: int, caller: int) -> tuple[int, int]:
    """A flow's id, the file's own if it has one, and the first of as many jobs' ids."""
    largest = MAX_RANDOM if len(file.jobs) <= MANY else MAX_SHORT
    while True:
        base = random.randint(1, largest - len(file.jobs))
        flow, first_job = (base if file.id is None else file.id), base + 1
        calls: list[tuple[str, Any]] = [("flow.load", {"context_id": context, "id": flow})]
        calls += [("job.load", {"context_id": context, "caller_id": caller, "id": id}) for id in file.names(first_job)]
        found, *jobs = await client.call_many(calls)
        if isinstance(found, dict) and file.id is not None:
            raise Exists(f"there is a flow {flow} in context {context} already, it is {found['status']}")
        for outcome in (found, *jobs):
            if isinstance(outcome, Exception) and not isinstance(outcome, NotFound):
                raise outcome
        if not any(isinstance(outcome, dict) for outcome in (found, *jobs)):
            return flow, first_job


# -- names


async def job_names(client: Client, flow: Flow) -> dict[int, str]:
    """The names of the flow's jobs that have one."""
    ids = sorted(set(flow.jobs))
    calls = [("job.load", {"context_id": flow.context_id, "caller_id": flow.caller_id, "id": id}) for id in ids]
    jobs = await client.call_many(calls)
    found = {
        id: job.get("name") or job["env_vars"].get(JOB_NAME)
        for id, job in zip(ids, jobs, strict=True)
        if isinstance(job, dict)
    }
    return {id: visible(name) for id, name in found.items() if name}


def flow_name(flow: Flow) -> str:
    """What it is called; earlier versions of `flow run` have said so in its environment alone."""
    return flow.name or flow.env_vars.get(FLOW_NAME, "")


def flow_title(flow: Flow) -> str:
    name = flow_name(flow)
    return f"flow {flow.id} ({name})" if name else f"flow {flow.id}"


def introduction(file: FlowFile, id: int, context: int) -> str:
    name = f" ({file.name})" if file.name else ""
    return f"flow {id}{name}: {len(file.jobs)} {plural(len(file.jobs), 'job')} in context {context}"


# -- following


async def _follow(client: Client, place: Place, state: FlowState, after: str, view: View) -> None:
    """Show a flow's events until it has ended."""
    view.begin(state)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(view.run)
        nursery.start_soon(_miss_runners, client, state, place)
        async with client.follow_flow(place.context, state.id, after) as events:
            async for event in events:
                state.apply(event)
                view.show(event)
        nursery.cancel_scope.cancel()


async def _miss_runners(client: Client, state: FlowState, place: Place) -> None:
    """Say so when no connected runner takes jobs of a type that are still to be done, and when one does again."""
    missed: set[str] = set()
    while True:
        try:
            connected = (await client.runner_connected(context_id=place.context)).script_types
        except MethodNotFound:  # the coordinator is an older one
            return
        except (RpcError, NoReply):
            await trio.sleep(LOOK_FOR_RUNNERS_EVERY)
            continue
        needed = {job.script_type for job in state.jobs.values() if job.status not in ENDED}
        missing = {script_type for script_type in needed if not connected.get(cast(ScriptType, script_type))}
        for script_type in sorted(missing - missed):
            options = () if script_type == "Python" else ("--type", f"{script_type}=COMMAND")
            complain(
                f"no runner that takes {script_type} jobs is connected; they wait. "
                f"To start one: {place.command('runner', *options)}"
            )
        for script_type in sorted(missed - missing):
            if script_type in needed:
                complain(f"a runner that takes {script_type} jobs is connected now")
        missed = missing
        await trio.sleep(LOOK_FOR_RUNNERS_EVERY)


async def watch(
    client: Client,
    place: Place,
    id: int,
    view: View,
    *,
    after: str | None = None,
    names: Names | None = None,
) -> int:
    """Follow a flow from an event on, or from now on, and say how it ended. Returns the exit status; one over
    SIGNALLED if a signal came, and the flow goes on."""
    ended = await until_signal(partial(_watch, client, place, id, view, after, names))
    return SIGNALLED + ended if isinstance(ended, signal.Signals) else ended


async def _watch(client: Client, place: Place, id: int, view: View, after: str | None, names: Names | None) -> int:
    report = await client.flow_status(context_id=place.context, id=id)
    if names is None:
        names = await job_names(client, report.flow)
    state = FlowState(report, names)
    was_over = after is None and state.status in ENDED
    await _follow(client, place, state, report.last_event if after is None else after, view)
    # What was shown is behind if events were no longer kept; this is not.
    try:
        report = await client.flow_status(context_id=place.context, id=id)
    except NotFound:
        raise Deleted from None
    return _conclude(report, names, with_output=was_over or not view.shows_logs)


async def watch_with_hints(
    client: Client,
    place: Place,
    id: int,
    view: View,
    *,
    after: str | None = None,
    names: Names | None = None,
) -> int:
    """`watch`, and say what may be done next about a flow that goes on or failed."""
    try:
        status = await watch(client, place, id, view, after=after, names=names)
    except* Deleted:
        complain(f"flow {id} was deleted")
        status = EXIT_DELETED
    except* (CannotConnect, NoReply):
        complain(f"flow {id} goes on; follow it with `{place.command('flow follow', id)}`")
        raise
    if status == EXIT_DELETED:
        return EXIT_ERROR
    if status > SIGNALLED:
        complain(f"flow {id} goes on without being watched")
        say(f"  follow it: {place.command('flow follow', id)}", err=True)
        say(f"  cancel it: {place.command('flow cancel', id)}", err=True)
    elif status == EXIT_ERROR:
        say(f"  its output: {place.command('flow logs', id)}", err=True)
        say(f"  try again:  {place.command('flow retry', id, '--follow')}", err=True)
    return status


def _conclude(report: FlowReport, names: Names, *, with_output: bool) -> int:
    """Say how a flow ended and what came out of it. Returns the exit status."""
    flow = report.flow
    took = ""
    if report.started_at is not None and report.ended_at is not None:
        took = f" after {duration((report.ended_at - report.started_at) / 1000)}"
    reason = f": {named(flow.result['error'], names)}" if flow.status == "Error" and "error" in flow.result else ""
    say(f"{flow_title(flow)} {flow.status}{took}{reason}")
    if flow.status == "Finished":
        for line in result_lines(flow, names, with_output=with_output):
            say(line)
        return 0
    for job in report.jobs:
        if job.status == "Error":
            say(f"  {names.get(job.id, job.id)}: {named(job.failure or 'failed', names)}")
    for line in missing_lines(report):
        say(line)
    return EXIT_ERROR


def missing_lines(report: FlowReport) -> Iterator[str]:
    """Says which jobs of a flow are not there, if any are not."""
    missing = report.missing or []
    if missing:
        shown = ", ".join(map(str, missing[:SHOWN])) + (", …" if len(missing) > SHOWN else "")
        count = "1 job that it lists is" if len(missing) == 1 else f"{len(missing)} jobs that it lists are"
        yield f"  {count} no longer there: {shown}"


def result_lines(flow: Flow, names: Names, *, with_output: bool) -> Iterator[str]:
    """What a Finished flow's leaf jobs gave, by job."""
    for id, text in flow.result.items():
        if not id.isdigit():
            continue
        result: dict[str, str] = json.loads(text)
        if result == ELSEWHERE:
            yield f"{names.get(int(id), id)}: its result is too large for the flow's; job.load has it"
            continue
        lines = [line for key, value in result.items() if key not in OUTPUT for line in f"{key} = {value}".split("\n")]
        if with_output and result.get("stdout"):
            lines += result["stdout"].rstrip("\n").split("\n")
        if lines:
            yield f"{names.get(int(id), id)}:"
            yield from (f"  {line}" for line in lines)
