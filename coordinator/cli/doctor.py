"""`herocoordinator doctor`: what is well with a coordinator's surroundings, what is not, and what to do."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click

from coordinator.cli.exit_codes import EXIT_ERROR
from coordinator.cli.output import plural, say, say_json
from coordinator.cli.sources import Sources, settings_options
from coordinator.osprocess import hide_secret_variables
from coordinator.redaction import redact_values
from coordinator.server.doctor import examine

__all__ = ["doctor"]


@click.command(context_settings={"show_default": False})
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@settings_options
@click.pass_context
def doctor(ctx: click.Context, /, as_json: bool, **given: Any) -> None:
    """Look at what `serve` with the same options depends on, and say what to do where something is not well.

    It looks at the limit of open files, files with secrets, certificates, the data directory, and the store: that of
    --redis-url, or the embedded one of --data-dir, whether its coordinator runs or not. It changes nothing.

    \b
    herocoordinator doctor
    herocoordinator doctor --config coordinator.toml --json

    Exit status: 0 no problem (there may be warnings), 1 a problem, 2 a setting is wrong.
    """
    sources = Sources(ctx, given)
    settings = sources.read_or_exit().settings
    hide_secret_variables()
    findings = []
    for finding in examine(settings, sources.file):
        findings.append(finding)
        if not as_json:
            say(f"{finding.state:8} {finding.check}: {finding.found}")
            if finding.do:
                say(f"{'':8} → {finding.do}")
    problems, warnings = (sum(finding.state == state for finding in findings) for state in ("problem", "warning"))
    if as_json:
        table = [asdict(finding) for finding in findings]
        say_json(redact_values({"findings": table, "problems": problems, "warnings": warnings}))
    else:
        say(f"{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}")
    sys.exit(EXIT_ERROR if problems else 0)


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {plural(number, what)}"
