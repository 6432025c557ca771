"""An OpenRPC document with what schemas may say and ours do not, or not yet."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["ODD"]

_TEXT: Final = {"type": "string"}


def _method(name: str, params: list[dict[str, Any]], result: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "params": params, "result": {"name": "result", "schema": result}, **more}


ODD: Final[dict[str, Any]] = {
    "openrpc": "1.4.0",
    "info": {"title": "odd", "version": "1.2.3"},
    "methods": [
        _method(
            "shape.draw_all",
            [{"name": "params", "required": True, "schema": {"$ref": "#/components/schemas/DrawParams"}}],
            {"$ref": "#/components/schemas/Shape"},
            summary="Draw */ and \\ on\ntwo lines",
            errors=[{"$ref": "#/components/errors/TooRound"}, {"code": -40, "message": "Not At All"}],
        ),
        _method(
            "shape.by-name",
            [
                {"name": "first", "required": True, "schema": {"type": "integer"}, "description": "The first"},
                {"$ref": "#/components/contentDescriptors/Second"},
            ],
            {"type": ["string", "null"]},
        ),
        _method("ping", [], True),
        _method(
            "shape.subscribe",
            [{"name": "params", "schema": {"$ref": "#/components/schemas/SubscribeParams"}}],
            {
                "type": "object",
                "required": ["subscription"],
                "properties": {
                    "subscription": _TEXT,
                    "extra": {},
                    "inner": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}},
                },
            },
        ),
    ],
    "components": {
        "contentDescriptors": {"Second": {"name": "second", "schema": {"default": {"a": [1]}, "type": "object"}}},
        "errors": {"TooRound": {"code": -41, "message": "Too Round", "data": {"$ref": "#/components/schemas/Shape"}}},
        "schemas": {
            "Mood": {"enum": ["good", "so-so", "", "9 lives", "type", "Good"], "type": "string"},
            "Level": {"enum": [1, 2.5, None, True, "high"]},
            "Fixed": {"const": "fixed"},
            "Circle": {
                "type": "object",
                "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0}},
                "required": ["kind", "radius"],
                "additionalProperties": False,
            },
            "Square": {
                "type": "object",
                "properties": {"kind": {"const": "square"}, "side": {"type": "integer", "minimum": 0}},
                "required": ["kind", "side"],
            },
            "Shape": {
                "oneOf": [{"$ref": "#/components/schemas/Circle"}, {"$ref": "#/components/schemas/Square"}],
                "discriminator": {"propertyName": "kind"},
            },
            "Tree": {
                "type": "object",
                "description": "A tree,\n\nwhich holds itself",
                "properties": {
                    "left": {"anyOf": [{"$ref": "#/components/schemas/Tree"}, {"type": "null"}]},
                    "right": {"$ref": "#/components/schemas/Tree"},
                    "leaves": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
                },
                "required": ["left"],
            },
            "Nested": {"anyOf": [_TEXT, {"type": "array", "items": {"$ref": "#/components/schemas/Nested"}}]},
            "Lists": {"type": "array", "items": {"$ref": "#/components/schemas/Lists"}},
            "Result": {"type": "object", "properties": {"Error": {"$ref": "#/components/schemas/Error"}}},
            "Error": {"enum": ["Value"]},
            "stringList": {"type": "string"},
            "Pair": {"type": "array", "prefixItems": [_TEXT, {"type": "integer"}], "items": False},
            "Row": {"type": "array", "items": [_TEXT], "additionalItems": {"type": "boolean"}},
            "Counts": {
                "type": "object",
                "propertyNames": {"$ref": "#/components/schemas/Mood"},
                "additionalProperties": {"type": "integer"},
            },
            "Open": {"type": "object"},
            "Nothing": {"type": "object", "additionalProperties": False},
            "Whatever": {"description": "anything"},
            "Wide": {
                "properties": {
                    "type": _TEXT,
                    "a-b": {"type": "number"},
                    "self": True,
                    "func": {"nullable": True, **_TEXT},
                },
                "required": ["type", "unlisted"],
                "additionalProperties": {"type": "string"},
            },
            "Merged": {
                "allOf": [{"$ref": "#/components/schemas/Square"}, {"properties": {"more": {"type": "boolean"}}}],
                "description": "both",
            },
            "Sized": {"$ref": "#/components/schemas/Mood", "default": "good", "description": "with words beside"},
            "string_list": {"type": "array", "items": {"enum": ["x", "y"]}, "uniqueItems": True},
            "DrawParams": {
                "type": "object",
                "properties": {
                    "shape": {"$ref": "#/components/schemas/Shape"},
                    "moods": {"type": "array", "items": {"$ref": "#/components/schemas/Mood"}, "default": ["good"]},
                    "local": {"$ref": "#/$defs/Inner"},
                    "big": {"type": "integer", "format": "uint64", "minimum": 0},
                },
                "required": ["shape"],
                "$defs": {"Inner": {"type": "object", "properties": {"deep": {"$ref": "#/components/schemas/Tree"}}}},
            },
            "SubscribeParams": {"type": "object", "properties": {"after": {"type": "string", "default": "0-0"}}},
            "ShapeEventNotice": {
                "description": "Params of the notification `shape.event`, one at a time.",
                "type": "object",
                "properties": {"event_id": _TEXT, "subscription": _TEXT, "at": {"format": "date-time", **_TEXT}},
                "required": ["event_id", "subscription"],
            },
        },
    },
}
