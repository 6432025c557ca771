"""Each method of running flows, through a socket; what is sent and answered is held against the contract."""

from __future__ import annotations

from typing import Any, Final

import httpx
import pytest
import trio

from tests.support.api import METHODS, Api, checked
from tests.support.flows import chain, fields_of_job, submission, submit, wide
from tests.support.server import CoordinatorProcess
from tests.support.workers import follower, outcome_of, register, worker

CONFLICT: Final = -32040
STALE: Final = -32041
NOT_SUBSCRIBED: Final = -32042
OVERLOADED: Final = -32043
WEBSOCKET_REQUIRED: Final = -32044
NOT_FOUND: Final = -32001
INVALID_PARAMS: Final = -32602
MISSING_DEPENDENCY: Final = -32020
CYCLE: Final = -32021
RUNNER: Final[dict[str, Any]] = {"runner_id": 3, "script_types": ["Python"]}


async def take(api: Api, context: int, **options: Any) -> list[dict[str, Any]]:
    """Jobs for runner 3, over whatever transport."""
    answer = await api.call("job.take", context_id=context, **RUNNER, **options)
    jobs: list[dict[str, Any]] = answer["jobs"]
    return jobs


async def take_one(api: Api, context: int, **options: Any) -> dict[str, Any]:
    (taken,) = await take(api, context, wait=20, **options)
    return taken


# -- flows


async def test_a_flow_submitted_in_one_step_is_started(api: Api, context: int) -> None:
    record = await submit(api, context, chain(3), env_vars={"STAGE": "test"})

    assert record["status"] == "Started"
    assert (record["jobs"], record["env_vars"]) == ([1, 2, 3], {"STAGE": "test"})
    assert await submit(api, context, chain(3), env_vars={"STAGE": "test"}) == record  # again changes nothing


async def test_a_flow_of_stored_jobs_is_started_by_its_id(api: Api, context: int) -> None:
    parts = submission(context, chain(2))
    for job in parts["jobs"]:
        await api.call("job.create", context_id=context, job=job)
    await api.call("flow.create", context_id=context, flow=parts["flow"])

    record = await api.call("flow.start", context_id=context, id=1)

    assert record["status"] == "Started"
    assert await api.call("flow.start", context_id=context, id=1) == record
    status = await api.call("flow.status", context_id=context, id=1)
    assert [job["status"] for job in status["jobs"]] == ["Dispatched", "WaitingForPrerequisites"]


@pytest.mark.parametrize(
    ("dag", "code"), [({1: [2], 2: [1]}, CYCLE), ({1: [9]}, MISSING_DEPENDENCY)], ids=["cycle", "missing"]
)
async def test_what_is_no_dag_is_not_started(api: Api, context: int, dag: dict[int, list[int]], code: int) -> None:
    error = await api.refused("flow.submit", **submission(context, dag))

    assert error.code == code
    assert (await api.refused("flow.load", context_id=context, id=1)).code == NOT_FOUND


@pytest.mark.parametrize(
    "method", ["flow.start", "flow.cancel", "flow.retry", "flow.status", "flow.events", "flow.load"]
)
async def test_a_flow_that_is_not_there_is_not_found(api: Api, context: int, method: str) -> None:
    error = await api.refused(method, context_id=context, id=404)

    assert error.code == NOT_FOUND
    assert error.data["kind"] == "flow"


async def test_a_job_of_a_running_flow_is_not_for_another(api: Api, context: int) -> None:
    await submit(api, context, wide(2))

    error = await api.refused("flow.submit", **submission(context, wide(2, first=2), flow=2))

    assert error.code == CONFLICT
    assert error.data["job"] == 2
    assert error.data["run"] == "flow 1"


