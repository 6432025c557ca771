"""Runners and followers in more contexts than are served at once: what is said for them again and again keeps nobody
waiting behind all of them."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from coordinator.engine import renewals
from tests.support.api import ws_api
from tests.support.inprocess import serving, ws_url
from tests.support.server import ValkeyProcess
from tests.support.workers import SOME_RUNNER

CONTEXTS: Final = 60
SERVED: Final = 4  # at once
PASSES: Final = 3

pytestmark = pytest.mark.slow


async def test_one_that_is_called_waits_behind_a_few_only(
    store: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewals, "FOLLOWED_AGAIN", renewals.RUNNERS_AGAIN)
    kept: list[int | None] = []
    runners_there = renewals.Renewals._runners_there

    def counting(self: renewals.Renewals, context_key: int | None, *given: object) -> object:
        kept.append(context_key)
        return runners_there(self, context_key, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(renewals.Renewals, "_runners_there", counting)
    async with serving(redis_url=store.url, store_connections=SERVED) as app, ws_api(ws_url(app)) as api:
        for context in range(1, CONTEXTS + 1):
            await api.call("runner.create", context_id=context, runner={**SOME_RUNNER, "id": 3, "topic": "t"})
            await api.call("runner.subscribe", context_id=context, runner_id=3, script_types=["Python"], capacity=1)
            await api.call("context.subscribe", context_id=context)
        assert app._service is not None
        directory = app._service._directory
        kept.clear()
        longest = 0

        with trio.fail_after(60):
            while len(kept) < PASSES * CONTEXTS:
                longest = max(longest, len(directory.waiting))
                await trio.sleep(0.001)

        assert {*kept} == {*range(1, CONTEXTS + 1)}
        assert longest <= 2 * renewals.CONTEXTS_AT_ONCE  # of runners, and of what is followed
