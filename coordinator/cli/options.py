"""Command-line options made of a settings model: a flag, an environment variable, a type and a help text a field."""

from __future__ import annotations

import difflib
import os
import sys
import types
import typing
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from coordinator.cli.output import say

__all__ = ["NEW", "NEW_FILE", "UINT32", "Command", "NamedPath", "misspelt_variables", "options_of", "validated"]

Command = Callable[..., None]
S = TypeVar("S", bound=BaseModel)


class NamedPath(click.Path):
    """A path by its name: "-", by which many programs mean their standard input or output, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "-":
            self.fail("'-' is not the name of a file; write ./- if it is", param, ctx)
        return super().convert(value, param, ctx)


UINT32: Final = click.IntRange(0, 2**32 - 1)
NEW: Final = NamedPath(path_type=Path)
NEW_FILE: Final = NamedPath(path_type=Path, dir_okay=False)
"""Where a command writes."""


def options_of(
    settings: type[BaseModel], prefix: str, *, but: Collection[str] = (), shared: Mapping[str, str] | None = None
) -> Callable[[Command], Command]:
    """Give a command one option a field, in the order they are declared, except those in `but`.

    The field `a_b` becomes `--a-b` and the variable `PREFIX_A_B`. An option not given is None.

    Args:
        shared: by field, a variable that other commands have too. It counts where `PREFIX_A_B` is not set.
    """
    others = shared or {}

    def decorate(command: Command) -> Command:
        for name, field in reversed(settings.model_fields.items()):
            if name not in but:
                kind, default = _click_type(field)
                is_flag = field.annotation is bool
                command = click.option(
                    "--" + name.replace("_", "-"),
                    name,
                    type=bool if is_flag else kind,
                    is_flag=is_flag,
                    default=None,
                    envvar=[f"{prefix}_{name.upper()}", *([others[name]] if name in others else [])],
                    show_envvar=True,
                    help=f"{field.description}{default}",
                )(command)
        return command

    return decorate


def misspelt_variables(settings: type[BaseModel], prefix: str) -> list[tuple[str, str]]:
    """Variables of the environment that are nearly one of these settings', and which they may be meant to be."""
    known = [f"{prefix}_{name.upper()}" for name in settings.model_fields]
    ends = [name.removeprefix(prefix) for name in known]
    found = []
    for name in sorted(os.environ):
        if name.startswith(f"{prefix}_") and name not in known:
            nearest = difflib.get_close_matches(name.removeprefix(prefix), ends, n=1, cutoff=0.85)
            found += [(name, prefix + end) for end in nearest]
    return found


def validated(settings: type[S], given: dict[str, Any]) -> S:
    """The settings given, defaults for the others. What cannot be is explained, and the process exits with 2."""
    try:
        return settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = error.errors()
        within = {fault["loc"][0] for fault in faults if len(fault["loc"]) > 1}
        for fault in faults:
            if fault["loc"] and fault["loc"][0] in within and len(fault["loc"]) == 1:
                continue  # as that there are too few, where the one that was given is wrong
            flag = "--" + str(fault["loc"][0]).replace("_", "-") + ": " if fault["loc"] else ""
            say(f"herocoordinator: {flag}{fault['msg'].removeprefix('Value error, ')}", err=True)
        sys.exit(2)


def _click_type(field: FieldInfo) -> tuple[Any, str]:
    """The option's type, and its default as the help shows it."""
    annotation: Any = field.annotation
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        annotation = typing.get_args(annotation)[0]
    value = field.get_default(call_default_factory=True, validated_data={})
    shown = "" if value in (None, (), "", False) or value is PydanticUndefined else f"  [default: {value}]"
    if typing.get_origin(annotation) is typing.Literal:
        return click.Choice(typing.get_args(annotation)), shown
    if getattr(annotation, "__supertype__", None) is Path:  # settings.File
        return click.Path(), shown
    kinds: dict[Any, Any] = {
        int: int,
        float: float,
        Path: click.Path(file_okay=False),  # '' is no path: not a Path yet
    }
    return kinds.get(annotation, str), shown
