"""What somebody writes who uses either Python client. It is not run: mypy, and pyright by test_typing.py, check it, and
that the mistakes in it are found."""

from __future__ import annotations

from coordinator.client import Client as TrioClient
from coordinator.client import ClientError, NotFound, connect
from coordinator.client.aio import Client
from coordinator.client.aio import connect as asyncio_connect
from coordinator.models import AssignmentNotice, CancelNotice, ContextCreate, Flow, FlowCreate, FlowEvent, JobCreate


async def use(client: Client) -> str:
    made = await client.context_create(context=ContextCreate(id=1, admins=[7], readers=[], executors=[]))
    admins: list[int] = made.admins
    job = JobCreate(
        id=1,
        caller_id=admins[0],
        context_id=1,
        script="",
        script_type="Python",
        timeout=0,
        retries=0,
        env_vars={},
        prerequisites=[],
        depends=[],
    )
    flow: Flow = await client.flow_submit(
        context_id=1, flow=FlowCreate(id=1, caller_id=7, context_id=1, jobs=[1], env_vars={}), jobs=[job]
    )
    try:
        await client.job_load(context_id=1, caller_id=7, id=2)
    except NotFound as error:
        print(error.code, error.detail)
    except ClientError:
        raise
    last: FlowEvent | None = None
    async for event in client.follow_flow(1, 1):
        last = event
    async with client.subscribe_runner(context_id=1, runner_id=1, script_types=["Python"], capacity=1) as work:
        async for item in work:
            match item:
                case AssignmentNotice():
                    await work.finish(item, {"a": "b"})
                case CancelNotice():
                    print(item.reason)
    return flow.status if last is None else last.event_id


async def use_on_trio(client: TrioClient) -> None:
    page = await client.flow_list(context_id=1, limit=10)
    print([flow.id for flow in page.items], page.cursor)
    taken = await client.job_take(context_id=1, runner_id=1, script_types=["Python"])
    print(taken[0].job.id)


async def wrong(client: Client) -> int:
    await client.context_load(id="1")  # type: ignore[arg-type]
    await client.flow_load(context_id=1)  # type: ignore[call-arg]
    await client.flow_loda(context_id=1, id=1)  # type: ignore[attr-defined]
    return await client.flow_load(context_id=1, id=1)  # type: ignore[return-value]


async def begin() -> None:
    async with asyncio_connect("ws://127.0.0.1:9653", timeout=5) as client:
        print(await use(client))
    async with connect("ws://127.0.0.1:9653") as other:
        await use_on_trio(other)
