"""`herocoordinator demo`: a flow on a coordinator and a runner of its own, that are gone afterwards."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import click
import trio

from coordinator import logs
from coordinator.cli.connection import DEFAULT_CONTEXT, Place, connected, run
from coordinator.cli.exit_codes import EXIT_USAGE, SIGNALLED, fail
from coordinator.cli.flow import read
from coordinator.cli.flow_file import FlowFile
from coordinator.cli.following import introduction, submit, watch
from coordinator.cli.output import say
from coordinator.cli.progress import View, view_for
from coordinator.client import Client
from coordinator.models import BEGINNING
from coordinator.osprocess import open_files, raise_file_limit
from coordinator.runner.serve import Service
from coordinator.runner.settings import RunnerSettings
from coordinator.server.app import App
from coordinator.server.descriptors import DoesNotFit, fit
from coordinator.settings import Settings

__all__ = ["demo"]

CAPACITY: Final = 4
RUNNER_WITHIN: Final = 10.0  # seconds


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--plain", is_flag=True, help="A line an event, also on a terminal.")
def demo(file: Path, plain: bool) -> None:
    """Run the flow in FILE as `flow run` does, on a coordinator and a runner started for it.

    They use free ports and a temporary directory, and are gone afterwards; Ctrl-C ends everything.

    \b
    herocoordinator demo examples/diamond.toml

    Exit status: 0 the flow is Finished, 1 it is in Error, 2 a wrong command line or flow file, 130 interrupted.
    """
    content = read(file)
    logs.configure("warning", "auto")
    try:
        settings = fit(Settings(api_http_port=0, api_ws_port=0, workers=1), raise_file_limit(), open_files())
    except DoesNotFit as error:
        fail(str(error), EXIT_USAGE)
    run(partial(_demo, settings, content, view_for(plain=plain)))


async def _demo(settings: Settings, file: FlowFile, view: View) -> int:
    context = DEFAULT_CONTEXT if file.context is None else file.context
    with tempfile.TemporaryDirectory(prefix="herocoordinator-demo-") as directory:
        async with trio.open_nursery() as nursery:
            app = App(settings.model_copy(update={"data_dir": Path(directory)}))
            await nursery.start(app.run)
            url = f"ws://{app.ws_address[0]}:{app.ws_address[1]}"
            runner = Service(RunnerSettings(url=url, context=(context,), capacity=CAPACITY))
            async with trio.open_nursery() as working:
                working.start_soon(runner.run)
                async with connected(url) as client:
                    await _until_connected(client, context)
                    id, names = await submit(client, file, context)
                    say(introduction(file, id, context))
                    status = await watch(client, Place(url, context), id, view, after=BEGINNING, names=names)
                runner.stop()
                if status > SIGNALLED:
                    runner.stop()  # at once: what runs is of no use any more
            app.stop()
    return status


async def _until_connected(client: Client, context: int) -> None:
    """Wait until the demo's runner takes jobs, so that nobody is told that there is none."""
    with trio.move_on_after(RUNNER_WITHIN):
        while True:
            if (await client.runner_connected(context_id=context)).script_types["Python"]:
                return
            await trio.sleep(0.02)
