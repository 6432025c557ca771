"""`herocoordinator openrpc`: the contract."""

from __future__ import annotations

import json

import click

from coordinator.rpc.openrpc import document

__all__ = ["openrpc"]


@click.command()
def openrpc() -> None:
    """Print the OpenRPC document of the API."""
    click.echo(json.dumps(document(), indent=2))
