"""`herocoordinator bench`: load on a coordinator that runs somewhere."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio

from coordinator.client import connect
from coordinator.load.generator import BEHIND
from coordinator.load.measured import Measured
from coordinator.load.plan import LoadFailed, Plan
from coordinator.load.processes import generators
from coordinator.load.report import Unreadable, as_html, as_json, compared, read
from coordinator.load.run import find_knee, run_step
from coordinator.load.stage import stage
from tests.access import callers
from tests.support.commands import herocoordinator
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

SHORT = ("--seconds", "0.6", "--warm-up", "0.2", "--connections", "4")
OVERLOADED = "-32043"


def quiet(_: Any) -> None:
    pass


@pytest.mark.parametrize("transport", ["http", "ws"])
def test_load_is_measured_and_nothing_is_left(server: CoordinatorProcess, tmp_path: Path, transport: str) -> None:
    report, page, figures = (tmp_path / name for name in ("report.json", "page.html", "figures.prom"))
    files = ("--json", str(report), "--html", str(page), "--prometheus", str(figures))

    done = herocoordinator("bench", getattr(server, transport), "--scenario", "mixed", *SHORT, *files)

    assert done.returncode == 0, done.stderr
    found = read(report)
    result = found["result"]
    assert result["calls"] == result["messages"] > 10
    assert result["errors"] == 0
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"] <= result["latency_ms"]["max"]
    assert f"{result['calls']:,} calls" in done.stdout
    assert found["plan"]["kinds"].count("load") == 4 * found["plan"]["kinds"].count("create")
    assert "<svg" in page.read_text()
    assert "http:" not in page.read_text().replace(server.http, "").replace("http://www.w3.org", "")
    assert "herocoordinator_bench_latency_seconds_count{" in figures.read_text()
    behind = done.stderr.rpartition(":")[2].strip() if "stay behind" in done.stderr else None
    if behind:
        jobs = herocoordinator("call", "--url", server.http, "job.list", json.dumps({"context_id": int(behind)}))
        assert json.loads(jobs.stdout)["items"] == []
    same = herocoordinator("bench", "--compare", str(report), "--compare", str(report))
    assert "1.000" in same.stdout
    assert "differs" not in same.stdout


def test_who_is_refused_says_so_and_exits_with_1(tmp_path: Path) -> None:
    with coordinator("--data-dir", str(tmp_path), "--caller-calls", "300") as server:
        done = herocoordinator("bench", server.ws, *SHORT, "--context", "1", "--rate", "2000")
    assert done.returncode == 1
    assert f"refused with {OVERLOADED}" in done.stdout + done.stderr or "the jobs to load" in done.stderr


def test_it_logs_in_and_uses_the_context_of_its_caller(tmp_path: Path) -> None:
    token = tmp_path / "ada.token"
    with coordinator("--data-dir", str(tmp_path / "data"), "--auth", "keys") as server:
        with callers.caller(server, "http", callers.operator_token(tmp_path / "data")) as operator:
            made = callers.token_of_admin(operator, 880, 9)
        token.write_text(made)
        token.chmod(0o600)
        for url in (server.http, server.ws):
            stranger = herocoordinator("bench", url, *SHORT, "--context", "9")
            assert stranger.returncode == 1
            assert "log in" in stranger.stderr
            done = herocoordinator("bench", url, *SHORT, "--context", "9", "--token-file", str(token))
            assert done.returncode == 0, done.stderr
            assert made not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--mix", "load=x"), "is no share"),
        (("--mix", "load=0,create=0"), "must come to"),
        (("--rate", "0"), "must be a number over 0"),
        (("--rate", "nan"), "must be a number over 0"),
        (("--warm-up", "-1"), "not negative"),
        (("--warm-up", "nan"), "must be a number"),
        (("--warm-up", "inf"), "must be a number"),
        (("--scenario", "storm", "--rate", "5"), "--rate means nothing to --scenario storm"),
        (("--scenario", "storm", "--knee", "5"), "--knee means nothing to --scenario storm"),
        (("--knee", "5", "--rate", "5"), "leave --rate out"),
        (("http://127.0.0.1:1", "--window", "5"), "means nothing over HTTP"),
        (("ws://127.0.0.1:1", "--json", "/nowhere/x.json"), "cannot write /nowhere/x.json"),
        (("--compare", "absent.json"), "cannot read absent.json"),
        (("ftp://h",), "begins with ftp://"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: tuple[str, ...], reason: str) -> None:
    done = herocoordinator("bench", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_coordinator_it_exits_with_3() -> None:
    done = herocoordinator("bench", "ws://127.0.0.1:1", *SHORT)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "result": {}}'])
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(Unreadable):
        read(tmp_path / "x.json")


@pytest.fixture(scope="module")
def report(server: CoordinatorProcess, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("report") / "report.json"
    done = herocoordinator("bench", server.ws, *SHORT, "--mix", "load=997,create=2", "--json", str(path))
    assert done.returncode == 0, done.stderr
    return read(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"result": {}}, "result."),
        ({"plan": None}, "plan"),
        ({"plan": {"scenario": r"$\foo$"}}, "scenario"),
        ({"made_at": "$x^{"}, "made_at"),
        ({"steps": [{}]}, "steps.0."),
        ({"result.histogram": "SGlz"}, "histogram"),
        ({"result.histogram": ""}, "histogram"),
        ({"result.calls_per_s": math.nan}, "calls_per_s"),
        ({"result.latency_ms": [1]}, "latency_ms"),
    ],
)
def test_a_report_of_which_something_is_missing_or_odd_is_refused_in_one_line(
    report: dict[str, Any], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    broken = json.loads(json.dumps(report))
    for name, value in changes.items():
        *way, last = name.split(".")
        place = broken
        for member in way:
            place = place[member]
        place[last] = value
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(Unreadable, match=said):
        read(tmp_path / "broken.json")


def test_reports_of_other_shares_are_compared_by_their_shares(report: dict[str, Any]) -> None:
    other = {**report, "plan": {**report["plan"], "kinds": ["load"]}}
    (row,) = [row for row in compared(other, report) if row[0].startswith("kinds")]
    assert row[1:3] == ("load=1", "load=997,create=2")
    assert "load=997,create=2" in as_html([report])


def test_contexts_that_would_not_be_used_are_refused(server: CoordinatorProcess) -> None:
    done = herocoordinator("bench", server.ws, "--contexts", "9", "--connections", "2", "--window", "4")
    assert done.returncode == 2
    assert "of 9 contexts only 8 would be in use" in done.stderr
    assert "Traceback" not in done.stderr


# -- what is measured


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--data-dir", str(tmp_path_factory.mktemp("data")), "--workers", "1") as running:
        yield running


@contextlib.contextmanager
def stopped(server: CoordinatorProcess) -> Iterator[None]:
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def staged(server: CoordinatorProcess, plan: Plan) -> AsyncIterator[list[Any]]:
    """The processes that generate this load, in contexts that are made for it."""
    async with (
        connect(server.ws) as client,
        stage(plan, client, quiet) as contexts,
        generators(plan, contexts) as processes,
    ):
        yield processes


async def measured(server: CoordinatorProcess, plan: Plan, pause: float, after: float = 0.5) -> Measured:
    """With a coordinator that stands still for so long, that many seconds after the warm-up."""

    async def stop() -> None:
        await trio.sleep(plan.warm_up + after)
        with stopped(server):
            await trio.sleep(pause)

    async with staged(server, plan) as processes:
        await run_step(replace(plan, rate=50, seconds=0.2, warm_up=0), processes)  # all are connected now
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            found: Measured = await run_step(plan, processes)
        return found


@pytest.mark.parametrize("transport", ["http", "ws"])
async def test_what_a_slow_answer_keeps_others_from_counts(own: CoordinatorProcess, transport: str) -> None:
    """In an open loop all calls that were due in the pause have waited, in a closed one those that were in flight."""
    rate, pause = 100, 1.0
    plan = Plan(getattr(own, transport), "load", ("load",), connections=2, window=1, seconds=3.0, warm_up=0.3)

    in_turn = await measured(own, plan, pause)
    when_due = await measured(own, replace(plan, rate=rate), pause)

    def waited(found: Measured) -> int:
        return sum(
            item.count_added_in_this_iter_step
            for item in found.histogram.get_recorded_iterator()
            if item.value_iterated_to > pause / 2 * 1e6
        )

    assert waited(in_turn) <= plan.connections
    assert waited(when_due) >= rate * pause / 2 * 0.6
    assert when_due.messages >= 0.9 * rate * plan.seconds


@pytest.mark.parametrize(("transport", "rate"), [("http", 100), ("ws", 100), ("ws", 0)])
async def test_what_waits_when_the_time_is_up_counts(own: CoordinatorProcess, transport: str, rate: int) -> None:
    """What was in flight in the end has waited for its answer; what was due, and found no place, until then."""
    pause = 2.0
    plan = Plan(
        getattr(own, transport), "load", ("load",), connections=2, window=1, seconds=2.0, warm_up=0.3, rate=rate
    )

    found = await measured(own, plan, pause, after=plan.seconds - pause / 2)

    assert found.ms(100) > pause / 2 * 1000 * 0.6
    assert found.measured >= found.messages + plan.connections + found.unsent
    assert found.unsent >= rate * pause / 2 * 0.6
    assert found.unanswered == 0
    assert not found.is_rate_held or not rate


async def test_a_rate_beyond_all_bounds_takes_no_memory_beyond_them(own: CoordinatorProcess) -> None:
    plan = Plan(own.ws, "load", ("load",), connections=1, window=1, seconds=1.0, warm_up=0, rate=1e15)
    async with staged(own, plan) as processes:
        found = await run_step(plan, processes)
    assert found.fell_behind
    assert found.unsent == BEHIND


def test_a_rate_is_held_also_if_what_is_due_in_the_end_is_not_answered_yet() -> None:
    assert Measured(0.4, seconds=6.0, calls=2).is_rate_held
    assert not Measured(0.4, seconds=60.0, calls=2).is_rate_held
    assert not Measured(1000.0, seconds=10.0, calls=9000, grain=100).is_rate_held


async def test_a_rate_that_no_coordinator_holds_is_told(own: CoordinatorProcess) -> None:
    plan = Plan(own.ws, "load", ("load",), connections=2, window=2, seconds=1.0, warm_up=0.2, rate=1e6)
    async with staged(own, plan) as processes:
        found = await run_step(plan, processes)
    assert found.per_second < plan.rate / 2
    assert not found.keeps(1e9)


@contextlib.contextmanager
def proxy(server: CoordinatorProcess, requests: int) -> Iterator[str]:
    """The URL of an HTTP proxy that ends a connection after so many requests, as proxies do after a thousand."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        served = 0

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            asked = urllib.request.Request(server.http, body, {"content-type": "application/json"})
            with urllib.request.urlopen(asked) as reply:
                answer = reply.read()
            self.served += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            if self.served >= requests:
                self.send_header("Connection", "close")  # which has the handler close it, too
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=listening.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        serving.join()
        listening.server_close()


