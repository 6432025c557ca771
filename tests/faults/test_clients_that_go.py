"""A client that goes while it waits for a job is noticed, whatever way it goes: no job is handed to it, and what it
held is free at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.clients import HttpClient, plain_http
from tests.support.flows import submission, wide
from tests.support.leaving import WAYS, WAYS_THAT_END_THE_CONNECTION, leaver
from tests.support.looking import metric
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.workers import SOME_RUNNER

pytestmark = pytest.mark.slow

AT_ONCE: Final = 20.0  # seconds on a busy machine; else it ends after a minute: by its wait, or an idle limit
LONG: Final = 600
RUNNER: Final = {"runner_id": 3, "script_types": ["Python"]}
SLOTS: Final = 5
HELD: Final = {"01", "08"}  # of the kernel's states: established, and closed by the other side only


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    """One that ends nothing for being idle while these tests run."""
    limits = ("--keep-alive-timeout", str(LONG), "--request-timeout", str(LONG), "--shutdown-grace", "1")
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("data")), *limits) as running:
        yield running


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + AT_ONCE
    while not condition():
        assert time.monotonic() < deadline, "it was not noticed"
        time.sleep(0.02)


def wait_until_given_up(server: CoordinatorProcess, way: str) -> None:
    """The server has closed the connections of those that left, so that it has only that of `http`, and has had a
    moment to give their calls up, which does not show from outside."""
    if way in WAYS_THAT_END_THE_CONNECTION:
        wait_until(lambda: held_connections(server) == 1)
    time.sleep(0.5 if way in WAYS_THAT_END_THE_CONNECTION else 1.0)


def registered(client: HttpClient, context: int) -> dict[str, Any]:
    """Register a runner of this context; params of its job.take."""
    runner = {**SOME_RUNNER, "id": 3, "topic": "runner3"}
    client.result("runner.create", {"context_id": context, "runner": runner})
    return {**RUNNER, "context_id": context, "wait": 60}


@pytest.mark.parametrize("way", WAYS)
def test_no_job_goes_to_a_client_that_has_gone(
    server: CoordinatorProcess, http: httpx.Client, context: int, way: str
) -> None:
    client = HttpClient(http)
    take = registered(client, context)
    calls = metric(server.http, "calls_total")
    gone = leaver(way, server, take)
    try:
        wait_until(lambda: metric(server.http, "calls_total") > calls)
        gone.leave()
        wait_until_given_up(server, way)

        client.result("flow.submit", submission(context, wide(1)))

        (assignment,) = client.result("job.take", take)["jobs"]
        assert (assignment["job"]["id"], assignment["attempt"]) == (1, 1)
    finally:
        gone.clean_up()


@pytest.mark.parametrize("way", WAYS)
def test_of_several_that_wait_the_one_that_stays_gets_the_job(
    server: CoordinatorProcess, http: httpx.Client, context: int, way: str
) -> None:
    """Those that have gone were there before it."""
    client = HttpClient(http)
    take = registered(client, context)
    calls = metric(server.http, "calls_total")
    gone = [leaver(way, server, take) for _ in range(3)]
    try:
        wait_until(lambda: metric(server.http, "calls_total") >= calls + 3)
        for one in gone:
            one.leave()
        wait_until_given_up(server, way)
        client.result("flow.submit", submission(context, wide(2)))

        ids = [client.result("job.take", take)["jobs"][0]["job"]["id"] for _ in range(2)]

        assert sorted(ids) == [1, 2]
        statuses = client.result("flow.status", {"context_id": context, "id": 1})["counts"]
        assert statuses["Started"] == 2
    finally:
        for one in gone:
            one.clean_up()


@pytest.mark.parametrize("way", WAYS_THAT_END_THE_CONNECTION)
def test_its_slot_and_its_descriptor_are_free_at_once(tmp_path: Path, way: str) -> None:
    limits = ("--max-connections", str(SLOTS), "--keep-alive-timeout", str(LONG), "--request-timeout", str(LONG))
    with coordinator("--data-dir", str(tmp_path), *limits, "--shutdown-grace", "1") as server:
        with plain_http(server) as http:
            take = registered(HttpClient(http), 1)

        for _ in range(3):
            wait_until(lambda: held_connections(server) == 0)
            gone = [leaver(way, server, take) for _ in range(SLOTS)]
            try:
                for one in gone:
                    one.leave()
                wait_until(lambda: is_served(server))
            finally:
                for one in gone:
                    one.clean_up()
        wait_until(lambda: held_connections(server) == 0)


def held_connections(server: CoordinatorProcess) -> int:
    """Clients' connections that the server has not closed, whether or not the other side has."""
    ports = {int(url.rpartition(":")[2]) for url in (server.http, server.ws)}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(local.rpartition(":")[2], 16) in ports and state in HELD for _, local, _, state, *_ in lines)


def is_served(server: CoordinatorProcess) -> bool:
    """Whether a new client gets a place on either front."""
    with plain_http(server) as http:
        reply = http.get("/metrics", headers={"connection": "close"})
    taken = "herocoordinator_websocket_connections 0" in reply.text
    return reply.status_code == 200 and taken
