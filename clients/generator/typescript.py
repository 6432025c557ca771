"""Writes TypeScript: `clients/typescript/src/api.ts`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

from clients.generator.document import (
    AllOf,
    Anything,
    Document,
    ErrorKind,
    Field,
    ListOf,
    Literals,
    MapOf,
    Method,
    OneOf,
    Record,
    Reference,
    Scalar,
    TupleOf,
    Type,
    camel,
)

__all__ = ["write"]

_HEAD: Final = """\
// Made by `make clients` from specs/openrpc.json. What is changed here is gone with the next run.

import { RpcError, type CallOptions } from "./rpc.js";
"""

_BIND: Final = """\
/** Makes a call. */
export type Call = <M extends MethodName>(
  method: M,
  params: Methods[M]["params"],
  options?: CallOptions,
) => Promise<Methods[M]["result"]>;

/** All methods, each making its call by `call`. */
export function bind(call: Call): Api {
  const api: Record<string, Record<string, unknown>> = {};
  for (const [group, name, method] of places) {
    (api[group] ??= {})[name] = (params: object = {}, options?: CallOptions) =>
      call(method, params as never, options);
  }
  return api as unknown as Api;
}
"""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_WIDTH: Final = 110


def write(document: Document) -> str:
    """The whole file."""
    parts = [
        _HEAD,
        f"/** Version of the API these types are of. */\nexport const API_VERSION = {_text(document.version)};\n",
    ]
    parts += [_declaration(name, named.type, named.description) for name, named in document.types.items()]
    parts += [_methods(document), _notifications(document)]
    parts += [_error(kind) for kind in document.errors]
    parts += [_errors(document), _api(document), _BIND]
    return "\n".join(parts)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _comment(words: str, indent: str = "") -> str:
    words = re.sub(r"\s+\n", "\n", words.strip()).replace("*/", "*\\/")
    if not words:
        return ""
    if "\n" not in words and len(indent) + len(words) <= _WIDTH:
        return f"{indent}/** {words} */\n"
    lines = [line for paragraph in words.split("\n") for line in _wrapped(paragraph, _WIDTH - len(indent))]
    body = "".join(f"{indent} * {line}".rstrip() + "\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"


def _wrapped(paragraph: str, width: int) -> Iterator[str]:
    line = ""
    for word in paragraph.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _declaration(name: str, type: Type, description: str) -> str:
    said = _comment(description)
    if isinstance(type, Record) and type.extra is None:
        return f"{said}export interface {name} {_members(type, '')}\n"
    return f"{said}export type {name} = {_type(type)};\n"


def _members(record: Record, indent: str) -> str:
    if not record.fields:
        return "{}"
    inner = indent + "  "
    lines = [
        _comment(_field_comment(field), inner)
        + f"{inner}{_member(field.name)}{'' if field.is_required else '?'}: {_type(field.type, inner)};\n"
        for field in record.fields
    ]
    return "{\n" + "".join(lines) + indent + "}"


def _field_comment(field: Field) -> str:
    default = field.default if field.default not in ('""', "") else ""
    said = field.description
    if default:
        said = f"{said.rstrip('.')}. Default: {default}" if said else f"Default: {default}"
    return said


def _member(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else _text(name)


def _type(type: Type, indent: str = "") -> str:  # noqa: PLR0911 - a row each
    match type:
        case Anything():
            return "unknown"
        case Scalar(kind="integer" | "number"):
            return "number"
        case Scalar():
            return type.kind
        case Literals():
            return " | ".join(map(_text, type.values)) or "never"
        case Reference():
            return type.name
        case ListOf():
            return f"{_grouped(type.item, indent)}[]"
        case TupleOf():
            rest = [] if type.rest is None else [f"...{_grouped(type.rest, indent)}[]"]
            return f"[{', '.join([*(_type(item, indent) for item in type.items), *rest])}]"
        case MapOf():
            key = _type(type.key, indent)
            # Where the set of keys is closed, any of them may be missing.
            member = "[name: string]" if key == "string" else f"[name in {key}]?"
            return f"{{ {member}: {_type(type.value, indent)} }}"
        case Record():
            shape = _members(type, indent)
            if type.extra is None:
                return shape
            extra = f"{{ [member: string]: {'unknown' if type.fields else _type(type.extra, indent)} }}"
            return extra if not type.fields else f"{shape} & {extra}"
        case OneOf():
            return " | ".join(_grouped(option, indent) for option in type.options)
        case AllOf():
            return " & ".join(_grouped(part, indent) for part in type.parts)


def _grouped(type: Type, indent: str) -> str:
    written = _type(type, indent)
    compound = (OneOf, AllOf, Literals)
    needs = (isinstance(type, compound) and (" | " in written or " & " in written)) or (
        isinstance(type, Record) and type.extra is not None
    )
    return f"({written})" if needs else written


def _place(name: str) -> tuple[str, str]:
    """The group and the name a method has in the client."""
    *group, own = name.split(".")
    return camel("_".join(group)) if group else "rpc", camel(own)


def _methods(document: Document) -> str:
    rows = "".join(
        f"  {_text(method.name)}: {{ params: {_type(method.params, '  ')}; result: {_type(method.result, '  ')} }};\n"
        for method in document.methods
    )
    return (
        f"/** What each method takes and returns. */\nexport interface Methods {{\n{rows}}}\n\n"
        "export type MethodName = keyof Methods;\n"
    )


def _notifications(document: Document) -> str:
    rows = "".join(f"  {_text(told.name)}: {told.params};\n" for told in document.notifications)
    methods = {method.name: method for method in document.methods}
    events = ""
    for told in document.notifications:
        subscribe = told.name.split(".")[0] + ".subscribe"
        if told.is_event and subscribe in methods:
            events += f"  {_text(subscribe)}: {{ params: {_type(methods[subscribe].params)}; event: {told.params} }};\n"
    return (
        f"/** What the coordinator sends by itself, on a WebSocket. */\nexport interface Notifications {{\n{rows}}}\n\n"
        "/** Subscriptions to events, which go on after any of them. */\n"
        f"export interface EventSubscriptions {{\n{events}}}\n"
    )


def _error(kind: ErrorKind) -> str:
    return (
        _comment(f"{kind.message} ({kind.code}).") + f"export class {kind.name} extends RpcError<{kind.name}Data> {{\n"
        f"  static readonly code = {kind.code};\n"
        f"  override readonly name: string = {_text(kind.name)};\n}}\n\n"
        f"export type {kind.data_name} = {_type(kind.data)};\n"
    )


def _errors(document: Document) -> str:
    rows = "".join(f"  {kind.name},\n" for kind in document.errors)
    return f"/** The class of each error. */\nexport const errorClasses = [\n{rows}] as const;\n"


def _api(document: Document) -> str:
    groups: dict[str, list[Method]] = {}
    for method in document.methods:
        groups.setdefault(_place(method.name)[0], []).append(method)
    written = ""
    places = ""
    for group, methods in groups.items():
        written += f"  readonly {_member(group)}: {{\n"
        for method in methods:
            name = _place(method.name)[1]
            written += _comment(_method_comment(method), "    ")
            params = f"params{'' if method.needs_params else '?'}: {_type(method.params, '    ')}"
            written += (
                f"    {_member(name)}({params}, options?: CallOptions): Promise<{_type(method.result, '    ')}>;\n"
            )
            places += f"  [{_text(group)}, {_text(name)}, {_text(method.name)}],\n"
        written += "  };\n"
    return (
        f"/** Every method, by its subject. */\nexport interface Api {{\n{written}}}\n\n"
        f"const places: readonly (readonly [string, string, MethodName])[] = [\n{places}];\n"
    )


def _method_comment(method: Method) -> str:
    said = method.summary
    if method.errors:
        said += f"\n\nThrows {', '.join(method.errors)}."
    return said