@pytest.mark.parametrize("rate", [0, 40])
async def test_a_connection_that_a_proxy_ends_is_opened_anew(own: CoordinatorProcess, rate: int) -> None:
    with proxy(own, requests=3) as url:
        plan = Plan(url, "load", ("load",), connections=2, seconds=1.5, warm_up=0.2, rate=rate)
        async with staged(own, plan) as processes:
            found = await run_step(plan, processes)
    assert found.messages > 2 * 3
    assert found.errors == 0, found.faults


async def test_a_coordinator_that_goes_away_ends_the_search_for_the_highest_rate(tmp_path: Path) -> None:
    said: list[str] = []
    with coordinator("--data-dir", str(tmp_path), "--workers", "1") as server:
        plan = Plan(server.ws, "load", ("load",), connections=2, window=2, seconds=0.5, warm_up=0.1)
        async with generators(plan, [1]) as processes:
            answered = await run_step(plan, processes)
            server.kill()
            with pytest.raises(LoadFailed, match="the server has closed all connections"):
                await find_knee(plan, processes, 50.0, quiet, said.append)
    assert answered.refused  # there are no jobs in that context
    assert said == []


async def test_the_highest_rate_that_is_held_is_found(own: CoordinatorProcess) -> None:
    plan = Plan(own.ws, "load", ("load",), connections=4, window=8, seconds=0.4, warm_up=0.1, processes=2)
    said: list[str] = []
    async with staged(own, plan) as processes:
        assert len(processes) == 2
        steps = await find_knee(plan, processes, 2_000.0, quiet, said.append)
    best = steps[-1]
    assert best.keeps(2_000.0)
    assert best.rate == max(step.rate for step in steps if step.keeps(2_000.0))
    assert len(said) >= 3
    made = as_json(plan, {"version": "1"}, best, steps)
    assert json.loads(json.dumps(made)) == made, "so it compares with one that was read"
