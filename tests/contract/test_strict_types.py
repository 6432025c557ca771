"""Nothing of a wrong type, out of range or misspelt gets in, wherever it is put; the answer says where it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.faults import faults
from tests.support.clients import Client
from tests.support.contract import reference
from tests.support.records import KINDS, create, dag, load, sample

CREATES = [f"{kind}.create" for kind in KINDS]
LOADS = [*(f"{kind}.load" for kind in KINDS), "flow.dag"]

FULLEST: dict[str, dict[str, Any]] = {
    "flow": {"jobs": [1], "env_vars": {"key": "a"}, "result": {"key": "a"}},
    "job": {"depends": [1], "env_vars": {"key": "a"}, "result": {"key": "a"}},
    "message": {"logs": ["sent"]},
}
"""Members that make places for every fault, optional ones too."""


def valid_params(method: str, context: int) -> dict[str, Any]:
    kind, _, verb = method.partition(".")
    if verb == "dag":
        return dag(context, context)[1]
    if verb == "load":
        return load(kind, context, context)[1]
    members = dict(FULLEST.get(kind, {}))
    if kind == "message":
        members["job"] = [sample("job", context, 1, **FULLEST["job"])]
    return create(kind, context, sample(kind, context, context, **members))[1]


@pytest.mark.parametrize("method", [*CREATES, *LOADS])
def test_a_fault_is_refused_with_its_place(client: Client, context: int, method: str) -> None:
    spoilt = [*faults(reference(), method, valid_params(method, context))]

    replies = client.batch([(method, fault.params) for fault in spoilt])

    for fault, reply in zip(spoilt, replies, strict=True):
        assert reply.get("error", {}).get("code") == -32602, (fault, reply)
        assert list(fault.place) in [found["loc"] for found in reply["error"]["data"]], (fault, reply)


@pytest.mark.parametrize("method", CREATES)
def test_nothing_is_stored_of_what_was_refused(client: Client, context: int, method: str) -> None:
    spoilt = [*faults(reference(), method, valid_params(method, context))]

    client.batch([(method, fault.params) for fault in spoilt])

    assert client.error(*load(method.partition(".")[0], context, context))["code"] == -32001


@pytest.mark.parametrize("method", CREATES)
def test_what_the_faults_are_made_from_is_accepted(client: Client, context: int, method: str) -> None:
    assert client.result(method, valid_params(method, context))["id"] == context


def test_all_faults_of_a_call_are_told_at_once(client: Client, context: int) -> None:
    runner = sample("runner", context, -1, address="x", local="yes")
    del runner["pubkey"]

    error = client.error(*create("runner", context, runner))

    assert {tuple(fault["loc"]) for fault in error["data"]} == {
        ("runner", member) for member in ("id", "pubkey", "address", "local")
    }


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("actor", {"address": []}),
        ("actor", {"address": ["0.0.0.0", "255.255.255.255", "::", "::ffff:10.0.0.1", "FE80::A"]}),
        ("context", {"admins": [0, 2**32 - 1], "readers": [1, 1]}),
        ("runner", {"address": "1::", "local": False}),
        ("flow", {"caller_id": 0}),
        ("flow", {"caller_id": 2**32 - 1, "jobs": [2**32 - 1, 0, 0]}),
        ("job", {"timeout": 2**32 - 1, "retries": 255}),
        ("job", {"timeout": 0, "retries": 0}),
        *(("job", {"script_type": name}) for name in ("Osis", "Sal", "V", "Python")),
        *(("message", {"message_type": name}) for name in ("Osis", "Sal", "V", "Python")),
        *(("message", {"message_format_type": name}) for name in ("Html", "Text", "Md")),
    ],
)
def test_the_ends_of_the_ranges_and_every_spelling_are_kept_as_written(
    client: Client, context: int, kind: str, members: dict[str, Any]
) -> None:
    created = client.result(*create(kind, context, sample(kind, context, context, **members)))

    assert {name: created[name] for name in members} == members


@pytest.mark.parametrize("id", [0, 2**32 - 1])
def test_the_ends_of_the_range_of_ids_are_ids(client: Client, context: int, id: int) -> None:
    client.result(*create("flow", context, sample("flow", context, id)))

    assert client.result(*load("flow", context, id))["id"] == id
