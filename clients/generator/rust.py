"""Writes Rust: `clients/rust/src/api.rs`. Types are serde's to read and write."""

from __future__ import annotations

import json
import re
from typing import Final

from clients.generator.document import (
    AllOf,
    Document,
    ErrorKind,
    Field,
    ListOf,
    Literals,
    MapOf,
    Method,
    Named,
    OneOf,
    Record,
    Reference,
    Scalar,
    TupleOf,
    Type,
    pascal,
    snake,
)

__all__ = ["write"]

_HEAD: Final = """\
// Made by `make clients` from specs/openrpc.json. What is changed here is gone with the next run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rpc::{Caller, Error};
"""

_WORDS: Final = """
    as async await break const continue dyn else enum extern false fn for gen if impl in let loop match mod move mut pub
    ref return static struct trait true type unsafe use where while abstract become box do final macro override priv try
    typeof unsized virtual yield
"""
_KEYWORDS: Final = frozenset(_WORDS.split())
_NEVER_RAW: Final = frozenset(("self", "super", "crate", "_"))
_CHECKED: Final = {"f64": "crate::rpc::finite", "Option<f64>": "crate::rpc::finite_if_any"}
_INTEGERS: Final = {"uint32": "u32", "uint64": "u64", "int32": "i32"}
_ANY: Final = "Value"


