"""How many items are read in a step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.operations.pace import AT_FIRST, Pace


def test_it_begins_with_a_few() -> None:
    assert Pace(200, 1000).count == AT_FIRST
    assert Pace(1, 1000).count == 1


def test_small_items_double_the_step_up_to_the_most() -> None:
    pace = Pace(20, 1000)
    counts = []
    for _ in range(5):
        pace.read(pace.count, pace.count)
        counts.append(pace.count)

    assert counts == [6, 12, 20, 20, 20]


def test_large_items_are_read_one_at_a_time() -> None:
    pace = Pace(200, 1000)

    pace.read(3, 9000)

    assert pace.count == 1


def test_a_step_that_found_nothing_changes_nothing() -> None:
    pace = Pace(200, 1000)

    pace.read(0, 0)

    assert pace.count == AT_FIRST


@given(st.integers(1, 10_000), st.lists(st.integers(0, 5_000), min_size=1))
def test_a_step_is_no_larger_than_the_last_ones_items_suggest(step_bytes: int, sizes: list[int]) -> None:
    pace = Pace(200, step_bytes)
    for size in sizes:
        pace.read(pace.count, size * pace.count)

        assert pace.count == 1 or pace.count * size <= step_bytes
        assert 1 <= pace.count <= 200
