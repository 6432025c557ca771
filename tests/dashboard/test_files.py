"""What a browser gets of the dashboard, before anything of it runs."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from coordinator import dashboard
from coordinator.rpc.http.decisions import Answer, Call, Request, ShowPage
from tests.support.http import answers

STATIC: Final = Path(dashboard.__file__).parent / "static"
BROWSER: Final = b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
ROOM: Final = 120 * 1024  # bytes of all that a browser loads, by gzip


asked: Final = cache(answers)


def get(path: str, method: bytes = b"GET", **headers: bytes) -> Any:
    """What is decided on a request."""
    given = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return asked().decide(Request(method, path.encode(), {b"host": b"localhost", **given}))


def shown(path: str, method: bytes = b"GET", **headers: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    answer = get(path, method, **headers)
    assert isinstance(answer, Answer), answer
    return answer.status, dict(answer.headers), answer.body


def assets() -> list[Path]:
    return [path for path in (STATIC / "assets").iterdir() if path.suffix != ".gz"]


def test_a_browser_gets_the_page_and_a_program_what_it_got_before() -> None:
    status, headers, body = shown("/", accept=BROWSER)

    assert (status, headers[b"content-type"]) == (200, b"text/html; charset=utf-8")
    assert body == (STATIC / "index.html").read_bytes()
    for accepted in (b"*/*", b"application/json", b"text/html;q=0, */*", b"text/htmlx", b""):
        assert isinstance(get("/", accept=accepted), ShowPage)
    assert isinstance(get("/", b"POST", accept=BROWSER, content_type=b"application/json"), Call)
    assert isinstance(get("/healthz", accept=BROWSER), ShowPage)


def test_the_page_names_all_its_parts_and_each_is_there_forever() -> None:
    page = (STATIC / "index.html").read_text()
    named = re.findall(r'(?:href|src)="([^"]+)"', page)

    assert sorted(named) == sorted(f"assets/{path.name}" for path in assets())
    for name in named:
        status, headers, body = shown(f"/{name}")
        assert (status, body) == (200, (STATIC / name).read_bytes())
        assert b"immutable" in headers[b"cache-control"]
        assert headers[b"x-content-type-options"] == b"nosniff"
    assert shown("/", accept=BROWSER)[1][b"cache-control"] == b"no-cache"
    assert {headers[b"content-type"] for _, headers, _ in (shown(f"/{name}") for name in named)} == {
        *(b"text/javascript; charset=utf-8", b"text/css; charset=utf-8", b"image/svg+xml")
    }


@pytest.mark.parametrize("accepted", [b"gzip", b"deflate, gzip;q=0.5, br", b"GZIP"])
def test_who_takes_gzip_gets_what_was_compressed_before(accepted: bytes) -> None:
    for path in ("/", *(f"/assets/{asset.name}" for asset in assets())):
        _, plain, body = shown(path, accept=BROWSER)
        _, headers, compressed = shown(path, accept=BROWSER, accept_encoding=accepted)
        assert headers[b"content-encoding"] == b"gzip"
        assert gzip.decompress(compressed) == body
        assert headers[b"etag"] != plain[b"etag"]
        assert b"accept-encoding" in headers[b"vary"]
        assert shown(path, accept=BROWSER, accept_encoding=b"gzip;q=0.0")[2] == body


def test_what_the_browser_has_is_not_sent_again() -> None:
    for path in ("/", f"/assets/{assets()[0].name}", "/dashboard.json"):
        etag = shown(path, accept=BROWSER)[1][b"etag"]
        for shown_again in (etag, b'"another", W/' + etag):
            status, headers, body = shown(path, accept=BROWSER, if_none_match=shown_again)
            assert (status, body, headers[b"etag"]) == (304, b"", etag)
        assert shown(path, accept=BROWSER, if_none_match=b'"another"')[0] == 200
        assert shown(path, accept=BROWSER, if_none_match=etag, accept_encoding=b"gzip")[0] == 200


def test_the_policy_lets_the_page_load_its_own_parts_and_nothing_else() -> None:
    _, headers, body = shown("/", accept=BROWSER)
    policy = dict(part.partition(" ")[::2] for part in headers[b"content-security-policy"].decode().split("; "))

    assert policy["default-src"] == "'none'"
    assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
    assert {policy[name] for name in ("frame-ancestors", "base-uri", "form-action")} == {"'none'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.search(rb"<style|style=|\son\w+=|<script(?! type=\"module\" src=)", body)


def test_it_fits_in_120_kib_and_names_no_other_host() -> None:
    compressed = [gzip.compress(path.read_bytes(), 9) for path in (*assets(), STATIC / "index.html")]

    assert sum(map(len, compressed)) <= ROOM
    for path in assets():
        body = path.read_text()
        packed = gzip.decompress((path.parent / f"{path.name}.gz").read_bytes())
        assert packed == path.read_bytes()
        hosts = {match[1] for match in re.finditer(r"\b(?:https?|wss?)://([\w.-]+)", body)}
        assert hosts <= {"www.w3.org"}, "the names of SVG and MathML, which nobody loads"
        assert not re.search(r"\beval\(|new Function\(|\.outerHTML|insertAdjacentHTML|document\.write", body)


def test_what_else_is_asked_for_there_is_not_there() -> None:
    for path in ("/assets/", "/assets/../index.html", "/assets/app.js", "/index.html", "/static/index.html"):
        assert get(path, accept=BROWSER).status == 404
    assert get("/dashboard.json", b"POST").status == 404
