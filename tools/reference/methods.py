"""The pages of methods, types and errors, from the OpenRPC document and the table of methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from coordinator.errors import DOCUMENTED_ERRORS
from coordinator.rpc.access.rights import ROLES, TABLE, Cell, Right
from coordinator.rpc.methods import METHODS
from coordinator.rpc.methods.method import Live
from coordinator.rpc.openrpc import NOTIFICATIONS, document, exchanges
from tools.reference.markdown import GENERATED, code, json_block, table

__all__ = ["pages"]

SUBJECTS: Final = {
    "actor": "Who calls: people and programs.",
    "context": "Tenants. Each has its own jobs, flows, messages and runners.",
    "runner": "The processes that do the jobs of a context.",
    "flow": "Jobs that depend on each other: creating, running, following and deleting them.",
    "job": "Jobs, what runners report on their attempts, and logs.",
    "message": "Messages with jobs in them.",
    "prerequisite": "External conditions that jobs wait for.",
    "auth": "Logging in.",
    "token": "Tokens, by which programs are who made them.",
}
"""By the part of a method's name before the dot, in the order of the pages."""

TYPES: Final = "../types.md"
"""The page of types, from those of methods."""

SENT: Final = {
    "runner.job": "It hands an attempt at a job to a runner, after "
    "[`runner.subscribe`](methods/runner.md#runnersubscribe).",
    "runner.cancel": "It asks a runner to stop an attempt, whose outcome is no longer wanted.",
    "flow.event": "It tells what has happened to a flow, after [`flow.subscribe`](methods/flow.md#flowsubscribe).",
    "context.event": "It tells what has happened to any flow of a context, after "
    "[`context.subscribe`](methods/context.md#contextsubscribe).",
    "auth.ended": "It says that a subscription, or the whole login, has ended, as a right, a token or a key is gone. "
    "In the second case the connection is closed with 1008.",
}
"""When each notification is sent."""

DISCOVER: Final = (
    "## rpc.discover\n\nReturns the OpenRPC document of this server: every method with its params, result and errors. "
    "It takes no params and needs no login. `GET /openrpc.json` returns the same.\n"
)


def pages() -> dict[str, str]:
    """By path below docs/reference/."""
    described = document()
    types = described["components"]["schemas"]
    by_subject: dict[str, list[dict[str, Any]]] = {subject: [] for subject in SUBJECTS}
    for method in described["methods"]:
        by_subject.setdefault(method["name"].partition(".")[0], []).append(method)
    made = {f"methods/{subject}.md": _subject_page(subject, methods, types) for subject, methods in by_subject.items()}
    made["methods/rpc.md"] = f"{GENERATED}\n# rpc\n\n{DISCOVER}"
    made["methods.md"] = _index(by_subject)
    made["notifications.md"] = _notifications_page(types)
    made["types.md"] = _types_page(types)
    return made


def _index(by_subject: Mapping[str, list[dict[str, Any]]]) -> str:
    parts = [
        GENERATED,
        "# Methods\n",
        "Every method, by what it is about. `rpc.discover` returns all of this as an OpenRPC document, and "
        "[`specs/openrpc.json`](../../specs/openrpc.json) is that document with the default ports. [The rules of the "
        "API](api.md) hold for all of them.\n",
        "A method marked WS needs a WebSocket, because it sends notifications.\n",
    ]
    for subject, methods in by_subject.items():
        rows = [
            (
                _link(method["name"], f"methods/{subject}.md"),
                "WS" if _needs_websocket(method) else "",
                method["summary"],
            )
            for method in methods
        ]
        parts += [f"## {subject}\n", SUBJECTS.get(subject, ""), "", table(("method", "", "what it does"), rows)]
    parts += [
        "## rpc\n",
        table(("method", "", "what it does"), [("[`rpc.discover`](methods/rpc.md)", "", "the document")]),
    ]
    return "\n".join(parts)


def _needs_websocket(method: Mapping[str, Any]) -> bool:
    return any(error["$ref"].endswith("/WebSocketRequired") for error in method["errors"])


