"""The command line. A module a command here; `herocoordinator runner` is in `coordinator.runner`."""

from __future__ import annotations

import click

from coordinator import __version__
from coordinator.cli.access import context, key, login, token, whoami
from coordinator.cli.call import call, openrpc
from coordinator.cli.cert import cert
from coordinator.cli.demo import demo
from coordinator.cli.flow import flow
from coordinator.cli.prerequisite import prerequisite
from coordinator.cli.repair import repair
from coordinator.cli.runner import runner
from coordinator.cli.serve import serve
from coordinator.logs import configure_plain

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="herocoordinator")
def main() -> None:
    """HeroCoordinator: a coordinator for distributed work.

    One JSON-RPC 2.0 API over HTTP and WebSocket for actors, contexts, runners, jobs, flows and messages.

    \b
    herocoordinator serve                      # in one terminal
    herocoordinator runner --context 1         # in another: it does the work
    herocoordinator flow run examples/diamond.toml
    herocoordinator call context.load '[1]'

    `herocoordinator COMMAND --help` explains a command. Where the coordinator is, each command reads from --url or
    HEROCOORDINATOR_URL, and whose certificates to trust from --ca or HEROCOORDINATOR_CA. Where callers log in, it takes
    --key FILE --as actor:ID, or --token-file FILE, or the variables HEROCOORDINATOR_KEY, _AS, _TOKEN_FILE or _TOKEN.
    """
    configure_plain()


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"herocoordinator, version {__version__}")


for command in (
    serve,
    runner,
    flow,
    prerequisite,
    demo,
    call,
    openrpc,
    key,
    login,
    token,
    whoami,
    context,
    cert,
    repair,
    version,
):
    main.add_command(command)
