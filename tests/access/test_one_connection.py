"""Who calls is told by each request, not by the connection it comes on: what a connection remembers of one request
counts for the next only if that shows the same, and no longer than it is good."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.access import callers
from tests.access.callers import Caller, Key
from tests.access.conftest import ADMIN, CONTEXT, EXECUTOR, READER
from tests.access.test_revocation import SOON, soon, token_of
from tests.support.server import CoordinatorProcess, coordinator

NOBODY, FORBIDDEN, ABSENT, OVERLOADED = -32002, -32003, -32001, -32043
BAD = "hc_" + "x" * 43
_ids = count(4000)

Request = tuple[Mapping[str, str], Any]
"""Its headers, and its message."""


class OneConnection:
    """A connection of HTTP/1, by hand."""

    def __init__(self, url: str) -> None:
        self.host = urlsplit(url).netloc
        name, _, port = self.host.partition(":")
        self.socket = socket.create_connection((name, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def __enter__(self) -> OneConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.socket.close()

    def send(self, *requests: Request) -> None:
        """All at once."""
        data = b""
        for headers, message in requests:
            body = json.dumps(message).encode()
            lines = {"host": self.host, "content-type": "application/json", **headers, "content-length": str(len(body))}
            head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            data += f"POST / HTTP/1.1\r\n{head}\r\n".encode() + body
        self.socket.sendall(data)

    def reply(self) -> tuple[int, Any]:
        """The status of the next response, and its body."""
        status = int(self.stream.readline().split()[1])
        length = 0
        while (line := self.stream.readline()) != b"\r\n":
            assert line, "the server has closed the connection"
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = self.stream.read(length)
        return status, json.loads(body) if body else None

    def answers(self, requests: Sequence[Request], *, pipelined: bool) -> list[tuple[int, Any]]:
        if pipelined:
            self.send(*requests)
            return [self.reply() for _ in requests]
        found = []
        for request in requests:
            self.send(request)
            found.append(self.reply())
        return found

    def answer(self, token: str | None, method: str, params: Any) -> Any:
        """The result, or the error's code."""
        self.send((shown(token), call(method, params)))
        return outcome(self.reply()[1])


@pytest.fixture
def one(guarded: CoordinatorProcess) -> Iterator[OneConnection]:
    with OneConnection(guarded.http) as connection:
        yield connection


@pytest.fixture(params=[False, True], ids=["in turn", "pipelined"])
def pipelined(request: pytest.FixtureRequest) -> bool:
    flag: bool = request.param
    return flag


def shown(token: str | None) -> dict[str, str]:
    return {} if token is None else {"authorization": f"Bearer {token}"}


