"""Settings that would do something nobody meant are refused, and what is meant is understood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.settings import Settings

TEXTS = ("api_http_ip", "api_ws_ip", "redis_url", "redis_addr", "data_dir", "public_url")
TIMES = [name for name, field in Settings.model_fields.items() if field.annotation is float]
COUNTS = [name for name, field in Settings.model_fields.items() if field.annotation is int]


def fault(**given: Any) -> str:
    """What is said of a setting that cannot be, the first if there are several."""
    with pytest.raises(ValidationError) as caught:
        Settings(**given)
    return caught.value.errors()[0]["msg"]


def understood(**given: Any) -> Any:
    (name,) = given
    return getattr(Settings(**given), name)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("blank", ["", " ", "\t\n"])
def test_an_empty_text_is_none_of_them(name: str, blank: str) -> None:
    assert "is empty" in fault(**{name: blank})


@pytest.mark.parametrize("name", ["api_http_ip", "api_ws_ip"])
@pytest.mark.parametrize(
    "address",
    ["nowhere.invalid", "127.0.0.1:80", "http://127.0.0.1", " 127.0.0.1", "127.0.0.1 ", "*", "a" * 70, "[::1", "::1::",
     "fe80::1%nowhere", "256.0.0.1", "a b", "127.0.0.1,::1"],
)  # fmt: skip
def test_an_address_that_leads_nowhere_is_none(name: str, address: str) -> None:
    assert "neither an IP address nor a name" in fault(**{name: address})


@pytest.mark.parametrize(
    ("address", "read"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::", "::"), ("[::1]", "::1"), ("localhost", "localhost")],
)
def test_addresses_are_understood(address: str, read: str) -> None:
    settings = Settings(auth="none", api_http_ip=address, api_ws_ip=address)

    assert settings.api_http_ip == settings.api_ws_ip == read


@pytest.mark.parametrize("name", ["api_http_ip", "api_ws_ip"])
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1"])
def test_off_loopback_it_must_be_said_who_may_call(name: str, address: str) -> None:
    assert "--auth keys" in fault(**{name: address})
    assert "--tls-cert" in fault(**{name: address, "auth": "keys"})
    assert Settings(**{name: address, "auth": "keys", "behind_proxy": ("10.0.0.0/8",)}).has_logins
    assert not Settings(**{name: address, "auth": "none"}).has_logins


def test_with_an_external_store_the_operator_s_file_must_be_named(tmp_path: Path) -> None:
    assert "--operator-token-file" in fault(auth="keys", redis_addr="127.0.0.1:6379")
    file = tmp_path / "operator"
    assert Settings(auth="keys", redis_addr="127.0.0.1:6379", operator_token_file=file).operator_file == file


@pytest.mark.parametrize("network", ["10.0.0.0/33", "proxy", "10.0.0.1/8", ""])
def test_what_is_no_network_is_no_proxy(network: str) -> None:
    assert "is no network" in fault(behind_proxy=(network,))


@pytest.mark.parametrize(
    "address", ["host", "host:", ":6379", "host:0", "host:99999", "host:x", "host:1/3", "user@host:1", "::1:6379"]
)  # fmt: skip
def test_a_store_is_named_by_host_and_port(address: str) -> None:
    assert "no HOST:PORT" in fault(redis_addr=address)


@pytest.mark.parametrize("address", ["host:1", "127.0.0.1:6379", "[::1]:6379"])
def test_a_store_s_host_and_port_are_understood(address: str) -> None:
    assert understood(redis_addr=address) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("host:6379", "must specify one of the following schemes"),
        ("http://host", "must specify one of the following schemes"),
        ("redis+other://host", "must specify one of the following schemes"),
        ("redis://host:port", "Port could not be cast"),
        ("redis://host:99999", "Port out of range"),
        ("redis://host/zero", "number of a database"),
        ("redis://host/1/2", "number of a database"),
        ("redis://host/-1", "number of a database"),
        ("unix://", "socket's path"),
        ("redis+cluster://", "empty host"),
        ("redis+cluster://host:1,", "empty host"),
        ("redis+sentinel://host:1", "name of the master"),
        ("redis+sentinel://host:1/main/x", "is no number"),
    ],
)
def test_a_store_s_url_that_cannot_be_is_said(url: str, said: str) -> None:
    assert said in fault(redis_url=url, isolation="prefix")


@pytest.mark.parametrize("url", ["redis://h", "redis://h/", "redis://h/0", "redis://:p@h:1/0?db=0", "unix:///s/socket"])
def test_a_store_s_url_is_understood(url: str) -> None:
    assert understood(redis_url=url) == url


@pytest.mark.parametrize("url", ["wss://h", "h", "https://", "https://u@h", "https://h?x", "https://h#x",
                                 "https://h/a b", "https://h:x", "https://h:99999", "https://[::1]x"])  # fmt: skip
def test_a_public_url_leads_to_a_server(url: str) -> None:
    assert "is no http://HOST" in fault(public_url=url)


def test_a_public_url_has_no_slash_behind_it() -> None:
    assert understood(public_url="https://h:8443/hero/") == "https://h:8443/hero"


def test_the_home_directory_may_be_written_as_in_a_shell() -> None:
    assert understood(data_dir="~/hero") == Path.home() / "hero"
    assert "home directory" in fault(data_dir="~nobody-of-this-name/hero")


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("time", [float("inf"), float("nan"), 1e300, -1.0])
def test_a_time_has_an_end(name: str, time: float) -> None:
    assert fault(**{name: time})


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("count", [10**30, -1])
def test_a_count_can_be_counted(name: str, count: int) -> None:
    assert fault(**{name: count})


@pytest.mark.parametrize("name", ["allowed_origins", "allowed_hosts"])
def test_the_one_entry_that_cannot_be_is_named(name: str) -> None:
    assert "'a b'" in fault(**{name: ("*", "a b")})
    assert understood(**{name: ("*",)}) == ("*",)


def test_there_are_settings_of_each_kind() -> None:
    assert len(TIMES) > 5
    assert len(COUNTS) > 5
    assert set(TEXTS) <= Settings.model_fields.keys()
