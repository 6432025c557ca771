"""From jobs and what they depend on to a DAG. Pure: no storage, no JSON, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.errors import DagCycleDetected, DagMissingDependency

__all__ = ["Dag", "build"]


@dataclass(frozen=True, slots=True)
class Dag:
    """The execution graph of a flow. Every list is ascending; see `models.FlowDag` for what each holds."""

    edges: list[tuple[int, int]]
    reverse_edges: list[tuple[int, int]]
    roots: list[int]
    leaves: list[int]
    levels: list[list[int]]


def build(depends: Mapping[int, Sequence[int]]) -> Dag:
    """Compute the DAG of jobs from each one's dependencies, in O(jobs + edges) plus the sorting.

    Args:
        depends: job id → ids it depends on; duplicates count once.

    Raises:
        DagMissingDependency: a dependency is not itself a key; the smallest such pair is named.
        DagCycleDetected: with one actual cycle.
    """
    if not any(depends.values()):  # so there is nothing to find out
        jobs = sorted(depends)
        return Dag([], [], jobs, [*jobs], [[*jobs]] if jobs else [])
    parents = {job: sorted(set(ids)) for job, ids in sorted(depends.items())}
    children: dict[int, list[int]] = {job: [] for job in parents}
    for job, ids in parents.items():
        for parent in ids:
            if parent not in children:
                raise DagMissingDependency(job, parent)
            children[parent].append(job)

    # Kahn's algorithm a layer at a time: a job enters the layer after its last dependency's, which is the
    # length of its longest path from a root.
    unmet = {job: len(ids) for job, ids in parents.items()}
    levels: list[list[int]] = []
    layer = [job for job, count in unmet.items() if count == 0]
    placed = 0
    while layer:
        levels.append(layer)
        placed += len(layer)
        following = []
        for job in layer:
            for child in children[job]:
                unmet[child] -= 1
                if unmet[child] == 0:
                    following.append(child)
        layer = sorted(following)
    if placed < len(parents):
        raise DagCycleDetected(_cycle(parents, {job for job, count in unmet.items() if count > 0}))

    return Dag(
        edges=[(job, child) for job, ids in children.items() for child in ids],
        reverse_edges=[(job, parent) for job, ids in parents.items() for parent in ids],
        roots=levels[0] if levels else [],
        leaves=[job for job, ids in children.items() if not ids],
        levels=levels,
    )


def _cycle(parents: Mapping[int, Sequence[int]], stuck: set[int]) -> list[int]:
    """One cycle among the jobs Kahn's algorithm could not place, dependency before dependent, smallest first.

    Each stuck job has a stuck dependency, so walking towards dependencies must meet a job twice.
    """
    job = min(stuck)
    seen: dict[int, int] = {}
    walk: list[int] = []
    while job not in seen:
        seen[job] = len(walk)
        walk.append(job)
        job = next(parent for parent in parents[job] if parent in stuck)
    cycle = walk[seen[job] :][::-1]
    smallest = cycle.index(min(cycle))
    return cycle[smallest:] + cycle[:smallest]
