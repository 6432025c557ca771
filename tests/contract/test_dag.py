"""The DAG of a flow, of every shape; and what is wrong with jobs that have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.support.clients import Client
from tests.support.contract import reference
from tests.support.records import CALLER, create, dag, sample

FLOW = 5
Graph = Mapping[int, Sequence[int]]
"""Each job's dependencies."""


def prepare(client: Client, context: int, depends: Graph, jobs: Sequence[int] | None = None) -> None:
    """A flow of these jobs, in this order if given."""
    records = [sample("job", context, id, depends=list(ids)) for id, ids in depends.items()]
    flow = sample("flow", context, FLOW, jobs=list(depends) if jobs is None else list(jobs))
    client.results([*(create("job", context, record) for record in records), create("flow", context, flow)])


def test_of_a_diamond(client: Client, context: int) -> None:
    prepare(client, context, {10: [], 20: [10], 30: [10], 40: [30, 20]})

    graph = client.result(*dag(context, FLOW))

    summary = {"prerequisites": ["disk"], "script_type": "Python"}
    assert graph == {
        "flow_id": FLOW,
        "caller_id": CALLER,
        "context_id": context,
        "nodes": {
            "10": {"id": 10, "depends": [], **summary},
            "20": {"id": 20, "depends": [10], **summary},
            "30": {"id": 30, "depends": [10], **summary},
            "40": {"id": 40, "depends": [30, 20], **summary},
        },
        "edges": [[10, 20], [10, 30], [20, 40], [30, 40]],
        "reverse_edges": [[20, 10], [30, 10], [40, 20], [40, 30]],
        "roots": [10],
        "leaves": [40],
        "levels": [[10], [20, 30], [40]],
    }
    reference().check_result("flow.dag", graph)


def test_of_no_jobs(client: Client, context: int) -> None:
    prepare(client, context, {})

    graph = client.result(*dag(context, FLOW))

    lists = ("edges", "reverse_edges", "roots", "leaves", "levels")
    assert {name: graph[name] for name in ("nodes", *lists)} == {"nodes": {}, **{name: [] for name in lists}}


def test_a_level_is_the_longest_path_from_a_root(client: Client, context: int) -> None:
    prepare(client, context, {1: [], 2: [1], 3: [2], 4: [1, 3], 5: [], 6: [5, 4]})

    assert client.result(*dag(context, FLOW))["levels"] == [[1, 5], [2], [3], [4], [6]]


def test_jobs_without_dependencies_are_roots_and_leaves_at_once(client: Client, context: int) -> None:
    prepare(client, context, {2: [], 1: [], 3: []})

    graph = client.result(*dag(context, FLOW))

    assert (graph["roots"], graph["leaves"], graph["levels"]) == ([1, 2, 3], [1, 2, 3], [[1, 2, 3]])


def test_duplicates_count_once(client: Client, context: int) -> None:
    prepare(client, context, {1: [], 2: [1, 1, 1]}, jobs=[2, 1, 2, 1])

    graph = client.result(*dag(context, FLOW))

    assert (graph["edges"], graph["reverse_edges"]) == ([[1, 2]], [[2, 1]])
    assert (graph["roots"], graph["leaves"], graph["levels"]) == ([1], [2], [[1], [2]])
    assert [*graph["nodes"]] == ["1", "2"]


def test_numbers_are_in_order_of_number(client: Client, context: int) -> None:
    prepare(client, context, {100: [8], 20: [9], 9: [], 8: []})

    graph = client.result(*dag(context, FLOW))

    assert (graph["edges"], graph["reverse_edges"]) == ([[8, 100], [9, 20]], [[20, 9], [100, 8]])
    assert (graph["roots"], graph["leaves"], graph["levels"]) == ([8, 9], [20, 100], [[8, 9], [20, 100]])


def test_it_is_of_the_flow_and_jobs_as_they_are_now(client: Client, context: int) -> None:
    prepare(client, context, {1: [], 2: [1]})
    prepare(client, context, {1: [3], 3: []})

    assert client.result(*dag(context, FLOW))["edges"] == [[3, 1]]


def test_jobs_are_the_callers_own(client: Client, context: int) -> None:
    prepare(client, context, {1: []})
    client.result(*create("job", context, sample("job", context, 1, caller_id=8, script_type="V")))

    assert client.result(*dag(context, FLOW))["nodes"]["1"]["script_type"] == "Python"


def test_a_dependency_outside_the_flow_is_named_with_the_job_that_has_it(client: Client, context: int) -> None:
    prepare(client, context, {1: [], 2: [1], 3: [2]}, jobs=[1, 3])

    error = client.error(*dag(context, FLOW))

    assert error["code"] == -32020
    assert (error["data"]["job"], error["data"]["missing"]) == (3, 2)


def test_a_dependency_that_does_not_exist_is_named_with_the_job_that_has_it(client: Client, context: int) -> None:
    prepare(client, context, {1: [404]})

    error = client.error(*dag(context, FLOW))

    assert error["code"] == -32020
    assert (error["data"]["job"], error["data"]["missing"]) == (1, 404)


@pytest.mark.parametrize(
    "depends",
    [
        {1: [1]},
        {1: [2], 2: [1]},
        {1: [], 2: [1, 4], 3: [2], 4: [3], 5: [4]},
        {1: [2], 2: [3], 3: [4], 4: [3]},
        {1: [2], 2: [1], 3: [4], 4: [5], 5: [3]},
        {9: [8], 8: [7], 7: [9, 1], 1: []},
        {id: [id % 700 + 1] for id in range(1, 701)},
    ],
    ids=["itself", "two", "with a head and a tail", "with a tail first", "two cycles", "descending", "all of 700"],
)
def test_jobs_that_wait_for_each_other_are_named_in_the_order_they_wait(
    client: Client, context: int, depends: dict[int, list[int]]
) -> None:
    prepare(client, context, depends)

    error = client.error(*dag(context, FLOW))

    cycle: list[Any] = error["data"]["cycle"]
    assert error["code"] == -32021
    assert len(set(cycle)) == len(cycle) > 0
    for dependency, dependent in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
        assert dependency in depends[dependent]


def test_a_cycle_of_jobs_outside_the_flow_is_no_matter(client: Client, context: int) -> None:
    prepare(client, context, {1: [], 2: [3], 3: [2]}, jobs=[1])

    assert client.result(*dag(context, FLOW))["levels"] == [[1]]
