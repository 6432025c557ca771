"""Which browsers may call."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.hosts import Host, Origin, is_loopback, read_host, read_origin
from coordinator.rpc.access.origins import AccessPolicy, joined

unhurried = settings(deadline=None)

LOOPBACK = ["127.0.0.1", "::1", "127.0.0.2", "::ffff:127.0.0.1", "localhost"]


@pytest.mark.parametrize("bound_to", LOOPBACK)
@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:9652", "localhost", "LOCALHOST:1", "[::1]:9652", "127.8.8.8", "app.localhost:80", None,
     "localhost.", "localhost.:9652", "LocalHost.", "app.localhost.", "127.0.0.1.", "localhost:", "[::1]:",
     "[::ffff:127.0.0.1]", "[::FFFF:127.0.0.1]:9652", "[::ffff:7f00:1]", "[0:0:0:0:0:0:0:1]", "[::0001]",
     "0.0.0.0", "0.0.0.0:9652", "[::]", "[::]:9652", "[::ffff:0.0.0.0]", "0",
     "127.1", "127.1:9652", "127.0.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1",
     "[::1%lo]", "[::1%25lo]:9652"],
)  # fmt: skip
def test_on_loopback_its_own_names_are_accepted(bound_to: str, host: str | None) -> None:
    assert AccessPolicy(bound_to).refusal(None, host) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "10.0.0.1:9652", "", "[::1", "::1", "::1]", "localhost..", ".localhost",
     "localhost.evil.example", "evil.localhost.example", "xlocalhost", "localhost-", "evil.example.",
     "localhost@evil.example", "evil.example@localhost", "user:password@127.0.0.1", "@localhost", "localhost:80@evil",
     "localhost/evil", "localhost/@evil.example", "localhost?evil", "localhost#evil", "evil.example#@localhost",
     "evil.example\\@localhost", "localhost\\evil", "localhost evil", " localhost", "localhost ", "localhost\t",
     "localhost,evil.example", "localhost, evil.example", "evil.example, localhost", "localhost;evil",
     "localhost:evil", "localhost:80:80", "localhost:-1", "localhost:65536", "localhost:999999", "localhost:\u0661",
     "127.0.0.1:9652, 127.0.0.1:9652", "localhost%00", "localhost\0", "%6cocalhost", "local\u212ahost",
     "128.0.0.1", "127.0.0.256", "127.0.0.1.1", "2130706432.1", "1.1", "4294967296", "0x", "08.1", "0.0.0.1", "1",
     "[::2]", "[::1]evil", "[::1]]", "[[::1]]", "[127.0.0.1]", "[localhost]", "[::ffff:10.0.0.1]", "[fe80::1%lo]",
     "[::1%]", "[::1%lo/evil]", "[::1/evil]", "[::127.0.0.1]", "[]", ":9652", ".", "[::1].evil.example"],
)  # fmt: skip
def test_on_loopback_any_other_host_is_refused(host: str) -> None:
    assert AccessPolicy("127.0.0.1").refusal(None, host) is not None


def test_allowed_hosts_are_accepted_on_loopback() -> None:
    policy = AccessPolicy("::1", allowed_hosts=["Proxy.Example", "10.0.0.7", "fd00::7", "[FD00:0::8]"])

    for host in ("proxy.example:443", "PROXY.example.", "10.0.0.7:1", "[fd00::7]:80", "[fd00::0008]", "localhost"):
        assert policy.refusal(None, host) is None
    for host in ("other.example:443", "x.proxy.example", "10.0.0.8", "[fd00::9]"):
        assert policy.refusal(None, host) is not None


@pytest.mark.parametrize("bound_to", ["0.0.0.0", "::", "10.0.0.1", "fd00::1", "192.0.2.1"])
def test_elsewhere_addresses_and_known_names_are_accepted_and_no_other(bound_to: str) -> None:
    policy = AccessPolicy(bound_to, own_names=["Coordinator.example"], allowed_hosts=["proxy.example"])

    for host in (
        "coordinator.example:1",
        "PROXY.example.",
        "10.0.0.7:9652",
        "[fd00::7]",
        "localhost",
        "127.0.0.1",
        None,
    ):
        assert policy.refusal(None, host) is None
    for host in ("evil.example", "10.0.0.7.evil.example", "x.coordinator.example", "", "proxy.example@evil.example"):
        refusal = policy.refusal(None, host)
        assert refusal is not None
        assert "--allowed-hosts" in refusal
    assert AccessPolicy(bound_to, allowed_hosts=["*"]).refusal(None, "evil.example") is None


PUBLIC = "https://hero.example:8443/base"


@pytest.mark.parametrize("bound_to", ["127.0.0.1", "::1", "10.0.0.1"])
@pytest.mark.parametrize("host", ["hero.example:8443", "Hero.Example", "127.0.0.1:9652", None])
def test_pages_of_the_public_url_are_our_own_whatever_host_the_proxy_sends(bound_to: str, host: str | None) -> None:
    policy = AccessPolicy(bound_to, public_url=PUBLIC)

    for origin in (None, "https://hero.example:8443", "wss://HERO.example:8443"):
        assert policy.refusal(origin, host) is None
    assert policy.is_own_page("https://hero.example:8443", host)
    assert policy.is_secure
    for origin in ("http://hero.example:8443", "https://hero.example:9443", "https://evil.example:8443", "null"):
        assert not policy.is_own_page(origin, host)
    assert policy.refusal("https://evil.example:8443", host) is not None
    assert policy.refusal("https://hero.example:9443", host) is not None


@pytest.mark.parametrize("bound_to", ["127.0.0.1", "10.0.0.1"])
def test_a_public_url_opens_no_other_host(bound_to: str) -> None:
    policy = AccessPolicy(bound_to, public_url=PUBLIC)

    for host in ("evil.example", "x.hero.example", "hero.example.evil.example"):
        assert policy.refusal(None, host) is not None


def test_own_names_open_nothing_on_loopback() -> None:
    assert AccessPolicy("127.0.0.1", own_names=["coordinator.example"]).refusal(None, "coordinator.example") is not None


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1:3000", "https://127.0.0.1", "", "http://127.0.0.1",
     "ws://127.0.0.1", "ftp://127.0.0.1:9652", "127.0.0.1:9652", "//127.0.0.1:9652", "http:127.0.0.1:9652",
     "http://127.0.0.1:9652/", "http://127.0.0.1:9652/path", "http://127.0.0.1:9652?", "http://127.0.0.1:9652#",
     "http://evil@127.0.0.1:9652", "http://127.0.0.1:9652@evil.example", "http://127.0.0.1:9652.evil.example",
     "http://127.0.0.1:9652 http://evil.example", "http://127.0.0.1:9652, http://127.0.0.1:9652",
     "http://127.0.0.1:96520", "http://127.0.0.1:9652\n", "http://localhost:9652", "http://[::ffff:127.0.0.1]:9652",
     "file://", "file:///", "NULL"],
)  # fmt: skip
def test_a_foreign_origin_is_refused(origin: str) -> None:
    assert AccessPolicy("127.0.0.1").refusal(origin, "127.0.0.1:9652") is not None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://coordinator.example:9652", "Coordinator.example:9652"),
        ("HTTP://COORDINATOR.EXAMPLE:9652", "coordinator.example:9652"),
        ("https://coordinator.example:9652", "coordinator.example:9652"),
        ("ws://coordinator.example:9652", "coordinator.example:9652"),
        ("wss://coordinator.example:9652", "coordinator.example:9652"),
        ("http://h:80", "h"),
        ("http://h", "h:80"),
        ("ws://h:80", "h"),
        ("ws://h", "h:80"),
        ("https://h:443", "h"),
        ("https://h", "h:443"),
        ("wss://h", "h:443"),
        ("http://h", "h:"),
        ("http://h.:9652", "h:9652"),
        ("http://[::1]:9652", "[0:0:0:0:0:0:0:1]:9652"),
        ("http://[FD00::A]", "[fd00::a]:80"),
        ("http://127.0.0.1:9652", "127.1:9652"),
        ("http://0.0.0.0:9652", "0.0.0.0:9652"),
    ],
)
@pytest.mark.parametrize("bound_to", ["0.0.0.0", "::"])
def test_the_servers_own_origin_is_accepted(bound_to: str, origin: str, host: str) -> None:
    assert AccessPolicy(bound_to, allowed_hosts=["*"]).refusal(origin, host) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://h", "h:443"),
        ("https://h", "h:80"),
        ("http://h:443", "h"),
        ("https://h:80", "h"),
        ("http://h", "h:9652"),
        ("http://h:9652", "h"),
        ("http://h", None),
        ("http://h", ""),
        ("http://h", "h@h"),
        ("app://h", "h"),
        ("chrome-extension://h", "h"),
        ("http://x.h", "h"),
        ("http://h", "x.h"),
    ],
)
def test_an_origin_that_only_looks_like_the_servers_own_is_foreign(origin: str, host: str | None) -> None:
    assert AccessPolicy("0.0.0.0", allowed_hosts=["*"]).refusal(origin, host) is not None


def test_allowed_origins_are_accepted_whatever_the_host() -> None:
    policy = AccessPolicy(
        "0.0.0.0", allowed_hosts=["*"], allowed_origins=["https://app.example/", "http://[::1]:3000", "app://hero"]
    )

    for origin in (
        *("https://app.example", "HTTPS://APP.EXAMPLE", "https://app.example:443", "wss://app.example"),
        *("http://[0::1]:3000", "app://hero"),
    ):
        assert policy.refusal(origin, "coordinator.example") is None
        assert policy.is_allowed(origin)
    for origin in ("https://app.example.evil", "http://app.example", "https://app.example:444", "null", "app://other"):
        assert policy.refusal(origin, "coordinator.example") is not None
        assert not policy.is_allowed(origin)


def test_null_is_allowed_only_where_it_is_listed() -> None:
    assert AccessPolicy("0.0.0.0", allowed_hosts=["*"], allowed_origins=["*"]).refusal("null", "x") is None
    assert AccessPolicy("0.0.0.0", allowed_hosts=["*"], allowed_origins=["null"]).refusal("null", "x") is None
    assert (
        AccessPolicy("0.0.0.0", allowed_hosts=["*"], allowed_origins=["null"]).refusal("http://null", "x") is not None
    )
    assert (
        AccessPolicy("0.0.0.0", allowed_hosts=["*"], allowed_origins=["http://null"]).refusal("null", "x") is not None
    )


@pytest.mark.parametrize("own", ["http://h:9652", "null", "http://a.example"])
def test_several_origins_are_none(own: str) -> None:
    policy = AccessPolicy("0.0.0.0", allowed_hosts=["*"], allowed_origins=["null", "http://a.example"])

    assert policy.refusal(joined([own]), "h:9652") is None
    for several in ([own, own], [own, "http://evil.example"], ["http://evil.example", own]):
        assert policy.refusal(joined(several), "h:9652") is not None


def test_several_hosts_are_none() -> None:
    assert AccessPolicy("127.0.0.1").refusal(None, joined(["localhost", "localhost"])) is not None
    assert AccessPolicy("127.0.0.1").refusal(None, joined([])) is None


@pytest.mark.parametrize(
    "entry",
    ["app.example", "localhost:3000", "https://app.example/path", "https://app.example?", "https://user@app.example",
     "https://", "https:app.example", "https://*.example", "https://app.example:port", "https://app.example:70000",
     "https://a.example https://b.example", "", "none", "Null", "**", "https://[::1", "https://app.example//"],
)  # fmt: skip
def test_an_entry_that_can_be_no_origin_is_said(entry: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        AccessPolicy("127.0.0.1", allowed_origins=[entry])


@pytest.mark.parametrize(
    "entry",
    ["http://proxy.example", "proxy.example:443", "proxy.example/", "*.example", "", "a b", "user@proxy.example",
     "[::1", "[::1]:80", "fd00::1::2", "..", "**"],
)  # fmt: skip
def test_an_entry_that_can_be_no_host_is_said(entry: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        AccessPolicy("127.0.0.1", allowed_hosts=[entry])


@pytest.mark.slow
@unhurried
@given(st.text(), st.text())
def test_no_header_raises(origin: str, host: str) -> None:
    AccessPolicy("127.0.0.1").refusal(origin, host)


@unhurried
@given(st.text(st.sampled_from("localhst.@:/\\#?[]%1270 ,"), max_size=20))
def test_whatever_is_read_as_loopback_is_written_as_loopback(text: str) -> None:
    # Nothing that another reader of URLs might see as a user, a path or a second host.
    host = read_host(text)

    if host is not None and is_loopback(host.name):
        assert not set(text) & set("@/\\#? ,")


def test_hosts_and_origins_have_one_spelling() -> None:
    assert read_host("[FE80:0::1%eth0]:80") == Host("fe80::1", 80)
    assert read_host("EXAMPLE.com.") == Host("example.com", None)
    assert read_origin("WSS://Example.com") == Origin("https", "example.com", 443)
    assert read_origin("app://x") == Origin("app", "x", None)


def test_new_rules_take_the_place_of_the_old_ones_but_not_of_its_own_names() -> None:
    policy = AccessPolicy(
        "0.0.0.0",
        allowed_origins=["https://before.example"],
        allowed_hosts=["before.example"],
        own_names=["coordinator.example"],
    )

    policy.allow(["https://after.example"], ["after.example"])

    assert policy.refusal(None, "before.example") is not None
    assert policy.refusal("https://before.example", "after.example") is not None
    assert policy.refusal("https://after.example", "after.example") is None
    assert policy.refusal(None, "coordinator.example") is None
    policy.allow([], ["*"])
    assert policy.refusal(None, "before.example") is None
