"""The document is one by the rules of OpenRPC, of each version that tools go by; and it leaves nothing unexplained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT7

from coordinator import errors
from coordinator.errors import CoordinatorError
from tests.support.contract import Contract

METASCHEMAS: Final = Path(__file__).with_name("metaschemas")
DOCUMENT: Final[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "specs" / "openrpc.json").read_text())
EXAMPLES: Final = [
    (method["name"], example) for method in DOCUMENT["methods"] for example in method.get("examples", [])
]


def read(name: str) -> Any:
    return json.loads((METASCHEMAS / f"{name}.json").read_text())


def registry() -> Registry[Any]:
    """With the meta-schemas of JSON Schema to which those of OpenRPC refer."""
    by_uri = {
        "https://raw.githubusercontent.com/json-schema-tools/meta-schema/1.3.0/src/schema.json": "json-schema-1.3.0",
        "https://meta.json-schema.tools": "json-schema-1.8.0",
        "https://meta.json-schema.tools/": "json-schema-1.8.0",
    }
    # Their `$id` is another one than that by which they are referred to.
    contents = {name: {key: value for key, value in read(name).items() if key != "$id"} for name in by_uri.values()}
    return Registry().with_resources([(uri, DRAFT7.create_resource(contents[name])) for uri, name in by_uri.items()])


def faults(version: str, document: dict[str, Any]) -> list[str]:
    # Their `$schema` is one that validators do not know; it says what draft 7 does.
    schema = {key: value for key, value in read(f"openrpc-{version}").items() if key not in ("$schema", "$id")}
    validator = jsonschema.Draft7Validator(schema, registry=registry())
    return [
        f"{'/'.join(map(str, fault.absolute_path))}: {fault.message[:200]}" for fault in validator.iter_errors(document)
    ]


@pytest.mark.parametrize(
    ("version", "declared"),
    # The contract says 1.2.6. That of 1.3 takes it as well; that of 1.4 takes nothing but 1.4.
    [("1.2.6", "1.2.6"), ("1.3", "1.3.2"), ("1.4", "1.4.1")],
)
def test_the_document_is_valid(version: str, declared: str) -> None:
    assert DOCUMENT["openrpc"] == "1.2.6"

    assert faults(version, {**DOCUMENT, "openrpc": declared}) == []


@pytest.mark.parametrize("version", ["1.2.6", "1.3", "1.4"])
def test_what_is_wrong_is_found(version: str) -> None:
    declared = "1.4.1" if version == "1.4" else "1.2.6"
    method = {**DOCUMENT["methods"][0], "params": [{"name": "params", "schema": {"type": "no type"}}]}

    found = faults(version, {**DOCUMENT, "openrpc": declared, "methods": [method]})

    assert found
    assert all(fault.startswith("methods/0") for fault in found)


def test_each_method_and_each_type_and_each_member_is_described() -> None:
    """Words belong to the model's member, or to coordinator/rpc/describing.py."""
    lacking = [method["name"] for method in DOCUMENT["methods"] if not method["description"].endswith((".", "?"))]
    for method in DOCUMENT["methods"]:
        lacking += [method["name"] for part in (method["result"], *method["params"]) if not part.get("description")]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if schema["title"] != name or schema.get("description", f"{name}.") == f"{name}.":
            lacking.append(name)
        for member, described in schema.get("properties", {}).items():
            text = described.get("description", "")
            if text.lower().strip(".") in ("", member.replace("_", " ")):
                lacking.append(f"{name}.{member}")

    assert lacking == []


def test_every_error_there_is_is_among_its_components() -> None:
    def all_of(error: type[CoordinatorError]) -> set[type[CoordinatorError]]:
        return {below for own in error.__subclasses__() for below in (own, *all_of(own))}

    components = DOCUMENT["components"]["errors"]
    assert {(error.code, error.message) for error in all_of(CoordinatorError)} == {
        (error["code"], error["message"]) for error in components.values()
    }
    assert {name: getattr(errors, name).code for name in components} == {
        name: error["code"] for name, error in components.items()
    }


def test_each_method_has_an_example_with_its_result() -> None:
    names = {name for name, _ in EXAMPLES}

    lacking = [method["name"] for method in DOCUMENT["methods"] if method["name"] not in names]
    assert lacking == [], "see UNRECORDED in tools/reference/scenario.py"


@pytest.mark.parametrize(("method", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_its_examples_are_as_their_types_say(method: str, example: dict[str, Any]) -> None:
    contract = Contract(DOCUMENT)

    contract.check_params(method, example["params"][0]["value"])
    contract.check_result(method, example["result"]["value"])
