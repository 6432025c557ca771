"""`herocoordinator runner`: command line → RunnerSettings → Service in trio.run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import click
import structlog
import trio

from coordinator import logs
from coordinator.cli.exit_codes import CA_VARIABLE, URL_VARIABLE, fail, first_leaf
from coordinator.cli.options import Command, misspelt_variables, options_of, validated
from coordinator.client import RpcError
from coordinator.osprocess import hide_process, hide_secret_variables
from coordinator.runner.isolate import CannotIsolate
from coordinator.runner.serve import Service
from coordinator.runner.settings import ENVIRONMENT_PREFIX, RunnerSettings

__all__ = ["runner"]

log = structlog.get_logger("coordinator.runner")


class _Command(click.ParamType[str]):
    """In the variable several are separated by `;`, because commands have blanks."""

    name = "NAME=COMMAND"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [text.strip() for text in rv.split(";") if text.strip()]


class _Paths(click.ParamType[str]):
    """In the variable several are separated as in PATH."""

    name = "PATH"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [text for text in rv.split(os.pathsep) if text]


def _repeated(name: str, kind: Any, metavar: str, separated: str) -> Callable[[Command], Command]:
    field = RunnerSettings.model_fields[name]
    description = field.description
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        type=kind,
        multiple=True,
        required=field.is_required(),
        metavar=metavar,
        envvar=f"{ENVIRONMENT_PREFIX}_{name.upper()}",
        show_envvar=True,
        help=f"{description} In the variable several are separated by {separated}.",
    )


@click.command()
@_repeated("context", click.INT, "N", "blanks")
@_repeated("type", _Command(), "NAME=COMMAND", "semicolons")
@_repeated("isolate_path", _Paths(), "PATH", "colons")
@options_of(
    RunnerSettings,
    ENVIRONMENT_PREFIX,
    but=("context", "type", "isolate_path"),
    shared={"url": URL_VARIABLE, "ca": CA_VARIABLE},
)
def runner(**given: Any) -> None:
    """Run jobs of a coordinator's flows on this machine until SIGINT or SIGTERM.

    It registers itself (with --key or --token-file an admin has done that), takes jobs of each --context, and runs
    each script in processes of its own, of which nothing is left when the job has ended. What a script prints is logged
    line by line. It has an empty working directory,
    PATH, HOME, LANG, LC_ALL, TMPDIR, the job's env_vars, and:

    \b
    HERO_RESULT      a file; key=value lines written there become the job's result,
                     beside stdout, stderr (the last 64 KiB of each) and exit_code;
                     a value of several lines is key<<MARK, its lines, and a line MARK
    HERO_INPUTS      a JSON file: the results of the jobs this one depends on, by their ids
    HERO_PREREQUISITES   a JSON file: what its prerequisites were satisfied with, by name, if it has any
    HERO_CONTEXT_ID  HERO_CALLER_ID  HERO_FLOW_ID  HERO_JOB_ID  HERO_ATTEMPT
    HERO_ATTEMPT_ID  names this attempt and no other
    HERO_REQUEST_ID  the request id of the call that has started its flow, if it had one
    TRACEPARENT      the attempt's span, where the coordinator traces calls

    A job has succeeded if its script exits with 0 and its result is as above. Scripts run with this process's rights,
    and read what it can, unless --isolate gives each a sandbox of its own.

    \b
    herocoordinator runner --context 1
    herocoordinator runner --context 1 --context 2 --isolate --capacity 8 --type 'Sal=/bin/sh -e'
    herocoordinator runner --context 1 --url https://hero.example:9652 --ca ca.pem

    A lost connection is made again, for as long as it takes; scripts go on meanwhile, but at most for --lease: then
    they are stopped, or paused if the coordinator is known to be away. Told to stop it takes no more jobs, finishes
    what it has, and exits with 0; told twice it kills what runs.
    """
    settings = validated(RunnerSettings, {name: value for name, value in given.items() if value != ()})
    hide_process()
    hide_secret_variables()
    logs.configure(settings.log_level, settings.log_format)
    for variable, meant in misspelt_variables(RunnerSettings, ENVIRONMENT_PREFIX):
        log.warning("there is no such setting", variable=variable, did_you_mean=meant)
    complaint = None
    try:
        trio.run(_run, settings)
    except* RpcError as group:
        complaint = f"the coordinator at {settings.url} refuses this runner: {first_leaf(group)}"
    except* (OSError, CannotIsolate) as group:
        complaint = str(first_leaf(group))
    if complaint is not None:
        fail(complaint)


async def _run(settings: RunnerSettings) -> None:
    service = Service(settings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, service)
        await service.run()
        nursery.cancel_scope.cancel()


async def _stop_on_signal(service: Service) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            service.stop()