async def test_a_flow_that_failed_is_tried_again_where_it_failed(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, chain(2))
    await api.call("job.finish", **outcome_of(await take_one(api, context), result={"kept": "yes"}))
    failed = await api.call("job.fail", **outcome_of(await take_one(api, context), error="broken"))
    assert failed == {"status": "Error", "attempt": 1}
    flow = await api.call("flow.load", context_id=context, id=1)
    assert (flow["status"], flow["result"]) == ("Error", {"error": "job 2: broken", "job": "2"})

    assert (await api.call("flow.retry", context_id=context, id=1))["status"] == "Started"

    again = await take_one(api, context)
    assert (again["job"]["id"], again["attempt"], again["inputs"]) == (2, 1, {"1": {"kept": "yes"}})
    await api.call("job.finish", **outcome_of(again, result={"answer": "42"}))
    flow = await api.call("flow.load", context_id=context, id=1)
    assert (flow["status"], flow["result"]) == ("Finished", {"2": '{"answer":"42"}'})
    assert (await api.refused("flow.retry", context_id=context, id=1)).code == CONFLICT
    assert (await api.refused("flow.cancel", context_id=context, id=1)).code == CONFLICT


async def test_a_cancelled_flow_takes_no_more_outcomes(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, chain(2))
    running = await take_one(api, context)

    flow = await api.call("flow.cancel", context_id=context, id=1, reason='"no"\nlonger wanted')

    assert flow["status"] == "Error"
    assert flow["result"] == {"error": 'cancelled: "no"\nlonger wanted'}
    for method in ("job.heartbeat", "job.finish"):
        assert (await api.refused(method, **outcome_of(running))).code == STALE
    assert await api.call("job.log", **outcome_of(running, lines=["late"])) == {"lines": 1, "over": True}
    told = await api.call("job.fail", **outcome_of(running, error="late", result={"half": "yes"}))
    assert told == {"status": "Error", "attempt": 1}
    assert (await api.call("job.load", context_id=context, caller_id=7, id=1))["result"] == {"half": "yes"}
    status = await api.call("flow.status", context_id=context, id=1)
    assert [job["status"] for job in status["jobs"]] == ["Error", "WaitingForPrerequisites"]
    assert status["counts"]["Error"] == 1


async def test_status_says_how_far_each_job_is(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, {1: [], 2: [], 3: [1, 2]}, retries=1)
    first, second = await take(api, context, count=5)
    running = (await api.call("flow.status", context_id=context, id=1))["jobs"][0]
    assert (running["status"], running["queued_at"] <= running["started_at"]) == ("Started", True)
    await api.call("job.finish", **outcome_of(first))
    await api.call("job.fail", **outcome_of(second, error="at first"))

    status = await api.call("flow.status", context_id=context, id=1)

    one, two, three = status["jobs"]
    assert (one["status"], one["attempt"], one["runner_id"]) == ("Finished", 1, 3)
    assert one["started_at"] <= one["ended_at"]
    assert (two["status"], two["failure"], two["retry_at"] > two["ended_at"]) == ("Dispatched", "at first", True)
    assert (three["status"], three["attempt"], three["depends"]) == ("WaitingForPrerequisites", 0, [1, 2])
    assert status["counts"] == {
        **dict.fromkeys(("Started", "Error"), 0),
        "Finished": 1,
        "Dispatched": 1,
        "WaitingForPrerequisites": 1,
    }


async def test_events_are_paged_through_in_order(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, chain(3))
    for _ in range(3):
        await api.call("job.finish", **outcome_of(await take_one(api, context)))

    seen: list[dict[str, Any]] = []
    after = "0-0"
    while True:
        page = await api.call("flow.events", context_id=context, id=1, after=after, limit=4)
        assert page["missed"] is False
        if not page["events"]:
            break
        assert len(page["events"]) <= 4
        seen += page["events"]
        assert page["last_event"] == seen[-1]["event_id"]
        after = page["last_event"]

    told = [(event["kind"], event.get("job_id"), event["status"]) for event in seen]
    assert told == [
        ("flow", None, "Started"),
        *[("job", 1, "Started"), ("job", 1, "Finished"), ("job", 2, "Dispatched")],
        *[("job", 2, "Started"), ("job", 2, "Finished"), ("job", 3, "Dispatched")],
        *[("job", 3, "Started"), ("job", 3, "Finished"), ("flow", None, "Finished")],
    ]
    assert page["last_event"] == (await api.call("flow.status", context_id=context, id=1))["last_event"]


