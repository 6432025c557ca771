"""DAGs of 10,000 jobs are computed, and meanwhile others are answered, in the same context and in others."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Final

import pytest
from websockets.sync.client import ClientConnection

from tests.support.clients import PATIENCE, Call, Client, connected, json_text, request, websocket
from tests.support.records import create, dag, fresh_id, load, sample
from tests.support.server import CoordinatorProcess

JOBS: Final = 10_000
BATCH: Final = 500
FLOW: Final = 1
BEHIND: Final = 20
SHARE: Final = 1 / 3
"""Nobody waits for so much of the time that a DAG takes. It is about half if the event loop computes the DAG itself."""
ATTEMPTS: Final = 8
"""One that keeps to SHARE is enough: others may be held up by the machine."""

SHAPES: Final = {
    "deep": {0: [], **{id: [id - 1] for id in range(1, JOBS)}},
    "wide": {0: [], **{id: [0] for id in range(1, JOBS - 1)}, JOBS - 1: list(range(1, JOBS - 1))},
}
LEVELS: Final = {
    "deep": [[id] for id in range(JOBS)],
    "wide": [[0], list(range(1, JOBS - 1)), [JOBS - 1]],
}


@pytest.fixture(scope="module", params=SHAPES)
def large(request: pytest.FixtureRequest, server: CoordinatorProcess) -> tuple[int, str]:
    """A context with a flow of 10,000 jobs, and its shape."""
    context, shape = fresh_id(), request.param
    jobs = [create("job", context, sample("job", context, id, depends=ids)) for id, ids in SHAPES[shape].items()]
    with connected(server, "http") as client:
        for start in range(0, JOBS, BATCH):
            client.results(jobs[start : start + BATCH])
        client.result(*create("flow", context, sample("flow", context, FLOW, jobs=list(range(JOBS)))))
    return context, shape


def test_ten_thousand_jobs_have_a_dag(client: Client, large: tuple[int, str]) -> None:
    context, shape = large

    graph = client.result(*dag(context, FLOW))

    assert graph["levels"] == LEVELS[shape]
    assert len(graph["edges"]) == sum(map(len, SHAPES[shape].values()))


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["same context", "other context"])
def test_while_a_large_dag_is_computed_nobody_waits_for_long(
    server: CoordinatorProcess, large: tuple[int, str], is_elsewhere: bool
) -> None:
    context, _ = large
    other = load("job", fresh_id() if is_elsewhere else context, 0)

    shares = (longest_wait(server, dag(context, FLOW), other) for _ in range(ATTEMPTS))

    assert any(share < SHARE for share in shares)


def longest_wait(server: CoordinatorProcess, long: Call, short: Call) -> float:
    """The longest time a short call took while the long one was answered, as a share of the time that took."""
    question, small = json_text(request(*long, id=1)), json_text(request(*short, id=2))
    with websocket(server) as asking, websocket(server) as other:
        asked = at = time.perf_counter()
        asking.send(question)
        longest = 0.0
        while not has_message(asking):
            other.send(small)
            other.recv(timeout=PATIENCE)
            longest, at = max(longest, time.perf_counter() - at), time.perf_counter()
        return longest / (at - asked)


def has_message(socket: ClientConnection) -> bool:
    """Whether one has come; it is taken."""
    with suppress(TimeoutError):
        socket.recv(timeout=0)
        return True
    return False


def test_what_is_sent_behind_a_large_dag_overtakes_it(server: CoordinatorProcess, large: tuple[int, str]) -> None:
    context, _ = large
    calls = [dag(context, FLOW), *[load("job", context, 0), load("context", fresh_id(), 0)] * BEHIND]

    with websocket(server) as asking:
        for id, call in enumerate(calls):
            asking.send(json_text(request(*call, id=id)))
        answered = [json.loads(asking.recv(timeout=PATIENCE))["id"] for _ in calls]

    assert sorted(answered) == list(range(len(calls)))
    assert answered[-1] == 0
