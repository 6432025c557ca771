"""Generates the OpenRPC document from the table of methods, the models and the errors."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema
from pydantic_core import to_json

from coordinator import __version__, models
from coordinator.errors import DOCUMENTED_ERRORS
from coordinator.rpc.methods import METHODS
from coordinator.rpc.methods.method import Method

__all__ = ["document", "document_json"]

_REF = "#/components/schemas/{model}"


@functools.cache
def document_json() -> bytes:
    """The document, compact."""
    return to_json(document())


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
        "servers": [
            {
                "name": "http",
                "url": "http://127.0.0.1:9652",
                "summary": "Default HTTP server (configurable via --api-http-ip/--api-http-port)",
            },
            {
                "name": "ws",
                "url": "ws://127.0.0.1:9653",
                "summary": "Default WS server (configurable via --api-ws-ip/--api-ws-port)",
            },
        ],
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
    used |= {models.AssignmentNotice, models.CancelNotice, models.FlowEventNotice}  # params of notifications
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
