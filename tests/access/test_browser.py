"""What pages can do to a coordinator from a real browser whose user is logged in to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.access import callers
from tests.access.callers import Key, caller
from tests.support.chromium import Page, chromium, pages_of_others
from tests.support.server import CoordinatorProcess, coordinator, free_port

pytestmark = pytest.mark.slow

EVIL: Final = "evil.example"
REBOUND: Final = "rebound.example"  # which leads to us, as after its owner has changed where it leads
VICTIM, ATTACKER = 7, 8


class Stage(NamedTuple):
    """A browser whose user is logged in.

    Attributes:
        own: our page, open; `url` is where.
        foreign: pages of others, by the origin that each is open at: of another site, of another port of our host, and
            of that port under a name that the coordinator lets call.
    """

    server: CoordinatorProcess
    url: str
    own: Page
    foreign: dict[str, Page]
    attackers_token: str


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("browser")
    with chromium(directory / "profile", EVIL, REBOUND) as browser, pages_of_others() as port:
        flags = ("--auth", "keys", "--allowed-origins", f"http://127.0.0.1:{port}")
        with coordinator("--data-dir", str(directory / "data"), *flags) as server:
            with caller(server, "http", callers.operator_token(directory / "data")) as operator:
                tokens = {}
                for id in (VICTIM, ATTACKER):
                    operator.result("actor.create", callers.actor(id, Key().public))
                    asked = {"label": "x", "principal": f"actor:{id}"}
                    tokens[id] = operator.result("token.create", asked)["token"]
                operator.result("context.create", callers.context(1, admins=[VICTIM], executors=[], readers=[]))
            url = f"http://127.0.0.1:{server.http.rpartition(':')[2]}"
            own = browser.page()
            own.open(f"{url}/healthz")  # a page without the policy of the dashboard, which runs no scripts in frames
            shown = json.dumps({"method": "POST", "headers": {"authorization": f"Bearer {tokens[VICTIM]}"}})
            begun = own.run(f"fetch('/session', {shown}).then(response => response.status)")
            assert begun == 200
            foreign = {}
            for name in (EVIL, "localhost", "127.0.0.1"):
                foreign[name] = browser.page()
                foreign[name].open(f"http://{name}:{port}/")
            yield Stage(server, url, own, foreign, tokens[ATTACKER])


def calling(url: str, method: str, params: Any, **options: Any) -> str:
    """A script that calls with all the credentials there are, and says what came of it."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    given = json.dumps({"method": "POST", "credentials": "include", "body": body, **options})
    return f"fetch('{url}', {given}).then(response => response.text(), error => 'blocked: ' + error)"


def talking(url: str, method: str) -> str:
    """The same over a WebSocket."""
    message = json.dumps(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}))
    return f"""new Promise(done => {{
        const socket = new WebSocket('{url.replace("http://", "ws://")}/ws');
        socket.onopen = () => socket.send({message});
        socket.onmessage = event => done(event.data);
        socket.onerror = () => done('blocked');
    }})"""


JSON: Final = {"headers": {"content-type": "application/json"}}
FORM: Final = {"headers": {"content-type": "text/plain"}, "mode": "no-cors"}


def is_logged_in(stage: Stage) -> bool:
    """Whether our own page still calls as its user, and nobody else."""
    return f'"actor:{VICTIM}"' in stage.own.run(calling("/", "auth.whoami", {}, **JSON))


def test_our_own_page_calls_by_a_cookie_that_it_cannot_read(stage: Stage) -> None:
    [cookie] = stage.own.cookies(stage.url)

    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert stage.own.run("document.cookie") == ""
    assert is_logged_in(stage)
    assert f'"actor:{VICTIM}"' in stage.own.run(talking(stage.url, "auth.whoami"))
    assert '"admins":[7]' in stage.own.run(calling("/", "context.load", {"id": 1}, **JSON))


@pytest.mark.parametrize("name", [EVIL, "localhost", "127.0.0.1"])
def test_another_page_is_not_its_visitor(stage: Stage, name: str) -> None:
    page = stage.foreign[name]
    made = {"actor": {"id": 99, "pubkey": "x", "address": []}}
    for options in (JSON, FORM):
        for method, params in (("auth.whoami", {}), ("token.create", {"label": "stolen"}), ("actor.create", made)):
            said = page.run(calling(f"{stage.url}/", method, params, **options))
            assert f"actor:{VICTIM}" not in said
            assert "hc_" not in said
    said = page.run(talking(stage.url, "auth.whoami"))
    assert said == "blocked" or '"stranger"' in said
    assert said == "blocked" or name == "127.0.0.1", "only the origin that is allowed gets that far"
    labels = stage.own.run(calling("/", "token.list", {}, **JSON))
    assert "browser session" in labels
    assert "stolen" not in labels


