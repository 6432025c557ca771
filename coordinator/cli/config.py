"""`herocoordinator config`: the settings in effect, and where each is from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from coordinator.cli.exit_codes import EXIT_ERROR, fail
from coordinator.cli.output import say, say_json
from coordinator.cli.sources import DEFAULT, Sources, key_of, settings_options
from coordinator.redaction import redact_values, without_credentials
from coordinator.server.tls import CannotUseTls, read_material
from coordinator.settings import Settings

__all__ = ["config"]


@click.group()
def config() -> None:
    """Look at the settings that `serve` would run with."""


@config.command(context_settings={"show_default": False})
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@settings_options
@click.pass_context
def check(ctx: click.Context, /, as_json: bool, **given: Any) -> None:
    """Print the settings in effect and where each is from: the command line, the environment, the file, or the default.

    It takes the options of `serve`. What it prints is a configuration file, without passwords. Nothing is started.

    \b
    herocoordinator config check --config coordinator.toml
    HEROCOORDINATOR_WORKERS=2 herocoordinator config check

    Exit status: 0 `serve` can use them, 1 a certificate cannot be used, 2 a setting is wrong.
    """
    effective = Sources(ctx, given).read_or_exit()
    settings = effective.settings
    shown = {key_of(name): _shown(settings, name) for name in Settings.model_fields}
    origins = {key_of(name): effective.origins.get(name, DEFAULT) for name in Settings.model_fields}
    if settings.redis_url_file is not None:  # it is where the URL was read from, and only one of them may be given
        shown["redis-url"] = None
    if as_json:
        table = {key: {"value": value, "from": origins[key]} for key, value in shown.items()}
        say_json(redact_values(table))
    else:
        width = max(len(_assigned(key, value)) for key, value in shown.items() if value is not None)
        width = min(width, 60)
        for key, value in shown.items():
            say(f"{_assigned(key, value):{width}}  # {origins[key]}")
    try:
        read_material(settings, warn=False)
    except CannotUseTls as error:
        fail(str(error), EXIT_ERROR)


def _assigned(key: str, value: Any) -> str:
    return f"# {key} is not set" if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}"


def _shown(settings: Settings, name: str) -> Any:
    value = getattr(settings, name)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return without_credentials(value) if name == "redis_url" and value is not None and "@" in value else value
