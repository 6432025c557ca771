"""Generates the OpenRPC document from the table of methods, the models and the errors."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from coordinator import __version__, models
from coordinator.errors import DOCUMENTED_ERRORS
from coordinator.hosts import is_wildcard, read_host, url_of
from coordinator.rpc.methods import METHODS
from coordinator.rpc.methods.method import Method

__all__ = ["ServedDocument", "dashboard_facts", "document"]

Address = tuple[str, int]
"""A host and a port that somebody listens on."""

_REF = "#/components/schemas/{model}"
_HTTP: Final[Address] = ("127.0.0.1", 9652)
_WS: Final[Address] = ("127.0.0.1", 9653)


class ServedDocument:
    """The document as one server shows it: compact, and with `servers` that say where that listens. Made once.

    Args:
        http, ws: where the front-ends listen.
        public_url: http:// or https:// URL at which clients reach both of them instead, without a slash behind it.
        is_tls: both speak TLS.

    Attributes:
        json: it. For a front-end that listens on every address of its machine it says `localhost`.
    """

    def __init__(
        self, http: Address = _HTTP, ws: Address = _WS, *, public_url: str | None = None, is_tls: bool = False
    ) -> None:
        self._http = http
        self._ws = ws
        self._public_url = public_url
        self._secure = "s" if is_tls else ""
        self._depends_on_host = public_url is None and (is_wildcard(http[0]) or is_wildcard(ws[0]))
        before, after = to_json(document()).split(to_json(_servers(*_default_urls())), 1)
        self._around = before, after
        self.json = self._with(*self._urls(None))

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
        before, after = self._around
        return before + to_json(_servers(http_url, ws_url)) + after


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


def document() -> dict[str, Any]:
    """The whole document, with the default ports as the contract has them."""
    return {
        "openrpc": "1.2.6",
        "info": {
            "title": "HeroCoordinator JSON-RPC API",
            "version": __version__,
            "description": "JSON-RPC API over HTTP and WebSocket for creating and loading domain models. Host and "
            "ports are configurable via CLI flags.",
        },
        "servers": _servers(*_default_urls()),
        "methods": [_method(method) for method in METHODS.values()],
        "components": {"schemas": _schemas(), "errors": {name: _error(name) for name in DOCUMENTED_ERRORS}},
    }


def _method(method: Method) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": [{"name": "params", "required": True, "schema": _ref(method.params)}],
        "result": {"name": "result", "schema": _ref(method.result)},
        "errors": [{"$ref": f"#/components/errors/{error.__name__}"} for error in method.errors],
    }
    if method.example is not None:
        described["examples"] = [
            {"name": method.name, "params": [{"name": "params", "value": method.example}]},
        ]
    return described


def _ref(model: type[models.Model]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _error(name: str) -> dict[str, Any]:
    error = DOCUMENTED_ERRORS[name]
    return {"code": error.code, "message": error.message}


def _schemas() -> dict[str, Any]:
    used = {model for method in METHODS.values() for model in (method.params, method.result)}
    # Params of notifications.
    used |= {models.AssignmentNotice, models.CancelNotice, models.LoginEndedNotice}
    used |= {models.FlowEventNotice, models.ContextEventNotice}
    ordered = sorted(used, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    schemas: dict[str, Any] = definitions["$defs"]
    schemas["MessageType"] = TypeAdapter(models.MessageType).json_schema()
    return {name: _tidy(schemas[name]) for name in sorted(schemas)}


def _tidy(node: Any) -> Any:
    """Without the titles pydantic makes of the names, which say nothing more."""
    if isinstance(node, dict):
        return {key: _tidy(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    return [_tidy(item) for item in node] if isinstance(node, list) else node


def dashboard_facts() -> bytes:
    """What the dashboard asks before anything else: which methods there are, with the names of their params, so that it
    offers what this coordinator has. The whole document would take a browser longer than all else."""
    methods = {name: [*method.params.model_fields] for name, method in METHODS.items()}
    return to_json({"version": __version__, "methods": methods})
