"""The TypeScript client in a real browser: its WebSocket, its fetch, its keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from coordinator.signing import new_key
from tests.access.callers import operator_token
from tests.support.chromium import chromium
from tests.support.server import coordinator
from tests.support.typescript import CLIENT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("typescript_client")]

IMPORTS: Final = {"imports": {"#websocket": "/websocket/browser.js"}}  # what a bundler makes of the package's `imports`
PAGE: Final = f'<!doctype html><title>a page</title><script type="importmap">{json.dumps(IMPORTS)}</script>'
SCRIPT: Final = """
(async () => {
  const { connect, HttpClient, NotFound } = await import("/index.js");
  const { ws, http, operator, key } = GIVEN;
  const admin = connect(ws, { credentials: { token: operator } });
  await admin.actor.create({ actor: { id: 7, pubkey: key.public, address: [] } });
  await admin.context.create({ context: { id: 1, admins: [7], readers: [], executors: [] } });
  const credentials = { principal: "actor:7", key: key.pem };
  const client = connect(ws, { credentials });
  const job = {
    id: 1, caller_id: 7, context_id: 1, script: "\\u00e9".repeat(100000), script_type: "V", timeout: 0, retries: 0,
    env_vars: {}, prerequisites: [], depends: [],
  };
  const flow = { id: 1, caller_id: 7, context_id: 1, jobs: [1], env_vars: {} };
  await client.flow.submit({ context_id: 1, flow, jobs: [job] });
  const statuses = [];
  for await (const event of client.followFlow({ context_id: 1, id: 1 })) {
    statuses.push(event.status);
    if (event.status === "Started") await client.flow.cancel({ context_id: 1, id: 1 });
  }
  const missing = await client.flow.load({ context_id: 1, id: 404 }).catch((error) => error instanceof NotFound);
  const overHttp = new HttpClient(http, { credentials });
  return [(await client.auth.whoami()).principal, (await overHttp.auth.whoami()).principal, missing, statuses];
})()
"""


class _Files(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path != "/":
            return super().do_GET()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE.encode())
        return None

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def site() -> Iterator[str]:
    """A server of the compiled client and a page that may import it. Yields its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=str(CLIENT / "dist")))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_it_calls_follows_and_logs_in(tmp_path: Path) -> None:
    key = tmp_path / "ada.key"
    public = new_key(key).public
    with chromium(tmp_path / "profile") as browser, site() as origin:
        flags = ("--auth", "keys", "--allowed-origins", origin)
        with coordinator("--data-dir", str(tmp_path / "data"), *flags) as server:
            given = {
                "ws": server.ws,
                "http": server.http,
                "operator": operator_token(tmp_path / "data"),
                "key": {"public": public, "pem": key.read_text()},
            }
            page = browser.page()
            page.open(f"{origin}/")
            seen = page.run(SCRIPT.replace("GIVEN", json.dumps(given)))

    assert seen == ["actor:7", "actor:7", True, ["Started", "Error"]]
