"""`herocoordinator flow …`: flows for people, from files."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from coordinator.cli.connection import (
    DEFAULT_CONTEXT,
    DEFAULT_URL,
    Place,
    context_option,
    in_context,
    run_connected,
    where,
)
from coordinator.cli.exit_codes import EXIT_ERROR, EXIT_USAGE, complain
from coordinator.cli.filters import filtered, limited, ordered
from coordinator.cli.flow_file import FlowFile, FlowFileError, read_flow_file
from coordinator.cli.flow_state import FlowState, duration, named
from coordinator.cli.following import (
    DEFAULT_CALLER,
    Exists,
    flow_name,
    flow_title,
    introduction,
    job_names,
    missing_lines,
    result_lines,
    submit,
    watch_with_hints,
)
from coordinator.cli.listed import created, list_pages
from coordinator.cli.logs import show_logs
from coordinator.cli.options import UINT32
from coordinator.cli.output import plural, say
from coordinator.cli.progress import View, view_for
from coordinator.client import Client, Conflict, DagCycleDetected, DagMissingDependency
from coordinator.models import BEGINNING, Flow, FlowFilter, FlowRerunParams, FlowsDone

__all__ = ["flow", "read"]


_plain = click.option("--plain", is_flag=True, help="A line an event, also on a terminal.")
_id = click.argument("id", type=UINT32)


@click.group()
def flow() -> None:
    """Run flows from files, and look after flows.

    A runner has to be there to do the work: `herocoordinator runner --context 1`.

    \b
    herocoordinator flow run examples/diamond.toml
    herocoordinator flow list --status Error
    herocoordinator flow retry 12 --follow

    Exit status: 0 done (of a flow that was followed: Finished), 1 an error reply (or the flow is in Error), 2 a wrong
    command line or flow file, 3 no connection, 130 interrupted (143 and 129 by SIGTERM and SIGHUP): the flow goes on.
    """


@flow.command(short_help="Run the flow in a file and follow it.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--caller", type=UINT32, help=f"Actor on whose behalf it runs.  [default: {DEFAULT_CALLER}]")
@click.option("--no-follow", is_flag=True, help="Submit it, print its id, and be done.")
@_plain
@where(DEFAULT_URL)
@context_option
def run(
    url: str, ca: Path | None, context: int | None, file: Path, caller: int | None, no_follow: bool, plain: bool
) -> None:
    """Run the flow in FILE (.toml, .yaml, .yml), show its progress, and print the results of its last jobs.

    --context and --caller win over the file's. The context is created if there is none. Ctrl-C leaves the flow
    running.

    \b
    A file in TOML; YAML has the same fields.
      name    = "nightly"             # optional; as are id, caller and context
      env     = { DAY = "monday" }    # environment of every job
      [[jobs]]                        # or a table: [jobs.fetch]
      name    = "fetch"
      script  = "print('hello')"      # or: file = "fetch.py", beside the flow file
      [[jobs]]
      name    = "report"
      file    = "report.py"
      type    = "Python"              # or Osis, Sal, V
      depends = ["fetch"]             # names of jobs that must finish first
      env     = { TITLE = "Report" }  # over the flow's
      timeout = 60                    # seconds an attempt may take; 0, the default: no limit
      retries = 2                     # attempts that may follow a failed one; default 0
      prerequisites = ["approved"]    # waits for prerequisite.satisfy of each
      tags    = ["report"]            # found by `job list --tag report`; a flow may have tags, too

    A script finds its results' place in HERO_RESULT, those of the jobs it depends on in HERO_INPUTS (JSON, by id) and
    their ids by name in the file HERO_DEPENDS_FILE and, as far as it fits, in HERO_DEPENDS (JSON); see `herocoordinator
    runner --help`.
    """
    content = read(file)
    chosen = [given for given in (context, content.context, DEFAULT_CONTEXT) if given is not None]
    place = Place(url, chosen[0], ca)
    view = None if no_follow else view_for(plain=plain)
    run_connected(place, partial(_run, file=content, place=place, caller=caller, view=view))


def read(path: Path) -> FlowFile:
    """The flow file; one that is wrong is explained, and the process exits with 2."""
    try:
        return read_flow_file(path)
    except FlowFileError as error:
        for problem in error.problems:
            say(problem, err=True)
        raise SystemExit(EXIT_USAGE) from None


async def _run(client: Client, file: FlowFile, place: Place, caller: int | None, view: View | None) -> int:
    """Submit it, and without a view leave it at that. Returns the exit status."""
    try:
        id, names = await submit(client, file, place.context, caller)
    except Exists as error:
        complain(f"{error}; try it again with `{place.command('flow retry', file.id)}`, or leave `id` out of the file")
        return EXIT_ERROR
    if view is None:
        say(str(id))
        return 0
    say(introduction(file, id, place.context))
    return await watch_with_hints(client, place, id, view, after=BEGINNING, names=names)


# -- looking


@flow.command(name="list")
@filtered()
@ordered
@limited
@in_context
def list_(place: Place, asked: dict[str, Any], order: dict[str, Any], limit: int | None) -> None:
    """List the newest flows of a context, the newest first.

    \b
    herocoordinator flow list --status Error --since 24h
    herocoordinator flow list --tag nightly --sort ended --all
    """
    run_connected(place, partial(_list, place=place, asked=asked, order=order, limit=limit))


async def _list(client: Client, place: Place, asked: dict[str, Any], order: dict[str, Any], limit: int | None) -> int:
    say(f"{'ID':>10}  {'STATUS':10}  {'JOBS':>6}  {'CREATED':25}  NAME")

    def show(item: Flow) -> None:
        say(f"{item.id:>10}  {item.status:10}  {len(item.jobs):>6}  {created(item):25}  {flow_name(item)}".rstrip())

    return await list_pages(client, "flows", show, place, asked, order, limit)


@flow.command(short_help="Show a flow and its jobs as they are now.")
@_id
@in_context
def show(place: Place, id: int) -> None:
    """Show a flow and its jobs as they are now, and the results if it is Finished."""
    run_connected(place, partial(_show, place=place, id=id))


async def _show(client: Client, place: Place, id: int) -> int:
    report = await client.flow_status(context_id=place.context, id=id)
    names = await job_names(client, report.flow)
    state = FlowState(report, names)
    say(f"{flow_title(report.flow)} {state.status}" + (f": {state.reason}" if state.reason else ""))
    width = max((len(job.name) for job in state.jobs.values()), default=0)
    blamed = state.blamed() if state.status == "Error" else {}
    for number, level in enumerate(state.levels):
        for job in level:
            seconds = job.seconds(time.time_ns() // 1_000_000)
            cells = [
                f"  level {number}  {job.id:>10}  {job.name:{width}}  {job.shown_status:10}",
                f"{'' if seconds is None else duration(seconds):>9}",
                f"attempt {job.attempt}" if job.attempt else "",
                job.runner,
                named(job.failure, names) or (f"not run: job {blamed[job.id]} failed" if job.id in blamed else ""),
            ]
            say("  ".join(cells).rstrip())
    for line in missing_lines(report):
        say(line)
    if state.status == "Finished":
        for line in result_lines(report.flow, names, with_output=True):
            say(line)
    return 0


@flow.command(short_help="Follow a flow until it has ended.")
@_id
@_plain
@in_context
def follow(place: Place, id: int, plain: bool) -> None:
    """Follow a flow from now on until it has ended, as `flow run` does."""
    run_connected(place, partial(watch_with_hints, place=place, id=id, view=view_for(plain=plain)))


@flow.command(short_help="Print what a flow's jobs wrote.")
@_id
@click.option("--follow", is_flag=True, help="Go on with new lines until the flow has ended.")
@click.option("--raw", is_flag=True, help="The lines alone, just as they were written, colours and all.")
@in_context
def logs(place: Place, id: int, follow: bool, raw: bool) -> None:
    """Print what a flow's jobs wrote: `NAME | line`, and `NAME ! line` for their standard error.

    The newest 16 MiB of a flow's logs are kept until an hour after it ended (serve's --event-retention), and the end of
    each job's. After that there are the ends of the outputs, from the jobs' results.
    """
    run_connected(place, partial(show_logs, place=place, id=id, follow=follow, raw=raw))


# -- changing


@flow.command(short_help="Stop a flow.")
@_id
@click.option("--reason", default="", help="Recorded with the flow and told to its runners.")
@in_context
def cancel(place: Place, id: int, reason: str) -> None:
    """Stop a flow. What runs is told to stop, the rest never starts, and the flow is in Error."""
    run_connected(place, partial(_cancel, place=place, id=id, reason=reason))


async def _cancel(client: Client, place: Place, id: int, reason: str) -> int:
    stopped = await client.flow_cancel(context_id=place.context, id=id, reason=reason)
    say(f"{flow_title(stopped)} {stopped.status}: {stopped.result.get('error', '')}")
    return 0


@flow.command(short_help="Start the failed part of a flow again.")
@_id
@click.option("--follow", is_flag=True, help="Follow it as `flow run` does.")
@_plain
@in_context
def retry(place: Place, id: int, follow: bool, plain: bool) -> None:
    """Start the failed part of a flow in Error again. What is Finished keeps its results."""
    view = view_for(plain=plain) if follow else None
    run_connected(place, partial(_retry, place=place, id=id, view=view))


async def _retry(client: Client, place: Place, id: int, view: View | None) -> int:
    return await _started_again(client, place, id, view, partial(client.flow_retry, context_id=place.context, id=id))


async def _started_again(
    client: Client, place: Place, id: int, view: View | None, start: Callable[[], Awaitable[Flow]]
) -> int:
    """Start a flow that has ended, and follow it from there if there is a view. Returns the exit status."""
    before = await client.flow_status(context_id=place.context, id=id)
    try:
        again = await start()
    except (Conflict, DagMissingDependency, DagCycleDetected) as error:
        complain(named(str(error), await job_names(client, before.flow)))
        return EXIT_ERROR
    say(f"{flow_title(again)} {again.status}")
    if view is None:
        return 0
    return await watch_with_hints(client, place, id, view, after=before.last_event)


@flow.command(short_help="Run a flow that has ended again.")
@_id
@click.option("--from", "from_job", type=UINT32, metavar="JOB", help="Only this job and those that depend on it.")
@click.option("--env", multiple=True, metavar="KEY=VALUE", help="Over the flow's environment, from now on; repeatable.")
@click.option(
    "--script",
    "scripts",
    multiple=True,
    metavar="JOB=FILE",
    help="The file's content is what that job runs from now on; may be repeated.",
)
@click.option("--follow", is_flag=True, help="Follow it as `flow run` does.")
@_plain
@in_context
def rerun(
    place: Place,
    id: int,
    from_job: int | None,
    env: tuple[str, ...],
    scripts: tuple[str, ...],
    follow: bool,
    plain: bool,
) -> None:
    """Run a flow that is Finished or in Error again: all its jobs, or those from one on, with the others' results.

    \b
    herocoordinator flow rerun 12 --from 3 --env STAGE=test --script 3=report.py --follow
    """
    asked: dict[str, Any] = {} if from_job is None else {"from_job": from_job}
    overrides: dict[str, Any] = {}
    if env:
        overrides["env_vars"] = dict(_pair(item, "--env KEY=VALUE") for item in env)
    if scripts:
        overrides["jobs"] = [_script(item) for item in scripts]
    if overrides:
        asked["overrides"] = overrides
    view = view_for(plain=plain) if follow else None
    run_connected(place, partial(_rerun, place=place, id=id, asked=asked, view=view))


def _pair(item: str, form: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{item!r} is not as in {form}")
    return name, value


def _script(item: str) -> dict[str, Any]:
    job, file = _pair(item, "--script JOB=FILE")
    if not (job.isascii() and job.isdigit()):
        raise click.UsageError(f"{job!r} is no job's id, as in --script 3=report.py")
    try:
        return {"id": int(job), "script": Path(file).read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8"
        raise click.UsageError(f"cannot read {file}: {why}") from None


async def _rerun(client: Client, place: Place, id: int, asked: dict[str, Any], view: View | None) -> int:
    params = FlowRerunParams.model_validate({"context_id": place.context, "id": id, **asked})
    given = {name: getattr(params, name) for name in params.model_fields_set}
    return await _started_again(client, place, id, view, partial(client.flow_rerun, **given))


@flow.command(short_help="Hand out none of a flow's jobs for a while.")
@_id
@in_context
def pause(place: Place, id: int) -> None:
    """Hand out none of a started flow's jobs until `flow resume`. What runs goes on."""
    run_connected(place, partial(_set_paused, place=place, id=id, pauses=True))


