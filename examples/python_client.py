"""Submit a flow with the Python client, follow it, and read its result.

python examples/python_client.py
"""

import os
import random

import trio

from coordinator.client import connect
from coordinator.models import FlowCreate, JobCreate

URL = os.environ.get("HEROCOORDINATOR_URL", "ws://127.0.0.1:9653")
CONTEXT, CALLER = 1, 7


def job(id: int, script: str, depends: list[int]) -> JobCreate:
    return JobCreate(
        id=id,
        caller_id=CALLER,
        context_id=CONTEXT,
        script=script,
        script_type="Python",
        timeout=60,
        retries=1,
        env_vars={},
        prerequisites=[],
        depends=depends,
    )


SQUARE = "import os; print('square=49', file=open(os.environ['HERO_RESULT'], 'w'))"
ROOT = """
import json, os
[result] = json.load(open(os.environ["HERO_INPUTS"])).values()
print("the root is", int(result["square"]) ** 0.5)
"""


async def main() -> None:
    first = random.randrange(10**9)
    async with connect(URL) as client:
        jobs = [job(first, SQUARE, []), job(first + 1, ROOT, [first])]
        ids = [job.id for job in jobs]
        flow = FlowCreate(id=first, caller_id=CALLER, context_id=CONTEXT, jobs=ids, env_vars={})
        await client.flow_submit(context_id=CONTEXT, flow=flow, jobs=jobs)
        async for event in client.follow_flow(CONTEXT, first):  # ends with the flow
            what = f"job {event.job_id - first + 1}" if event.job_id is not None else "flow"
            print(what, *(event.lines or [event.status]))
        done = await client.flow_load(context_id=CONTEXT, id=first)
        print(done.status)


trio.run(main)
