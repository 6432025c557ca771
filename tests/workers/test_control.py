"""What people decide about what runs, where a runner is at another worker than whoever decides."""

from __future__ import annotations

import pytest

from tests.support.deciding import decide
from tests.support.server import CoordinatorProcess

pytestmark = pytest.mark.slow


async def test_what_is_decided_at_one_worker_holds_at_the_other(two: CoordinatorProcess) -> None:
    for context in (1, 2, 3, 4):  # connections are dealt out in turn, so in some they are at different workers
        await decide(two.ws, two.ws, context)
