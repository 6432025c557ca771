"""The flows that a load tester submits. Pure: no sockets, no clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["FLOW_NAME", "SCRIPT_TYPES", "Shape"]

FLOW_NAME: Final = "herocoordinator bench"
"""Names each flow, so that those of a context that stays can be told from others and deleted."""

SCRIPT_TYPES: Final = ("Python", "V", "Sal", "Osis")
"""Each process that shares its context with others has one of its own, so that it is given its own jobs back."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Columns of jobs, each job depending on the one before it in its column, and a last job that depends on the last
    of each column. A width of 4 and a depth of 2 are the tree 1 + 4, a width of 1 is a chain, a depth of 1 one job.

    Attributes:
        width: columns.
        depth: jobs one after the other, the last job included.
    """

    width: int = 4
    depth: int = 2

    @property
    def jobs(self) -> int:
        return self.width * (self.depth - 1) + 1

    def depends(self, place: int) -> list[int]:
        """The places of the jobs that the one in this place waits for."""
        if place == self.jobs - 1:
            return [*range(max(0, place - self.width), place)]
        return [place - self.width] if place >= self.width else []

    def follower(self, place: int) -> int | None:
        """The place of the job that waits for the one in this place; None for the last."""
        last = self.jobs - 1
        return None if place == last else min(place + self.width, last)

    def submit(self, context: int, caller: int, flow: int, first_job: int, script_type: str) -> dict[str, Any]:
        """The params of `flow.submit`."""
        jobs = [
            {
                "id": first_job + place,
                "caller_id": caller,
                "context_id": context,
                "script": "",
                "script_type": script_type,
                "timeout": 0,
                "retries": 0,
                "env_vars": {},
                "prerequisites": [],
                "depends": [first_job + other for other in self.depends(place)],
            }
            for place in range(self.jobs)
        ]
        fields = {
            "id": flow,
            "caller_id": caller,
            "context_id": context,
            "jobs": [job["id"] for job in jobs],
            "env_vars": {},
            "name": FLOW_NAME,
        }
        return {"context_id": context, "flow": fields, "jobs": jobs}
