"""Generates the OpenRPC document from the table of methods, the models and the errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import trio
from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from coordinator import __version__, models
from coordinator.errors import DOCUMENTED_ERRORS
from coordinator.hosts import is_wildcard, read_host, url_of
from coordinator.rpc.describing import INFO, describe, description_of_method
from coordinator.rpc.methods import METHODS
from coordinator.rpc.methods.method import Method

__all__ = ["EXCHANGES", "NOTIFICATIONS", "Exchange", "ServedDocument", "dashboard_facts", "document", "exchanges"]

Address = tuple[str, int]
"""A host and a port that somebody listens on."""

_REF = "#/components/schemas/{model}"
_HTTP: Final[Address] = ("127.0.0.1", 9652)
_WS: Final[Address] = ("127.0.0.1", 9653)


NOTIFICATIONS: Final[Mapping[str, type[models.Model]]] = {
    "runner.job": models.AssignmentNotice,
    "runner.cancel": models.CancelNotice,
    "flow.event": models.FlowEventNotice,
    "context.event": models.ContextEventNotice,
    "auth.ended": models.LoginEndedNotice,
}
"""What is sent to clients without being asked for each time, and the params that it has."""

EXCHANGES: Final = Path(__file__).with_name("exchanges.json")
"""A call of each method with its result, as a coordinator has answered it, and each notification, without one; `make
reference` records them."""


class Exchange(NamedTuple):
    """A call that was made, and its result; or a notification."""

    params: Any
    result: Any


class ServedDocument:
    """The document as one server shows it: compact, and with `servers` that say where that listens.

    It is made when somebody asks for it first, which takes about a fifth of a second.

    Args:
        http, ws: where the front-ends listen.
        public_url: http:// or https:// URL at which clients reach both of them instead, without a slash behind it.
        is_tls: both speak TLS.
    """

    def __init__(
        self, http: Address = _HTTP, ws: Address = _WS, *, public_url: str | None = None, is_tls: bool = False
    ) -> None:
        self._http = http
        self._ws = ws
        self._public_url = public_url
        self._secure = "s" if is_tls else ""
        self._depends_on_host = public_url is None and (is_wildcard(http[0]) or is_wildcard(ws[0]))
        self._json: bytes | None = None
        self._making = trio.Lock()

    async def fetch(self, host: str | None = None) -> bytes:
        """As `json_for`, and made in another thread if it has to be made: others are served meanwhile.

        A checkpoint only if it is not made yet.
        """
        if not _is_made():
            async with self._making:
                if not _is_made():
                    await trio.to_thread.run_sync(_around_servers)
        return self.json_for(host)

    @property
    def json(self) -> bytes:
        """It. For a front-end that listens on every address of its machine it says `localhost`."""
        if self._json is None:
            self._json = self._with(*self._urls(None))
        return self._json

    def json_for(self, host: str | None) -> bytes:
        """As `json`, but with the host that a client has used, by its Host header, where we listen on every address."""
        if host is None or not self._depends_on_host or read_host(host) is None:
            return self.json
        return self._with(*self._urls(host))

    def _urls(self, host: str | None) -> tuple[str, str]:
        if self._public_url is not None:
            parts = urlsplit(self._public_url)
            return self._public_url, parts._replace(scheme="wss" if parts.scheme == "https" else "ws").geturl()
        used = None if host is None else read_host(host)
        (http, http_port), (ws, ws_port) = self._http, self._ws
        http_url = url_of(f"http{self._secure}", http, http_port)
        ws_url = url_of(f"ws{self._secure}", ws, ws_port)
        if is_wildcard(http):
            name, port = ("localhost", http_port) if used is None else used  # a proxy may have a port of its own
            http_url = url_of(f"http{self._secure}", name, port)
        if is_wildcard(ws):
            ws_url = url_of(f"ws{self._secure}", "localhost" if used is None else used.name, ws_port)
        return http_url, ws_url

    def _with(self, http_url: str, ws_url: str) -> bytes:
        before, after = _around_servers()
        return before + to_json(_servers(http_url, ws_url)) + after


@cache
def _around_servers() -> tuple[bytes, bytes]:
    """What stands before `servers`, and behind them. Made once in a process."""
    before, after = to_json(document()).split(to_json(_servers(*_default_urls())), 1)
    return before, after


def _is_made() -> bool:
    return _around_servers.cache_info().currsize > 0


def exchanges() -> dict[str, Exchange]:
    """By method, what was recorded."""
    recorded = json.loads(EXCHANGES.read_bytes())
    return {method: Exchange(exchange["params"], exchange["result"]) for method, exchange in recorded.items()}


def _default_urls() -> tuple[str, str]:
    return url_of("http", *_HTTP), url_of("ws", *_WS)


def _servers(http_url: str, ws_url: str) -> list[dict[str, str]]:
    return [
        {
            "name": "http",
            "url": http_url,
            "summary": "Default HTTP server (configurable via --api-http-ip/--api-http-port)",
        },
        {
            "name": "ws",
            "url": ws_url,
            "summary": "Default WS server (configurable via --api-ws-ip/--api-ws-port)",
        },
    ]


def document(recorded: Mapping[str, Exchange] | None = None) -> dict[str, Any]:
    """The whole document, with the default ports as the contract has them.

    Args:
        recorded: its examples, if not those of `exchanges`.
    """
    examples = exchanges() if recorded is None else recorded
    schemas = _schemas()
    return {
        "openrpc": "1.2.6",
        "info": {"title": "HeroCoordinator JSON-RPC API", "version": __version__, "description": INFO},
        "servers": _servers(*_default_urls()),
        "methods": [_method(method, schemas, examples.get(method.name)) for method in METHODS.values()],
        "components": {"schemas": schemas, "errors": {name: _error(name) for name in DOCUMENTED_ERRORS}},
    }


def _method(method: Method, schemas: dict[str, Any], exchange: Exchange | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": method.name,
        "summary": method.summary,
        "description": description_of_method(method.name, method.summary),
        "paramStructure": "either",
        "params": [
            {
                "name": "params",
                "description": "The params object, or its members by position.",
                "required": True,
                "schema": _ref(method.params),
            }
        ],
        "result": {
            "name": "result",
            "description": schemas[method.result.__name__]["description"],
            "schema": _ref(method.result),
        },
        "errors": [{"$ref": f"#/components/errors/{error.__name__}"} for error in method.errors],
    }
    if exchange is not None:
        described["examples"] = [
            {
                "name": method.name,
                "params": [{"name": "params", "value": exchange.params}],
                "result": {"name": "result", "value": exchange.result},
            },
        ]
    return described


def _ref(model: type[models.Model]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _error(name: str) -> dict[str, Any]:
    error = DOCUMENTED_ERRORS[name]
    return {"code": error.code, "message": error.message}


def _schemas() -> dict[str, Any]:
    taken: dict[str, list[str]] = {}
    for method in METHODS.values():
        taken.setdefault(method.params.__name__, []).append(method.name)
    used = {model for method in METHODS.values() for model in (method.params, method.result)}
    used |= {*NOTIFICATIONS.values()}
    ordered = sorted(used, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    schemas: dict[str, Any] = definitions["$defs"]
    schemas["MessageType"] = TypeAdapter(models.MessageType).json_schema()
    return {name: describe(name, _tidy(schemas[name]), taken) for name in sorted(schemas)}


def _tidy(node: Any) -> Any:
    """Without the titles pydantic makes of the names of members, which say nothing more."""
    if isinstance(node, dict):
        return {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    return [_tidy(item) for item in node] if isinstance(node, list) else node


def dashboard_facts() -> bytes:
    """What the dashboard asks before anything else: which methods there are, with the names of their params, so that it
    offers what this coordinator has. The whole document would take a browser longer than all else."""
    methods = {name: [*method.params.model_fields] for name, method in METHODS.items()}
    return to_json({"version": __version__, "methods": methods})
