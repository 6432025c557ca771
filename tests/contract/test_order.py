"""Calls of one connection to one context take effect in the order in which they were sent."""

from __future__ import annotations

from tests.support.clients import Client
from tests.support.records import create, load, sample

FLOWS = 120  # more than are found in one step


def test_what_is_sent_behind_a_call_for_many_flows_finds_them_done(client: Client, context: int) -> None:
    of_all = {"context_id": context, "filter": {}}
    ids = range(1, FLOWS + 1)
    client.results([create("job", context, sample("job", context, id, prerequisites=["never"])) for id in ids])
    client.results([create("flow", context, sample("flow", context, id, jobs=[id])) for id in ids])
    client.results([("flow.start", {"context_id": context, "id": id}) for id in ids])

    cancelled, *loaded = client.results(
        [("flow.cancel_many", of_all), *(load("flow", context, id) for id in (1, FLOWS // 2, FLOWS))]
    )
    deleted, left = client.results([("flow.delete_many", of_all), ("flow.list", {"context_id": context})])

    assert cancelled["done"] == deleted["done"] == FLOWS
    assert {flow["status"] for flow in loaded} == {"Error"}
    assert left["items"] == []