@flow.command(short_help="Go on with a flow that was paused.")
@_id
@in_context
def resume(place: Place, id: int) -> None:
    """Go on with a flow that was paused."""
    run_connected(place, partial(_set_paused, place=place, id=id, pauses=False))


async def _set_paused(client: Client, place: Place, id: int, pauses: bool) -> int:
    method = client.flow_pause if pauses else client.flow_resume
    changed = await method(context_id=place.context, id=id)
    say(f"{flow_title(changed)} {changed.status}" + (", paused" if changed.paused else ""))
    return 0


# -- many at once


_dry_run = click.option("--dry-run", is_flag=True, help="Say which these are, and do nothing.")


def _is_meant(asked: dict[str, Any], everything: bool) -> None:
    """Refuse to do something to all flows only because nothing was said."""
    if not asked and not everything:
        raise click.UsageError(
            "say which flows: --tag, --name, --status, --caller, --since …, or --all for all of them"
        )


_all = click.option("--all", "everything", is_flag=True, help="All flows, if nothing else says which.")


@flow.command("cancel-many", short_help="Stop all flows that a filter means.")
@filtered()
@click.option("--reason", default="", help="Recorded with the flows and told to their runners.")
@_all
@_dry_run
@in_context
def cancel_many(place: Place, asked: dict[str, Any], reason: str, everything: bool, dry_run: bool) -> None:
    """Stop all flows that have not ended and are meant.

    \b
    herocoordinator flow cancel-many --tag nightly --since 2h --dry-run
    """
    _is_meant(asked, everything)
    run_connected(place, partial(_many, place=place, asked=asked, dry_run=dry_run, what="cancelled", reason=reason))


