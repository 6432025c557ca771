"""The schemas of specs/openrpc.json, and a client that holds every call it makes against them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import httpx
from jsonschema import Draft7Validator

from tests.support.streaming import ErrorReply, OnNotices, streaming

__all__ = ["METHODS", "Api", "Caller", "HttpCaller", "checked", "http_api", "valid_notice", "ws_api"]

_DOCUMENT: Final = json.loads((Path(__file__).parents[2] / "specs" / "openrpc.json").read_text())
METHODS: Final[dict[str, Any]] = {method["name"]: method for method in _DOCUMENT["methods"]}
_COMPONENTS: Final = _DOCUMENT["components"]
_NOTICES: Final = {
    "runner.job": "AssignmentNotice",
    "runner.cancel": "CancelNotice",
    "flow.event": "FlowEventNotice",
    "context.event": "ContextEventNotice",
}


@cache
def _validator(schema: str) -> Draft7Validator:
    return Draft7Validator({**json.loads(schema), "components": _COMPONENTS})


def checked(value: Any, schema: dict[str, Any]) -> Any:
    """The value, which must be valid against the schema."""
    _validator(json.dumps(schema)).validate(value)
    return value


def valid_notice(notice: dict[str, Any]) -> dict[str, Any]:
    """A notification's params, which must be as its schema says."""
    assert notice.keys() == {"jsonrpc", "method", "params"}
    params: dict[str, Any] = checked(notice["params"], {"$ref": f"#/components/schemas/{_NOTICES[notice['method']]}"})
    return params


class Caller(Protocol):
    """Anything that calls a method by name. Raises ErrorReply."""

    async def call(self, method: str, params: Any) -> Any: ...


class HttpCaller:
    """Calls over HTTP, one POST each."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(self, method: str, params: Any) -> Any:
        call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        response = await self._client.post("/", json=call)
        assert response.status_code == 200, response.text
        reply = response.json()
        if "error" in reply:
            raise ErrorReply(reply["error"])
        return reply["result"]


class Api:
    """Calls through another caller; what is sent, answered and refused must be as the contract says."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def call(self, method: str, **params: Any) -> Any:
        """The result. Raises ErrorReply."""
        row = METHODS[method]
        checked(params, row["params"][0]["schema"])
        names = [reference["$ref"].rpartition("/")[2] for reference in row["errors"]]
        documented = [_COMPONENTS["errors"][name]["code"] for name in names]
        try:
            result = await self._caller.call(method, params)
        except ErrorReply as error:
            if error.code not in documented:
                raise AssertionError(f"{method} is not documented to fail so: {error}") from error
            raise
        return checked(result, row["result"]["schema"])

    async def refused(self, method: str, **params: Any) -> ErrorReply:
        """The error that a call with valid params is answered with."""
        try:
            result = await self.call(method, **params)
        except ErrorReply as error:
            return error
        raise AssertionError(f"{method} was answered {result}")


@asynccontextmanager
async def http_api(url: str) -> AsyncIterator[Api]:
    async with httpx.AsyncClient(base_url=url, timeout=90, verify=False) as client:
        yield Api(HttpCaller(client))


@asynccontextmanager
async def ws_api(url: str, on_notices: OnNotices | None = None) -> AsyncIterator[Api]:
    async with streaming(url, on_notices) as client:
        yield Api(client)
