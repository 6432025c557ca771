"""Store URLs with any password are understood, and no secret is in what we say of them."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coordinator import redaction
from coordinator.client.address import Address
from coordinator.redaction import redact, redact_values, remember, without_credentials
from coordinator.settings import Settings
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.faults import ReplyError
from coordinator.storage.sentinel import SentinelService
from coordinator.storage.url import has_password, topology_from_url

PATIENT = settings(deadline=None)
ODD = st.text(st.sampled_from("aZ9#@%/?:&=+[]\\'\" \tß€,"), min_size=1, max_size=12)
"""Passwords of what means something in a URL or in a text."""
RAW = ODD.filter(lambda text: "%" not in text)


@PATIENT
@given(ODD)
@example("a#b@c/d")
@example("%41")
@example("x@h:1/?db=3")
def test_a_quoted_password_is_understood_whatever_is_in_it(password: str) -> None:
    redaction._secrets.clear()
    found = topology_from_url(f"redis://hero:{quote(password, safe='')}@h:1/2")

    assert found == Endpoint("h", 1, username="hero", password=password, database=2)


@PATIENT
@given(RAW)
@example("pa#ss")
@example("a/b@c#d?e:f")
@example("#")
@example("1:2@3")
@example("@/")
@example("a?b@c/?d")
def test_a_password_may_stand_as_it_is(password: str) -> None:
    redaction._secrets.clear()
    plain = topology_from_url(f"redis://:{password}@h:1")
    with_options = topology_from_url(f"redis://hero:{password}@h:1/2?ssl_check_hostname=false")
    by_socket = topology_from_url(f"unix://:{password}@/run/a@b.socket?db=3")

    assert plain == Endpoint("h", 1, password=password)
    assert with_options == Endpoint("h", 1, username="hero", password=password, database=2)
    assert by_socket == Endpoint(path="/run/a@b.socket", password=password, database=3)


def test_options_may_have_an_at_sign() -> None:
    found = topology_from_url("redis+sentinel://:a@b@one,two/main?sentinel_username=u&sentinel_password=c@d#e")

    assert isinstance(found, SentinelService)
    assert found._server.password == "a@b"
    assert [watcher.password for watcher in found._sentinels] == ["c@d#e"] * 2


@PATIENT
@given(st.sampled_from(["sentinel_password=", "ssl_password=", "password="]), ODD)
def test_whether_there_is_a_secret_is_known(option: str, password: str) -> None:
    assert has_password(f"redis://:{password}@h:1")
    assert has_password(f"redis+sentinel://h/main?{option}{quote(password, safe='')}")
    assert not any(map(has_password, ("redis://h:1", "redis://hero@h:1", "unix:///a@b/c:d", "redis://h/0?db=1")))


@PATIENT
@given(
    st.sampled_from(
        [
            "redis://:{}@host:port", "redis://:{}@host:99999", "redis://:{}@h/zero", "http://u:{}@h", "redis://:{}",
            "redis+cluster://:{}@h:1,", "redis+cluster://:{}@h:x", "redis+sentinel://:{}@h:1", "unix://:{}@socket",
            "redis+sentinel://:{}@h/main/x", "redis://:{}@[::1", "rediss://:{}@h?ssl_ca_certs=/does/not/exist",
            "redis://:{}@h?db=x", "redis://h?password={}&db=x", "redis:/:{}@h", "redis://:{}@h:1@i:x",
        ]
    ),
    st.text("#@/?:[]&xyz", min_size=3, max_size=8).map(lambda text: f"se{text}same"),
    st.booleans(),
)  # fmt: skip
def test_what_is_said_of_a_url_that_cannot_be_has_no_secret(url: str, password: str, is_quoted: bool) -> None:
    redaction._secrets.clear()  # each example alone
    if "@" not in url:  # one in the password would make it another URL, with a host
        password, is_quoted = password.replace("@", ""), is_quoted or "?" in url
    is_quoted = is_quoted or "@/" in password  # what is behind that may be a socket's path
    with pytest.raises(ValidationError) as caught:
        Settings(redis_url=url.format(quote(password, safe="") if is_quoted else password), isolation="prefix")

    said = f"{caught.value} {[fault['msg'] for fault in caught.value.errors()]}"
    assert password not in said
    assert "same" not in said


@PATIENT
@given(st.sampled_from(["ws://me:{}@h:x", "ftp://me:{}@h", "ws://me:{}@h", "me:{}@h", "ws://:{}@"]), RAW)
def test_what_is_said_of_a_coordinator_s_url_has_no_secret(url: str, password: str) -> None:
    password = f"sesame{password.strip()}"
    with pytest.raises(ValueError, match=r".") as caught:
        Address.parse(url.format(password))

    assert password not in str(caught.value)


@PATIENT
@given(st.text(min_size=4, max_size=20), st.text(max_size=10), st.text(max_size=10))
def test_a_secret_is_hidden_however_it_is_quoted(secret: str, before: str, behind: str) -> None:
    redaction._secrets.clear()
    remember(secret)

    for text in (secret, repr(secret), json.dumps(secret), quote(secret), quote(secret, safe="")):
        assert text.strip("'\"") not in redact(f"{before}{text}{behind}") or len(text.strip("'\"")) < 4


def test_values_are_gone_through() -> None:
    remember("open sesame")

    assert redact_values({"a": [("open sesame!", 1)], "b": None}) == {"a": [["***!", 1]], "b": None}


def test_a_server_s_words_on_a_command_it_does_not_know_have_no_arguments() -> None:
    said = "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'pw' "

    assert str(ReplyError(said)) == "ERR unknown command 'HELLO'"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ws://u:p@h:1", "ws://***@h:1"),
        ("u:p@h", "***@h"),
        ("ws://h:1/a", "ws://h:1/a"),
        ("ws://a@b/c@d", "ws://***@d"),
    ],
)
def test_credentials_are_left_out(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def test_settings_do_not_show_it() -> None:
    shown = Settings(redis_url="redis://:sesame@h:1")

    assert "sesame" not in repr(shown) + str(shown)