# -- attempts


async def test_an_outcome_may_be_reported_again(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(1))
    running = await take_one(api, context)

    first = await api.call("job.finish", **outcome_of(running, result={"n": "1"}))

    assert first == {"status": "Finished", "attempt": 1}
    assert await api.call("job.finish", **outcome_of(running, result={"n": "2"})) == first
    load = await api.call("job.load", context_id=context, caller_id=7, id=1)
    assert (load["status"], load["result"]) == ("Finished", {"n": "1"})


async def test_an_attempt_nobody_had_is_stale_and_a_job_nobody_made_not_found(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(1))
    running = await take_one(api, context)

    assert (await api.refused("job.finish", **{**outcome_of(running), "token": "1-1"})).code == STALE
    assert (await api.refused("job.heartbeat", **{**outcome_of(running), "id": 9})).code == NOT_FOUND
    assert await api.call("job.heartbeat", **outcome_of(running)) == {"lease": 30.0}


async def test_a_failure_that_must_not_be_tried_again_is_not(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(1), retries=5)
    running = await take_one(api, context)

    failed = await api.call("job.fail", **outcome_of(running, error="hopeless", retry=False, result={"why": "x"}))

    assert failed == {"status": "Error", "attempt": 1}
    load = await api.call("job.load", context_id=context, caller_id=7, id=1)
    assert (load["status"], load["result"]) == ("Error", {"why": "x"})


async def test_log_lines_are_events_of_the_flow(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(1))
    running = await take_one(api, context)

    for stream in ("stdout", "stderr"):
        lines = [f"to {stream}", "zweite Zeile — ✓"]
        assert await api.call("job.log", **outcome_of(running, lines=lines, stream=stream)) == {"lines": 2}

    page = await api.call("flow.events", context_id=context, id=1)
    logged = [(event["stream"], event["lines"]) for event in page["events"] if event["kind"] == "log"]
    assert logged == [
        ("stdout", ["to stdout", "zweite Zeile — ✓"]),
        ("stderr", ["to stderr", "zweite Zeile — ✓"]),
    ]


async def test_the_same_take_sent_again_gives_the_same_jobs(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(4), env_vars={"STAGE": "test"}, script="x")

    first = await take(api, context, count=2, take_id="mine")

    assert await take(api, context, count=2, take_id="mine") == first
    others = await take(api, context, count=9, take_id="other")
    assert {taken["job"]["id"] for taken in first + others} == {1, 2, 3, 4}
    assert len({taken["token"] for taken in first + others}) == 4
    assert first[0]["env_vars"] == {"STAGE": "test"}


async def test_a_take_sent_again_in_another_second_says_when_its_jobs_were_taken(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(2))

    first = await take(api, context, count=2, take_id="mine")
    await trio.sleep(1.1)  # so a time that is made of the clock is another

    assert await take(api, context, count=2, take_id="mine") == first


async def test_a_runner_gets_only_scripts_of_its_types(api: Api, context: int) -> None:
    await register(api, context)
    jobs = [fields_of_job(context, id, script_type=type) for id, type in ((1, "Sal"), (2, "Python"), (3, "V"))]
    await api.call("flow.submit", **{**submission(context, wide(3)), "jobs": jobs})

    answer = await api.call("job.take", context_id=context, runner_id=3, script_types=["V", "Python"], count=9)

    assert {taken["job"]["script_type"] for taken in answer["jobs"]} == {"V", "Python"}


