"""What is suggested for a name that does not exist, and how much time that may take."""

from __future__ import annotations

import trio

from coordinator.rpc.jsonrpc.suggestions import REMEMBERED, Suggestions

NAMES = ["job.create", "job.load", "flow.create"]


async def test_the_most_alike_come_first_and_nothing_if_none_is() -> None:
    suggestions = Suggestions(NAMES)

    assert suggestions.like("job.crate") == ["job.create", "flow.create"]
    assert suggestions.like("zzz") == []


async def test_only_so_many_new_names_are_looked_for_in_a_second() -> None:
    suggestions = Suggestions(NAMES, a_second=2)
    assert suggestions.like("job.crate")
    assert suggestions.like("job.laod")

    assert suggestions.like("job.creat") == []
    assert suggestions.like("job.crate"), "a known one costs nothing"

    await trio.sleep(1.01)
    assert suggestions.like("job.creat")


async def test_what_is_remembered_is_bounded() -> None:
    suggestions = Suggestions(NAMES, a_second=10 * REMEMBERED)

    for number in range(3 * REMEMBERED):
        suggestions.like(f"job.crate{number}")

    assert len(suggestions._found) <= REMEMBERED
