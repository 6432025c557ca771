"""`herocoordinator completion`: what a shell needs to complete commands, options and choices."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from coordinator import ENVIRONMENT_PREFIX
from coordinator.cli.output import say_raw

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and choices.

    \b
    herocoordinator completion bash > ~/.local/share/bash-completion/completions/herocoordinator
    herocoordinator completion fish > ~/.config/fish/completions/herocoordinator.fish
    eval "$(herocoordinator completion zsh)"     # in ~/.zshrc, after compinit
    """
    from coordinator.cli import main  # noqa: PLC0415 - it imports this module

    kind = get_completion_class(shell)
    assert kind is not None, "click has all three"
    say_raw(kind(main, {}, "herocoordinator", f"_{ENVIRONMENT_PREFIX}_COMPLETE").source())
