"""`herocoordinator version`."""

from __future__ import annotations

import click

from coordinator import __version__

__all__ = ["version"]


@click.command()
def version() -> None:
    """Print the version."""
    click.echo(f"herocoordinator, version {__version__}")
