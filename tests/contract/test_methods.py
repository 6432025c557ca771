"""Each method on both transports, alone and in batches: requests and results are what the contract's schemas say."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.clients import Call, Client
from tests.support.contract import Contract, reference
from tests.support.records import KINDS, as_sent, create, dag, load, sample

METHODS = sorted(reference().methods)


@pytest.fixture
def calls(context: int) -> dict[str, Call]:
    """A call of every method, each of which has a result if made in this order."""
    jobs = [sample("job", context, 1), sample("job", context, 2, depends=[1], result={"answer": "42"})]
    records = {
        **{kind: sample(kind, context, context) for kind in KINDS},
        "job": jobs[0],
        "flow": sample("flow", context, context, jobs=[1]),
        "message": sample("message", context, context, job=jobs, logs=["sent"]),
    }
    made = [create(kind, context, record) for kind, record in records.items()]
    loaded = [load(kind, context, record["id"]) for kind, record in records.items()]
    return {method: (method, params) for method, params in [*made, *loaded, dag(context, context)]}


@pytest.fixture(params=["reference", "served"])
def contract(request: pytest.FixtureRequest, client: Client) -> Contract:
    """What was agreed, and what the server says of itself."""
    return reference() if request.param == "reference" else Contract(client.result("rpc.discover", {}))


def preparing(method: str, calls: dict[str, Call]) -> Sequence[Call]:
    """What must have been called for this method to have a result."""
    kind = method.partition(".")[0]
    return [] if method.endswith(".create") else [calls["job.create"], calls[f"{kind}.create"]]


def test_every_method_of_the_contract_is_called(calls: dict[str, Call]) -> None:
    assert sorted(calls) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_call_and_its_result_are_as_the_contract_says(
    client: Client, contract: Contract, calls: dict[str, Call], method: str
) -> None:
    for call in preparing(method, calls):
        client.result(*call)
    _, params = calls[method]

    result = client.result(method, params)

    contract.check_params(method, params)
    contract.check_result(method, result)


def test_all_methods_in_one_batch_have_the_results_the_contract_says(
    client: Client, contract: Contract, calls: dict[str, Call]
) -> None:
    results = client.results([*calls.values()])

    for method, result in zip(calls, results, strict=True):
        contract.check_result(method, result)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_created_is_what_is_loaded(client: Client, context: int, kind: str) -> None:
    created = client.result(*create(kind, context, sample(kind, context, context)))

    assert client.result(*load(kind, context, context)) == created


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_holds_every_member_that_was_sent(client: Client, context: int, kind: str) -> None:
    record = sample(kind, context, context)

    created = client.result(*create(kind, context, record))

    assert as_sent(created, record) == record
