"""The OpenRPC document: the same wherever it is served but for the servers, and all that the contract has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients import PATIENCE, Client, HttpClient
from tests.support.contract import REFERENCE, Contract, reference
from tests.support.server import CoordinatorProcess, coordinator

CHECKED_IN = Path(__file__).parents[2] / "specs" / "openrpc.json"
ANNOTATIONS = ("description", "version")
EXAMPLES = [
    (method["name"], example["params"][0]["value"])
    for method in json.loads(CHECKED_IN.read_text())["methods"]
    for example in method.get("examples", [])
]
CREATES = [(method, params) for method, params in EXAMPLES if method.endswith(".create") and method != "token.create"]


def missing(agreed: Any, served: Any, path: str = "") -> list[str]:
    """What the one has and the other has not, or has otherwise."""
    if isinstance(agreed, dict) and isinstance(served, dict):
        return [
            line
            for name, value in agreed.items()
            if name not in ANNOTATIONS or not isinstance(value, str)
            for line in missing(value, served.get(name), f"{path}/{name}")
        ]
    if isinstance(agreed, list) and isinstance(served, list):
        if all(isinstance(item, dict) for item in agreed):
            return [line for item in agreed for line in _nearest(item, served, path)]
        return [] if sorted(agreed) == sorted(served) else [f"{path}: {agreed} became {served}"]
    return [] if agreed == served else [f"{path}: {agreed!r} became {served!r}"]


def _nearest(item: dict[str, Any], served: list[Any], path: str) -> list[str]:
    """Methods, params, servers and references are known by name, or by what they refer to."""
    identity = next(name for name in ("name", "$ref", "type") if name in item)
    alike = [other for other in served if other.get(identity) == item[identity]]
    name = f"{path}/{item[identity]}"
    return missing(item, alike[0], name) if alike else [f"{name}: missing"]


def with_servers_of(document: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {**document, "servers": other["servers"]}


def urls(document: dict[str, Any]) -> list[str]:
    assert [server["name"] for server in document["servers"]] == ["http", "ws"]
    return [server["url"] for server in document["servers"]]


def test_it_is_the_same_wherever_it_is_served(client: Client, http: httpx.Client) -> None:
    page = http.get("/openrpc.json")
    checked_in = json.loads(CHECKED_IN.read_text())

    assert page.headers["content-type"] == "application/json"
    assert page.json() == client.result("rpc.discover", [])
    assert with_servers_of(page.json(), checked_in) == checked_in


def test_it_says_where_the_server_is(server: CoordinatorProcess, client: Client, http: httpx.Client) -> None:
    assert urls(client.result("rpc.discover", None)) == [server.http, server.ws]
    assert urls(http.get("/openrpc.json", headers={"host": "localhost:1"}).json()) == [server.http, server.ws]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_on_every_address_it_says_the_one_the_client_used(tmp_path: Path, workers: str) -> None:
    wildcard = ("--api-http-ip", "0.0.0.0", "--api-ws-ip", "0.0.0.0", "--auth", "none", "--workers", workers)
    names = ("--allowed-hosts", "hero.example")
    with coordinator("--data-dir", str(tmp_path), *wildcard, *names) as server:
        http_port, ws_port = (url.rpartition(":")[2] for url in (server.http, server.ws))
        with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=PATIENCE, verify=False) as http:

            def at(host: str) -> list[str]:
                return urls(http.get("/openrpc.json", headers={"host": host}).json())

            discovered = HttpClient(http).result("rpc.discover", {})

            assert urls(discovered) == [f"http://localhost:{http_port}", f"ws://localhost:{ws_port}"]
            assert at(f"10.0.0.7:{http_port}") == [f"http://10.0.0.7:{http_port}", f"ws://10.0.0.7:{ws_port}"]
            assert at("hero.example:8080") == ["http://hero.example:8080", f"ws://hero.example:{ws_port}"]
            assert at("hero.example") == ["http://hero.example", f"ws://hero.example:{ws_port}"]
            assert at("[fd00::7]:1") == ["http://[fd00::7]:1", f"ws://[fd00::7]:{ws_port}"]
            assert http.get("/openrpc.json", headers={"host": '"><x'}).status_code == 403


def test_it_has_all_that_the_contract_has(client: Client) -> None:
    served = client.result("rpc.discover", {})

    assert missing(json.loads(REFERENCE.read_text()), with_servers_of(served, json.loads(CHECKED_IN.read_text()))) == []


def test_it_requires_no_more_than_the_contract(client: Client) -> None:
    served = Contract(client.result("rpc.discover", {}))

    agreed = {name: set(schema.get("required", ())) for name, schema in reference().schemas.items()}
    required = {name: set(served.schemas[name].get("required", ())) for name in agreed}
    assert required == agreed


def test_every_reference_in_it_leads_somewhere(client: Client) -> None:
    document = client.result("rpc.discover", {})

    for reference_text in _references(document):
        target = document
        for step in reference_text.removeprefix("#/").split("/"):
            target = target[step]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for item in node for found in _references(item)] if isinstance(node, list) else []


@pytest.mark.parametrize(("method", "params"), EXAMPLES, ids=[method for method, _ in EXAMPLES])
def test_its_examples_are_params_of_their_methods(method: str, params: dict[str, Any]) -> None:
    Contract(json.loads(CHECKED_IN.read_text())).check_params(method, params)


@pytest.mark.parametrize(("method", "params"), CREATES, ids=[method for method, _ in CREATES])
def test_its_examples_of_creating_work(client: Client, method: str, params: dict[str, Any]) -> None:
    reference().check_params(method, params)

    reference().check_result(method, client.result(method, params))


def test_every_create_has_an_example() -> None:
    assert {method for method, _ in CREATES} == {name for name in reference().methods if name.endswith(".create")}
