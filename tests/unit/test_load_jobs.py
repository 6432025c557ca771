"""What of load with jobs is pure: the shape of flows, and ids that tell when they were due."""

from __future__ import annotations

import pytest

from coordinator.load.jobs import GRAIN, due_of, id_of
from coordinator.load.shape import Shape


@pytest.mark.parametrize(("width", "depth", "jobs"), [(4, 2, 5), (1, 10, 10), (7, 1, 1), (3, 4, 10)])
def test_each_job_is_followed_by_those_that_depend_on_it(width: int, depth: int, jobs: int) -> None:
    shape = Shape(width, depth)
    assert shape.jobs == jobs
    followers: dict[int, list[int]] = {place: [] for place in range(jobs)}
    for place in range(jobs):
        for before in shape.depends(place):
            followers[before].append(place)
    assert [followers[place] for place in range(jobs)] == [
        [] if shape.follower(place) is None else [shape.follower(place)] for place in range(jobs)
    ]
    assert followers[jobs - 1] == []
    assert sum(not after for after in followers.values()) == 1, "the flow ends with its last job"

    def steps(place: int) -> int:
        return 1 + max((steps(before) for before in shape.depends(place)), default=0)

    assert steps(jobs - 1) == depth
    submitted = shape.submit(9, 7, 40, 100, "V")
    assert [job["id"] for job in submitted["jobs"]] == submitted["flow"]["jobs"] == [*range(100, 100 + jobs)]


@pytest.mark.parametrize("after", [0.0, 0.5, 3600.0, 4.0 * 3600])
def test_an_id_tells_when_it_was_due(after: float) -> None:
    epoch = 123_456.789
    id = id_of(epoch + after, epoch)
    assert 1 <= id < 2**32
    assert due_of(id, epoch) == pytest.approx(epoch + after, abs=GRAIN)
