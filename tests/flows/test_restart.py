"""A coordinator killed with everything under way: the next one on its data goes on where it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest
import trio

from tests.support.api import Api, ws_api
from tests.support.flows import chain, database, fields_of_job, remains, submit, wide
from tests.support.server import CoordinatorProcess, coordinator
from tests.support.workers import worker

HANG: Final = 60.0


async def send_message(api: Api, context: int, id: int, job: int, **times: int) -> None:
    limits = {**dict.fromkeys(("timeout", "timeout_ack", "timeout_result"), 0), **times}
    fields = {"id": id, "caller_id": 7, "context_id": context, "message": "", "message_type": "Python", **limits}
    embedded = [fields_of_job(context, job, script_type="V")]
    record = {**fields, "message_format_type": "Text", "job": embedded}
    await api.call("message.create", context_id=context, message=record)
    await api.call("message.send", context_id=context, caller_id=7, id=id)


async def set_all_going(server: CoordinatorProcess) -> None:
    """Context 1: a lease, a pause, jobs queued and waiting. Context 2: messages nobody takes. Context 3: a queue."""
    async with ws_api(server.ws) as api:
        await submit(api, 1, {1: [], 2: [], 3: [], 4: [1, 2, 3]}, retries=3)
        async with worker(server.ws, 1, capacity=2, lease=2.0) as runner:
            _, failing = await runner.jobs(2)
            await runner.api.call("runner.unsubscribe", subscription=runner.subscription)
            await runner.fail(failing)
        await send_message(api, 2, 1, job=1, timeout_ack=2)
        await send_message(api, 2, 2, job=2, timeout=3)
        await submit(api, 3, chain(3))


def kill_everything(server: CoordinatorProcess) -> None:
    server.kill()


def kill_coordinator(server: CoordinatorProcess) -> None:
    server.process.kill()
    server.process.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [kill_everything, kill_coordinator])
async def test_a_killed_coordinators_leases_pauses_message_timers_and_queues_are_taken_up(
    tmp_path: Path, kill: Any
) -> None:
    arguments = ("--data-dir", str(tmp_path))
    with trio.fail_after(HANG):
        with coordinator(*arguments) as server:
            await set_all_going(server)
            await trio.to_thread.run_sync(kill, server)

        with coordinator(*arguments) as again:
            async with worker(again.ws, 1, 4, capacity=9) as runner, worker(again.ws, 3) as other:
                got = await runner.jobs(3)
                assert {assignment["job"]["id"]: assignment["attempt"] for assignment in got} == {1: 2, 2: 2, 3: 1}
                for assignment in got:
                    await runner.finish(assignment)
                await runner.finish(await runner.job())
                for _ in range(3):
                    await other.finish(await other.job())

                assert (await runner.api.call("flow.load", context_id=1, id=1))["status"] == "Finished"
                assert (await other.api.call("flow.load", context_id=3, id=1))["status"] == "Finished"
                for id in (1, 2):
                    await until_status(runner.api, id, "Error")
            for context in (1, 2, 3):
                assert remains(database(tmp_path, context)) == {}


async def until_status(api: Api, message: int, status: str) -> None:
    while (await api.call("message.load", context_id=2, caller_id=7, id=message))["status"] != status:
        await trio.sleep(0.02)


@pytest.mark.slow
async def test_attempts_outlive_a_killed_coordinator(tmp_path: Path) -> None:
    """The runner works on, connects to the next one and reports to it; nothing is tried again."""
    arguments = ("--data-dir", str(tmp_path))
    with trio.fail_after(HANG):
        with coordinator(*arguments) as server:
            async with worker(server.ws, 1, capacity=3, session="mine", lease=30.0) as runner:
                await submit(runner.api, 1, wide(3))
                one, two, three = await runner.jobs(3)
                server.kill()

        with coordinator(*arguments) as again:
            async with worker(again.ws, 1, subscribed=False) as back:
                await back.subscribe(capacity=3, session="mine", holding=[one["token"], two["token"], three["token"]])
                assert back.lost == []
                for assignment in (one, two, three):
                    assert await back.finish(assignment) == {"status": "Finished", "attempt": 1}
                assert (await back.api.call("flow.load", context_id=1, id=1))["status"] == "Finished"
                assert back.waiting == 0


@pytest.mark.slow
async def test_a_valkey_killed_alone_keeps_runners_and_timers_going(tmp_path: Path) -> None:
    with trio.fail_after(HANG), coordinator("--data-dir", str(tmp_path)) as server:
        async with worker(server.ws, 1, capacity=2, lease=1.0) as runner:
            await submit(runner.api, 1, {1: [], 2: [], 3: [1, 2]}, retries=3)
            silent, failing = await runner.jobs(2)
            await runner.fail(failing)
            (valkey,) = server.children()
            os.kill(valkey, signal.SIGKILL)

            tried_again = set()
            for _ in range(2):
                assignment = await runner.job()
                tried_again.add(assignment["job"]["id"])
                await runner.finish(assignment)
            await runner.finish(await runner.job())

            assert tried_again == {silent["job"]["id"], failing["job"]["id"]}

            assert (await runner.api.call("flow.load", context_id=1, id=1))["status"] == "Finished"
