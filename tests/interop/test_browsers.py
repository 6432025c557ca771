"""What a browser asks before a page of another origin may post, and sends when it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import httpx
import pytest

from tests.interop.posting import CALL, answered
from tests.support.clients import JSON, plain_http
from tests.support.server import CoordinatorProcess, coordinator

PAGE_ORIGIN: Final = "https://dashboard.example"


@pytest.fixture(scope="module")
def for_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoordinatorProcess]:
    """One that the pages of an origin may call."""
    data = str(tmp_path_factory.mktemp("data"))
    with coordinator("--data-dir", data, "--allowed-origins", PAGE_ORIGIN) as running:
        yield running


def preflight(server: CoordinatorProcess, **more: str) -> httpx.Response:
    """What a browser asks before a page of another origin may post JSON."""
    headers = {
        "origin": PAGE_ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
        "sec-fetch-mode": "cors",
        "sec-fetch-site": "cross-site",
        "sec-fetch-dest": "empty",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    with plain_http(server) as http:
        return http.options("/", headers=headers)


def test_a_browser_asks_before_it_posts(for_pages: CoordinatorProcess) -> None:
    told = preflight(for_pages)

    assert told.status_code in (200, 204)
    assert told.headers["access-control-allow-origin"] == PAGE_ORIGIN
    assert "POST" in told.headers["access-control-allow-methods"]
    assert "content-type" in told.headers["access-control-allow-headers"].lower()


def test_a_browser_posts_after_it_has_asked(for_pages: CoordinatorProcess) -> None:
    with plain_http(for_pages) as http:
        reply = http.post("/", content=CALL, headers={**JSON, "origin": PAGE_ORIGIN, "sec-fetch-mode": "cors"})

    assert reply.headers["access-control-allow-origin"] == PAGE_ORIGIN
    assert answered(reply.json())


def test_a_browser_is_not_answered_for_a_page_of_another_origin(for_pages: CoordinatorProcess) -> None:
    refused = preflight(for_pages, origin="https://elsewhere.example")

    assert "access-control-allow-origin" not in refused.headers


def test_a_browser_may_send_credentials_in_a_header(for_pages: CoordinatorProcess) -> None:
    told = preflight(for_pages, access_control_request_headers="authorization,content-type")

    assert "authorization" in told.headers["access-control-allow-headers"].lower()


def test_a_page_of_the_internet_may_call_into_the_private_network_it_is_allowed_to(
    for_pages: CoordinatorProcess,
) -> None:
    told = preflight(for_pages, access_control_request_private_network="true")

    assert told.headers["access-control-allow-private-network"] == "true"