def test_a_page_without_an_origin_is_not_its_visitor(stage: Stage) -> None:
    for where in (stage.foreign[EVIL], stage.own):  # a frame in our own page's place, too
        script = f"""(async () => {{
            const called = await {calling(f"{stage.url}/", "auth.whoami", {}, **FORM)};
            const talked = await {talking(stage.url, "auth.whoami")};
            parent.postMessage({{called, talked}}, '*');
        }})()"""
        framed = f"""new Promise(done => {{
            addEventListener('message', event => done(event.data), {{once: true}});
            const frame = document.createElement('iframe');
            frame.sandbox = 'allow-scripts';
            frame.srcdoc = '<script>' + {json.dumps(script)} + '<' + '/script>';
            document.documentElement.append(frame);
        }})"""
        said = where.run(framed)
        assert said["talked"] == "blocked"
        assert f"actor:{VICTIM}" not in said["called"]


@pytest.mark.parametrize("name", [EVIL, "localhost", "127.0.0.1"])
def test_another_page_logs_nobody_in_or_out(stage: Stage, name: str) -> None:
    page, there = stage.foreign[name], f"{stage.url}/session"
    shown = {"authorization": f"Bearer {stage.attackers_token}"}
    for method, options in (
        ("POST", {"headers": shown}),
        ("POST", {"mode": "no-cors"}),
        ("DELETE", {}),
        ("DELETE", {"mode": "cors", "keepalive": True}),
    ):
        given = json.dumps({"method": method, "credentials": "include", **options})
        script = f"fetch('{there}', {given}).then(r => r.type + r.status, error => 'blocked')"
        assert page.run(script) in ("blocked", "opaque0", "cors403", "cors401")
        assert is_logged_in(stage)
    posted = f"""new Promise(done => {{
        const frame = document.createElement('iframe'), form = document.createElement('form');
        frame.name = 'there';
        form.target = 'there';
        form.method = 'POST';
        form.action = '{there}';
        form.innerHTML = '<input name="authorization" value="Bearer {stage.attackers_token}">';
        document.documentElement.append(frame, form);
        form.submit();
        frame.onload = () => done(true);
    }})"""
    assert page.run(posted)
    assert is_logged_in(stage)
    [cookie] = stage.own.cookies(stage.url)
    assert stage.attackers_token not in cookie["value"]


def test_a_name_that_is_rebound_to_us_reads_and_does_nothing(stage: Stage) -> None:
    page = stage.own._browser.page()
    url = f"http://{REBOUND}:{stage.url.rpartition(':')[2]}"
    page.open(f"{url}/")  # what it gets is the refusal; scripts of this origin run all the same
    assert "--allowed-hosts" in page.run("document.documentElement.innerText")
    for method in ("auth.whoami", "auth.challenge", "rpc.discover"):
        assert "--allowed-hosts" in page.run(calling("/", method, {}, **JSON))
    assert page.run(talking(url, "auth.whoami")) == "blocked"
    shown = json.dumps({"method": "POST", "headers": {"authorization": f"Bearer {stage.attackers_token}"}})
    assert page.run(f"fetch('/session', {shown}).then(response => response.status)") == 403
    assert page.cookies(url) == []
    assert is_logged_in(stage)


def test_a_name_that_is_rebound_while_its_page_is_open_reads_and_does_nothing(stage: Stage, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://{REBOUND}:{port}"
    page = stage.own._browser.page()
    with pages_of_others(port):
        page.open(f"{url}/")  # the attacker's own page, with scripts of its own
        assert page.run("document.title") == "another page"
    data = tmp_path / "data"
    ports = ("--api-http-port", str(port), "--api-ws-port", str(free_port()))
    with coordinator("--data-dir", str(data), "--auth", "keys", *ports) as server:
        # What a browser sees of it: the same name and port, where now the coordinator is.
        shown = {"headers": {"authorization": f"Bearer {callers.operator_token(data)}", **JSON["headers"]}}
        for method in ("auth.whoami", "auth.challenge", "rpc.discover", "context.list"):
            for options in (JSON, FORM, shown):
                said = page.run(calling("/", method, {}, **options))
                assert said == "" or "--allowed-hosts" in said  # of a reply to `no-cors` nothing is shown
        assert page.run(talking(url, "auth.whoami")) == "blocked"
        with caller(server, "http", callers.operator_token(data)) as operator:
            assert operator.result("auth.whoami", {})["principal"] == "operator"
    page.close()


def test_logging_out_takes_the_cookie_away(stage: Stage) -> None:
    assert stage.own.run("fetch('/session', {method: 'DELETE'}).then(response => response.status)") == 204

    assert stage.own.cookies(stage.url) == []
    assert not is_logged_in(stage)
