"""The TypeScript client on Node, against a real coordinator."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from clients.generator import typescript as writer
from clients.generator.document import Document
from coordinator.rpc.methods import METHODS
from tests.access.callers import operator_token
from tests.clients.odd import ODD
from tests.support.server import CoordinatorProcess, coordinator, free_port
from tests.support.typescript import CLIENT, play, run_npm

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("typescript_client")]

CALLS = {
    "missing": [True, True, -32001, {"context_id": None, "caller_id": 7, "id": 404}, "NotFound"],
    "wrong": [True, ["id"], "Invalid params (-32602): id: Input should be a valid integer"],
    "unknown": "MethodNotFound",
}


def expected_calls(context: int) -> dict[str, Any]:
    return {"created": context, "outcomes": [context, "NotFound", context], **CALLS}


def without_context(seen: dict[str, Any]) -> dict[str, Any]:
    seen["missing"][3]["context_id"] = None
    return seen


def test_calls_over_websocket(server: CoordinatorProcess, context: int) -> None:
    seen = play("callsOverWebSocket", ws=server.ws, id=context)

    assert without_context(seen) == {**expected_calls(context), "closed": "Closed"}


def test_calls_over_http(server: CoordinatorProcess, context: int) -> None:
    seen = play("callsOverHttp", http=server.http, id=context)

    assert without_context(seen) == {**expected_calls(context), "refused": True}


def test_what_is_no_number_is_not_sent_as_null(server: CoordinatorProcess, context: int) -> None:
    seen = play("refusesWhatIsNoNumber", ws=server.ws, http=server.http, id=context)

    failures = [
        [True, f"params.id is {number}, which is no number in JSON"] for number in ("NaN", "Infinity", "-Infinity")
    ]
    expected = {"failures": failures, "created": context}
    assert seen == {"overHttp": expected, "overWebSocket": expected}


def test_messages_of_all_sizes(server: CoordinatorProcess, context: int) -> None:
    seen = play("sendsLargeAndSmall", http=server.http, id=context)

    assert seen == {"scripts": [True] * 6, "tooLarge": "CallTooLarge", "short": ["NotFound"]}


def test_deadlines_aborting_and_the_bound_of_calls_in_flight(server: CoordinatorProcess, context: int) -> None:
    seen = play("keepsLimits", ws=server.ws, id=context)

    assert seen == {"late": [True, True], "abandoned": True, "loads": 50}


def test_every_call_is_answered_while_the_connection_is_cut(server: CoordinatorProcess, context: int) -> None:
    seen = play("reconnects", ws=server.ws, id=context)

    assert seen == {"created": True, "connections": True, "alternates": True, "lost": True}


def test_a_silent_coordinator_is_left(server: CoordinatorProcess, context: int) -> None:
    seen = play("noticesSilence", ws=server.ws, id=context)

    assert seen == {"quietly": 1, "noticed": True, "loaded": context, "connections": 2}


def test_a_reply_that_takes_long_to_come_is_waited_for(server: CoordinatorProcess, context: int) -> None:
    assert play("waitsForASlowReply", ws=server.ws, id=context) == {"length": 800_000, "connections": 1}


def test_calls_that_wait_for_room_cost_no_timer_each(server: CoordinatorProcess, context: int) -> None:
    assert 0 < play("looksOnceForRoom", ws=server.ws, id=context) <= 50


def test_times_longer_than_a_timer_has_are_not_none(server: CoordinatorProcess, context: int) -> None:
    seen = play("waitsAsLongAsItIsTold", ws=server.ws, http=server.http, id=context)

    assert seen == {"seen": [["Started", 1]] * 6, "warnings": []}


def test_closing_does_not_wait_for_a_connection_that_is_being_made() -> None:
    assert play("closesWhileItConnects") == "closed"


def test_headers_that_are_none_are_refused_at_once() -> None:
    assert [why.endswith("character that none may have") for why in play("refusesHeaders")] == [True] * 5


def test_events_come_once_and_in_order_while_the_connection_is_cut(server: CoordinatorProcess, context: int) -> None:
    seen = play("followsThroughCuts", ws=server.ws, id=context)

    assert seen == {"same": True, "finished": 40, "last": "Finished", "missed": False, "resumed": True}


def test_following_ends_with_the_flow(server: CoordinatorProcess, context: int) -> None:
    seen = play("followsWhatHasEnded", ws=server.ws, id=context)

    assert seen == {"statuses": ["Started", "Error", "Error", "Deleted"], "deleted": True, "nothing": "NotFound"}


@pytest.mark.skipif("context.subscribe" not in METHODS, reason="there are no events of contexts")
def test_all_flows_of_a_context_are_followed(server: CoordinatorProcess, context: int) -> None:
    seen = play("followsAContext", ws=server.ws, id=context)

    assert seen["flows"] == [[flow, status] for flow in range(1, 6) for status in ("Started", "Error")]
    assert (seen["missed"], seen["resumed"]) == (False, True)


def test_logging_in_with_a_key_and_with_a_token(tmp_path: Path) -> None:
    key = tmp_path / "ada.key"
    from coordinator.signing import new_key  # noqa: PLC0415

    public = new_key(key).public
    with coordinator("--data-dir", str(tmp_path / "data"), "--auth", "keys") as guarded:
        seen = play(
            "logsIn",
            ws=guarded.ws,
            http=guarded.http,
            id=11,
            operator=operator_token(tmp_path / "data"),
            key={"public": public, "pem": key.read_text()},
        )

    assert seen == {
        "byKey": "actor:11",
        "byToken": ["actor:11", "actor:11", 2],
        "overHttp": "actor:11",
        "overHttpByToken": 11,
        "stranger": ["NoReply", True],
    }


def test_tls_with_an_authority_of_our_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(issued)
    files = ("--tls-cert", str(issued), "--tls-key", str(issued))
    with coordinator("--data-dir", str(tmp_path / "data"), *files) as server:
        ws = server.ws.replace("127.0.0.1", "localhost")
        seen = play("speaksTls", ws=ws, id=3, ca=authority.cert_pem.bytes().decode())

    assert seen["created"] == 3
    assert "certificate" in seen["why"]


def test_addresses_that_are_none_are_refused() -> None:
    credentials, scheme, name = play("refusesAddresses")

    assert "secret" not in credentials
    assert "credentials" in credentials
    assert "ftp:" in scheme
    assert "no URL" in name


def test_why_there_is_no_connection(server: CoordinatorProcess) -> None:
    closed, nowhere, over_http = play(
        "saysWhyThereIsNoConnection", http=server.http, closed=f"ws://127.0.0.1:{free_port()}"
    )

    assert "ECONNREFUSED" in closed
    assert "it answered 4" in nowhere
    assert over_http == "CannotConnect"


# -- runners


def test_a_runner_stops_what_is_cancelled_or_takes_too_long(server: CoordinatorProcess, context: int) -> None:
    seen = play("stopsWhatIsCancelled", ws=server.ws, id=context)

    (cancelled, reason), (late, timed_out) = seen["reasons"]
    assert (cancelled, late) == (1, 2)
    assert "no longer needed" in reason
    assert timed_out == seen["why"] == "timed out after 1 s"
    assert seen["late"] == ["Error", {"partly": "done"}]


def test_a_runner_that_is_cut_off_stops_before_another_begins(server: CoordinatorProcess, context: int) -> None:
    seen = play("stopsWhenCutOff", ws=server.ws, id=context)

    assert seen == {"result": {"by": "other"}, "begun": ["cut off", "other"], "stoppedBefore": True}


def test_a_runner_runs_as_many_as_it_may_and_reports_what_comes_of_them(
    server: CoordinatorProcess, context: int
) -> None:
    seen = play("runsManyAtOnce", ws=server.ws, id=context)

    assert seen["most"] == 3
    assert seen["seen"] == {"seen": "2,3"}
    assert seen["lines"] is True
    failed, refused = seen["reasons"]
    assert failed == "RangeError: too far"
    assert "result" in refused


def test_a_runners_texts_are_cut_between_characters(server: CoordinatorProcess, context: int) -> None:
    seen = play("tellsWholeCharacters", ws=server.ws, id=context)

    assert seen == {"lines": True, "last": "half \ufffd", "reason": True}


def test_a_runner_that_is_told_twice_leaves_at_once(server: CoordinatorProcess, context: int) -> None:
    seen = play("leavesAtOnce", ws=server.ws, id=context)

    assert seen == {"status": "Dispatched", "lost": 1}


class Ports:
    """A coordinator that is started again where it was."""

    def __init__(self, data: Path) -> None:
        self._arguments = (
            "--data-dir",
            str(data),
            "--api-http-port",
            str(free_port()),
            "--api-ws-port",
            str(free_port()),
        )
        self.server = CoordinatorProcess(*self._arguments)

    def restart(self) -> None:
        self.server.kill()
        self.server = CoordinatorProcess(*self._arguments)


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Ports]:
    ports = Ports(tmp_path)
    yield ports
    if ports.server.process.poll() is None:
        ports.server.stop()


Post = Callable[..., Any]


def post(server: CoordinatorProcess, method: str, **params: Any) -> Any:
    reply = httpx.post(server.http, json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()
    return reply["result"]


def await_count(server: CoordinatorProcess, context: int, status: str, at_least: int) -> None:
    deadline = time.monotonic() + 60
    while post(server, "flow.status", context_id=context, id=1)["counts"][status] < at_least:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_runner_goes_on_through_a_restart_and_drains(restarted: Ports) -> None:
    context = 3
    post(restarted.server, "context.create", context={"id": context, "admins": [7], "readers": [], "executors": []})
    given = json.dumps({"url": restarted.server.ws, "contextId": context})
    runner = subprocess.Popen(["node", "test/runner.mjs", given], cwd=CLIENT, stdout=subprocess.PIPE, text=True)
    try:
        ids = range(1, 9)
        flow = {"id": 1, "caller_id": 7, "context_id": context, "jobs": [*ids], "env_vars": {}}
        shared = {"caller_id": 7, "context_id": context, "script_type": "V", "timeout": 0, "retries": 0}
        shared |= {"env_vars": {}, "prerequisites": []}
        jobs = [{**shared, "id": id, "script": str(id), "depends": [id - 2] if id > 2 else []} for id in ids]
        post(restarted.server, "flow.submit", context_id=context, flow=flow, jobs=jobs)
        await_count(restarted.server, context, "Finished", 2)
        restarted.restart()
        await_count(restarted.server, context, "Finished", 8)
        report = post(restarted.server, "flow.status", context_id=context, id=1)
        events = post(restarted.server, "flow.events", context_id=context, id=1, limit=1000)["events"]
        runner.send_signal(signal.SIGTERM)
        out, _ = runner.communicate(timeout=30)
    finally:
        runner.kill()

    assert [job["attempt"] for job in report["jobs"]] == [1] * 8
    lines = [line for event in events for line in event.get("lines", [])]
    assert {*lines} == {f"running {id}" for id in ids}  # some may come twice
    assert report["flow"]["result"] == {"7": '{"value":"16"}', "8": '{"value":"20"}'}
    *ran, last = out.splitlines()
    assert sorted(ran) == [f"ran {id}" for id in ids]  # each once: what ran was not given away
    assert (runner.returncode, last) == (0, "drained")


def test_the_readme_does_what_it_shows(tmp_path: Path) -> None:
    example, runner = re.findall(r"^```js\n(.*?)^```", (CLIENT / "README.md").read_text(), re.S | re.M)
    with coordinator("--data-dir", str(tmp_path)) as server:
        post(server, "context.create", context={"id": 1, "admins": [7], "readers": [], "executors": [7]})
        serving = subprocess.Popen(node_of(runner, server), cwd=CLIENT)
        try:
            done = subprocess.run(
                node_of(example, server), cwd=CLIENT, capture_output=True, text=True, timeout=60, check=False
            )
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(30) == 0
        finally:
            serving.kill()

    assert done.returncode == 0, done.stderr
    conflict, *events, result = done.stdout.strip().splitlines()
    assert conflict.startswith("-32040 ")
    assert "job Started" in events
    assert "log [ 'multiplying after 0 others' ]" in events
    assert events[-1] == "flow Finished"
    assert result == """{ '10': '{"answer":"42"}' }"""


def node_of(script: str, server: CoordinatorProcess) -> list[str]:
    return ["node", "--input-type=module", "--eval", script.replace("ws://127.0.0.1:9653", server.ws)]


def test_odd_schemas_compile(tmp_path: Path) -> None:
    (tmp_path / "api.ts").write_text(writer.write(Document(ODD)))
    (tmp_path / "rpc.ts").write_text((CLIENT / "src" / "rpc.ts").read_text())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    options = ["--strict", "--module", "nodenext", "--target", "es2022", "--noEmit"]

    done = subprocess.run(
        [str(CLIENT / "node_modules" / ".bin" / "tsc"), *options, "api.ts"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_the_package_has_what_it_needs(tmp_path: Path) -> None:
    (packed,) = json.loads(run_npm("pack", "--json", "--ignore-scripts", "--pack-destination", str(tmp_path)))
    names = {file["path"] for file in packed["files"]}

    assert {"package.json", "README.md", "dist/index.js", "dist/index.d.ts", "dist/websocket/node.js"} <= names
    assert not any(name.startswith(("src/", "test/", "node_modules/")) for name in names)

    (tmp_path / "package.json").write_text('{"type": "module"}')
    run_npm(
        "install", "--no-package-lock", "--silent", "--no-fund", "--no-audit", f"./{packed['filename']}", cwd=tmp_path
    )
    script = "import { connect, NotFound } from 'herocoordinator-client'; console.log(typeof connect, NotFound.code)"
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "function -32001\n"
