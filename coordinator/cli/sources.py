"""Where settings come from: the command line, before the environment, before the file, before the default."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from pydantic import ValidationError

from coordinator import ENVIRONMENT_PREFIX
from coordinator.cli.exit_codes import EXIT_USAGE
from coordinator.cli.options import Command, options_of
from coordinator.cli.output import say
from coordinator.settings import Settings

__all__ = [
    "DEFAULT",
    "ENVIRONMENT",
    "InEffect",
    "Sources",
    "WrongSettings",
    "key_of",
    "settings_options",
]

COMMAND_LINE: Final = "command line"
ENVIRONMENT: Final = "environment"
DEFAULT: Final = "default"

LARGEST_FILE: Final = 1024 * 1024  # bytes
LISTS: Final = frozenset(
    name for name, field in Settings.model_fields.items() if typing.get_origin(field.annotation) is tuple
)
"""With commas between, where they are one text."""
ONE_OF: Final = frozenset({"redis_url", "redis_url_file", "redis_addr"})
"""They say the same thing. Those of the file count only where none of them is given otherwise."""

_KINDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    list: "a list",
    dict: "a table",
}


class WrongSettings(Exception):
    """They cannot be used.

    Attributes:
        lines: what is wrong, a line each.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class InEffect:
    """Attributes:
    settings: those in effect.
    origins: for each that is not the default, by name, where it is from: COMMAND_LINE, ENVIRONMENT or the file's path.
    """

    settings: Settings
    origins: Mapping[str, str]


def settings_options(command: Command) -> Command:
    """Give a command an option for each setting, and --config."""
    config = click.option(
        "--config",
        type=click.Path(dir_okay=False),
        envvar=f"{ENVIRONMENT_PREFIX}_CONFIG",
        show_envvar=True,
        help="A TOML file with settings: the options' names without the dashes before them, as api-http-port = 9652. "
        "What is given on the command line or in the environment counts before it.",
    )
    decorate: Callable[[Command], Command] = options_of(Settings, ENVIRONMENT_PREFIX)
    return config(decorate(command))


class Sources:
    """What a command of `settings_options` was given. The file is read anew each time.

    Args:
        given: the command's parameters; those that are not given are None.
    """

    def __init__(self, ctx: click.Context, given: Mapping[str, Any]) -> None:
        self.file = None if given.get("config") is None else Path(given["config"])
        self._given: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        for name in Settings.model_fields:
            value = given[name]
            if value is not None:
                self._given[name] = _items(value) if name in LISTS else value
                is_variable = ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT
                self._origins[name] = ENVIRONMENT if is_variable else COMMAND_LINE

    def read(self) -> InEffect:
        """The settings in effect now. Raises WrongSettings."""
        values, origins = dict(self._given), dict(self._origins)
        if self.file is not None:
            hidden = ONE_OF if ONE_OF & values.keys() else frozenset()
            for name, value in _read_file(self.file).items():
                if name not in values and name not in hidden:
                    values[name] = value
                    origins[name] = str(self.file)
        try:
            return InEffect(Settings(**values), origins)
        except ValidationError as error:
            raise WrongSettings(*_explained(error, origins)) from None

    def read_or_exit(self) -> InEffect:
        """The same; what is wrong is said, and the process exits with 2."""
        try:
            return self.read()
        except WrongSettings as error:
            for line in error.lines:
                say(f"herocoordinator: {line}", err=True)
            raise SystemExit(EXIT_USAGE) from None


def key_of(name: str) -> str:
    """How a setting is written in a file, and on the command line after two dashes."""
    return name.replace("_", "-")


def _items(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _explained(error: ValidationError, origins: Mapping[str, str]) -> list[str]:
    lines = []
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        if fault["loc"]:
            name = str(fault["loc"][0])
            origin = origins.get(name)
            is_from_file = origin not in (None, COMMAND_LINE, ENVIRONMENT)
            message = f"{origin}: {key_of(name)}: {message}" if is_from_file else f"--{key_of(name)}: {message}"
        lines.append(message)
    return lines


# -- the file


def _read_file(path: Path) -> dict[str, Any]:
    """What the file sets, by the settings' names. Raises WrongSettings."""
    written = _parsed(path)
    values: dict[str, Any] = {}
    wrong = []
    for key, value in written.items():
        name = key.replace("-", "_")
        if name not in Settings.model_fields:
            wrong.append(f"{path}: {key}: {_unknown(key, value)}")
        elif name in values:
            wrong.append(f"{path}: {key}: it is there twice, with dashes and with underscores")
        elif (kind := _wanted(name, value)) is not None:
            wrong.append(f"{path}: {key}: must be {kind}, and is {_kind_of(value)}")
        else:
            values[name] = _items(value) if name in LISTS and isinstance(value, str) else value
    if wrong:
        raise WrongSettings(*wrong)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise WrongSettings(f"--config: cannot read {path}: {reason.lower()}") from None
    if len(content) > LARGEST_FILE:
        raise WrongSettings(f"--config: {path} is larger than {LARGEST_FILE} bytes")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise WrongSettings(f"--config: {path} is no UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise WrongSettings(f"--config: {path} is no TOML: {error or 'it is nested too deep'}") from None


def _unknown(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return "settings stand at the top of the file, not in a table"
    nearest = difflib.get_close_matches(
        key.lower().replace("_", "-"), map(key_of, Settings.model_fields), n=1, cutoff=0.5
    )
    meant = f"; did you mean {nearest[0]}?" if nearest else "; `herocoordinator serve --help` lists them"
    return f"there is no such setting{meant}"


def _wanted(name: str, value: Any) -> str | None:
    """What the setting must be instead, or None if a value of this type may be."""
    if name in LISTS:
        is_right = isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
        return None if is_right else "a list of texts"
    kind = _type_of(Settings.model_fields[name].annotation)
    is_right = type(value) is kind or (kind is float and type(value) is int)
    return None if is_right else _KINDS[kind]


def _type_of(annotation: Any) -> type:
    """Which TOML type an annotation takes."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated or origin in (types.UnionType, typing.Union):
        return _type_of(typing.get_args(annotation)[0])
    return annotation if annotation in (bool, int, float) else str


def _kind_of(value: Any) -> str:
    return _KINDS.get(type(value), "a date or a time")
