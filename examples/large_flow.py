"""Submit a flow of 5,000 jobs, which is sent in parts, look at its graph, and delete it again.

python examples/large_flow.py
"""

import os
import random

import trio

from coordinator.client import connect
from coordinator.models import FlowCreate, JobCreate

URL = os.environ.get("HEROCOORDINATOR_URL", "ws://127.0.0.1:9653")
CONTEXT, CALLER = 1, 7
WIDTH, LEVELS = 100, 50


def jobs_of(first: int) -> list[JobCreate]:
    """Rows of 100 jobs, each of which depends on the one above it. No runner takes their type, so none of them runs."""
    return [
        JobCreate(
            id=first + at,
            caller_id=CALLER,
            context_id=CONTEXT,
            script="nothing",
            script_type="Osis",
            timeout=60,
            retries=0,
            env_vars={},
            prerequisites=[],
            depends=[first + at - WIDTH] if at >= WIDTH else [],
        )
        for at in range(WIDTH * LEVELS)
    ]


async def main() -> None:
    first = random.randrange(10**9)
    jobs = jobs_of(first)
    async with connect(URL) as client:
        ids = [job.id for job in jobs]
        flow = FlowCreate(id=first, caller_id=CALLER, context_id=CONTEXT, jobs=ids, env_vars={})
        await client.submit_flow(context_id=CONTEXT, flow=flow, jobs=jobs)
        dag = await client.flow_dag(context_id=CONTEXT, id=first)
        print(f"{len(dag.nodes)} jobs in {len(dag.levels)} levels of {len(dag.levels[0])}")
        await client.flow_cancel(context_id=CONTEXT, id=first, reason="only an example")
        deleted = await client.flow_delete(context_id=CONTEXT, id=first)
        print(f"{deleted.deleted} records deleted")


trio.run(main)
