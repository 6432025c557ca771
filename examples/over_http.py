"""A JSON-RPC call over HTTP with nothing but Python's own library; the other examples import it."""

import json
import os
import urllib.request

URL = os.environ.get("HEROCOORDINATOR_HTTP_URL", "http://127.0.0.1:9652")


class RpcError(Exception):
    """Attributes: `code`, and what explains it."""

    def __init__(self, error):
        super().__init__(f"{error['message']} ({error['code']}): {error.get('data')}")
        self.code = error["code"]


def call(method, **params):
    """The result of a call. Raises RpcError."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {"content-type": "application/json"}
    if token := os.environ.get("HEROCOORDINATOR_TOKEN"):
        headers["authorization"] = f"Bearer {token}"
    with urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=90) as response:
        reply = json.load(response)
    if "error" in reply:
        raise RpcError(reply["error"])
    return reply["result"]
