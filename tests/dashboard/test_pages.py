"""The dashboard in a real browser, of a real coordinator with a real runner: what it shows and what people do there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.access import callers
from tests.access.callers import Caller, caller
from tests.dashboard.looking import HOSTILE, Viewer, flow_of, job_of
from tests.support.chromium import Browser, chromium
from tests.support.runner import runner
from tests.support.server import CoordinatorProcess, coordinator

pytestmark = pytest.mark.slow

CONTEXT: Final = 1


class Stage(NamedTuple):
    """What is looked at, and who looks."""

    server: CoordinatorProcess
    browser: Browser
    url: str
    api: Caller
    directory: Path

    def viewer(self, place: str = "") -> Viewer:
        viewer = Viewer(self.browser, self.url)
        viewer.open(place)
        return viewer

    def submit(self, id: int, *jobs: dict[str, Any], **more: Any) -> None:
        flow = flow_of(id, CONTEXT, [job["id"] for job in jobs], **more)
        self.api.result("flow.submit", {"context_id": CONTEXT, "flow": flow, "jobs": jobs})

    def status(self, flow: int) -> str:
        status: str = self.api.result("flow.load", {"context_id": CONTEXT, "id": flow})["status"]
        return status

    def until(self, flow: int, status: str) -> None:
        deadline = time.monotonic() + 30
        while self.status(flow) != status:
            assert time.monotonic() < deadline, f"flow {flow} is {self.status(flow)}"
            time.sleep(0.1)

    def gate(self, name: str) -> Path:
        """A file for which scripts wait."""
        return self.directory / name


def waits_for(gate: Path) -> str:
    """A script that goes on once there is this file."""
    return f"import os, time\nprint('waiting', flush=True)\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.05)"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("dashboard")
    with (
        chromium(directory / "profile") as browser,
        coordinator("--data-dir", str(directory / "data")) as server,
        caller(server, "http") as api,
    ):
        api.result("context.create", {"context": {"id": CONTEXT, "admins": [7], "readers": [], "executors": []}})
        with runner(server.ws, CONTEXT, arguments=("--capacity", "4")):
            yield Stage(server, browser, f"http://127.0.0.1:{server.http.rpartition(':')[2]}", api, directory)


def test_the_only_context_is_shown_at_once_and_each_place_has_a_link(stage: Stage) -> None:
    viewer = stage.viewer()

    viewer.sees("Context 1", "Queues and runners", "No flow has failed.", "live")
    assert viewer.page.run("location.hash") == "#/c/1"
    assert "Log out" not in viewer.buttons(), "nobody logs in here"
    for label, heading in (("Flows", "Flows"), ("Runners", "Runners"), ("Messages", "Messages")):
        viewer.press(label, "nav")
        viewer.page.until(f"document.querySelector('h1').innerText === {heading!r}")
    assert viewer.is_clean()


def test_a_flow_that_runs_is_followed_without_a_reload(stage: Stage) -> None:
    gates = stage.gate("first"), stage.gate("second")
    listed = stage.viewer("c/1/flows")
    listed.sees("There is no flow")
    jobs = [
        job_of(11, CONTEXT, waits_for(gates[0])),
        job_of(12, CONTEXT, waits_for(gates[1]), depends=[11]),
        job_of(13, CONTEXT, "print('last', flush=True)", depends=[12]),
    ]
    stage.submit(1, *jobs)
    listed.sees("Flow 1", "Running")
    listed.press("Flow 1")
    listed.press("Table")
    listed.page.until("document.querySelectorAll('.long-table .rows .row').length === 3")
    statuses = {row.split("\n")[0].split("\t")[0]: row for row in listed.rows()}
    assert len(statuses) == 3
    listed.page.until("document.querySelector('.long-table .rows .row').innerText.includes('Running')")
    assert "job 11" in listed.rows()[0], "what runs is first"

    gates[0].touch()
    listed.page.until("document.querySelector('.long-table .rows .row').innerText.includes('job 12')")
    listed.page.until("document.querySelector('.long-table .rows .row').innerText.includes('Running')")
    listed.press("Logs")
    listed.sees("waiting")
    gates[1].touch()
    listed.sees("last", "3 finished")
    listed.press("Result")
    listed.sees("13", "exit_code")
    listed.press("Timeline")
    listed.page.until("document.querySelectorAll('.lane-run.finished').length === 3")
    assert listed.is_clean()


def test_nothing_is_asked_for_while_nothing_happens(stage: Stage) -> None:
    stage.submit(9, job_of(91, CONTEXT, prerequisites=["never"]), name="waits", tags=["quiet"])
    viewer = stage.viewer("c/1/flow/9")
    for place in ("c/1/flow/9", "c/1/flows?tag=quiet", "c/1"):
        viewer.open(place)
        viewer.sees("waits")
        time.sleep(3)  # what is asked for once, and once more after what has happened a moment ago
        before = len(viewer.page.told("Network.webSocketFrameSent")), len(viewer.page.told("Network.requestWillBeSent"))
        time.sleep(5)
        told = viewer.page.told("Network.webSocketFrameSent")
        assert before[0] > 0
        assert (len(told), len(viewer.page.told("Network.requestWillBeSent"))) == before, told[before[0] :]
    assert len(viewer.page.told("Network.webSocketCreated")) == 1, "there is one connection for all pages"


def test_a_context_is_seen_at_a_glance_and_as_it_changes(stage: Stage) -> None:
    gate = stage.gate("glance")
    viewer = stage.viewer("c/1")
    viewer.sees("1 connected")
    script = f"import os, sys\nif os.environ['HERO_ATTEMPT'] == '1': sys.exit('not at first')\n{waits_for(gate)}"
    stage.submit(10, job_of(101, CONTEXT, script, retries=1, name="second try"), name="<b>glance</b>", tags=["odd"])
    viewer.sees("<b>glance</b>", "odd")
    viewer.press("odd")
    viewer.page.until("location.hash === '#/c/1/flows?tag=odd' && document.querySelectorAll('tbody tr').length === 1")
    viewer.type(".filters input", "<b>other")
    viewer.sees("No flow is like that.")
    viewer.type(".filters input", "<b>gl")
    viewer.press("<b>glance</b>")
    viewer.press("Table")
    viewer.press("second try")
    viewer.sees("Attempts", "not at first", "waiting", "An attempt failed")
    viewer.press("Runners", "nav")
    viewer.sees("connected", "job 101")
    gate.touch()
    viewer.sees_no("job 101")
    viewer.press("Overview", "nav")
    viewer.page.until(
        "document.querySelector('.chart polyline.finished').getAttribute('points').split(' ').length === 120"
    )
    viewer.sees("wait p95")
    assert viewer.is_clean()


def test_a_context_that_is_not_there_is_said_to_be_none_and_is_not_where_one_begins(stage: Stage) -> None:
    for place in ("c/99", "c/99/flows", "c/99/runners", "c/99/messages"):
        viewer = stage.viewer(place)
        viewer.sees("There is no context 99.")
    assert stage.api.result("context.list", {})["items"] == [CONTEXT], "looking at it has not made it"
    assert viewer.page.run("localStorage.getItem('hero.context')") == "99"
    viewer.page.open("about:blank")
    viewer.page.open(stage.url)
    viewer.page.until("location.hash === '#/c/1'")
    viewer.sees("Queues and runners", "live")
    assert "There is no context" not in viewer.page.text()
    assert viewer.is_clean()


def test_nothing_is_wider_than_a_narrow_screen(stage: Stage) -> None:
    long = "p" * 200
    stage.submit(21, job_of(2101, CONTEXT, prerequisites=[long], name="n" * 100), name="f" * 100, tags=["t" * 50])
    viewer = stage.viewer("c/1")
    viewer.page.emulate("setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=False)
    for place, text in (
        ("contexts", "Context 1"),
        ("c/1", "Pause"),
        ("c/1/flows", "f" * 20),
        ("c/1/flow/21", long),
        ("c/1/job/7/2101?flow=21", long),
        ("c/1/runners", "Runner 1"),
    ):
        viewer.open(place)
        viewer.sees(text)
        assert viewer.page.run("document.documentElement.scrollWidth - innerWidth") <= 0, place
    stage.api.result("flow.cancel", {"context_id": CONTEXT, "id": 21})


def test_the_graph_is_painted_and_moved_by_keys(stage: Stage) -> None:
    jobs = [job_of(2000 + at, CONTEXT, depends=[2000] if at else []) for at in range(60)]
    stage.submit(2, *jobs)
    stage.until(2, "Finished")
    viewer = stage.viewer("c/1/flow/2")
    viewer.sees("Levels of over 50 jobs are folded")
    painted = (
        "(() => { const c = document.querySelector('canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let s = 0; for (let i = 0; i < d.length; i += 4)"
        " s = (s * 31 + d[i] * 7 + d[i + 1] * 3 + d[i + 2]) >>> 0; return s; })()"
    )
    viewer.page.until(f"{painted} !== 0")
    before = viewer.page.run(painted)
    viewer.page.run(
        "(canvas => { canvas.focus(); canvas.dispatchEvent(new KeyboardEvent('keydown', {key: '-', bubbles: true})) })"
        "(document.querySelector('canvas'))"
    )
    viewer.page.until(f"{painted} !== {before}")
    viewer.type("input[type=search]", "2059")
    viewer.sees("1 found")
    viewer.page.run(
        "document.querySelector('input[type=search]')"
        ".dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true}))"
    )
    viewer.sees("job 2059")
    viewer.press("Open", ".strip")
    viewer.page.until("location.hash.startsWith('#/c/1/job/7/2059')")
    viewer.sees("done", "flow 2", "Script")
    assert viewer.is_clean()


def test_what_others_have_written_is_text_wherever_it_is_shown(stage: Stage) -> None:
    evil = " ".join(HOSTILE)
    script = (
        "import os, sys\n"
        f"print({evil!r}, flush=True)\n"
        f"print({evil!r}, file=sys.stderr, flush=True)\n"
        f"print('evil=' + {HOSTILE[0]!r}, file=open(os.environ['HERO_RESULT'], 'w'))\n"
    )
    failing = job_of(32, CONTEXT, script + f"sys.exit({evil!r})", env_vars={"EVIL": evil})
    waiting = job_of(33, CONTEXT, prerequisites=[HOSTILE[0]])
    names = {"HERO_JOB_NAME": HOSTILE[0], "MY_TOKEN": "s3cret"}
    stage.submit(3, job_of(31, CONTEXT, script, env_vars=names), waiting, env_vars={"E": evil})
    stage.submit(4, failing)
    stage.until(4, "Error")
    stage.api.result(
        "message.create",
        {
            "context_id": CONTEXT,
            "message": {
                **callers.message(CONTEXT, 7, 1, []),
                "message": evil,
                "message_format_type": "Html",
                "logs": [evil],
            },
        },
    )
    viewer = stage.viewer("c/1/flow/3?tab=logs")
    viewer.sees(HOSTILE[0], HOSTILE[1], "Waits for")
    assert "\x1b" not in viewer.page.text()
    for tab in ("result", "table", "timeline", "graph"):
        viewer.press(tab.capitalize())
    viewer.open("c/1/job/7/31?flow=3")
    viewer.sees("evil", HOSTILE[0], HOSTILE[4], "hidden")
    assert "s3cret" not in viewer.page.text()
    for place, text in (
        ("c/1/flow/4", HOSTILE[1]),
        ("c/1/job/7/32?flow=4", HOSTILE[1]),
        ("c/1/flows?status=Error", "Flow 4"),
        ("c/1", "Flow 4"),
        ("c/1/messages", HOSTILE[0]),
        ("c/1/message/7/1", HOSTILE[4]),
        (f"c/1/{HOSTILE[0]}", "There is no such page"),
        (f"c/1/flow/3?q={HOSTILE[0]}", "0 found"),
    ):
        viewer.open(place)
        viewer.sees(text)
    assert viewer.page.run("document.querySelectorAll('#app img, #app script, #app [onload]').length") == 0
    assert viewer.is_clean()


def test_what_the_policy_forbids_is_refused_and_the_browser_says_so(stage: Stage) -> None:
    forbidden = (
        "const one = document.createElement('script'); one.textContent = 'window.__xss = 9'; document.head.append(one)",
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.__xss = 9\">')",
        "document.body.setAttribute('onclick', 'window.__xss = 9'); document.body.click()",
        "const image = new Image(); image.src = 'http://192.0.2.1/x.png'; document.body.append(image)",
    )
    for script in forbidden:
        viewer = stage.viewer("contexts")
        viewer.sees("Context 1")
        assert viewer.is_clean()
        viewer.page.run(f"(() => {{ try {{ {script} }} catch (error) {{}} }})()")
        viewer.page.until("new Promise(done => setTimeout(() => done(true), 50))")
        assert viewer.complaints(), script
        assert viewer.page.run("window.__xss") is None
    assert viewer.page.run("fetch('http://192.0.2.1/').then(() => 'got', () => 'refused')") == "refused"


def test_a_person_approves_retries_cancels_and_deletes(stage: Stage) -> None:
    gate = stage.gate("retried")
    script = f"import os, sys\nsys.exit(0 if os.path.exists({str(gate)!r}) else 'not yet')"
    stage.submit(5, job_of(51, CONTEXT, script), job_of(52, CONTEXT, prerequisites=["approval"], depends=[51]))
    viewer = stage.viewer("c/1/flow/5")
    viewer.sees("not yet", "Error")
    gate.touch()
    viewer.press("Retry")
    viewer.sees("approval")
    viewer.press("Approve")
    viewer.sees("Approve “approval” for this flow?")
    viewer.press("Approve")
    stage.until(5, "Finished")
    viewer.sees("2 finished")
    assert "Cancel" not in viewer.buttons()

    stage.submit(6, job_of(61, CONTEXT, waits_for(stage.gate("never"))))
    viewer.open("c/1/flow/6")
    viewer.press("Cancel")
    viewer.press("No")
    assert stage.status(6) == "Started"
    viewer.press("Cancel")
    viewer.sees("Stop what runs?")
    viewer.press("Cancel")
    viewer.sees("1 error")
    assert stage.status(6) == "Error"
    viewer.press("Delete")
    viewer.press("Delete", ".asking")
    viewer.page.until("location.hash === '#/c/1/flows'")
    assert stage.api.code("flow.load", {"context_id": CONTEXT, "id": 6}) == -32001
    assert viewer.is_clean()


def test_several_flows_are_deleted_at_once_and_what_is_refused_is_told(stage: Stage) -> None:
    for id in (71, 72):
        stage.submit(id, job_of(id * 10, CONTEXT))
        stage.until(id, "Finished")
    stage.submit(73, job_of(730, CONTEXT, waits_for(stage.gate("still"))))
    viewer = stage.viewer("c/1/flows")
    for id in (71, 72, 73):
        viewer.sees(f"Flow {id}")
        viewer.page.run(f"document.querySelector('[aria-label=\"Select flow {id}\"]').click()")
    viewer.sees("3 selected")
    assert {"Delete 2", "Cancel 1"} <= viewer.buttons()
    viewer.press("Delete 2")
    viewer.press("Delete 2", ".asking")
    viewer.sees("Delete: 2 done")
    viewer.sees_no("Flow 71")
    viewer.sees("Flow 73")
    stage.gate("still").touch()
    assert viewer.is_clean()


def test_a_person_pauses_drains_and_runs_again(stage: Stage) -> None:
    gate = stage.gate("paused")
    stage.submit(20, job_of(2001000, CONTEXT, waits_for(gate)), job_of(2001001, CONTEXT, depends=[2001000]))
    viewer = stage.viewer("c/1/flow/20")
    viewer.sees("1 running")
    viewer.press("Pause")
    viewer.sees("‖ paused")
    gate.touch()
    viewer.sees("1 finished", "1 dispatched")
    assert stage.status(20) == "Started"
    viewer.press("Resume")
    viewer.sees("2 finished")
    viewer.press("Run again")
    viewer.press("Run again", ".asking")
    viewer.open("c/1/job/7/2001001?flow=20")
    viewer.page.until("document.querySelectorAll('.columns tbody tr').length === 2")
    viewer.press("Run again from here")
    viewer.press("Run again from here", ".asking")
    viewer.page.until("document.querySelectorAll('.columns tbody tr').length === 3")
    viewer.open("c/1/runners")
    viewer.press("Drain")
    viewer.sees("draining")
    viewer.press("Let it work")
    viewer.sees_no("draining")
    viewer.open("c/1")
    viewer.press("Pause", ".title-row")
    viewer.press("Pause", ".asking")
    viewer.sees("‖ paused")
    assert stage.api.result("context.load", {"id": CONTEXT})["paused"]
    viewer.press("Resume", ".title-row")
    viewer.sees_no("‖ paused")
    assert viewer.is_clean()


def asked(viewer: Viewer, *methods: str) -> int:
    """How many calls of these methods the page has sent."""
    sent = [one["response"]["payloadData"] for one in viewer.page.told("Network.webSocketFrameSent")]
    return sum(f'"method":"{method}"' in text for text in sent for method in methods)


def test_a_job_that_is_opened_without_its_flow_is_followed_as_with_it(stage: Stage) -> None:
    gate = stage.gate("alone")
    stage.submit(31, job_of(3101, CONTEXT, f"{waits_for(gate)}\nprint('let go', flush=True)"))
    viewer = stage.viewer("c/1/job/7/3101")
    viewer.sees("flow 31", "waiting")
    assert viewer.page.run("location.hash") == "#/c/1/job/7/3101?flow=31"
    time.sleep(1)  # for what is asked once more after what has happened a moment ago
    before = asked(viewer, "job.load", "job.tail", "flow.list")
    assert before > 0
    time.sleep(6)
    assert asked(viewer, "job.load", "job.tail", "flow.list") == before
    gate.touch()
    viewer.sees("let go", "Finished", "exit_code")
    assert viewer.is_clean()


def test_a_job_that_is_opened_before_its_flow_is_there_finds_it_as_it_runs(stage: Stage) -> None:
    gate = stage.gate("early")
    stage.api.result("job.create", {"context_id": CONTEXT, "job": job_of(3201, CONTEXT, waits_for(gate))})
    viewer = stage.viewer("c/1/job/7/3201")
    viewer.sees("Dispatched", "Follow it in flow")
    stage.api.result("flow.create", {"context_id": CONTEXT, "flow": flow_of(32, CONTEXT, [3201])})
    stage.api.result("flow.start", {"context_id": CONTEXT, "id": 32})
    viewer.page.until("location.hash === '#/c/1/job/7/3201?flow=32'")
    viewer.sees("Running", "waiting")
    gate.touch()
    viewer.sees("Finished")
    assert viewer.is_clean()


def test_a_context_is_deleted_after_it_was_named(stage: Stage) -> None:
    stage.api.result("context.create", {"context": {"id": 40, "admins": [7], "readers": [], "executors": []}})
    job, flow = job_of(1, 40), flow_of(1, 40, [1])
    stage.api.result("job.create", {"context_id": 40, "job": job})
    stage.api.result("flow.create", {"context_id": 40, "flow": flow})
    viewer = stage.viewer("contexts")
    viewer.sees("Context 40")
    own = "tr:has(a[href$='/c/40'])"
    viewer.press("Delete", own)
    viewer.sees("Delete context 40 with all its flows, jobs, messages and runners?")
    viewer.press("No", own)
    assert stage.api.result("flow.load", {"context_id": 40, "id": 1})["id"] == 1
    viewer.press("Delete", own)
    viewer.press("Delete", f"{own} .asking")
    viewer.sees_no("Context 40")
    viewer.sees("Context 1")
    assert stage.api.code("flow.load", {"context_id": 40, "id": 1}) == -32001
    assert stage.api.result("context.list", {})["items"] == [CONTEXT]
    assert viewer.is_clean()


def test_a_filter_is_part_of_the_link_and_can_be_kept(stage: Stage) -> None:
    viewer = stage.viewer("c/1/flows")
    viewer.press("✕ Error")
    viewer.page.until("location.hash === '#/c/1/flows?status=Error'")
    viewer.sees_no("✓\nFinished")
    viewer.press("Keep this view")
    viewer.type("[aria-label='Name of the view']", "what failed")
    viewer.press("Keep")
    viewer.open("c/1/flows")
    viewer.press("what failed")
    viewer.page.until("location.hash === '#/c/1/flows?status=Error'")
    assert viewer.is_clean()


def test_a_tab_that_nobody_looks_at_lets_its_connection_go_and_goes_on_where_it_was(stage: Stage) -> None:
    gate = stage.gate("hidden")
    stage.submit(8, job_of(81, CONTEXT, waits_for(gate)))
    viewer = stage.viewer("c/1/flow/8?tab=table")
    viewer.sees("Running")
    for state in ("hidden", "visible"):
        viewer.page.run(
            f"Object.defineProperty(document, 'visibilityState', {{value: {state!r}, configurable: true}});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        if state == "hidden":
            viewer.sees("paused", timeout=20)
            gate.touch()
            stage.until(8, "Finished")
            assert "1 finished" not in viewer.page.text()
    viewer.sees("1 finished", "live")
    assert len(viewer.page.told("Network.webSocketCreated")) == 2
    assert viewer.is_clean()


def test_it_is_used_by_keys_in_the_dark_and_on_a_phone(stage: Stage) -> None:
    viewer = stage.viewer("c/1/flows")
    viewer.sees("Flow 2")
    viewer.page.emulate("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    background = "getComputedStyle(document.documentElement).backgroundColor"
    assert viewer.page.run(background) == "rgb(18, 21, 26)"
    viewer.page.emulate("setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    flow = ("c/1/flow/2", "c/1/flow/2?tab=table", "c/1/flow/2?tab=timeline", "c/1/job/7/2022?flow=2")
    for place in ("c/1", "c/1/flows", *flow, "c/1/runners", "contexts"):
        viewer.open(place)
        viewer.page.until("!document.querySelector('.loading') && !!document.querySelector('h1')")
        assert viewer.page.run("document.documentElement.scrollWidth") <= 360, place
    unnamed = (
        "[...document.querySelectorAll('button, a, input, select, canvas')].filter(one => !(one.innerText"
        " || one.labels?.length || one.getAttribute('aria-label'))).map(one => one.outerHTML)"
    )
    for place in ("c/1/flows", "c/1/flow/2", "c/1/flow/2?tab=table"):
        viewer.open(place)
        viewer.page.until("!!document.querySelector('h1')")
        assert viewer.page.run(unnamed) == []
    titles = viewer.page.run("[...document.querySelectorAll('time')].map(one => one.title)")
    assert titles
    assert all(title.endswith(" UTC") for title in titles)


def test_a_coordinator_that_was_gone_is_found_again(stage: Stage, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with coordinator("--data-dir", str(tmp_path / "data")) as first:
        port = first.http.rpartition(":")[2]
        url = f"http://127.0.0.1:{port}"
        with caller(first, "http") as api:
            api.result("context.create", {"context": {"id": 1, "admins": [7], "readers": [], "executors": []}})
            jobs = [job_of(1, 1, waits_for(gate))]
            api.result("flow.submit", {"context_id": 1, "flow": flow_of(1, 1, [1]), "jobs": jobs})
        viewer = Viewer(stage.browser, url)
        viewer.open("c/1/flow/1?tab=table")
        viewer.sees("1 dispatched", "live")
        first.stop()
        viewer.sees("no connection", "The connection to the coordinator is lost")
    with coordinator("--data-dir", str(tmp_path / "data"), "--api-http-port", port) as second:
        viewer.sees("live")
        gate.touch()
        with runner(second.ws, 1):
            viewer.sees("1 finished")
    assert json.loads(viewer.page.run("JSON.stringify(window.__xss ?? null)")) is None
