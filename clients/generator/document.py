"""What an OpenRPC document says, in words that every language's writer understands: types, methods, errors.

Only what decides about a type is kept of a schema. Bounds, patterns and formats are for the server to check.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

__all__ = [
    "AllOf",
    "Anything",
    "Document",
    "ErrorKind",
    "Field",
    "ListOf",
    "Literals",
    "MapOf",
    "Method",
    "Notification",
    "OneOf",
    "Record",
    "Reference",
    "Scalar",
    "Schema",
    "TupleOf",
    "Type",
    "camel",
    "pascal",
    "snake",
]

Json = Any
Schema = Mapping[str, Any] | bool
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Anything:
    """Any JSON value."""


@dataclass(frozen=True)
class Scalar:
    """A string, number, truth value or null.

    Attributes:
        format: as the schema has it: uint32, int64, …
        minimum, maximum: of a number.
    """

    kind: Literal["string", "integer", "number", "boolean", "null"]
    format: str = ""
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Literals:
    """One of these values."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Reference:
    """A type that the document has under this name."""

    name: str


@dataclass(frozen=True)
class ListOf:
    item: Type


@dataclass(frozen=True)
class TupleOf:
    """A list of these, one after the other, and then of `rest`."""

    items: tuple[Type, ...]
    rest: Type | None = None


@dataclass(frozen=True)
class MapOf:
    value: Type
    key: Type = Scalar("string")


@dataclass(frozen=True)
class Field:
    """A member of an object.

    Attributes:
        default: as JSON; empty if it has none.
    """

    name: str
    type: Type
    is_required: bool
    description: str = ""
    default: str = ""


@dataclass(frozen=True)
class Record:
    """An object with these members, and others of the type `extra` if there is one."""

    fields: tuple[Field, ...]
    extra: Type | None = None


@dataclass(frozen=True)
class OneOf:
    options: tuple[Type, ...]

    @property
    def without_null(self) -> Type:
        """The same for a value that is there."""
        options = tuple(option for option in self.options if not is_null(option))
        return options[0] if len(options) == 1 else OneOf(options)

    @property
    def is_nullable(self) -> bool:
        return any(map(is_null, self.options))


@dataclass(frozen=True)
class AllOf:
    parts: tuple[Type, ...]


Type = Anything | Scalar | Literals | Reference | ListOf | TupleOf | MapOf | Record | OneOf | AllOf


def is_null(type: Type) -> bool:
    return type in (Scalar("null"), Literals((None,)))