def _anchor(name: str) -> str:
    """As Markdown makes it of a heading."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter in "_-")


def _link(name: str, page: str = "") -> str:
    return f"[`{name}`]({page}#{_anchor(name)})"


def _subject_page(subject: str, methods: list[dict[str, Any]], types: Mapping[str, Any]) -> str:
    parts = [GENERATED, f"# {subject}\n"]
    if subject in SUBJECTS:
        parts.append(SUBJECTS[subject] + "\n")
    return "\n".join([*parts, *(_method(method, types) for method in methods)])


def _method(method: Mapping[str, Any], types: Mapping[str, Any]) -> str:
    name = method["name"]
    row = METHODS[name]
    parts = [f"## {name}\n", method["description"] + "\n"]
    if _needs_websocket(method):
        parts.append("It needs a WebSocket.\n")
    elif isinstance(row.does, Live) and row.does.needs_reply:
        parts.append("It cannot be a notification.\n")
    params = method["params"][0]["schema"]["$ref"].rpartition("/")[2]
    members = _members(types[params], TYPES)
    parts.append(f"**Params**\n\n{members}" if members else "**Params**: none.\n")
    result = method["result"]["schema"]["$ref"].rpartition("/")[2]
    parts.append(f"**Result**: {_link(result, TYPES)}. {method['result']['description']}\n")
    parts.append(f"**Errors**: {', '.join(_error(error['$ref'].rpartition('/')[2]) for error in method['errors'])}.\n")
    parts.append(f"**Who may call it** with logins: {_who(row.right)}\n")
    for example in method.get("examples", ()):
        request = {"jsonrpc": "2.0", "id": 1, "method": name, "params": example["params"][0]["value"]}
        reply = {"jsonrpc": "2.0", "id": 1, "result": example["result"]["value"]}
        parts += ["Request:\n", json_block(request), "Reply:\n", json_block(reply)]
    return "\n".join(parts)


def _notifications_page(types: Mapping[str, Any]) -> str:
    parts = [
        GENERATED,
        "# Notifications\n",
        "What the coordinator sends on a WebSocket without being asked each time. A notification has no id, and no "
        "reply is due. None precedes the reply that names its subscription. With `batch` in the subscribe call several "
        "come as one array.\n",
    ]
    recorded = exchanges()
    for name, model in NOTIFICATIONS.items():
        parts += [
            f"## {name}\n",
            f"{SENT.get(name, '')} Its params are {_link(model.__name__, 'types.md')}.\n".lstrip(),
        ]
        if name in recorded:
            parts.append(json_block({"jsonrpc": "2.0", "method": name, "params": recorded[name].params}))
    return "\n".join(parts)


def _error(name: str) -> str:
    return f"{DOCUMENTED_ERRORS[name].code} {name}"


def _who(right: Right | None) -> str:
    if right is None:
        return "nobody."
    if right is Right.PUBLIC:
        return "everybody, without a login too."
    if right is Right.SIGNED_IN:
        return "whoever has logged in."
    row = TABLE[right]
    told = []
    for role in ROLES:
        match row.of(role):
            case Cell.NO:
                continue
            case Cell.YES:
                told.append(role.value)
            case other:
                told.append(f"{role.value} ({other.value})")
    return ", ".join(told) + "."


def _members(schema: Mapping[str, Any], types_page: str) -> str:
    """A table of the members, empty if there are none."""
    required = set(schema.get("required", ()))
    rows = [
        (
            code(name),
            _type(member, types_page),
            "yes" if name in required else _default(member),
            member["description"] + _bounds(member),
        )
        for name, member in schema.get("properties", {}).items()
    ]
    return table(("member", "type", "required", "meaning"), rows) if rows else ""


def _default(member: Mapping[str, Any]) -> str:
    return f"no: `{json.dumps(member['default'])}`" if "default" in member else "no"


def _type(member: Mapping[str, Any], types_page: str) -> str:
    if "$ref" in member:
        return _link(member["$ref"].rpartition("/")[2], types_page)
    match member.get("type"):
        case "array":
            items = member.get("items")
            return f"list of {_type(items, types_page)}" if isinstance(items, dict) else "pair of integers"
        case "object":
            return f"map of {_type(member.get('additionalProperties', {}), types_page)}"
        case str(name):
            return str(member.get("format", name))
    if "const" in member or "enum" in member:
        return "one of " + ", ".join(code(value) for value in member.get("enum", [member.get("const")]))
    return "any"


def _bounds(member: Mapping[str, Any]) -> str:
    """What a value must keep to, where its type does not say it already."""
    told = []
    if "format" not in member:
        low, high = member.get("minimum"), member.get("maximum")
        if low is not None and high is not None:
            told.append(f"{low} to {high}")
        elif low is not None and low != 0:
            told.append(f"at least {low}")
    for key, what in (("maxLength", "characters"), ("maxItems", "items"), ("maxProperties", "members")):
        if key in member:
            told.append(f"at most {member[key]:,} {what}")
    if "minItems" in member:
        told.append(f"at least {member['minItems']}")
    return f". {'; '.join(told).capitalize()}" if told else ""


def _types_page(types: Mapping[str, Any]) -> str:
    parts = [
        GENERATED,
        "# Types\n",
        "What methods take and return. A member that is not required may be left out, but is never null. Numbers named "
        "uint32 are from 0 to 4,294,967,295.\n",
    ]
    for name, schema in sorted(types.items()):
        parts += [f"## {name}\n", schema["description"].rstrip(".") + ".\n"]
        if "enum" in schema:
            parts.append(f"One of {', '.join(code(value) for value in schema['enum'])}.\n")
        elif "properties" in schema:
            parts.append(_members(schema, ""))
        elif "type" in schema:
            parts.append(f"It is a {'list' if schema['type'] == 'array' else schema['type']}.\n")
    return "\n".join(parts)
