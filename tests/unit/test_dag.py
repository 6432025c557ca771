"""The DAG against a naive reading of its definition, on random graphs."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator import dag
from coordinator.errors import DagCycleDetected, DagMissingDependency

Graph = dict[int, list[int]]


@st.composite
def acyclic(draw: st.DrawFn) -> Graph:
    """Jobs with random ids, each depending on some that come before it in a random order; duplicates included."""
    order = draw(st.lists(st.integers(0, 2**32 - 1), unique=True, max_size=12))
    return {job: draw(st.lists(st.sampled_from(order[:at]), max_size=6)) if at else [] for at, job in enumerate(order)}


@given(acyclic())
def test_it_is_what_its_definition_says(depends: Graph) -> None:
    graph = dag.build(depends)

    edges = sorted({(parent, job) for job, parents in depends.items() for parent in parents})

    @cache
    def depth(job: int) -> int:
        return max((depth(parent) + 1 for parent in depends[job]), default=0)

    depths = {job: depth(job) for job in depends}
    assert graph.edges == edges
    assert graph.reverse_edges == sorted((to, come_from) for come_from, to in edges)
    assert graph.roots == sorted(job for job in depends if not depends[job])
    assert graph.leaves == sorted(job for job in depends if all(job != parent for parent, _ in edges))
    assert graph.levels == [
        sorted(job for job in depends if depths[job] == level) for level in range(max(depths.values(), default=-1) + 1)
    ]


@given(acyclic(), st.randoms(use_true_random=False))
def test_a_cycle_is_reported_with_jobs_that_really_form_one(depends: Graph, rng: random.Random) -> None:
    ring = [2**33 + number for number in range(rng.randint(1, 5))]
    looped = {**depends, **{job: [ring[at - 1]] for at, job in enumerate(ring)}}
    for job in ring:
        looped[job] += rng.sample(list(depends), k=min(2, len(depends)))

    with pytest.raises(DagCycleDetected) as caught:
        dag.build(looped)

    cycle = caught.value.data["cycle"]
    assert len(set(cycle)) == len(cycle)
    assert all(cycle[at - 1] in looped[job] for at, job in enumerate(cycle))
    assert cycle[0] == min(cycle)


def test_a_dependency_outside_the_flow_is_named_with_its_job() -> None:
    with pytest.raises(DagMissingDependency) as caught:
        dag.build({1: [], 2: [1, 9, 8]})

    assert (caught.value.data["job"], caught.value.data["missing"]) == (2, 8)


def test_jobs_behind_a_cycle_are_not_part_of_it() -> None:
    with pytest.raises(DagCycleDetected) as caught:
        dag.build({1: [3], 2: [1], 3: [2], 4: [3], 5: [4]})

    assert caught.value.data["cycle"] == [1, 2, 3]


@pytest.mark.parametrize("shape", ["wide", "deep"])
def test_ten_thousand_jobs_are_no_problem(shape: str) -> None:
    jobs = range(10_000)
    depends = {job: [job - 1] if shape == "deep" and job else ([0] if job else []) for job in jobs}

    graph = dag.build(depends)

    assert len(graph.levels) == (10_000 if shape == "deep" else 2)
    assert len(graph.edges) == 9_999
