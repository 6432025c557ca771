"""How many connections fit under a limit of open files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.accepting import REFUSALS
from coordinator.server import descriptors
from coordinator.server.descriptors import DoesNotFit, fit, most_held
from coordinator.settings import Settings

EXTERNAL = {"redis_url": "redis://localhost"}


def sizes(settings: Settings) -> tuple[int, int, int]:
    return settings.workers, settings.max_connections, settings.store_connections


def fitted(settings: Settings, limit: int) -> Settings | DoesNotFit:
    try:
        return fit(settings, limit)
    except DoesNotFit as error:
        return error


def needs(settings: Settings) -> list[int]:
    """The descriptors each kind of process comes to need at most: a worker, the parent, the Valkey."""
    workers, clients, store = sizes(settings)
    has_valkey = settings.external_store() is None
    share = -(-clients // workers)
    serving = descriptors.RUNTIME + descriptors.STORE + store + 2 * (share + REFUSALS)
    valkey = [workers * (store + descriptors.STORE) + descriptors.VALKEY_OTHERS + descriptors.VALKEY_RESERVED]
    own = 3 + descriptors.LISTENERS + descriptors.EMBEDDED * has_valkey
    if workers == 1:
        return [serving + own, *valkey * has_valkey]
    parent = descriptors.RUNTIME + descriptors.STORE + own + descriptors.OF_WORKER * workers + descriptors.LEAST_HELD
    return [serving + descriptors.WORKER_STREAMS + descriptors.HANDOVERS, parent, *valkey * has_valkey]


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_under_a_high_limit_the_defaults_stay(workers: int) -> None:
    settings = Settings(workers=workers)

    assert fit(settings, 20_000) == settings


@pytest.mark.parametrize("workers", [1, 2])
def test_under_1024_the_defaults_are_reduced_to_what_fits(workers: int) -> None:
    settings = fit(Settings(workers=workers), 1024)

    assert settings.workers == workers
    assert 200 < settings.store_connections < 256
    assert settings.max_connections // workers > 350
    assert 1016 < max(needs(settings)) <= 1024


def test_the_store_keeps_its_share_under_100() -> None:
    settings = fit(Settings(workers=1), 100)

    assert settings.store_connections >= descriptors.LEAST_STORE
    assert settings.max_connections >= descriptors.LEAST_CLIENTS


@given(
    limit=st.integers(30, 12_000),
    workers=st.integers(1, 64),
    given_workers=st.booleans(),
    clients=st.none() | st.integers(1, 6000),
    store=st.none() | st.integers(1, 1000),
    where=st.sampled_from([{}, EXTERNAL]),
)
def test_what_it_returns_fits_and_what_was_given_stays(
    limit: int, workers: int, given_workers: bool, clients: int | None, store: int | None, where: dict[str, str]
) -> None:
    sized = {"max_connections": clients, "store_connections": store}
    chosen: dict[str, Any] = {name: value for name, value in sized.items() if value is not None}
    if given_workers:
        chosen["workers"] = workers
    settings = Settings(**chosen, **where)
    fitting = fitted(settings, limit)
    if isinstance(fitting, DoesNotFit):
        text = str(fitting)
        assert "\n" not in text
        assert str(limit) in text
        flag, _, _ = text.partition(":")
        if flag.startswith("--"):
            assert flag.removeprefix("--").replace("-", "_") in chosen
        else:
            assert limit < 100
        return

    assert max(needs(fitting)) <= limit
    for name, value in chosen.items():
        assert getattr(fitting, name) == value
    assert fitting.workers <= settings.workers
    assert fitting.store_connections <= settings.store_connections
    assert fitting.max_connections <= settings.max_connections


@pytest.mark.parametrize(
    ("setting", "value", "others"),
    [
        ("max_connections", 4096, {}),
        ("max_connections", 600, {"store_connections": 256}),
        ("store_connections", 2000, {}),
        ("store_connections", 2000, {"max_connections": 3}),
        ("store_connections", 500, {"workers": 2}),
        ("workers", 100, {}),
    ],
)
def test_a_value_given_that_does_not_fit_is_named_with_one_that_does(
    setting: str, value: int, others: dict[str, int]
) -> None:
    chosen = {"workers": 1, **others, setting: value}
    with pytest.raises(DoesNotFit) as refused:
        fit(Settings(**chosen), 1024)

    text = str(refused.value)
    flag = "--" + setting.replace("_", "-")
    assert text.startswith(f"{flag}: {value} does not fit under the limit of open files, which is 1024 (ulimit -n); ")
    most = int(text.split()[-3])
    assert 0 < most < value
    fitting = fit(Settings(**{**chosen, setting: most}), 1024)
    assert getattr(fitting, setting) == most
    with pytest.raises(DoesNotFit):
        fit(Settings(**{**chosen, setting: most + fitting.workers}), 1024)


def test_workers_by_default_are_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.settings.usable_cores", lambda: 500)
    settings = Settings().model_copy(update={"workers": 500})
    settings.model_fields_set.clear()

    fitting = fit(settings, 1024)

    assert 10 < fitting.workers < 500
    assert max(needs(fitting)) <= 1024


def test_a_limit_too_low_for_anything_is_named() -> None:
    with pytest.raises(DoesNotFit, match=r"limit of open files is 40 \(ulimit -n\); it takes at least \d\d to serve"):
        fit(Settings(workers=1), 40)


def test_inherited_descriptors_count() -> None:
    few, many = (fit(Settings(workers=1), 1024, open_files) for open_files in (3, 103))

    assert few.max_connections - many.max_connections in range(30, 51)


@pytest.mark.parametrize("limit", [100, 1024, 20_000])
def test_the_parent_holds_few(limit: int) -> None:
    assert descriptors.LEAST_HELD <= most_held(2, limit) <= 2 * descriptors.HANDOVERS