async def test_a_runner_that_was_not_created_gets_nothing(api: Api, context: int) -> None:
    error = await api.refused("job.take", context_id=context, **RUNNER)

    assert (error.code, error.data["kind"]) == (NOT_FOUND, "runner")


# -- what needs a WebSocket


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("runner.subscribe", {"context_id": 1, **RUNNER, "capacity": 1}),
        ("flow.subscribe", {"context_id": 1, "id": 1}),
        ("runner.unsubscribe", {"subscription": "x"}),
        ("flow.unsubscribe", {"subscription": "x"}),
    ],
)
async def test_notifications_need_a_websocket(http: Api, method: str, params: dict[str, Any]) -> None:
    assert (await http.refused(method, **params)).code == WEBSOCKET_REQUIRED


@pytest.mark.parametrize("method", ["runner.unsubscribe", "flow.unsubscribe"])
async def test_a_subscription_nobody_has_cannot_be_ended(ws: Api, method: str) -> None:
    error = await ws.refused(method, subscription="no such")

    assert (error.code, error.data["subscription"]) == (NOT_SUBSCRIBED, "no such")


async def test_a_subscription_is_its_connections_own_and_of_its_kind(
    server: CoordinatorProcess, ws: Api, context: int
) -> None:
    async with worker(server.ws, context) as runner:
        subscription = runner.subscription

        assert (await ws.refused("runner.unsubscribe", subscription=subscription)).code == NOT_SUBSCRIBED
        assert (await runner.api.refused("flow.unsubscribe", subscription=subscription)).code == NOT_SUBSCRIBED
        ended = await runner.api.call("runner.unsubscribe", subscription=subscription)
        assert ended == {"subscription": subscription}
        assert (await runner.api.refused("runner.unsubscribe", subscription=subscription)).code == NOT_SUBSCRIBED


async def test_subscribing_to_what_is_not_there_is_not_found(ws: Api, context: int) -> None:
    runner = await ws.refused("runner.subscribe", context_id=context, capacity=1, **RUNNER)
    flow = await ws.refused("flow.subscribe", context_id=context, id=1)

    assert (runner.code, runner.data["kind"]) == (NOT_FOUND, "runner")
    assert (flow.code, flow.data["kind"]) == (NOT_FOUND, "flow")


async def test_a_follower_that_unsubscribes_hears_no_more(server: CoordinatorProcess, ws: Api, context: int) -> None:
    await register(ws, context)
    await submit(ws, context, chain(2))
    with trio.fail_after(30):
        async with follower(server.ws, context) as following:
            await following.until(kind="flow", status="Started")
            await following.api.call("flow.unsubscribe", subscription=following.subscription)
            await ws.call("job.finish", **outcome_of(await take_one(ws, context)))
            await following.api.call("flow.status", context_id=context, id=1)  # what was sent before it has come

            assert [event["kind"] for event in following.events] == ["flow"]


# -- prerequisites


async def test_a_job_waits_for_its_prerequisites(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(2), prerequisites=["disk ready", "licence"])
    waiting = [{"name": "disk ready", "jobs": 2}, {"name": "licence", "jobs": 2}]
    listed = await api.call("prerequisite.list", context_id=context)
    assert listed["satisfied"] == []
    assert [{"name": awaited["name"], "jobs": awaited["jobs"]} for awaited in listed["waiting"]] == waiting

    first = await api.call("prerequisite.satisfy", context_id=context, name="disk ready")

    assert first["released"] == 2
    assert await take(api, context) == []
    assert (await api.call("prerequisite.satisfy", context_id=context, name="licence"))["released"] == 2
    assert len(await take(api, context, count=9)) == 2
    listed = await api.call("prerequisite.list", context_id=context)
    assert ([known["name"] for known in listed["satisfied"]], listed["waiting"]) == (["disk ready", "licence"], [])
    again = await api.call("prerequisite.satisfy", context_id=context, name="disk ready")
    assert again == {**first, "released": 0}


