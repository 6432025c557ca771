"""Who may have how many of the places for calls that wait."""

from __future__ import annotations

import pytest

from coordinator.budget import Budget
from coordinator.engine.places import FEW, Place, Places
from coordinator.errors import Overloaded


def client(host: str = "192.0.2.1") -> Budget:
    return Budget(1000, lambda: host)


def fill(places: Places, client: Budget, runners: list[int]) -> tuple[list[Place], Overloaded | None]:
    taken = []
    for runner in runners:
        try:
            taken.append(places.take(client, 1, runner))
        except Overloaded as error:
            return taken, error
    return taken, None


def test_a_connection_may_have_an_eighth_of_them() -> None:
    places = Places(800)
    greedy = client()

    taken, error = fill(places, greedy, [*range(800)])

    assert len(taken) == 100
    assert error is not None
    assert (error.data["limit"], error.data["setting"]) == (100, "max_subscriptions")
    assert "this connection" in error.data["detail"]
    assert fill(places, client(), [1000])[1] is None
    taken[0].give_back()
    assert fill(places, greedy, [1001])[1] is None


def test_a_runner_may_have_an_eighth_in_its_context() -> None:
    places = Places(800)
    for _ in range(100):
        places.take(client(), 1, 3)

    with pytest.raises(Overloaded, match="runner 3"):
        places.take(client(), 1, 3)

    places.take(client(), 1, 4)
    places.take(client(), 2, 3)


def test_the_clients_at_one_address_may_have_half() -> None:
    places = Places(800)
    for at in range(400):
        places.take(client(), 1, at)

    with pytest.raises(Overloaded, match=r"from 192\.0\.2\.1"):
        places.take(client(), 1, 1000)

    places.take(client("2001:db8::1"), 1, 1000)


def test_clients_nobody_knows_the_address_of_are_not_one() -> None:
    places = Places(800)
    for at in range(800):
        places.take(client(""), at // FEW, at)

    with pytest.raises(Overloaded) as caught:
        places.take(client(""), 1000, 1000)
    assert caught.value.data["limit"] == 800


@pytest.mark.parametrize("limit", [1, 2, 7, FEW])
def test_of_a_few_one_may_have_all(limit: int) -> None:
    places = Places(limit)
    alone = client()

    taken, error = fill(places, alone, [3] * (limit + 1))

    assert len(taken) == limit
    assert error is not None
    for place in taken:
        place.give_back()
    assert (places.taken, alone.places) == (0, 0)
    assert fill(places, alone, [3] * limit)[1] is None


def test_who_waits_in_one_context_leaves_places_for_others_at_its_address() -> None:
    places = Places(800)
    taken = [fill(places, client(), [runner])[1] is None for runner in range(500)]
    assert sum(taken) == 400

    for _ in range(FEW):
        places.take(client(), 2, 1)
    with pytest.raises(Overloaded, match=r"400 calls from 192\.0\.2\.1"):
        places.take(client(), 2, 2)
    of_many_contexts = [places.take(client(), context, 1) for context in range(3, 203 - FEW)]
    with pytest.raises(Overloaded, match=r"600 calls from 192\.0\.2\.1"):
        places.take(client(), 300, 1)

    of_many_contexts[0].give_back()
    places.take(client(), 300, 1)


def test_who_waits_in_one_context_at_many_addresses_leaves_places_for_others() -> None:
    places = Places(800)
    for at in range(700):
        places.take(client(f"198.51.100.{at % 4}"), 1, at)

    with pytest.raises(Overloaded, match="700 calls wait"):
        places.take(client("198.51.100.9"), 1, 1000)

    for context in range(2, 102):
        places.take(client(f"203.0.113.{context}"), context, 1)
    with pytest.raises(Overloaded, match="800 calls wait"):
        places.take(client("203.0.113.1"), 200, 1)
