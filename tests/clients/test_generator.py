"""The generated files are those of specs/openrpc.json, and its like can be read with whatever schemas it has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from clients.generator import typescript
from clients.generator.document import (
    AllOf,
    Anything,
    Document,
    Field,
    ListOf,
    Literals,
    MapOf,
    OneOf,
    Record,
    Reference,
    Scalar,
    TupleOf,
)
from clients.generator.files import ROOT, files
from coordinator import __version__
from coordinator.errors import CoordinatorError
from tests.clients.odd import ODD

OPENRPC = json.loads((ROOT / "specs" / "openrpc.json").read_text())


@pytest.mark.parametrize("path", sorted(files(OPENRPC)), ids=lambda path: path.name)
def test_what_is_committed_is_what_the_document_says(path: Path) -> None:
    assert path.read_text() == files(OPENRPC)[path], "run `make clients`"


def test_every_error_the_coordinator_answers_with_has_its_class() -> None:
    known = {(kind.code, kind.name, kind.message) for kind in Document(OPENRPC).errors}

    assert known >= {(cls.code, cls.__name__, cls.message) for cls in CoordinatorError.__subclasses__()}


def test_the_version_is_ours() -> None:
    assert json.loads((ROOT / "clients" / "typescript" / "package.json").read_text())["version"] == __version__


def test_no_file_names_a_host_such_as_a_registrys() -> None:
    for path in (ROOT / "clients").rglob("*"):
        if path.is_file() and not {"node_modules", "dist", "target", "__pycache__"} & set(path.parts):
            hosts = re.findall(r"//([a-z][\w-]*(?:\.[\w-]+)+)", path.read_text())
            assert {host for host in hosts if not host.endswith(".example")} == set(), path


def test_schemas_of_all_kinds_are_read() -> None:
    document = Document(ODD)
    types = {name: named.type for name, named in document.types.items()}
    text, mood = Scalar("string"), Reference("Mood")

    assert types["Mood"] == Literals(("good", "so-so", "", "9 lives", "type", "Good"))
    assert types["Level"] == Literals((1, 2.5, None, True, "high"))
    assert types["Shape"] == OneOf((Reference("Circle"), Reference("Square")))
    assert types["Pair"] == TupleOf((text, Scalar("integer")))
    assert types["Row"] == TupleOf((text,), Scalar("boolean"))
    assert types["Counts"] == MapOf(Scalar("integer"), mood)
    assert types["Open"] == MapOf(Anything())
    assert types["Nothing"] == Record(())
    assert types["Whatever"] == Anything()
    assert types["Sized"] == mood
    assert (types["ResultObject"], types["ErrorObject"]) == (
        Record((Field("Error", Reference("ErrorObject"), is_required=False),)),
        Literals(("Value",)),
    )
    assert {types["StringList"], types["StringList_"]} == {text, ListOf(Literals(("x", "y")))}
    assert types["ShapeSubscribeResultInnerItem"] == Record((Field("x", Scalar("number"), is_required=False),))
    assert isinstance(types["Merged"], AllOf)
    assert isinstance(types["Inner"], Record)
    assert isinstance(wide := types["Wide"], Record)
    assert [(field.name, field.is_required) for field in wide.fields] == [
        ("type", True),
        ("a-b", False),
        ("self", False),
        ("func", False),
        ("unlisted", True),
    ]
    assert wide.fields[3].type == OneOf((text, Scalar("null")))
    assert document.is_recursive("Tree")
    assert not document.is_recursive("Shape")


def test_methods_are_read_however_their_params_are_given() -> None:
    methods = {method.name: method for method in Document(ODD).methods}

    assert (methods["shape.draw_all"].params, methods["shape.draw_all"].needs_params) == (Reference("DrawParams"), True)
    assert methods["shape.draw_all"].errors == ("TooRound", "NotAtAll")
    by_name = Document(ODD).resolve(methods["shape.by-name"].params)
    assert isinstance(by_name, Record)
    assert [(field.name, field.is_required, field.default) for field in by_name.fields] == [
        ("first", True, ""),
        ("second", False, '{"a": [1]}'),
    ]
    assert not methods["ping"].needs_params
    assert not methods["shape.subscribe"].needs_params


def test_what_typescript_is_made_of_them() -> None:
    written = typescript.write(Document(ODD))

    for line in (
        'export type Mood = "good" | "so-so" | "" | "9 lives" | "type" | "Good";',
        "export type Shape = Circle | Square;",
        "  left: Tree | null;",
        "export type Pair = [string, number];",
        "export type Row = [string, ...boolean[]];",
        "export type Counts = { [name in Mood]?: number };",
        "  moods?: Mood[];",
        '  /** Default: ["good"] */',
        "     * Draw *\\/ and \\ on",
        "    drawAll(params: DrawParams, options?: CallOptions): Promise<Shape>;",
        "    byName(params: ShapeByNameParams, options?: CallOptions): Promise<string | null>;",
        '  "shape.event": ShapeEventNotice;',
        '  "shape.subscribe": { params: SubscribeParams; event: ShapeEventNotice };',
        "export class TooRound extends RpcError<TooRoundData> {",
    ):
        assert f"\n{line}\n" in written, line
