"""The command line. A module a command here; `herocoordinator runner` is in `coordinator.runner`."""

from __future__ import annotations

import click

from coordinator import __version__
from coordinator.cli.call import call, openrpc
from coordinator.cli.cert import cert
from coordinator.cli.demo import demo
from coordinator.cli.flow import flow
from coordinator.cli.runner import runner
from coordinator.cli.serve import serve

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="herocoordinator")
def main() -> None:
    """HeroCoordinator: a coordinator for distributed work.

    One JSON-RPC 2.0 API over HTTP and WebSocket for actors, contexts, runners, jobs, flows and messages.
    """


for command in (serve, runner, flow, demo, call, openrpc, cert):
    main.add_command(command)
