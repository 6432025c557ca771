"""What GET shows: the document, health, metrics, and a page that says where things are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio
from pydantic_core import to_json

from coordinator import __version__
from coordinator.rpc.openrpc import ServedDocument

__all__ = ["Page", "Pages"]

Page = Callable[[str | None], Awaitable[tuple[int, bytes, bytes]]]
"""Makes a page for who has asked this host for it: its status, its content type and itself. Never raises."""

_JSON: Final = b"application/json"
_HTML: Final = b"text/html; charset=utf-8"

_INDEX: Final = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>HeroCoordinator</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }}</style>
<h1>HeroCoordinator {__version__}</h1>
<p>This is the JSON-RPC 2.0 API of a coordinator for distributed work. It is made for programs:</p>
<ul>
<li><code>POST /</code> with <code>content-type: application/json</code> takes a call or a batch;</li>
<li><code>/ws</code> takes the same over WebSocket;</li>
<li><a href="openrpc.json">/openrpc.json</a> describes every method, its parameters and its errors;</li>
<li><a href="healthz">/healthz</a> says that the process is up,
<a href="readyz">/readyz</a> that its store answers;</li>
<li><a href="metrics">/metrics</a> is for Prometheus.</li>
</ul>
<pre>curl -H 'content-type: application/json' -d '{{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}}' \
THIS_PAGE</pre>
</html>
""".encode()


class Pages:
    """Makes the pages.

    Args:
        document: the OpenRPC document.
        ready: why the store does not answer, or None if it does.
        metrics: renders the Prometheus page: its body and its content type. May raise trio.TooSlowError.

    Attributes:
        by_path: all of them.
    """

    def __init__(
        self,
        *,
        document: ServedDocument,
        ready: Callable[[], Awaitable[str | None]],
        metrics: Callable[[], Awaitable[tuple[bytes, str]]],
    ) -> None:
        self._document = document
        self._ready = ready
        self._metrics = metrics
        self.by_path: Mapping[str, Page] = {
            "/": self._index_page,
            "/openrpc.json": self._openrpc_page,
            "/healthz": self._health_page,
            "/readyz": self._ready_page,
            "/metrics": self._metrics_page,
        }

    async def _index_page(self, _: str | None) -> tuple[int, bytes, bytes]:
        return 200, _HTML, _INDEX

    async def _openrpc_page(self, host: str | None) -> tuple[int, bytes, bytes]:
        return 200, _JSON, await self._document.fetch(host)

    async def _health_page(self, _: str | None) -> tuple[int, bytes, bytes]:
        return 200, _JSON, b'{"status":"ok"}'

    async def _ready_page(self, _: str | None) -> tuple[int, bytes, bytes]:
        fault = await self._ready()
        if fault is None:
            return 200, _JSON, b'{"status":"ready"}'
        return 503, _JSON, to_json({"status": "not ready", "reason": fault})

    async def _metrics_page(self, _: str | None) -> tuple[int, bytes, bytes]:
        try:
            body, kind = await self._metrics()
        except trio.TooSlowError:
            return 503, _JSON, to_json({"status": "not ready", "reason": "the workers did not all answer"})
        return 200, kind.encode(), body
