"""The page of metrics after real work: what it counts, what the document says, what alerts and dashboard ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RULES, DASHBOARD = ROOT / "deploy" / "prometheus-rules.yml", ROOT / "deploy" / "grafana-dashboard.json"
ROW = re.compile(r"^\| `(herocoordinator_\w+)` \| (\w+) \| ((?:`\w+` ?)*)\| .+ \|$", re.M)
NAME = re.compile(r"\b(?:herocoordinator|process)_\w+")
OF_PROMETHEUS = {"up"}
WAIT = 60.0


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    with coordinator("--workers", "2", "--data-dir", str(tmp_path_factory.mktemp("metrics"))) as server:
        yield server


class Scrape:
    """One look at the page."""

    def __init__(self, server: CoordinatorProcess) -> None:
        page = httpx.get(f"{server.http}/metrics", timeout=WAIT, verify=False)
        assert page.status_code == 200
        self.families: list[Metric] = [*text_string_to_metric_families(page.text)]
        self.samples = [sample for family in self.families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        found = (each for each in self.samples if each.name == f"herocoordinator_{name}")
        return sum(each.value for each in found if labels.items() <= each.labels.items())

    def labels(self, name: str) -> list[dict[str, str]]:
        return [each.labels for each in self.samples if each.name == f"herocoordinator_{name}"]

    @property
    def shown(self) -> dict[str, tuple[str, set[str]]]:
        """Families of ours, as the document names them, with their type and labels."""
        return {
            family.name + ("_total" if family.type == "counter" else ""): (
                family.type,
                {label for sample in family.samples for label in sample.labels} - {"le"},
            )
            for family in self.families
            if family.name.startswith("herocoordinator_")
        }


def call(server: CoordinatorProcess, method: str, **params: Any) -> Any:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx.post(server.http, json=message, timeout=WAIT, verify=False).json()


def submission(context: int, *jobs: int) -> dict[str, Any]:
    given = [
        {
            "id": id,
            "caller_id": 7,
            "context_id": context,
            "script": "",
            "script_type": "Python",
            "timeout": 60,
            "retries": 1,
            "env_vars": {},
            "prerequisites": [],
            "depends": [],
        }
        for id in jobs
    ]
    flow = {"id": jobs[0], "caller_id": 7, "context_id": context, "jobs": [*jobs], "env_vars": {}}
    return {"context_id": context, "flow": flow, "jobs": given}


def submit(server: CoordinatorProcess, context: int, *jobs: int) -> None:
    assert "result" in call(server, "flow.submit", **submission(context, *jobs))


def take(server: CoordinatorProcess, context: int, count: int) -> list[dict[str, Any]]:
    runner = {"id": 5, "pubkey": "k", "address": "127.0.0.1", "topic": "t", "local": True}
    call(server, "runner.create", context_id=context, runner=runner)
    taken = call(server, "job.take", context_id=context, runner_id=5, script_types=["Python"], count=count)
    return [
        {"context_id": context, "caller_id": 7, "id": each["job"]["id"], "token": each["token"]}
        for each in taken["result"]["jobs"]
    ]


def until(server: CoordinatorProcess, name: str, value: float, **labels: str) -> Scrape:
    """The first look that shows this: at the store it is looked every few seconds."""
    while (scrape := Scrape(server))(name, **labels) != value:
        time.sleep(0.1)
    return scrape


def test_calls_are_counted_by_method_and_outcome_however_they_come(two: CoordinatorProcess) -> None:
    before = Scrape(two)
    load = {"jsonrpc": "2.0", "method": "flow.load", "params": {"context_id": 3, "id": 404}}

    httpx.post(two.http, json=[{**load, "id": id} for id in range(3)])
    httpx.post(two.http, json=load)  # a notification
    call(two, "flow.load", context_id="no number")
    call(two, "no.such_method")
    call(two, "context.create", context={"id": 3, "admins": [], "readers": [], "executors": []})
    call(two, "flow.dag", context_id=3, id=404)
    call(two, "rpc.discover")
    httpx.post(two.http, content=b"no JSON", headers={"content-type": "application/json"})
    after = Scrape(two)

    def counted(**labels: str) -> float:
        name = "call_duration_seconds_count"
        return after(name, **labels) - before(name, **labels)

    assert counted(method="flow.load", code="-32001") == 4
    assert counted(method="flow.load", code="-32602") == 1
    assert counted(method="other", code="-32601") == 1
    assert counted(method="other", code="-32700") == 1
    assert counted(method="context.create", code="ok") == 1
    assert counted(method="flow.dag", code="-32001") == 1
    assert counted(method="rpc.discover", code="ok") == 1
    assert after("calls_total") - before("calls_total") == counted() == 10
    assert after("batch_calls_count") - before("batch_calls_count") == 1
    assert after("batch_calls_sum") - before("batch_calls_sum") == 3
    for name in ("mailbox_wait_seconds_count", "round_commands_count", "store_round_trip_seconds_count"):
        assert after(name) > before(name), name
    assert after("round_commands_sum") - before("round_commands_sum") >= 6


def test_methods_there_are_not_have_one_label(two: CoordinatorProcess) -> None:
    httpx.post(two.http, json=[{"jsonrpc": "2.0", "id": at, "method": f"no.such_{at}"} for at in range(50)])

    methods = {labels["method"] for labels in Scrape(two).labels("call_duration_seconds_count")}

    assert "other" in methods
    assert not any(method.startswith("no.") for method in methods)


def test_jobs_are_counted_as_they_wait_begin_and_end(two: CoordinatorProcess) -> None:
    submit(two, 1, 1, 2, 3)
    before = queued = until(two, "queue_jobs", 3, context="1", script_type="Python")
    finished, failed, lost = take(two, 1, 3)
    call(two, "job.finish", **finished, result={})
    again = call(two, "job.finish", **finished, result={})
    call(two, "job.fail", **failed, error="no", retry=False)
    call(two, "job.fail", **lost, error="gone", lost=True)
    after = Scrape(two)

    assert queued("queue_jobs", context="1", script_type="V") == 0
    assert queued("queue_jobs", context="1") == 3
    assert queued("records", kind="job") == 3
    assert (queued("jobs", context="1", status="Dispatched"), queued("jobs", context="1")) == (3, 3)
    assert queued("flows", context="1", status="Started") == 1
    assert "result" in again, "a report is accepted again, and counts once"
    assert (
        after("schedule_to_start_seconds_count", script_type="Python")
        - before("schedule_to_start_seconds_count", script_type="Python")
        == 3
    )
    for outcome in ("finished", "failed", "lost"):
        assert after("attempt_duration_seconds_count", outcome=outcome) == 1 + before(
            "attempt_duration_seconds_count", outcome=outcome
        ), outcome
    assert after("attempts_lost_total") - before("attempts_lost_total") == 1
    assert after("runs_ended_total", kind="flow", status="Error") == 1 + before(
        "runs_ended_total", kind="flow", status="Error"
    )


def test_how_long_the_oldest_has_waited_grows_and_ends_with_the_wait(two: CoordinatorProcess) -> None:
    submit(two, 2, 1)
    submit(two, 2, 2)
    seen: list[float] = []
    while len(seen) < 2 or seen[-1] <= seen[0]:
        seen.append(Scrape(two)("queue_oldest_seconds", context="2", script_type="Python"))
        time.sleep(0.1)

    assert len(take(two, 2, 2)) == 2

    assert until(two, "queue_jobs", 0, context="2")("queue_oldest_seconds", context="2") == 0


def test_contexts_beyond_some_share_a_label(two: CoordinatorProcess) -> None:
    flows = [
        {"jsonrpc": "2.0", "id": context, "method": "flow.submit", "params": submission(context, 1)}
        for context in range(10, 45)
    ]
    assert all("result" in reply for reply in httpx.post(two.http, json=flows, timeout=WAIT).json())
    shown = until(two, "queue_jobs", 1, context="12", script_type="Python")
    while shown("queue_jobs", context="other", script_type="Python") < 35 - 20:
        shown = Scrape(two)

    named = {labels["context"] for labels in shown.labels("queue_jobs")}
    assert "other" in named
    assert len(named) == 21
    assert shown("contexts_known") >= 35
    assert shown("queue_jobs", script_type="Python") >= 35


def test_the_document_lists_what_the_page_has_and_nothing_else(two: CoordinatorProcess) -> None:
    submit(two, 1, 21)
    take(two, 1, 1)
    listed = {
        name: (kind, {*re.findall(r"\w+", labels)})
        for name, kind, labels in ROW.findall((ROOT / "specs" / "metrics.md").read_text())
    }

    assert Scrape(two).shown == listed


def expressions() -> list[str]:
    rules = yaml.safe_load(RULES.read_text())
    dashboard = json.loads(DASHBOARD.read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]] + [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]


def test_alerts_and_dashboard_ask_for_metrics_there_are_by_labels_they_have(two: CoordinatorProcess) -> None:
    scrape = Scrape(two)
    there: dict[str, set[str]] = {}
    for family in scrape.families:
        names = {sample.name for sample in family.samples} or {family.name}
        if family.type == "histogram":
            names |= {f"{family.name}_{part}" for part in ("bucket", "sum", "count")}
        for name in names:
            there[name] = {label for sample in family.samples for label in sample.labels}
    asked = expressions()
    assert len(asked) > 60

    for expression in asked:
        named = {*NAME.findall(expression)}
        assert named or OF_PROMETHEUS & {*re.findall(r"\w+", expression)}, expression
        assert named <= there.keys(), expression
        labels = {*re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression)}
        for group in re.findall(r"by \(([^)]*)\)", expression):
            labels |= {*re.split(r",\s*", group)}
        # process_… have the label `worker` here as there are several.
        assert labels - {"job", "instance"} <= set().union(*(there[name] for name in named)), expression


def test_promtool_accepts_the_alerts() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool comes with Debian's package prometheus")

    checked = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