def call(method: str, params: Any, id: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def outcome(reply: Any) -> Any:
    return reply["result"] if "result" in reply else reply["error"]["code"]


def test_each_request_is_of_who_it_shows(one: OneConnection, tokens: dict[str, str | None], *, pipelined: bool) -> None:
    roles = ["admin", "admin", "reader", "nobody", "admin", "bad", "executor", "nobody", "bad", "reader", "operator"]
    known = {**tokens, "bad": BAD}
    names = {"admin": f"actor:{ADMIN}", "reader": f"actor:{READER}", "executor": f"actor:{EXECUTOR}"}
    names |= {"operator": "operator", "nobody": "stranger"}
    requests = [(shown(known[role]), call("auth.whoami", {})) for role in roles]

    answers = one.answers(requests * 2, pipelined=pipelined)

    for role, (_, reply) in zip(roles * 2, answers, strict=True):
        told = outcome(reply)
        assert (told if role == "bad" else told["principal"]) == names.get(role, NOBODY)


def test_each_request_may_do_what_who_it_shows_may(
    one: OneConnection, tokens: dict[str, str | None], *, pipelined: bool
) -> None:
    roles = ["admin", "reader", "admin", "nobody", "admin", "stranger", "reader", "bad", "admin", "admin"]
    known = {**tokens, "bad": BAD}
    expected = {"admin": 200, "reader": FORBIDDEN, "nobody": NOBODY, "stranger": ABSENT, "bad": NOBODY}
    requests = [
        (
            shown(known[role]),
            call("job.create", {"context_id": CONTEXT, "job": callers.job(CONTEXT, ADMIN, next(_ids))}),
        )
        for role in roles
    ]

    answers = one.answers(requests, pipelined=pipelined)

    for role, (status, reply) in zip(roles, answers, strict=True):
        assert status == (401 if role in ("nobody", "bad") else 200)
        assert outcome(reply)["caller_id"] == ADMIN if role == "admin" else outcome(reply) == expected[role]


def test_batches_are_refused_as_a_whole_and_what_comes_after_them_is_not(
    one: OneConnection, tokens: dict[str, str | None], *, pipelined: bool
) -> None:
    batch = [call("context.load", {"id": CONTEXT}, id) for id in range(3)]
    known = [tokens["admin"], BAD, tokens["admin"], None, tokens["reader"]]

    answers = one.answers([(shown(token), batch) for token in known], pipelined=pipelined)

    assert [status for status, _ in answers] == [200, 401, 200, 401, 200]
    refused = [[outcome(reply) == NOBODY for reply in replies] for _, replies in answers]
    assert refused == [[False] * 3, [True] * 3, [False] * 3, [True] * 3, [False] * 3]
    assert outcome(answers[2][1][0])["admins"] == [ADMIN]
    assert outcome(answers[4][1][0])["admins"] == []


def test_a_token_that_is_revoked_between_two_requests_is_good_no_longer(
    one: OneConnection, operator: Caller, tokens: dict[str, str | None], *, pipelined: bool
) -> None:
    token, token_id = token_of(operator, f"actor:{ADMIN}")
    request = shown(token), call("context.load", {"id": CONTEXT})
    other = shown(tokens["reader"]), call("context.load", {"id": CONTEXT})
    assert [status for status, _ in one.answers([request] * 3, pipelined=pipelined)] == [200] * 3

    assert operator.result("token.revoke", {"id": token_id})["revoked"]
    statuses: list[int] = []

    def is_refused() -> bool:
        statuses.extend(status for status, _ in one.answers([request] * 3, pipelined=pipelined))
        return 401 in statuses

    soon(is_refused)
    refused_from = statuses.index(401)
    assert statuses[refused_from:] == [401] * (len(statuses) - refused_from)
    for _ in range(3):
        answers = one.answers([request, other, request], pipelined=pipelined)
        assert [status for status, _ in answers] == [401, 200, 401]
        assert outcome(answers[0][1]) == NOBODY


def test_a_token_that_another_revokes_on_the_same_connection(
    one: OneConnection, operator: Caller, tokens: dict[str, str | None]
) -> None:
    token, token_id = token_of(operator, f"actor:{READER}")
    assert one.answer(token, "context.load", {"id": CONTEXT})["id"] == CONTEXT

    assert one.answer(token, "token.revoke", {"id": token_id})["revoked"]

    soon(lambda: one.answer(token, "context.load", {"id": CONTEXT}) == NOBODY)
    assert one.answer(tokens["reader"], "context.load", {"id": CONTEXT})["id"] == CONTEXT


def test_rights_that_change_between_two_requests_count(one: OneConnection, operator: Caller) -> None:
    id, admin = next(_ids), next(_ids)
    for actor in (id, admin):
        operator.result("actor.create", callers.actor(actor, Key().public))
    context = next(_ids)
    token, _ = token_of(operator, f"actor:{id}")

    def become(**lists: list[int]) -> None:
        given = {"admins": [admin], "executors": [], "readers": [], **lists}
        operator.result("context.create", callers.context(context, **given))

    def create() -> Any:
        job = callers.job(context, id, next(_ids))
        return one.answer(token, "job.create", {"context_id": context, "job": job})

    become(executors=[id])
    assert create()["caller_id"] == id
    become(readers=[id])
    soon(lambda: create() == FORBIDDEN)
    become(admins=[admin, id])
    soon(lambda: isinstance(create(), dict))
    become()
    soon(lambda: create() == ABSENT)
    assert create() == ABSENT


def test_a_cookie_counts_for_its_own_requests_alone(
    one: OneConnection, tokens: dict[str, str | None], *, pipelined: bool
) -> None:
    own = {"origin": f"http://{one.host}", "sec-fetch-site": "same-origin"}
    with httpx.Client(base_url=f"http://{one.host}", timeout=30) as http:
        begun = http.post("/session", headers={**own, **shown(tokens["reader"])})
        assert begun.status_code == 200, begun.text
        cookie = begun.headers["set-cookie"].partition(";")[0]
    who = call("auth.whoami", {})
    with_cookie = {**own, "cookie": cookie}
    headers: list[dict[str, str]] = [
        with_cookie,
        shown(tokens["admin"]),
        with_cookie,
        own,
        {"cookie": cookie, "origin": "http://elsewhere.test"},
        {**with_cookie, **shown(tokens["admin"])},
        with_cookie,
        {},
    ]

    answers = one.answers([(each, who) for each in headers], pipelined=pipelined)

    names = [f"actor:{READER}", f"actor:{ADMIN}", f"actor:{READER}", "stranger", None, f"actor:{ADMIN}"]
    for (status, reply), name in zip(answers, [*names, f"actor:{READER}", "stranger"], strict=True):
        if name is None:
            assert status == 403
        else:
            assert outcome(reply)["principal"] == name


def test_a_ticket_is_for_who_has_asked_for_it(
    guarded: CoordinatorProcess, one: OneConnection, tokens: dict[str, str | None]
) -> None:
    tickets = {role: one.answer(tokens[role], "auth.ticket", {})["ticket"] for role in ("admin", "reader")}
    assert one.answer(None, "auth.ticket", {}) == NOBODY

    for role, id in (("reader", READER), ("admin", ADMIN)):
        with Caller(guarded, "ws") as ws:
            assert ws.result("auth.login", {"ticket": tickets[role]})["principal"] == f"actor:{id}"


def test_each_caller_on_a_connection_has_limits_of_its_own(tmp_path: Path) -> None:
    flags = ("--data-dir", str(tmp_path), "--auth", "keys", "--caller-calls", "4", "--workers", "1")
    with coordinator(*flags) as server, OneConnection(server.http) as one:
        operator = callers.operator_token(tmp_path)
        made: list[str] = []
        for id in (1, 2):
            assert one.answer(operator, "actor.create", callers.actor(id, Key().public))["id"] == id
            made.append(one.answer(operator, "token.create", {"label": "x", "principal": f"actor:{id}"})["token"])
        greedy, frugal = made

        seen = [one.answer(greedy, "auth.whoami", {}) for _ in range(15)]

        assert OVERLOADED in seen
        assert one.answer(frugal, "auth.whoami", {})["principal"] == "actor:2"


async def _over_http2(url: str, asked: Sequence[str | None]) -> list[Any]:
    async with httpx.AsyncClient(http2=True, http1=False, base_url=url, timeout=SOON) as http:

        async def who(token: str | None) -> Any:
            response = await http.post("/", headers=shown(token), json=call("auth.whoami", {}))
            assert response.http_version == "HTTP/2"
            return outcome(response.json())

        return list(await asyncio.gather(*map(who, asked)))


def test_each_stream_of_http2_is_of_who_it_shows(guarded: CoordinatorProcess, tokens: dict[str, str | None]) -> None:
    asked = [tokens["admin"], tokens["reader"], None, BAD, tokens["operator"], tokens["executor"]] * 5

    told = asyncio.run(_over_http2(guarded.http, asked))

    names = [f"actor:{ADMIN}", f"actor:{READER}", "stranger", None, "operator", f"actor:{EXECUTOR}"] * 5
    assert [None if one == NOBODY else one["principal"] for one in told] == names
