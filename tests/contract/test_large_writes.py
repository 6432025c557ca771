"""A write that is computed in a thread keeps its place among its client's calls."""

from __future__ import annotations

import json
from typing import Any, Final

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.clients import JSON, PATIENCE, request
from tests.support.records import CALLER, sample
from tests.support.server import CoordinatorProcess

JOBS: Final = 1_500  # each write takes a thread some ten milliseconds


def calls(context: int, kind: str) -> list[dict[str, Any]]:
    """A large write, and a call that needs what it has written."""
    jobs = [
        sample("job", context, id, caller_id=CALLER, depends=[1] if id > 1 else [], prerequisites=[], script="")
        for id in range(1, JOBS + 1)
    ]
    name = {"context_id": context, "id": 1}
    if kind == "message":
        message = sample("message", context, 1, caller_id=CALLER, job=jobs)
        create = request("message.create", {"context_id": context, "message": message}, 1)
        return [create, request("message.send", {**name, "caller_id": CALLER}, 2)]
    flow = sample("flow", context, 1, caller_id=CALLER, jobs=[job["id"] for job in jobs])
    submit = request("flow.submit", {"context_id": context, "flow": flow, "jobs": jobs}, 1)
    return [submit, request("flow.status", name, 2)]


def ask_http(server: CoordinatorProcess, sent: list[dict[str, Any]]) -> list[Any]:
    answers: list[Any] = httpx.post(
        server.http, content=json.dumps(sent), headers=JSON, timeout=PATIENCE, verify=False
    ).json()
    return answers


def ask_websocket(server: CoordinatorProcess, sent: list[dict[str, Any]]) -> list[Any]:
    with connect(server.ws, max_size=None) as socket:
        for call in sent:
            socket.send(json.dumps(call))
        return [json.loads(socket.recv(PATIENCE)) for _ in sent]


@pytest.mark.parametrize("ask", [ask_http, ask_websocket])
@pytest.mark.parametrize("kind", ["message", "flow"])
def test_what_follows_a_large_write_finds_it(server: CoordinatorProcess, context: int, kind: str, ask: Any) -> None:
    answers = {answer["id"]: answer for answer in ask(server, calls(context, kind))}

    assert {id: answer.get("error") for id, answer in answers.items()} == {1: None, 2: None}
    jobs = answers[2]["result"]["job" if kind == "message" else "jobs"]
    assert len(jobs) == JOBS


def test_what_is_wrong_with_a_large_write_is_its_error(server: CoordinatorProcess, context: int) -> None:
    submit, _ = calls(context, "flow")
    submit["params"]["jobs"][7]["depends"] = [JOBS + 1]

    [answer] = ask_http(server, [submit])

    assert answer["error"]["code"] == -32020
    assert answer["error"]["data"]["missing"] == JOBS + 1


def outcomes(server: CoordinatorProcess, ask: Any, *sent: dict[str, Any]) -> list[Any]:
    """The results, or the codes of the errors, of calls sent one behind the other."""
    answers = {answer["id"]: answer for answer in ask(server, [{**call, "id": at} for at, call in enumerate(sent)])}
    return [
        answers[at]["result"] if "result" in answers[at] else answers[at]["error"]["code"] for at in range(len(sent))
    ]


@pytest.mark.parametrize("ask", [ask_http, ask_websocket])
def test_what_follows_a_change_of_a_large_flow_finds_it_done(
    server: CoordinatorProcess, context: int, ask: Any
) -> None:
    submit, _ = calls(context, "flow")
    name = {"context_id": context, "id": 1}
    load = request("flow.load", name, 0)

    made = [
        request("job.create", {"context_id": context, "job": job}, at)
        for at, job in enumerate(submit["params"]["jobs"])
    ]
    for first in range(0, JOBS, 500):
        ask_http(server, made[first : first + 500])
    create = request("flow.create", {"context_id": context, "flow": submit["params"]["flow"]}, 0)
    assert "result" in ask_http(server, [create])[0]

    changes = ("flow.start", "Started"), ("flow.cancel", "Error"), ("flow.retry", "Started"), ("flow.cancel", "Error")
    for change, status in changes:
        _, loaded = outcomes(server, ask, request(change, name, 0), load)
        assert loaded["status"] == status, change
    assert outcomes(server, ask, request("flow.delete", name, 0), load) == [{"deleted": JOBS + 1}, -32001]


@pytest.mark.parametrize("ask", [ask_http, ask_websocket])
def test_what_follows_the_sending_of_a_large_message_finds_it_sent(
    server: CoordinatorProcess, context: int, ask: Any
) -> None:
    create, send = calls(context, "message")
    name = send["params"]

    _, sent, loaded, deleted = outcomes(
        server, ask, create, send, request("message.load", name, 0), request("message.delete", name, 0)
    )

    assert sent["transport_status"] == loaded["transport_status"] == "Queued"
    assert deleted == -32040
