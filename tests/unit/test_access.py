"""Which browsers may call."""

from __future__ import annotations

import pytest

from coordinator.rpc.access.origins import AccessPolicy


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9652", "localhost", "LOCALHOST:1", "[::1]:9652", "127.8.8.8", "app.localhost:80", None]
)
def test_on_loopback_its_own_names_are_accepted(host: str | None) -> None:
    assert AccessPolicy("127.0.0.1").refusal(None, host) is None


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:9652", "", "[::1", "localhost."])
def test_on_loopback_any_other_host_is_refused(host: str) -> None:
    assert AccessPolicy("127.0.0.1").refusal(None, host) is not None


def test_allowed_hosts_are_accepted_on_loopback() -> None:
    policy = AccessPolicy("::1", allowed_hosts=["Proxy.Example"])

    assert policy.refusal(None, "proxy.example:443") is None
    assert policy.refusal(None, "other.example:443") is not None


def test_elsewhere_the_host_is_not_checked() -> None:
    assert AccessPolicy("0.0.0.0").refusal(None, "coordinator.example") is None


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:3000", "https://127.0.0.1", ""])
def test_a_foreign_origin_is_refused(origin: str) -> None:
    assert AccessPolicy("127.0.0.1").refusal(origin, "127.0.0.1:9652") is not None


def test_the_servers_own_origin_is_accepted() -> None:
    assert AccessPolicy("0.0.0.0").refusal("http://coordinator.example:9652", "Coordinator.example:9652") is None


def test_allowed_origins_are_accepted_whatever_the_host() -> None:
    policy = AccessPolicy("0.0.0.0", allowed_origins=["https://app.example/"])

    assert policy.refusal("https://app.example", "coordinator.example") is None
    assert policy.refusal("https://app.example.evil", "coordinator.example") is not None
    assert AccessPolicy("0.0.0.0", allowed_origins=["*"]).refusal("null", "x") is None