@dataclass(frozen=True)
class ErrorKind:
    """An error that calls are answered with.

    Attributes:
        name: of its class.
        data: what is in `error.data`.
        data_name: the name of that type, which no other has.
    """

    name: str
    code: int
    message: str
    data: Type
    data_name: str


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        params: of the object its params are.
        needs_params: it cannot be called without.
        errors: names of those it may be answered with.
    """

    name: str
    summary: str
    params: Type
    needs_params: bool
    result: Type
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Notification:
    """What the server sends by itself.

    Attributes:
        params: the name of their type.
        is_event: it has an `event_id` and a `subscription`, which can go on after it.
    """

    name: str
    params: str
    is_event: bool


@dataclass(frozen=True)
class Named:
    """A type and what is said about it."""

    type: Type
    description: str = ""


_RESERVED: Final = frozenset(
    (
        *("API", "Api", "BTreeMap", "Box", "Call", "CallOptions", "Caller", "Client", "Error", "ErrorKind"),
        *("EventSubscriptions", "HTTPClient", "HttpClient", "List", "Map", "MethodName", "Methods", "Notification"),
        *(
            "Notifications",
            "Option",
            "Options",
            "Promise",
            "RPCError",
            "Result",
            "RpcError",
            "Self",
            "Stream",
            "String",
        ),
        *("Value", "Vec", "WebSocketClient"),
    )
)
"""Names that one of the languages, or what is written by hand in it, has for something else."""

_NOTICES: Final = {
    "FlowEventNotice": "flow.event",
    "AssignmentNotice": "runner.job",
    "CancelNotice": "runner.cancel",
    "LoginEndedNotice": "auth.ended",
}
"""Notifications by the schemas of their params, which an OpenRPC document has no place for."""
_NAMES_NOTIFICATION: Final = re.compile(r"[Pp]arams of the notification `([\w.]+)`")

_LIMIT: Final = {"limit": {"type": "number"}, "setting": {"type": "string"}}
_FAULT: Final = {
    "type": "object",
    "properties": {
        "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        "msg": {"type": "string"},
        "type": {"type": "string"},
    },
    "required": ["loc", "msg", "type"],
}


def _data(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None) -> Schema:
    """An object with `detail`, these members and perhaps others."""
    required = {"detail": {"type": "string"}, **required}
    members = {**required, **(optional or {})}
    return {"type": "object", "properties": members, "required": [*required], "additionalProperties": True}


_ID: Final = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1}
_TEXT: Final = {"type": "string"}
_ERRORS: Final[Mapping[int, tuple[str, str, Schema]]] = {
    -32700: ("ParseError", "Parse error", _data({})),
    -32600: ("InvalidRequest", "Invalid Request", _data({}, _LIMIT)),
    -32601: ("MethodNotFound", "Method not found", _data({}, {"did_you_mean": {"type": "array", "items": _TEXT}})),
    -32602: ("InvalidParams", "Invalid params", {"type": "array", "items": _FAULT}),
    -32603: ("InternalError", "Internal error", _data({"incident": _TEXT})),
    -32001: ("NotFound", "Not Found", _data({"kind": _TEXT, "ids": {"additionalProperties": {"type": "integer"}}})),
    -32002: ("NotLoggedIn", "Not Logged In", _data({})),
    -32003: ("Forbidden", "Forbidden", _data({"right": _TEXT})),
    -32010: ("StorageError", "Storage Error", _data({"may_have_been_applied": {"type": "boolean"}})),
    -32020: ("DagMissingDependency", "DAG Missing Dependency", _data({"job": _ID, "missing": _ID})),
    -32021: ("DagCycleDetected", "DAG Cycle Detected", _data({"cycle": {"type": "array", "items": _ID}})),
    -32030: ("ReplyTooLarge", "Reply Too Large", _data({"limit": {"type": "number"}}, {"setting": _TEXT})),
    -32040: ("Conflict", "Conflict", _data({})),
    -32041: ("StaleToken", "Stale Attempt Token", _data({"token": _TEXT})),
    -32042: ("NotSubscribed", "Not Subscribed", _data({"subscription": _TEXT})),
    -32043: (
        "Overloaded",
        "Overloaded",
        _data(_LIMIT, {"retry_after": {"type": "number"}, "used": {"type": "number"}}),
    ),
    -32044: ("WebSocketRequired", "WebSocket Required", _data({})),
}
"""Errors that any call may be answered with, and the data of all, as the README has them; a document names what else
there is, and its own words count before these."""


class Document:
    """Read once, asked by every writer.

    Attributes:
        version: of the API.
        types: by name, in the document's order, and behind them those of params that had no name.
    """

    def __init__(self, document: Json) -> None:
        self._document = document
        self.version = str(document.get("info", {}).get("version", ""))
        components = document.get("components", {})
        self.types: dict[str, Named] = {}
        schemas = components.get("schemas", {})
        self._names = {name: self._new_name(name) for name in schemas}  # those of the document come first
        for name, schema in schemas.items():
            self._declare(name, schema)
        self._errors: dict[int, ErrorKind] = {}
        for code, (name, message, schema) in _ERRORS.items():
            self._errors[code] = self._kind(name, code, message, self._type(schema))
        for name, error in components.get("errors", {}).items():
            self._know(error, name)
        self.methods: list[Method] = [self._method(self._resolved(method)) for method in document["methods"]]
        self.notifications: list[Notification] = list(self._find_notifications())

    @property
    def errors(self) -> list[ErrorKind]:
        return [self._errors[code] for code in sorted(self._errors, reverse=True)]

    def resolve(self, type: Type) -> Type:
        """What a reference leads to, at the end."""
        seen: set[str] = set()
        while isinstance(type, Reference) and type.name in self.types and type.name not in seen:
            seen.add(type.name)
            type = self.types[type.name].type
        return type

    def is_recursive(self, name: str) -> bool:
        """Whether a type contains itself other than in a list or map, so that some languages must box it."""
        seen: set[str] = set()
        waiting = [self.types[name].type]
        while waiting:
            for part in _direct_parts(waiting.pop()):
                if part == Reference(name):
                    return True
                if isinstance(part, Reference):
                    if part.name in self.types and part.name not in seen:
                        seen.add(part.name)
                        waiting.append(self.types[part.name].type)
                else:
                    waiting.append(part)
        return False

    def is_endless(self, name: str) -> bool:
        """Whether a type that is no record contains itself but for records, so that some languages cannot name it."""
        seen: set[str] = set()
        waiting = [self.types[name].type]
        while waiting:
            type = waiting.pop()
            if type == Reference(name):
                return True
            match type:
                case Reference() if type.name in self.types and type.name not in seen:
                    seen.add(type.name)
                    waiting.append(self.types[type.name].type)
                case ListOf():
                    waiting.append(type.item)
                case MapOf():
                    waiting.append(type.value)
                case OneOf() | TupleOf():
                    waiting += _direct_parts(type)
        return False

    # -- reading

    def _resolved(self, item: Json) -> Json:
        """An object of the document, or the one that it refers to."""
        while isinstance(item, Mapping) and set(item) == {"$ref"}:
            target: Json = self._document
            for step in item["$ref"].removeprefix("#/").split("/"):
                target = target[step.replace("~1", "/").replace("~0", "~")]
            item = target
        return item

    def _new_name(self, wanted: str) -> str:
        """A name for a type that no other has, nor what is written by hand; it is taken from now on."""
        name = pascal(wanted)
        name += "Object" if name in _RESERVED else ""
        while name in self.types:
            name += "_"
        self.types[name] = Named(Anything())
        return name

    def _declare(self, own: str, schema: Schema) -> None:
        said = schema.get("description", "") if isinstance(schema, Mapping) else ""
        name = self._names[own]
        self.types[name] = Named(self._with_names(self._type(schema), name), said)

    def _with_names(self, type: Type, name: str) -> Type:  # noqa: PLR0911 - a row each
        """The same with a name for each object inside it, for not every language can write one down where it is."""
        match type:
            case Record():
                fields = (replace(own, type=self._named(own.type, name + pascal(own.name))) for own in type.fields)
                extra = None if type.extra is None else self._named(type.extra, f"{name}Value")
                return Record(tuple(fields), extra)
            case ListOf():
                return ListOf(self._named(type.item, f"{name}Item"))
            case MapOf():
                return MapOf(self._named(type.value, f"{name}Value"), type.key)
            case OneOf():
                options = enumerate(type.options, 1)
                return OneOf(tuple(self._named(option, f"{name}Option{number}") for number, option in options))
            case AllOf():
                return AllOf(tuple(self._with_names(part, name) for part in type.parts))
            case TupleOf():
                items = enumerate(type.items, 1)
                named = tuple(self._named(item, f"{name}Item{number}") for number, item in items)
                return TupleOf(named, None if type.rest is None else self._named(type.rest, f"{name}Rest"))
        return type

    def _named(self, type: Type, name: str) -> Type:
        if not (isinstance(type, Record) and type.fields):
            return self._with_names(type, name)
        name = self._new_name(name)
        self.types[name] = Named(self._with_names(type, name))
        return Reference(name)

    def _know(self, error: Json, name: str = "") -> ErrorKind:
        error = self._resolved(error)
        code, message = int(error["code"]), str(error["message"])
        known = self._errors.get(code)
        data = known.data if known is not None else Anything()
        schema = error.get("data")
        if isinstance(schema, Mapping) and {"type", "$ref", "properties", "anyOf", "oneOf", "allOf"} & set(schema):
            data = self._type(schema)
        name = pascal(name) if name else known.name if known is not None else pascal(message)
        self._errors[code] = kind = self._kind(name, code, message, data)
        return kind

    def _kind(self, name: str, code: int, message: str, data: Type) -> ErrorKind:
        if name in self.types:
            name += "Error"
        data_name = name + "Data"
        while data_name in self.types:
            data_name += "Value"
        return ErrorKind(name, code, message, self._with_names(data, data_name), data_name)

    def _method(self, method: Json) -> Method:
        name = method["name"]
        descriptors = [self._resolved(descriptor) for descriptor in method.get("params", [])]
        is_whole = len(descriptors) == 1 and descriptors[0]["name"] == "params"
        if is_whole:
            params = self._type(descriptors[0].get("schema", True))
        else:
            fields = [
                Field(
                    descriptor["name"],
                    self._type(descriptor.get("schema", True)),
                    bool(descriptor.get("required")),
                    _said(descriptor.get("description") or descriptor.get("summary")),
                    _default(descriptor.get("schema", True)),
                )
                for descriptor in descriptors
            ]
            params = Record(tuple(fields))
        if not isinstance(params, Reference):
            own = self._new_name(pascal(name) + "Params")
            self.types[own] = Named(self._with_names(params, own))
            params = Reference(own)
        shape = self.resolve(params)
        needs = not isinstance(shape, Record) or any(field.is_required for field in shape.fields)
        result = self._resolved(method.get("result") or {})
        errors = [self._know(error).name for error in method.get("errors", [])]
        return Method(
            name=name,
            summary=_said(method.get("description") or method.get("summary")),
            params=params,
            needs_params=needs,
            result=self._named(self._type(result.get("schema", True)), pascal(name) + "Result"),
            errors=tuple(dict.fromkeys(errors)),
        )

    def _find_notifications(self) -> Iterator[Notification]:
        for name, named in self.types.items():
            if not name.endswith("Notice"):
                continue
            told = _NAMES_NOTIFICATION.search(named.description)
            notification = _NOTICES.get(name) or (told and told[1])
            if notification:
                shape = self.resolve(Reference(name))
                members = {field.name for field in shape.fields} if isinstance(shape, Record) else set()
                yield Notification(notification, name, {"event_id", "subscription"} <= members)

    def _type(self, schema: Schema) -> Type:
        if isinstance(schema, bool):
            return Anything()
        for definitions in ("$defs", "definitions"):
            for name, definition in schema.get(definitions, {}).items():
                if name not in self._names:
                    self._names[name] = self._new_name(name)
                    self._declare(name, definition)
        parts = list(self._parts(schema))
        type = Anything() if not parts else parts[0] if len(parts) == 1 else AllOf(tuple(parts))
        if schema.get("nullable") is True:
            return _one_of([type, Scalar("null")])
        return type

    def _parts(self, schema: Mapping[str, Any]) -> Iterator[Type]:
        """What a value must be, all at once; the first that says enough ends it."""
        if "$ref" in schema:
            named = schema["$ref"].rsplit("/", 1)[-1]
            yield Reference(self._names[named]) if named in self._names else Anything()
        for part in schema.get("allOf", ()):
            yield self._type(part)
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                yield _one_of([self._type(option) for option in schema[choice]])
        if "const" in schema:
            yield _literals([schema["const"]])
        elif "enum" in schema:
            yield _literals(schema["enum"])
        elif "type" in schema and isinstance(schema["type"], list):
            yield _one_of([self._of_kind(kind, schema) for kind in schema["type"]])
        elif "type" in schema and not (schema["type"] == "object" and _is_bare(schema)):
            yield self._of_kind(schema["type"], schema)
        elif {"properties", "additionalProperties"} & set(schema):
            yield self._of_kind("object", schema)
        elif {"items", "prefixItems"} & set(schema):
            yield self._of_kind("array", schema)

    def _of_kind(self, kind: str, schema: Mapping[str, Any]) -> Type:
        match kind:
            case "object":
                return self._object(schema)
            case "array":
                return self._array(schema)
            case "string" | "integer" | "number" | "boolean" | "null":
                return Scalar(kind, schema.get("format", ""), schema.get("minimum"), schema.get("maximum"))
        return Anything()

    def _object(self, schema: Mapping[str, Any]) -> Type:
        others = schema.get("additionalProperties")
        patterns = list(schema.get("patternProperties", {}).values())
        extra = None if others is None or others is False else self._type(others)
        if patterns:
            extra = _one_of([*map(self._type, patterns), *([] if extra is None else [extra])])
        if "properties" not in schema and "required" not in schema:
            if others is False and not patterns:
                return Record(())
            key = self._type(schema["propertyNames"]) if "propertyNames" in schema else Scalar("string")
            return MapOf(extra or Anything(), Scalar("string") if isinstance(key, Anything) else key)
        required = set(schema.get("required", ()))
        members = dict(schema.get("properties", {}))
        members |= {name: True for name in schema.get("required", ()) if name not in members}
        fields = [
            Field(name, self._type(member), name in required, _said_in(member), _default(member))
            for name, member in members.items()
        ]
        return Record(tuple(fields), extra)

    def _array(self, schema: Mapping[str, Any]) -> Type:
        items = schema.get("items")
        first = schema.get("prefixItems", items if isinstance(items, list) else None)
        if first is not None:
            rest = schema.get("additionalItems" if isinstance(items, list) else "items", False)
            is_closed = rest is False or schema.get("maxItems") == len(first)
            return TupleOf(tuple(map(self._type, first)), None if is_closed else self._type(rest))
        return ListOf(Anything() if items is None else self._type(items))


def _is_bare(schema: Mapping[str, Any]) -> bool:
    """Whether `type: object` says nothing that $ref, allOf or a choice beside it does not say better."""
    composed = {"$ref", "allOf", "oneOf", "anyOf"} & set(schema)
    return bool(composed) and not {"properties", "additionalProperties", "patternProperties"} & set(schema)


def _one_of(options: list[Type]) -> Type:
    flat: dict[Type, None] = {}
    for option in options:
        for part in option.options if isinstance(option, OneOf) else (option,):
            flat[part] = None
    if Anything() in flat:
        return Anything()
    return next(iter(flat)) if len(flat) == 1 else OneOf(tuple(flat))


def _literals(values: list[Json]) -> Type:
    if any(isinstance(value, (list, dict)) for value in values):
        return Anything()
    return Literals(tuple(values))


def _direct_parts(type: Type) -> Iterator[Type]:
    match type:
        case Record():
            yield from (member.type for member in type.fields)
        case OneOf():
            yield from type.options
        case AllOf():
            yield from type.parts
        case TupleOf():
            yield from type.items
        case Reference():
            yield type


def _said(words: Json) -> str:
    return str(words or "")


def _said_in(schema: Schema) -> str:
    return "" if isinstance(schema, bool) else _said(schema.get("description"))


def _default(schema: Schema) -> str:
    if isinstance(schema, bool) or "default" not in schema:
        return ""
    return json.dumps(schema["default"], ensure_ascii=False)


# -- names

_WORD: Final = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+|[0-9]+")


def _words(name: str) -> list[str]:
    return _WORD.findall(name)


def pascal(name: str) -> str:
    """`flow.submit` → FlowSubmit. What is a name of a type already stays."""
    if re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
        return name
    made = "".join(word[:1].upper() + word[1:] for word in _words(name)) or "Unnamed"
    return made if not made[0].isdigit() else f"N{made}"


def camel(name: str) -> str:
    """`rotate_key` → rotateKey."""
    first, *rest = _words(name) or ["unnamed"]
    made = first.lower() + "".join(word[:1].upper() + word[1:] for word in rest)
    return made if not made[0].isdigit() else f"n{made}"


def snake(name: str) -> str:
    """`WaitingForPrerequisites` → waiting_for_prerequisites."""
    made = "_".join(word.lower() for word in _words(name)) or "unnamed"
    return made if not made[0].isdigit() else f"n{made}"