class _Writer:
    def __init__(self, document: Document) -> None:
        self._document = document

    def file(self) -> str:
        document = self._document
        version = (
            f"/// Version of the API these types are of.\npub const API_VERSION: &str = {_text(document.version)};\n"
        )
        parts = [_HEAD, version]
        parts += [self._declaration(name, named) for name, named in document.types.items()]
        parts += [self._data(kind) for kind in document.errors]
        parts += [self._kinds(), self._notifications(), self._api()]
        return "\n".join(parts)

    def _declaration(self, name: str, named: Named) -> str:
        said = _comment(named.description)
        match named.type:
            case Literals(values) if values and all(isinstance(value, str) for value in values):
                return said + _enum(name, [str(value) for value in values])
            case Record():
                return said + self._struct(name, named.type.fields, (), has_extra=named.type.extra is not None)
            case AllOf(parts) if all(isinstance(self._document.resolve(part), Record) for part in parts):
                references = tuple(part for part in parts if isinstance(part, Reference))
                own = [part for part in parts if isinstance(part, Record)]
                fields = tuple(field for part in own for field in part.fields)
                return said + self._struct(name, fields, references, has_extra=False)
        written = _ANY if self._document.is_endless(name) else self._type(named.type)
        return f"{said}pub type {name} = {written};\n"

    def _struct(self, name: str, fields: tuple[Field, ...], bases: tuple[Reference, ...], *, has_extra: bool) -> str:
        body = ""
        taken: set[str] = set()
        for base in bases:
            body += f"    #[serde(flatten)]\n    pub {snake(base.name)}: {base.name},\n"
            taken.add(snake(base.name))
        for field in fields:
            own = _member(field.name)
            while own in taken:
                own += "_"
            taken.add(own)
            how = [] if own.removeprefix("r#") == field.name else [f"rename = {_text(field.name)}"]
            type = self._type(field.type)
            if not field.is_required:
                type = type if type.startswith("Option<") else f"Option<{type}>"
                how += ["default", 'skip_serializing_if = "Option::is_none"']
            if type in _CHECKED:  # serde_json writes null for what JSON has no number for
                how.append(f'serialize_with = "{_CHECKED[type]}"')
            body += _comment(field.description, "    ")
            body += f"    #[serde({', '.join(how)})]\n" if how else ""
            body += f"    pub {own}: {type},\n"
        if has_extra:
            body += "    #[serde(flatten)]\n    pub others: BTreeMap<String, Value>,\n"
        members = f" {{\n{body}}}" if body else " {}"
        return f"#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]\npub struct {name}{members}\n"

    def _type(self, type: Type) -> str:  # noqa: PLR0911 - a row each
        match type:
            case Scalar(kind="string"):
                return "String"
            case Scalar(kind="boolean"):
                return "bool"
            case Scalar(kind="number"):
                return "f64"
            case Scalar(kind="integer"):
                return _INTEGERS.get(type.format, "i64")
            case Literals(values) if values and all(isinstance(value, str) for value in values):
                return "String"
            case Reference():
                return f"Box<{type.name}>" if self._document.is_recursive(type.name) else type.name
            case ListOf():
                return f"Vec<{self._inner(type.item)}>"
            case MapOf():
                return f"BTreeMap<{self._key(type.key)}, {self._inner(type.value)}>"
            case TupleOf(items) if type.rest is None and items:
                written = ", ".join(map(self._type, items))
                return f"({written})" if len(items) > 1 else f"({written},)"
            case TupleOf():
                return f"Vec<{_ANY}>"
            case OneOf() if type.is_nullable:
                inner = self._type(type.without_null)
                return inner if inner.startswith("Option<") else f"Option<{inner}>"
        return _ANY

    def _inner(self, type: Type) -> str:
        """Inside a list or map, where nothing needs a box."""
        return type.name if isinstance(type, Reference) else self._type(type)

    def _key(self, type: Type) -> str:
        key = self._document.resolve(type)
        is_text = isinstance(key, Literals) and all(isinstance(value, str) for value in key.values)
        return type.name if is_text and isinstance(type, Reference) else "String"

    def _data(self, kind: ErrorKind) -> str:
        said = _comment(f"What comes with {kind.name}: {kind.message} ({kind.code}).")
        if isinstance(kind.data, Record):
            has_extra = kind.data.extra is not None
            return said + self._struct(kind.data_name, kind.data.fields, (), has_extra=has_extra)
        return f"{said}pub type {kind.data_name} = {self._type(kind.data)};\n"

    def _kinds(self) -> str:
        variants = "".join(
            f"    /// {kind.message} ({kind.code}).\n    {kind.name}(Option<{kind.data_name}>),\n"
            for kind in self._document.errors
        )
        cases = "".join(
            f"            {kind.code} => ErrorKind::{kind.name}(serde_json::from_value(data.clone()).ok()),\n"
            for kind in self._document.errors
        )
        return (
            "/// The errors by code, each with its data if that is as it is described.\n"
            "#[derive(Debug, Clone, PartialEq)]\n#[non_exhaustive]\n"
            f"pub enum ErrorKind {{\n{variants}    Unknown,\n}}\n\n"
            "impl ErrorKind {\n    pub(crate) fn of(code: i64, data: &Value) -> ErrorKind {\n"
            f"        match code {{\n{cases}            _ => ErrorKind::Unknown,\n        }}\n    }}\n}}\n"
        )

    def _notifications(self) -> str:
        told = self._document.notifications
        variants = "".join(f"    {pascal(one.name)}({one.params}),\n" for one in told)
        cases = "".join(
            f"            {_text(one.name)} => Notification::{pascal(one.name)}(serde_json::from_value(params)?),\n"
            for one in told
        )
        return (
            "/// What the coordinator sends by itself, on a WebSocket.\n"
            "#[derive(Debug, Clone, PartialEq)]\n#[non_exhaustive]\n"
            f"pub enum Notification {{\n{variants}    Other {{ method: String, params: Value }},\n}}\n\n"
            "impl Notification {\n"
            "    pub(crate) fn of(method: &str, params: Value) -> Result<Notification, serde_json::Error> {\n"
            f"        Ok(match method {{\n{cases}"
            "            _ => Notification::Other { method: method.to_owned(), params },\n        })\n    }\n}\n"
        )

    def _api(self) -> str:
        methods = "\n".join(map(self._method, self._document.methods))
        return (
            "/// Every method, for whatever makes calls.\n"
            f"pub trait Api: Caller {{\n{methods}}}\n\nimpl<C: Caller> Api for C {{}}\n"
        )

    def _method(self, method: Method) -> str:
        said = method.summary + (f"\n\nErrors: {', '.join(method.errors)}." if method.errors else "")
        name = "_".join(snake(part) for part in re.split(r"\W+", method.name))
        name = f"{name}_" if name in _KEYWORDS | {"call"} else name
        params, result = self._inner(method.params), self._inner(method.result)
        return (
            _comment(said, "    ") + f"    fn {name}(&mut self, params: &{params}) -> Result<{result}, Error> {{\n"
            f"        self.call({_text(method.name)}, params)\n    }}\n"
        )


def write(document: Document) -> str:
    """The whole file."""
    return _Writer(document).file()


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _comment(words: str, indent: str = "") -> str:
    lines = [line.strip() for line in words.strip().split("\n")] if words.strip() else []
    return "".join(f"{indent}///{' ' if line else ''}{line}\n" for line in lines)


def _enum(name: str, values: list[str]) -> str:
    body = ""
    taken: set[str] = set()
    for value in values:
        variant = "".join(pascal(word) for word in re.findall(r"\w+", value)) or "Empty"
        variant = variant if not variant[0].isdigit() and variant != "Self" else f"N{variant}"
        while variant in taken:
            variant += "_"
        taken.add(variant)
        body += "" if len(taken) > 1 else "    #[default]\n"
        body += (f"    #[serde(rename = {_text(value)})]\n" if variant != value else "") + f"    {variant},\n"
    return (
        "#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]\n"
        f"pub enum {name} {{\n{body}}}\n"
    )


def _member(name: str) -> str:
    made = name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else snake(name)
    if made in _NEVER_RAW:
        return f"{made}_"
    return f"r#{made}" if made in _KEYWORDS else made