@flow.command("retry-many", short_help="Start all flows in Error that a filter means again.")
@filtered()
@_all
@_dry_run
@in_context
def retry_many(place: Place, asked: dict[str, Any], everything: bool, dry_run: bool) -> None:
    """Start the unfinished part of all flows in Error that are meant again."""
    _is_meant(asked, everything)
    run_connected(place, partial(_many, place=place, asked=asked, dry_run=dry_run, what="retried"))


@flow.command("delete-many", short_help="Delete all flows that a filter means.")
@filtered()
@_all
@_dry_run
@in_context
def delete_many(place: Place, asked: dict[str, Any], everything: bool, dry_run: bool) -> None:
    """Delete all flows that do not run and are meant, with their jobs.

    \b
    herocoordinator flow delete-many --status Finished --ended-until 30d
    """
    _is_meant(asked, everything)
    run_connected(place, partial(_many, place=place, asked=asked, dry_run=dry_run, what="deleted"))


async def _many(client: Client, place: Place, asked: dict[str, Any], dry_run: bool, what: str, reason: str = "") -> int:
    """Call until all are through, and say how far it is."""
    matched = done = 0
    refused = False
    filter = FlowFilter.model_validate(asked)
    cursor: str | None = ""
    while cursor is not None:
        given: dict[str, Any] = {"context_id": place.context, "filter": filter, "dry_run": dry_run, "cursor": cursor}
        if what == "cancelled":
            part: FlowsDone = await client.flow_cancel_many(**given, reason=reason)
        elif what == "retried":
            part = await client.flow_retry_many(**given)
        else:
            part = await client.flow_delete_many(**given)
        matched, done, cursor = matched + part.matched, done + part.done, part.cursor
        for one in part.refused:
            complain(f"flow {one.id}: {one.detail}")
        refused = refused or part.done < part.matched
        if dry_run and part.ids:
            more = "" if len(part.ids) == part.matched else ", …"
            say(f"{', '.join(map(str, part.ids))}{more}")
        elif cursor is not None:
            say(f"{done} {what} so far")
    meant = f"{matched} {plural(matched, 'flow')}"
    say(f"{meant} would be {what}" if dry_run else f"{done} of {meant} {what}")
    return EXIT_ERROR if refused and not dry_run else 0
