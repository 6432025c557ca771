"""Single commands driven like any other operation."""

from __future__ import annotations

from coordinator.actors.request import Answerable, Compute, Operation

__all__ = ["alone"]


def alone(answerable: Answerable) -> Operation:
    """This one as an operation of one step."""
    command, finish, asked = answerable
    (reply,) = yield [command]
    answer = finish(reply, asked)
    if isinstance(answer, Compute):
        answer = yield answer
    return answer
