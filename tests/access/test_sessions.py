"""Sessions of browsers: a cookie counts for pages of exactly our own origin, and a ticket once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coordinator.rpc.access.sessions import GENERATIONS, TOKENS
from coordinator.secretfiles import write_secret
from tests.access import callers
from tests.access.callers import Caller, Key, caller
from tests.access.conftest import ADMIN, CONTEXT, KEYS, OTHER_CONTEXT, READER, RUNNER
from tests.support.server import CoordinatorProcess, ValkeyProcess, coordinator

NOBODY, CONFLICT, ABSENT, FORBIDDEN, INVALID = -32002, -32040, -32001, -32003, -32602
WHO = {"jsonrpc": "2.0", "id": 1, "method": "auth.whoami"}
SOON = 20.0


@pytest.fixture
def http(guarded: CoordinatorProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.http, timeout=60) as client:
        yield client


def begun(http: httpx.Client, token: str | None, **headers: str) -> httpx.Response:
    """The response to who begins a session as a page of ours does; the client keeps no cookie of it."""
    origin = {"origin": str(http.base_url).rstrip("/")}
    response = http.post("/session", headers={**origin, "authorization": f"Bearer {token}", **headers})
    http.cookies.clear()
    return response


def cookie_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.headers["set-cookie"].partition(";")[0]


def who(http: httpx.Client, cookie: str, headers: Mapping[str, str]) -> str:
    reply = http.post("/", headers={"cookie": cookie, **headers}, json=WHO)
    body = reply.json()
    name: str = body["result"]["principal"] if "result" in body else f"{reply.status_code}"
    return name


def opened(server: CoordinatorProcess, headers: Mapping[str, str], origin: str | None = None) -> Caller:
    """A WebSocket on the HTTP port, where a page's own cookie goes."""
    given = {**headers, **({} if origin is None else {"origin": origin})}
    url = server.http.replace("http://", "ws://") + "/ws"
    return Caller(server, "ws", more_headers=given, url=url)


def test_a_session_is_a_cookie_that_scripts_cannot_read(
    http: httpx.Client, tokens: dict[str, str | None], guarded: CoordinatorProcess
) -> None:
    response = begun(http, tokens["admin"])

    assert response.json()["principal"] == f"actor:{ADMIN}"
    assert response.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in response.headers
    attributes = [part.strip() for part in response.headers["set-cookie"].split(";")][1:]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {*attributes}
    assert not any(attribute.startswith("Domain") for attribute in attributes)
    assert "hc_" not in response.text
    cookie = cookie_of(response)
    assert (tokens["admin"] or "") not in cookie
    own = {"origin": guarded.http}
    assert who(http, cookie, own) == f"actor:{ADMIN}"
    assert who(http, cookie, {"sec-fetch-site": "same-origin"}) == f"actor:{ADMIN}"
    assert who(http, f"a=b; {cookie}; c=d", own) == f"actor:{ADMIN}"
    with opened(guarded, {"cookie": cookie}, guarded.http) as one:
        assert one.result("auth.whoami", {})["principal"] == f"actor:{ADMIN}"
        assert one.result("context.load", {"id": CONTEXT})["admins"] == [ADMIN]
    labels = [item["label"] for item in listed(guarded, tokens["admin"])]
    assert "browser session" in labels


def listed(server: CoordinatorProcess, token: str | None) -> list[dict[str, Any]]:
    with caller(server, "http", token) as one:
        items: list[dict[str, Any]] = one.result("token.list", {})["items"]
        return items


