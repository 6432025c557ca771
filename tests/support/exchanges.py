"""Exchanges driven like any other operation."""

from __future__ import annotations

from coordinator.actors.request import Exchange, Operation

__all__ = ["alone"]


def alone(exchange: Exchange) -> Operation:
    """This exchange as an operation of one step."""
    command, finish, asked = exchange
    (reply,) = yield [command]
    return finish(reply, asked)