async def test_a_job_waits_for_nothing_that_nobody_could_satisfy(
    server: CoordinatorProcess, api: Api, context: int
) -> None:
    """It would wait for ever: the calls that name a prerequisite take names of so many characters."""
    longest = "é" * 1000
    await submit(api, context, wide(1), prerequisites=[longest])
    assert (await api.call("prerequisite.satisfy", context_id=context, name=longest))["released"] == 1
    long = fields_of_job(context, 9, prerequisites=["fine", "x" * 1001])
    params: list[tuple[str, dict[str, Any], list[str | int]]] = [
        ("job.create", {"context_id": context, "job": long}, ["job"]),
        ("flow.submit", submission(context, {9: []}, flow=9, prerequisites=["fine", "x" * 1001]), ["jobs", 0]),
        ("message.create", message(context, long), ["message", "job", 0]),
    ]

    async with httpx.AsyncClient() as client:
        for method, given, place in params:
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
            error = (await client.post(server.http, json=call)).json()["error"]

            assert error["code"] == INVALID_PARAMS
            assert error["data"][0]["loc"] == [*place, "prerequisites", 1]


# -- messages


def message(context: int, *jobs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Params of message.create."""
    fields = {"id": 1, "caller_id": 7, "context_id": context, "message": "do it", "message_type": "Python"}
    times = dict.fromkeys(("timeout", "timeout_ack", "timeout_result"), 0)
    return {
        "context_id": context,
        "message": {**fields, **times, "message_format_type": "Text", "job": list(jobs), **more},
    }


async def test_a_message_has_each_job_once(api: Api, context: int) -> None:
    """If two jobs had the same id, only one would run, and the message would be Processed."""
    first, other, last = (fields_of_job(context, 1, script=f"print({number})") for number in range(3))

    error = await api.refused("message.create", **message(context, first, {**other, "caller_id": 8}, last))
    assert (error.code, error.data[0]["loc"]) == (INVALID_PARAMS, ["message", "job", 2, "id"])
    assert await api.call("message.list", context_id=context) == {"items": []}
    await api.call("message.create", **message(context, first, {**other, "caller_id": 8}))


async def test_a_message_goes_from_sent_to_processed(api: Api, context: int) -> None:
    await register(api, context)
    await api.call(
        "message.create", **message(context, fields_of_job(context, 1), fields_of_job(context, 2, depends=[1]))
    )
    ids = {"context_id": context, "caller_id": 7, "id": 1}

    async def states() -> tuple[str, str]:
        record = await api.call("message.load", **ids)
        return record["status"], record["transport_status"]

    sent = await api.call("message.send", **ids)
    assert (sent["status"], sent["transport_status"]) == ("Dispatched", "Queued")
    first = await take_one(api, context)
    assert await states() == ("Acknowledged", "Sent")
    await api.call("job.log", **outcome_of(first, lines=["working"]))
    assert await states() == ("Acknowledged", "Delivered")
    await api.call("job.finish", **outcome_of(first, result={"a": "1"}))
    second = await take_one(api, context)
    assert second["inputs"] == {"1": {"a": "1"}}
    await api.call("job.finish", **outcome_of(second))
    assert await states() == ("Processed", "Read")

    record = await api.call("message.load", **ids)
    assert record["logs"] == ["working"]
    assert [job["status"] for job in record["job"]] == ["Finished", "Finished"]
    assert (await api.call("message.send", **ids)) == record


async def test_a_message_that_is_not_there_is_not_sent(api: Api, context: int) -> None:
    error = await api.refused("message.send", context_id=context, caller_id=7, id=1)

    assert (error.code, error.data["kind"]) == (NOT_FOUND, "message")


# -- lists and deletion


async def pages(api: Api, method: str, **params: Any) -> list[Any]:
    """Every item, two a page."""
    items: list[Any] = []
    cursor = ""
    for _ in range(50):
        page = await api.call(method, limit=2, cursor=cursor, **params)
        assert len(page["items"]) <= 2
        items += page["items"]
        if "cursor" not in page:
            return items
        cursor = page["cursor"]
    raise AssertionError("the pages have no end")


async def test_lists_are_complete_and_in_order(api: Api, context: int) -> None:
    for id in (10, 9, 100):
        await register(api, context, id)
    await submit(api, context, wide(3), flow=2)
    await submit(api, context, wide(2, first=10), flow=10)
    await api.call("message.create", **message(context))

    listed = {
        kind: await pages(api, f"{kind}.list", context_id=context) for kind in ("runner", "flow", "job", "message")
    }

    assert {kind: [record["id"] for record in records] for kind, records in listed.items()} == {
        "runner": [9, 10, 100],
        "flow": [2, 10],
        "job": [1, 2, 3, 10, 11],
        "message": [1],
    }
    assert listed["flow"][0] == await api.call("flow.load", context_id=context, id=2)


async def test_lists_may_be_of_one_status(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, chain(3))
    await api.call("job.finish", **outcome_of(await take_one(api, context)))

    found = {
        status: [job["id"] for job in await pages(api, "job.list", context_id=context, status=status)]
        for status in ("Finished", "Dispatched", "WaitingForPrerequisites", "Started")
    }

    assert found == {"Finished": [1], "Dispatched": [2], "WaitingForPrerequisites": [3], "Started": []}
    assert [flow["id"] for flow in await pages(api, "flow.list", context_id=context, status="Started")] == [1]
    assert await pages(api, "flow.list", context_id=context, status="Error") == []


async def test_contexts_written_to_are_listed(api: Api, context: int) -> None:
    await register(api, context)

    answer = await api.call("context.list", cursor=str(context - 1), limit=1)

    assert answer["items"] == [context]


async def test_what_runs_is_not_deleted_and_what_ended_goes_with_its_jobs(api: Api, context: int) -> None:
    await register(api, context)
    await submit(api, context, wide(2))
    for method, ids in (("flow.delete", {"id": 1}), ("job.delete", {"caller_id": 7, "id": 1})):
        assert (await api.refused(method, context_id=context, **ids)).code == CONFLICT
    for taken in await take(api, context, count=2):
        await api.call("job.finish", **outcome_of(taken))

    assert await api.call("flow.delete", context_id=context, id=1) == {"deleted": 3}

    assert await api.call("flow.delete", context_id=context, id=1) == {"deleted": 0}
    assert await pages(api, "job.list", context_id=context) == []
    assert (await api.refused("flow.events", context_id=context, id=1)).code == NOT_FOUND


async def test_records_are_deleted_one_by_one(api: Api, context: int) -> None:
    await register(api, context)
    await api.call("job.create", context_id=context, job=fields_of_job(context, 1))
    await api.call("message.create", **message(context))

    for method, ids in (
        ("runner.delete", {"id": 3}),
        ("job.delete", {"caller_id": 7, "id": 1}),
        ("message.delete", {"caller_id": 7, "id": 1}),
    ):
        assert await api.call(method, context_id=context, **ids) == {"deleted": 1}
        assert await api.call(method, context_id=context, **ids) == {"deleted": 0}


async def test_a_message_under_way_is_not_deleted(api: Api, context: int) -> None:
    await api.call("message.create", **message(context, fields_of_job(context, 1)))
    ids = {"context_id": context, "caller_id": 7, "id": 1}
    await api.call("message.send", **ids)

    assert (await api.refused("message.delete", **ids)).code == CONFLICT


# -- the contract itself


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.get("examples")])
def test_a_methods_example_is_valid(method: str) -> None:
    row = METHODS[method]

    checked(row["examples"][0]["params"][0]["value"], row["params"][0]["schema"])
