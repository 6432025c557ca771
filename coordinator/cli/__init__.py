"""The command line. A module a command; what `herocoordinator runner` does is in `coordinator.runner`."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click
from click.exceptions import NoSuchCommand

from coordinator import __version__
from coordinator.cli.exit_codes import EXIT_INTERRUPTED, fail
from coordinator.cli.output import escape_what_cannot_be_written, open_streams, output_fault, say
from coordinator.importing import importing
from coordinator.logs import configure_plain

__all__ = ["main"]

_ACCESS: Final = ("key", "login", "token", "whoami", "context")
_COMMANDS: Final = (
    *("serve", "runner", "flow", "job", "prerequisite", "demo", "call", "bench", "openrpc", *_ACCESS, "cert"),
    *("config", "doctor", "backup", "restore", "export", "import"),
    *("import-original", "bridge", "repair", "completion", "version"),
)
"""Each is in the module of its name, but for those of `access` and `restore`; in the order of --help."""
_IN_ANOTHER: Final = {
    **dict.fromkeys(_ACCESS, "access"),
    "restore": "backup",
    "import": "export",
    "import-original": "import_original",
}


class _Commands(click.Group):
    """Imports a command's module when it is asked for: the server's, for one, take longer than most commands do."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """A command, or its --help, that has nowhere to print to says so and ends with 1."""
        open_streams()
        escape_what_cannot_be_written()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if (fault := output_fault(error)) is None:
                raise
            raise SystemExit(f"herocoordinator: {fault}") from None

    def invoke(self, ctx: click.Context) -> Any:
        """Ctrl-C is said as everywhere; click would say "Aborted!", and end with 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted", EXIT_INTERRUPTED)
        except click.Abort as aborted:
            if not isinstance(aborted.__context__, KeyboardInterrupt):  # of a question
                raise
            say(err=True)
            fail("interrupted", EXIT_INTERRUPTED)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options without a command are those of `serve`."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0].startswith("-") and args[0] not in own:
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def list_commands(self, _: click.Context) -> list[str]:
        return [*_COMMANDS]

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = _IN_ANOTHER.get(name, name)
        with importing():
            found = importlib.import_module(f"{__name__}.{module}")
            command: click.Command = getattr(found, "import_" if name == "import" else name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except NoSuchCommand as fault:  # click says what may be meant of the commands that it has, which are none
            raise NoSuchCommand(fault.command_name, possibilities=_COMMANDS, ctx=ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="herocoordinator")
def main() -> None:
    """HeroCoordinator: a coordinator for distributed work.

    One JSON-RPC 2.0 API over HTTP and WebSocket for actors, contexts, runners, jobs, flows and messages.

    \b
    herocoordinator serve                      # in one terminal
    herocoordinator runner --context 1         # in another: it does the work
    herocoordinator flow run examples/diamond.toml
    herocoordinator call context.load '[1]'

    Options without a command are those of `serve`.

    `herocoordinator COMMAND --help` explains a command. Where the coordinator is, each command reads from --url or
    HEROCOORDINATOR_URL, and whose certificates to trust from --ca or HEROCOORDINATOR_CA. Where callers log in, it takes
    --key FILE --as actor:ID, or --token-file FILE, or the variables HEROCOORDINATOR_KEY, _AS, _TOKEN_FILE or _TOKEN.
    """
    configure_plain()
