"""What a client may make us hold: who waits for room, and who gets it."""

from __future__ import annotations

import trio
import trio.testing

from coordinator.budget import Budget


def nobody() -> None:
    raise AssertionError("was granted later")


async def test_there_is_room_until_it_is_spent() -> None:
    budget = Budget(100)
    budget.take(99)
    with trio.fail_after(1):
        await budget.room()

    budget.take(1)

    assert budget.is_spent


async def test_who_waits_for_room_goes_on_once_enough_is_given_back() -> None:
    budget = Budget(100)
    budget.take(150)
    went_on = False

    async def wait() -> None:
        nonlocal went_on
        await budget.room()
        went_on = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        budget.give_back(50)
        await trio.testing.wait_all_tasks_blocked()
        assert not went_on

        budget.give_back(1)

    assert went_on


async def test_who_has_given_up_waiting_may_wait_again_and_with_others() -> None:
    budget = Budget(10)
    budget.take(11)
    with trio.move_on_after(0.01):
        await budget.room()
    async with trio.open_nursery() as waiting:
        waiting.start_soon(budget.room)
        waiting.start_soon(budget.room)
        await trio.testing.wait_all_tasks_blocked()
        budget.give_back(11)


def test_a_reservation_is_granted_at_once_if_there_is_room() -> None:
    budget = Budget(100)

    with budget.reserve(80, nobody) as reservation:
        assert reservation.is_granted
        assert budget.used == 80

    assert budget.used == 0


def test_reservations_are_granted_in_the_order_of_asking_as_far_as_there_is_room() -> None:
    budget = Budget(100)
    budget.take(100)
    granted: list[str] = []
    with budget.reserve(80, lambda: granted.append("first")), budget.reserve(80, lambda: granted.append("second")):
        with budget.reserve(80, lambda: granted.append("third")) as third:
            budget.give_back(100)

            assert granted == ["first", "second"]  # the second takes it past its limit
            assert not third.is_granted
            assert budget.used == 160

    assert budget.used == 0


def test_a_reservation_given_up_while_it_waits_is_passed_over() -> None:
    budget = Budget(100)
    budget.take(100)
    granted: list[str] = []
    with budget.reserve(10, lambda: granted.append("given up")):
        pass
    with budget.reserve(10, lambda: granted.append("waiting")):
        budget.give_back(1)

        assert granted == ["waiting"]
        assert budget.used == 109

    assert budget.used == 99


def test_who_asks_later_does_not_overtake_who_waits() -> None:
    budget = Budget(100)
    budget.take(100)
    with budget.reserve(10, lambda: None) as first:
        budget.used = 0  # as if there were room, and nobody had been told yet

        with budget.reserve(10, lambda: None) as second:
            assert not first.is_granted
            assert not second.is_granted
