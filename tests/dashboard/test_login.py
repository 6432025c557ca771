"""Logging in to the dashboard, and what is offered to whom."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.access import callers
from tests.access.callers import Caller, caller
from tests.dashboard.looking import Viewer, flow_of, job_of
from tests.support.chromium import Browser, chromium
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.tls import Files

pytestmark = pytest.mark.slow

ADMIN, EXECUTOR, READER, STRANGER = 7, 8, 9, 10
RIGHTS: Final = {
    "admin": {"administer the context", "administer runners", "run flows and messages", "read logs"},
    "executor": {"run flows and messages", "delete jobs, flows and messages", "read logs"},
    "reader": {"read jobs, flows and messages", "follow flows", "read the context"},
}


class Stage(NamedTuple):
    server: CoordinatorProcess
    browser: Browser
    url: str
    tokens: dict[str, str]

    def logged_in(self, who: str, place: str) -> Viewer:
        """A tab whose user has just logged in; sessions of others before are over."""
        self.browser.send("Storage.clearCookies")
        viewer = Viewer(self.browser, self.url)
        viewer.open(place)
        viewer.type("input[name=token]", self.tokens[who])
        viewer.press("Log in")
        viewer.sees("Log out")
        return viewer


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("login")
    with (
        chromium(directory / "profile") as browser,
        coordinator("--data-dir", str(directory / "data"), "--auth", "keys") as server,
    ):
        token = callers.operator_token(directory / "data")
        with caller(server, "http", token) as operator:
            tokens = {"operator": token}
            named = {"admin": ADMIN, "executor": EXECUTOR, "reader": READER, "stranger": STRANGER}
            for name, id in named.items():
                operator.result("actor.create", callers.actor(id, callers.Key().public))
                asked = {"label": name, "principal": f"actor:{id}"}
                tokens[name] = operator.result("token.create", asked)["token"]
            asked = {"label": "looks only", "principal": f"actor:{ADMIN}", "access": "read"}
            tokens["looking admin"] = operator.result("token.create", asked)["token"]
            members = {"admins": [ADMIN], "executors": [EXECUTOR], "readers": [READER]}
            operator.result("context.create", callers.context(1, **members))
            for id, owner in ((1, ADMIN), (2, EXECUTOR)):
                flow = {**flow_of(id, 1, [id]), "caller_id": owner}
                operator.result("job.create", {"context_id": 1, "job": {**job_of(id, 1), "caller_id": owner}})
                operator.result("flow.create", {"context_id": 1, "flow": flow})
        yield Stage(server, browser, f"http://127.0.0.1:{server.http.rpartition(':')[2]}", tokens)


def standing(one: Caller, **params: Any) -> Any:
    return one.result("auth.whoami", params)


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_who_has_logged_in_is_told_what_they_may_do(stage: Stage, transport: str) -> None:
    for name, rights in RIGHTS.items():
        with caller(stage.server, transport, stage.tokens[name]) as one:
            told = standing(one, context_id=1)
            assert told["role"] == name
            assert rights <= {*told["rights"]}
            assert "role" not in standing(one)
            elsewhere = standing(one, context_id=2)
            assert (elsewhere["role"], elsewhere["rights"]) == ("stranger", [])
    with caller(stage.server, transport, stage.tokens["reader"]) as one:
        assert "read logs" not in standing(one, context_id=1)["rights"], "--reader-logs hidden"
        assert "run flows and messages" not in standing(one, context_id=1)["rights"]
    with caller(stage.server, transport, stage.tokens["looking admin"]) as one:
        told = standing(one, context_id=1)
        assert told["role"] == "reader"
        assert not {right for right in told["rights"] if right.split()[0] not in ("read", "follow", "list", "count")}
    with caller(stage.server, transport, stage.tokens["stranger"]) as one:
        assert standing(one, context_id=1)["rights"] == []
    with caller(stage.server, transport, stage.tokens["operator"]) as one:
        assert standing(one, context_id=99)["role"] == "operator"
    with caller(stage.server, transport) as one:
        assert standing(one, context_id=1) == {"principal": "stranger"}


def test_it_asks_for_a_token_says_why_one_is_refused_and_goes_where_one_wanted_to(stage: Stage) -> None:
    stage.browser.send("Storage.clearCookies")
    viewer = Viewer(stage.browser, stage.url)
    viewer.open("c/1/flow/1")
    viewer.sees("Log in")
    assert "Flow 1" not in viewer.page.text()
    for token, why in (
        ("hc_nonsense", "token"),
        (stage.tokens["operator"], "the operator's token is not for browsers"),
    ):
        viewer.type("input[name=token]", token)
        viewer.press("Log in")
        viewer.sees(why)
    viewer.type("input[name=token]", stage.tokens["admin"])
    viewer.press("Log in")
    viewer.sees("Flow 1", "actor:7", "live")
    assert viewer.page.run("document.cookie") == ""
    assert stage.tokens["admin"] not in viewer.page.run("JSON.stringify([{...localStorage}, {...sessionStorage}])")

    viewer.page.open(f"{stage.url}/healthz")
    viewer.page.open(f"{stage.url}/#/c/1/flow/1")
    viewer.sees("Flow 1", "actor:7")
    viewer.press("actor:7", "header")
    viewer.sees("browser session", "this one")
    viewer.press("Log out")
    viewer.sees("Log in")
    assert "Flow 1" not in viewer.page.text()
    assert viewer.page.cookies(stage.url) == []
    assert viewer.is_clean()


def test_a_session_that_is_revoked_ends_on_the_page(stage: Stage) -> None:
    viewer = stage.logged_in("admin", "c/1/flow/1")
    viewer.sees("Flow 1")
    with caller(stage.server, "http", stage.tokens["admin"]) as admin:
        sessions = [one for one in admin.result("token.list", {})["items"] if one["label"] == "browser session"]
        for session in sessions:
            admin.result("token.revoke", {"id": session["id"]})
    viewer.sees("Log in")
    assert "Flow 1" not in viewer.page.text()


def test_a_session_that_was_revoked_while_no_page_was_open_is_asked_for_anew(stage: Stage) -> None:
    viewer = stage.logged_in("admin", "c/1/flow/1")
    viewer.page.open(f"{stage.url}/healthz")
    with caller(stage.server, "http", stage.tokens["admin"]) as admin:
        for session in admin.result("token.list", {})["items"]:
            if session["label"] == "browser session":
                admin.result("token.revoke", {"id": session["id"]})

    viewer.page.open(f"{stage.url}/#/c/1/flow/1")

    viewer.sees("The session is over. Log in again.")
    viewer.page.until("performance.getEntriesByName(new URL('session', location).href).length > 0")
    assert viewer.page.cookies(stage.url) == []
    viewer.type("input[name=token]", stage.tokens["admin"])
    viewer.press("Log in")
    viewer.sees("Dispatched", "live")


def test_what_one_may_not_do_is_not_offered(stage: Stage) -> None:
    offered = {
        ("admin", 1): {"Start", "Delete"},
        ("admin", 2): {"Start", "Delete"},
        ("executor", 1): set(),
        ("executor", 2): {"Start", "Delete"},
        ("reader", 1): set(),
        ("looking admin", 1): set(),
    }
    for (who, flow), expected in offered.items():
        viewer = stage.logged_in(who, f"c/1/flow/{flow}")
        viewer.sees(f"Flow {flow}", "Dispatched")
        if expected:
            viewer.page.until("[...document.querySelectorAll('.title-row button')].length > 0")
        else:
            viewer.press("Logs")
            if who != "executor":
                viewer.sees("Readers do not see logs here.")
        assert viewer.buttons() & {"Start", "Cancel", "Retry", "Delete", "Approve", "Run again"} == expected
        assert viewer.is_clean()
    viewer = stage.logged_in("reader", "c/1/flows")
    viewer.sees("Flow 1")
    viewer.page.run("document.querySelector('[aria-label=\"Select flow 1\"]').click()")
    viewer.sees("There is nothing you may do with these.")
    viewer = stage.logged_in("stranger", "c/1/flow/1")
    viewer.sees("context")
    assert "Dispatched" not in viewer.page.text()


def test_only_who_may_delete_a_context_or_see_the_runners_tokens_is_offered_it(stage: Stage) -> None:
    with caller(stage.server, "http", stage.tokens["operator"]) as operator:
        operator.result("runner.create", callers.runner(1, 5, callers.Key().public))
        made = operator.result("token.create", {"label": "of a machine", "principal": "runner:1:5"})["token"]
    for who in ("executor", "reader", "looking admin"):
        viewer = stage.logged_in(who, "contexts")
        viewer.sees("Context 1")
        viewer.page.until("!!document.querySelector('tbody time')")
        assert "Delete" not in viewer.buttons(), who
        viewer.open("c/1/runners")
        viewer.sees("Runner 5")
        assert "Tokens of" not in viewer.page.text(), who
    viewer = stage.logged_in("admin", "contexts")
    viewer.page.until("[...document.querySelectorAll('button')].some(one => one.innerText === 'Delete')")
    viewer.open("c/1/runners")
    viewer.sees("Tokens of runner 5")
    viewer.page.run("document.querySelector('summary').click()")
    viewer.sees("of a machine")
    viewer.press("Revoke", "details")
    viewer.press("Revoke", "details .asking")
    viewer.sees("There is none.")
    assert viewer.is_clean()
    with caller(stage.server, "http", made) as machine:
        assert machine.code("auth.whoami", {}) == -32002


def test_it_is_the_same_over_tls_and_http2_with_several_workers(stage: Stage, tmp_path: Path) -> None:
    flags = ("--auth", "keys", "--workers", "2", *Files(tmp_path).flags)
    with coordinator("--data-dir", str(tmp_path / "data"), *flags) as server:
        operator_token = callers.operator_token(tmp_path / "data")
        authority = ssl.create_default_context()
        authority.check_hostname, authority.verify_mode = False, ssl.CERT_NONE
        with contextlib.closing(Caller(server, "http", operator_token, secure=authority)) as operator:
            operator.result("actor.create", callers.actor(ADMIN, callers.Key().public))
            token = operator.result("token.create", {"label": "x", "principal": f"actor:{ADMIN}"})["token"]
            operator.result("context.create", callers.context(1, admins=[ADMIN], readers=[], executors=[]))
        stage.browser.send("Storage.clearCookies")
        stage.browser.send("Security.setIgnoreCertificateErrors", ignore=True)
        viewer = Viewer(stage.browser, f"https://127.0.0.1:{server.http.rpartition(':')[2]}")
        viewer.open("c/1")
        viewer.type("input[name=token]", token)
        viewer.press("Log in")
        viewer.sees("Context 1", "actor:7", "live")
        [cookie] = viewer.page.cookies(viewer.url)
        assert (cookie["name"].startswith("__Host-"), cookie["secure"]) == (True, True)
        shown = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert viewer.page.run(shown) == "h2"
        assert viewer.is_clean()