ELSEWHERE = [
    {},
    {"sec-fetch-site": "none"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-origin, same-origin"},
    {"referer": "{own}/"},
    {"origin": "null"},
    {"origin": "null", "sec-fetch-site": "same-origin"},
    {"origin": "{own}, {own}"},
    {"origin": "{own}/"},
    {"origin": "{own}.evil.example"},
    {"origin": "http://evil.example"},
    {"origin": "http://evil.example", "sec-fetch-site": "same-origin"},
    {"origin": "{secure}"},
    {"origin": "http://localhost:{port}"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": ""},
]


def filled(headers: Mapping[str, str], server: CoordinatorProcess) -> dict[str, str]:
    own, port = server.http, server.http.rpartition(":")[2]
    names = {"own": own, "port": port, "secure": own.replace("http://", "https://")}
    return {name: value.format(**names) for name, value in headers.items()}


@pytest.mark.parametrize("headers", ELSEWHERE, ids=str)
def test_a_cookie_counts_for_no_other_page(
    http: httpx.Client, guarded: CoordinatorProcess, tokens: dict[str, str | None], headers: dict[str, str]
) -> None:
    cookie = cookie_of(begun(http, tokens["admin"]))
    given = filled(headers, guarded)

    assert who(http, cookie, given) in ("stranger", "403")
    ended = http.delete("/session", headers={"cookie": cookie, **given})
    assert ended.status_code == 403
    assert "set-cookie" not in ended.headers
    logged_in = http.post("/session", headers={"authorization": f"Bearer {tokens['reader']}", **given})
    assert logged_in.status_code == 403
    assert "set-cookie" not in logged_in.headers
    try:
        with opened(guarded, {"cookie": cookie, **given}) as one:
            assert one.result("auth.whoami", {})["principal"] == "stranger"
    except InvalidStatus as refused:
        assert refused.response.status_code == 403  # noqa: PT017 - either is right
    assert who(http, cookie, {"origin": guarded.http}) == f"actor:{ADMIN}"


def test_two_origins_are_none(guarded: CoordinatorProcess, http: httpx.Client, tokens: dict[str, str | None]) -> None:
    cookie = cookie_of(begun(http, tokens["admin"]))
    twice = [("origin", guarded.http), ("origin", guarded.http)]

    assert http.post("/", headers=[("cookie", cookie), *twice], json=WHO).status_code == 403
    assert http.post("/session", headers=[("authorization", f"Bearer {tokens['admin']}"), *twice]).status_code == 403
    other = "herocoordinator=hc_" + "a" * 43
    for cookies in (f"{cookie}; {other}", f"{other}; {cookie}", f"{cookie}; {cookie}"):
        assert who(http, cookies, {"origin": guarded.http}) == "stranger"


def test_of_a_token_and_a_cookie_the_token_counts(
    guarded: CoordinatorProcess, http: httpx.Client, tokens: dict[str, str | None]
) -> None:
    cookie = cookie_of(begun(http, tokens["admin"]))
    own = {"origin": guarded.http}

    assert who(http, cookie, {**own, "authorization": f"Bearer {tokens['reader']}"}) == f"actor:{READER}"
    assert who(http, cookie, {**own, "authorization": "Bearer hc_" + "a" * 43}) == "401"


def test_a_session_ends_and_what_it_has_open_does(
    guarded: CoordinatorProcess, http: httpx.Client, tokens: dict[str, str | None]
) -> None:
    cookie = cookie_of(begun(http, tokens["admin"]))
    own = {"cookie": cookie, "origin": guarded.http}
    with opened(guarded, {"cookie": cookie}, guarded.http) as one:
        ended = http.delete("/session", headers=own)

        assert ended.status_code == 204
        assert "Max-Age=0" in ended.headers["set-cookie"]
        assert "login is over" in one.note("auth.ended", SOON)["reason"]
        with pytest.raises(ConnectionClosed):
            one.next_reply(SOON)
    for _ in range(6):  # on both workers
        with httpx.Client(base_url=guarded.http, timeout=60) as other:
            assert who(other, cookie, {"origin": guarded.http}) == "401"
    assert http.delete("/session", headers=own).status_code == 204  # again


def test_a_session_is_as_limited_as_its_token_and_ends_with_each_before_it(
    guarded: CoordinatorProcess, http: httpx.Client, operator: Caller
) -> None:
    operator.result("actor.create", callers.actor(860, Key().public))
    operator.result("context.create", callers.context(860, admins=[860], executors=[], readers=[]))
    root = operator.result("token.create", {"label": "root", "principal": "actor:860", "expires_in": 1000})
    with caller(guarded, "http", root["token"]) as one:
        limited = one.result("token.create", {"label": "r", "access": "read", "contexts": [860]})["token"]
    cookie = cookie_of(begun(http, limited))
    own = {"cookie": cookie, "origin": guarded.http}

    def code(method: str, params: Any) -> int | None:
        reply = http.post("/", headers=own, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        found: int | None = reply.json().get("error", {}).get("code")
        return found

    assert code("context.load", {"id": 860}) is None
    assert code("runner.create", callers.runner(860, 1)) == FORBIDDEN
    assert code("context.load", {"id": CONTEXT}) == ABSENT
    assert code("token.create", {"label": "x"}) == FORBIDDEN
    operator.result("token.revoke", {"id": root["id"]})
    for _ in range(200):
        if code("context.load", {"id": 860}) == NOBODY:
            break
    else:
        raise AssertionError("a session outlives the token before the one it was begun with")


def test_sessions_of_a_limited_token_end_no_other_token(
    guarded: CoordinatorProcess, http: httpx.Client, operator: Caller
) -> None:
    operator.result("actor.create", callers.actor(861, Key().public))
    made: dict[str, str] = {}
    for name, given in (("whole", {"expires_in": 1000}), ("limited", {"expires_in": 90_000, "access": "read"})):
        made[name] = operator.result("token.create", {"label": name, "principal": "actor:861", **given})["token"]
    with caller(guarded, "http", made["whole"]) as one:
        made["sibling"] = one.result("token.create", {"label": "sibling", "expires_in": 500})["token"]
        made["its own"] = one.result("token.create", {"label": "its own", "expires_in": 900, "access": "read"})["token"]
    for name in ("limited", "its own"):
        latest = ""
        for number in range(TOKENS + 5):
            latest = cookie_of(begun(http, made[name])).partition("=")[2]
            if number % 50 == 0 and (name == "its own" or number >= TOKENS):  # of the limited one, only once it is full
                cookie_of(begun(http, latest))  # by a session of it, too

    with caller(guarded, "http", made["whole"]) as one:
        listed = [token["label"] for token in one.result("token.list", {})["items"]]
        assert {"whole", "limited", "sibling", "its own"} <= {*listed}
        assert len(listed) == TOKENS


def test_sessions_are_not_made_of_sessions_without_end(http: httpx.Client, operator: Caller) -> None:
    operator.result("actor.create", callers.actor(862, Key().public))
    shown = operator.result("token.create", {"label": "root", "principal": "actor:862"})["token"]
    for _ in range(GENERATIONS - 1):
        shown = cookie_of(begun(http, shown)).partition("=")[2]

    assert begun(http, shown).status_code == 403


@pytest.mark.parametrize("shown", [None, "Bearer hc_" + "a" * 43, "Basic aGM6aGM=", "operator", "runner"])
def test_who_begins_no_session(
    guarded: CoordinatorProcess, http: httpx.Client, tokens: dict[str, str | None], shown: str | None
) -> None:
    header = {} if shown is None else {"authorization": f"Bearer {tokens[shown]}" if shown in tokens else shown}
    response = http.post("/session", headers={"origin": guarded.http, **header})

    if shown == "runner":
        assert response.json()["principal"] == f"runner:{CONTEXT}:{RUNNER}"
        return
    assert response.status_code == (403 if shown == "operator" else 401)
    assert "set-cookie" not in response.headers
    assert http.get("/session", headers={"origin": guarded.http}).status_code == 405


def test_a_ticket_is_good_once_and_for_its_principal(
    guarded: CoordinatorProcess, http: httpx.Client, tokens: dict[str, str | None]
) -> None:
    cookie = cookie_of(begun(http, tokens["admin"]))
    own = {"cookie": cookie, "origin": guarded.http}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "auth.ticket", "params": {}}

    def ticket() -> str:
        text: str = http.post("/", headers=own, json=asked).json()["result"]["ticket"]
        return text

    first = ticket()
    with caller(guarded, "ws") as one:
        assert one.result("auth.login", {"ticket": first})["principal"] == f"actor:{ADMIN}"
        assert one.result("context.load", {"id": CONTEXT})["admins"] == [ADMIN]
        assert one.code("auth.login", {"ticket": first}) == NOBODY
        for spelled in (first, first.rstrip("="), first + "=", first[:-1] + "A"):
            for _ in range(3):  # two workers
                with caller(guarded, "ws") as other:
                    assert other.code("auth.login", {"ticket": spelled}) == NOBODY
        with caller(guarded, "ws") as reader:
            reader.log_in(KEYS[READER], f"actor:{READER}")
            assert reader.code("auth.login", {"ticket": ticket()}) == CONFLICT
            assert reader.result("auth.whoami", {})["principal"] == f"actor:{READER}"
        with caller(guarded, "http") as nobody:
            assert nobody.code("auth.login", {"ticket": ticket()}) == INVALID
            assert nobody.code("auth.ticket", {}) == NOBODY
        with caller(guarded, "ws") as other:
            assert other.code("auth.login", {"token": ticket()}) == NOBODY
            both = {"ticket": ticket(), "token": tokens["reader"]}
            assert other.code("auth.login", both) == INVALID
        last = ticket()
        http.delete("/session", headers=own)

        one.note("auth.ended", SOON)
    with caller(guarded, "ws") as late:
        assert late.code("auth.login", {"ticket": last}) == NOBODY
    with caller(guarded, "http", tokens["operator"]) as operator:
        assert operator.code("auth.ticket", {}) == CONFLICT


def test_a_ticket_leads_to_no_other_context(guarded: CoordinatorProcess, operator: Caller) -> None:
    asked = {"label": "c", "principal": f"actor:{ADMIN}", "contexts": [OTHER_CONTEXT], "access": "read"}
    limited = operator.result("token.create", asked)["token"]
    with caller(guarded, "http", limited) as http, caller(guarded, "ws") as one:
        one.result("auth.login", {"ticket": http.result("auth.ticket", {})["ticket"]})

        assert one.code("context.load", {"id": CONTEXT}) == ABSENT
        assert one.code("token.create", {"label": "x"}) == FORBIDDEN


def test_a_ticket_of_one_coordinator_is_good_once_at_them_all(store: ValkeyProcess, tmp_path: Path) -> None:
    operators = tmp_path / "operators"
    write_secret(operators, b"hc_" + b"a" * 43)
    arguments = ("--redis-url", store.url, "--auth", "keys", "--operator-token-file", str(operators))
    with coordinator(*arguments) as one, coordinator(*arguments) as other:
        with caller(one, "http", "hc_" + "a" * 43) as operator:
            operator.result("actor.create", callers.actor(ADMIN, KEYS[ADMIN].public))
            token = operator.result("token.create", {"label": "x", "principal": f"actor:{ADMIN}"})["token"]
        for asked, shown in ((one, other), (other, one)):
            with caller(asked, "http", token) as page:
                ticket = page.result("auth.ticket", {})["ticket"]
            with caller(shown, "ws") as socket:
                assert socket.result("auth.login", {"ticket": ticket})["principal"] == f"actor:{ADMIN}"
            for where in (one, other):
                with caller(where, "ws") as late:
                    assert late.code("auth.login", {"ticket": ticket}) == NOBODY
