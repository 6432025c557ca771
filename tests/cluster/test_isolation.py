"""Where contexts share a database, by their keys' prefix alone, nobody sees or changes what is in another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.access import callers
from tests.access.callers import Caller, caller
from tests.support.cluster import ValkeyCluster, context_in
from tests.support.server import CoordinatorProcess, coordinator, valkey

pytestmark = pytest.mark.slow

NOT_FOUND: Final = -32001
FLOW, JOB, MESSAGE, RUNNER = 1, 2, 3, 4  # the same in all contexts


class Tenants(NamedTuple):
    """A coordinator, its contexts, and the token of the one actor who is anybody in each."""

    server: CoordinatorProcess
    contexts: list[int]
    tokens: dict[int, str]


@pytest.fixture(scope="module", params=["cluster", "one database"])
def tenants(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    home: Path = tmp_path_factory.mktemp("isolation")
    if request.param == "cluster":
        three: ValkeyCluster = request.getfixturevalue("three")
        first = context_in(three.shares[0])
        # One of these shares a server with the first, and the other does not.
        contexts = [first, context_in(three.shares[0], [first]), context_in(three.shares[1])]
        with _Serving(home, three.url, contexts) as made:
            yield made
    else:
        with valkey(home) as store, _Serving(home, store.url, [1, 11, 2**32 - 1]) as made:
            yield made


class _Serving:
    """A coordinator on that store, with an actor and records in each context."""

    def __init__(self, home: Path, url: str, contexts: list[int]) -> None:
        operators = home / "operators"
        arguments = "--redis-url", url, "--isolation", "prefix", "--workers", "2"
        self._running = coordinator(*arguments, "--auth", "keys", "--operator-token-file", str(operators))
        self._operators = operators
        self._contexts = contexts

    def __enter__(self) -> Tenants:
        server = self._running.__enter__()
        tokens = {}
        with caller(server, "http", self._operators.read_text().split()[0]) as operator:
            for actor, context in enumerate(self._contexts, 1):
                operator.result("actor.create", callers.actor(actor))
                operator.result("context.create", callers.context(context, admins=[actor], executors=[], readers=[]))
                tokens[context] = operator.result("token.create", {"label": "t", "principal": f"actor:{actor}"})[
                    "token"
                ]
        made = Tenants(server, self._contexts, tokens)
        for actor, context in enumerate(self._contexts, 1):
            with caller(server, "ws", tokens[context]) as one:
                _fill(one, context, actor)
        return made

    def __exit__(self, *raised: Any) -> None:
        self._running.__exit__(*raised)


def _fill(one: Caller, context: int, actor: int) -> None:
    """Records of the same ids, whose texts tell whose they are."""
    job = callers.job(context, 7, JOB, script=f"of {context}", prerequisites=["wait"])
    one.result("flow.submit", {"context_id": context, "flow": callers.flow(context, 7, FLOW, [JOB]), "jobs": [job]})
    message = callers.message(context, 7, MESSAGE, [callers.job(context, 7, 90, script=f"of {context}")])
    one.result("message.create", {"context_id": context, "message": message})
    one.result("runner.create", callers.runner(context, RUNNER))


def _calls(context: int) -> dict[str, dict[str, Any]]:
    """Something of each kind that a member may do there."""
    here = {"context_id": context}
    flow, owned = {**here, "id": FLOW}, {**here, "caller_id": 7}
    return {
        "context.load": {"id": context},
        "flow.load": flow,
        "flow.status": flow,
        "flow.dag": flow,
        "flow.events": flow,
        "flow.subscribe": flow,
        "context.events": here,
        "context.subscribe": here,
        "job.load": {**owned, "id": JOB},
        "message.load": {**owned, "id": MESSAGE},
        "runner.load": {**here, "id": RUNNER},
        "job.list": here,
        "flow.list": here,
        "message.list": here,
        "runner.list": here,
        "runner.connected": here,
        "context.stats": here,
        "job.attempts": {**owned, "id": JOB},
        "prerequisite.list": here,
        "prerequisite.satisfy": {**here, "name": "wait"},
        "job.create": {**here, "job": callers.job(context, 7, 1000)},
        "flow.create": {**here, "flow": callers.flow(context, 7, 1000, [JOB])},
        "flow.submit": {
            **here,
            "flow": callers.flow(context, 7, 1000, [1000]),
            "jobs": [callers.job(context, 7, 1000)],
        },
        "message.create": {**here, "message": callers.message(context, 7, 1000, [])},
        "message.send": {**owned, "id": MESSAGE},
        "flow.start": flow,
        "flow.retry": flow,
        "flow.cancel": flow,
        "flow.delete": flow,
        "job.delete": {**owned, "id": JOB},
        "message.delete": {**owned, "id": MESSAGE},
        "runner.delete": {**here, "id": RUNNER},
        "context.create": callers.context(context, admins=[1, 2, 3], executors=[], readers=[]),
    }


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_nobody_reaches_into_another_context(tenants: Tenants, transport: str) -> None:
    refused = 0
    for own in tenants.contexts:
        with caller(tenants.server, transport, tenants.tokens[own]) as one:
            for other in {*tenants.contexts} - {own}:
                for method, params in _calls(other).items():
                    error = one.call(method, params).get("error")
                    assert error is not None, f"{method} of {other} by a member of {own}"
                    assert error["code"] in (NOT_FOUND, -32003, -32044), (method, error)
                    assert f"of {other}" not in str(error)
                    refused += error["code"] == NOT_FOUND
    assert refused > 100
    for context in tenants.contexts:
        with caller(tenants.server, transport, tenants.tokens[context]) as one:
            listed = one.result("job.list", {"context_id": context})["items"]
            assert [job["script"] for job in listed] == [f"of {context}"], "nothing was created or deleted"
            assert one.result("context.load", {"id": context})["admins"] == [tenants.contexts.index(context) + 1]
            assert one.result("context.list", {})["items"] == [context]


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_the_same_ids_are_other_records_in_each(tenants: Tenants, transport: str) -> None:
    for context in tenants.contexts:
        with caller(tenants.server, transport, tenants.tokens[context]) as one:
            loaded = one.result("job.load", {"context_id": context, "caller_id": 7, "id": JOB})
            assert (loaded["script"], loaded["context_id"]) == (f"of {context}", context)
            message = one.result("message.load", {"context_id": context, "caller_id": 7, "id": MESSAGE})
            assert [job["script"] for job in message["job"]] == [f"of {context}"]
            status = one.result("flow.status", {"context_id": context, "id": FLOW})
            assert [job["id"] for job in status["jobs"]] == [JOB]
            waiting = one.result("prerequisite.list", {"context_id": context})["waiting"]
            assert [(entry["name"], entry["jobs"]) for entry in waiting] == [("wait", 1)]


def test_what_is_satisfied_in_one_context_is_in_no_other(tenants: Tenants) -> None:
    """With a name that looks like a key of another context."""
    first, *others = tenants.contexts
    name = f"{{{others[0]}}}:job:7:{JOB}"
    with caller(tenants.server, "ws", tenants.tokens[first]) as one:
        for given in ("never", name):
            one.result("prerequisite.satisfy", {"context_id": first, "name": given})
    for other in others:
        with caller(tenants.server, "ws", tenants.tokens[other]) as one:
            assert one.result("prerequisite.list", {"context_id": other})["satisfied"] == []
            assert one.result("job.load", {"context_id": other, "caller_id": 7, "id": JOB})["script"] == f"of {other}"
