"""HTTP's answers without a store, and raw HTTP for tests."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any, cast

from coordinator.dashboard import load_site
from coordinator.rpc.access.origins import AccessPolicy
from coordinator.rpc.http.answers import Answers
from coordinator.rpc.http.pages import Pages
from coordinator.rpc.jsonrpc.dispatcher import Dispatcher
from coordinator.rpc.openrpc import ServedDocument
from coordinator.storage.keys import Layout

__all__ = ["ALLOWED_ORIGIN", "MAX_BODY", "answers"]

MAX_BODY = 20_000
ALLOWED_ORIGIN = "https://app.example"


@cache
def _document() -> ServedDocument:
    """One that is made already: a clock that jumps when all tasks wait does so while a thread makes it, too."""
    document = ServedDocument()
    assert document.json
    return document


def answers(*, max_body_bytes: int = MAX_BODY, has_websocket: bool = True, **of_dispatcher: Any) -> Answers:
    """Answers of a coordinator on loopback that has no store: of calls it knows errors and notifications only."""

    async def ready() -> str | None:
        return None

    async def metrics() -> tuple[bytes, str]:
        return b"a_metric 1\n", "text/plain; version=0.0.4"

    nobody = cast(Any, SimpleNamespace(slice_calls=None, readiness=None))
    dispatcher = Dispatcher(
        nobody,
        nobody,
        cast(Layout, SimpleNamespace(keyspace=str)),
        request_timeout=30.0,
        max_batch=10,
        max_batch_reply=1 << 20,
    )
    policy = AccessPolicy("127.0.0.1", allowed_origins=[ALLOWED_ORIGIN])
    return Answers(
        dispatcher,
        policy,
        Pages(document=_document(), ready=ready, metrics=metrics),
        max_body_bytes=max_body_bytes,
        has_websocket=has_websocket,
        site=load_site(b"{}"),
    )
