"""Where contexts are: URLs read, slots followed, servers asked."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

import pytest
import trio

from coordinator.storage.cluster import Cluster, slot_of
from coordinator.storage.discovery import Finding, first_answer
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import StoreMisconfigured, StoreUnavailable
from coordinator.storage.keys import Layout
from coordinator.storage.sentinel import SentinelService
from coordinator.storage.url import topology_from_url

# -- URLs


def test_one_server_is_its_own_topology() -> None:
    assert topology_from_url("valkey://h:1/3") == Endpoint("h", 1, database=3)


def test_a_list_of_hosts_needs_no_leave_of_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(url: str) -> SplitResult:
        host = url.partition("//")[2].rpartition("@")[2]
        if "[" in host and ("," in host or not host.startswith("[")):
            raise ValueError("Invalid IPv6 URL")  # as newer Pythons, and Debian's, say
        return urlsplit(url)

    monkeypatch.setattr("coordinator.storage.url.urlsplit", strict)

    cluster = topology_from_url("redis+cluster://:p@one:7001,[::1]:7002")
    sentinel = topology_from_url("redis+sentinel://[::1]:1,two/main/3?sentinel_password=x#y")

    assert str(cluster) == "redis+cluster://one:7001,[::1]:7002"
    assert "[::1]:1,two:26379/main" in str(sentinel)


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    found = topology_from_url("redis+cluster://me:s%40y@one:7001,[::1]:7002,three")

    assert isinstance(found, Cluster)
    assert str(found) == "redis+cluster://one:7001,[::1]:7002,three:6379"
    assert found.database == 0
    assert [(seed.username, seed.password, seed.tls) for seed in found._seeds] == [("me", "s@y", None)] * 3


def test_sentinels_are_asked_with_their_own_password_for_servers_with_another() -> None:
    url = "valkey+sentinel://:s%40y@one,two:5000/my%20service/2?sentinel_username=u&sentinel_password=p%2Fq"

    found = topology_from_url(url)

    assert isinstance(found, SentinelService)
    assert str(found) == "redis+sentinel://one:26379,two:5000/my service"
    assert found.database == 2
    assert [(watcher.username, watcher.password) for watcher in found._sentinels] == [("u", "p/q")] * 2
    assert (found._server.username, found._server.password) == (None, "s@y")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
@pytest.mark.parametrize("kind", ["+cluster://h:1", "+sentinel://h:1/main"])
def test_tls_is_for_every_server(scheme: str, kind: str) -> None:
    found = topology_from_url(f"{scheme}{kind}?ssl_check_hostname=false")

    asked = found._seeds if isinstance(found, Cluster) else [*found._sentinels, found._server]  # type: ignore[attr-defined]
    assert all(server.tls is not None and not server.tls.check_hostname for server in asked)
    assert str(found).startswith("rediss+")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis+sentinel://h:1", "needs the name of the master"),
        ("redis+sentinel://h:1/main/two", "'two'"),
        ("redis+cluster://h:1,,i:2", "empty host"),
        ("redis+cluster://h:x", "."),
        ("http+cluster://h:1", "scheme"),
        ("redis+ring://h:1", "scheme"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        topology_from_url(url)


# -- slots


def test_a_slot_is_that_of_the_specifications_example() -> None:
    assert slot_of(123456789) == 0x31C3


def test_on_a_cluster_each_call_names_a_key_that_never_exists() -> None:
    here, spread = (Layout("prefix", is_spread=is_spread).keyspace(7) for is_spread in (False, True))

    assert here.call("f", here.flow(1), 5) == ("FCALL", "f", 1, "{7}:flow:1", 5)
    assert spread.call("f", spread.flow(1), 5) == ("FCALL", "f", 2, "{7}:flow:1", "{7}:absent", 5)
    assert spread.transition("f")[:5] == ("FCALL", "f", 2, "{7}:engine", "{7}:absent")


async def test_moved_is_followed_at_once_and_only_where_it_leads() -> None:
    cluster = Cluster([Endpoint("seed", 1, password="p")])

    cluster.invalidate(7, f"MOVED {slot_of(7)} ::1:7005")

    assert await cluster.where(7) == Endpoint("::1", 7005, password="p")


# -- asking


async def test_what_is_doubted_is_looked_for_once_for_all(autojump: None) -> None:
    searches = 0

    async def search() -> int:
        nonlocal searches
        searches += 1
        await trio.sleep(1)
        return searches

    finding = Finding(search)
    found: list[int] = []

    async def get() -> None:
        found.append(await finding.get())

    for expected in (1, 2):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(get)
                await trio.sleep(0.1)  # the later ones while it is being looked for
        assert found == [expected] * 5
        assert await finding.get() == expected
        found.clear()
        finding.invalidate()


async def test_a_doubt_that_comes_during_a_search_has_it_searched_again(autojump: None) -> None:
    searches = 0

    async def search() -> int:
        nonlocal searches
        searches += 1
        number = searches
        await trio.sleep(1)
        return number

    finding = Finding(search)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(finding.get)
        await trio.sleep(0.5)
        finding.invalidate()

        assert await finding.get() == 2


async def test_a_search_that_is_cancelled_or_fails_leaves_the_next_to_search(
    autojump: None,
) -> None:
    outcomes: list[StoreUnavailable | float] = [3.0, StoreUnavailable("nobody"), 0.0]

    async def search() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, StoreUnavailable):
            raise outcome
        await trio.sleep(outcome)
        return "found"

    finding = Finding(search)
    with trio.move_on_after(1):
        await finding.get()
    with pytest.raises(StoreUnavailable, match="nobody"):
        await finding.get()

    assert await finding.get() == "found"


async def test_a_silent_server_does_not_hold_up_the_next(autojump: None) -> None:
    async def ask(endpoint: Endpoint) -> str:
        if endpoint.host == "silent":
            await trio.sleep_forever()
        if endpoint.host == "wrong":
            raise StoreMisconfigured("wrong password")
        return endpoint.host

    servers = [Endpoint("silent"), Endpoint("wrong"), Endpoint("fine"), Endpoint("late")]
    assert await first_answer(servers, ask) == "fine"
    assert trio.current_time() < 1
    with pytest.raises(StoreUnavailable, match="silent"):
        await first_answer(servers[:2], ask)
    with pytest.raises(StoreMisconfigured):
        await first_answer(servers[1:2], ask)
