"""Who may call what: each method by each role, over each transport, in each form of params.

The table here is written by hand, from what was asked for; the one that the coordinator decides by is compared with it.
"""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.rpc.access.rights import TABLE, Cell, Right, Role
from coordinator.rpc.methods import METHODS
from tests.access import callers
from tests.access.callers import Caller, caller
from tests.access.conftest import ADMIN, CONTEXT, EXECUTOR, RUNNER
from tests.support.server import CoordinatorProcess

ROLES = ("operator", "admin", "executor", "reader", "runner", "stranger")
YES, NO = True, False

# operator, admin, executor, reader, runner, stranger. What is allowed in part is tried here on what is one's own.
RIGHTS: dict[str, tuple[bool, ...]] = {
    "actor.create": (YES, NO, NO, NO, NO, NO),
    "actor.load": (YES, NO, NO, NO, NO, NO),  # of another; one's own: see below
    "actor.rotate_key": (YES, NO, NO, NO, NO, NO),
    "actor.revoke": (YES, NO, NO, NO, NO, NO),
    "context.create": (YES, YES, NO, NO, NO, NO),
    "context.load": (YES, YES, YES, YES, YES, NO),
    "context.list": (YES, YES, YES, YES, YES, YES),
    "runner.create": (YES, YES, NO, NO, NO, NO),
    "runner.delete": (YES, YES, NO, NO, NO, NO),
    "runner.load": (YES, YES, YES, YES, YES, NO),
    "runner.list": (YES, YES, YES, YES, YES, NO),
    "runner.connected": (YES, YES, YES, YES, NO, NO),
    "context.stats": (YES, YES, YES, YES, NO, NO),
    "runner.subscribe": (NO, NO, NO, NO, YES, NO),
    "job.take": (NO, NO, NO, NO, YES, NO),
    "job.heartbeat": (NO, NO, NO, NO, YES, NO),
    "job.inputs": (NO, NO, NO, NO, YES, NO),
    "job.log": (NO, NO, NO, NO, YES, NO),
    "job.finish": (NO, NO, NO, NO, YES, NO),
    "job.fail": (NO, NO, NO, NO, YES, NO),
    "job.create": (YES, YES, YES, NO, NO, NO),
    "flow.create": (YES, YES, YES, NO, NO, NO),
    "message.create": (YES, YES, YES, NO, NO, NO),
    "flow.submit": (YES, YES, YES, NO, NO, NO),
    "flow.start": (YES, YES, YES, NO, NO, NO),
    "flow.retry": (YES, YES, YES, NO, NO, NO),
    "flow.cancel": (YES, YES, YES, NO, NO, NO),
    "message.send": (YES, YES, YES, NO, NO, NO),
    "flow.delete": (YES, YES, YES, NO, NO, NO),
    "job.delete": (YES, YES, YES, NO, NO, NO),
    "message.delete": (YES, YES, YES, NO, NO, NO),
    "job.load": (YES, YES, YES, YES, NO, NO),
    "job.list": (YES, YES, YES, YES, NO, NO),
    "flow.load": (YES, YES, YES, YES, NO, NO),
    "flow.list": (YES, YES, YES, YES, NO, NO),
    "message.load": (YES, YES, YES, YES, NO, NO),
    "message.list": (YES, YES, YES, YES, NO, NO),
    "flow.dag": (YES, YES, YES, YES, NO, NO),
    "flow.status": (YES, YES, YES, YES, NO, NO),
    "flow.events": (YES, YES, YES, YES, NO, NO),
    "flow.subscribe": (YES, YES, YES, YES, NO, NO),
    "context.events": (YES, YES, YES, YES, NO, NO),
    "context.subscribe": (YES, YES, YES, YES, NO, NO),
    "job.tail": (YES, YES, YES, NO, NO, NO),
    "job.attempts": (YES, YES, YES, YES, NO, NO),
    "prerequisite.satisfy": (YES, YES, YES, NO, NO, NO),
    "prerequisite.revoke": (YES, YES, YES, NO, NO, NO),
    "prerequisite.list": (YES, YES, YES, YES, NO, NO),
    "flow.unsubscribe": (YES, YES, YES, YES, YES, YES),
    "context.unsubscribe": (YES, YES, YES, YES, YES, YES),
    "runner.unsubscribe": (YES, YES, YES, YES, YES, YES),
    "auth.ticket": (YES, YES, YES, YES, YES, YES),
    "token.create": (YES, YES, YES, YES, YES, YES),
    "token.list": (YES, YES, YES, YES, YES, YES),
    "token.revoke": (YES, YES, YES, YES, YES, YES),
}
PUBLIC = {"auth.challenge", "auth.login", "auth.renew", "auth.whoami"}

_OF = {"context_id": CONTEXT}
_OWN_JOB = {**_OF, "caller_id": EXECUTOR, "id": 900}
_ATTEMPT = {**_OWN_JOB, "token": "1-1-2-900"}

PARAMS: dict[str, Any] = {
    "actor.create": callers.actor(990),
    "actor.load": {"id": 990},
    "actor.rotate_key": {"id": 992, "pubkey": callers.Key().public},
    "actor.revoke": {"id": 991},
    "context.create": callers.context(CONTEXT, admins=[ADMIN], executors=[EXECUTOR, 5], readers=[3]),
    "context.load": {"id": CONTEXT},
    "context.list": {"limit": 5},
    "runner.create": callers.runner(CONTEXT, 990),
    "runner.delete": {**_OF, "id": 991},
    "runner.load": {**_OF, "id": RUNNER},
    "runner.list": {**_OF, "limit": 5},
    "runner.connected": _OF,
    "context.stats": _OF,
    "runner.subscribe": {**_OF, "runner_id": RUNNER, "script_types": ["V"], "capacity": 1},
    "job.take": {**_OF, "runner_id": RUNNER, "script_types": ["V"]},
    "job.heartbeat": _ATTEMPT,
    "job.inputs": _ATTEMPT,
    "job.log": {**_ATTEMPT, "lines": ["x"]},
    "job.finish": _ATTEMPT,
    "job.fail": {**_ATTEMPT, "error": "x"},
    "job.create": {**_OF, "job": callers.job(CONTEXT, EXECUTOR, 900)},
    "flow.create": {**_OF, "flow": callers.flow(CONTEXT, EXECUTOR, 901, [900])},
    "message.create": {
        **_OF,
        "message": callers.message(CONTEXT, EXECUTOR, 902, [callers.job(CONTEXT, EXECUTOR, 903)]),
    },
    "flow.submit": {
        **_OF,
        "flow": callers.flow(CONTEXT, EXECUTOR, 904, [905]),
        "jobs": [callers.job(CONTEXT, EXECUTOR, 905)],
    },
    "flow.start": {**_OF, "id": 990},
    "flow.retry": {**_OF, "id": 990},
    "flow.cancel": {**_OF, "id": 990},
    "message.send": {**_OF, "caller_id": EXECUTOR, "id": 990},
    "flow.delete": {**_OF, "id": 990},
    "job.delete": {**_OF, "caller_id": EXECUTOR, "id": 990},
    "message.delete": {**_OF, "caller_id": EXECUTOR, "id": 990},
    "job.load": _OWN_JOB,
    "job.list": {**_OF, "limit": 5},
    "flow.load": {**_OF, "id": 901},
    "flow.list": {**_OF, "limit": 5},
    "message.load": {**_OF, "caller_id": EXECUTOR, "id": 902},
    "message.list": {**_OF, "limit": 5},
    "flow.dag": {**_OF, "id": 990},
    "flow.status": {**_OF, "id": 901},
    "flow.events": {**_OF, "id": 901},
    "flow.subscribe": {**_OF, "id": 901},
    "context.events": _OF,
    "context.subscribe": _OF,
    "job.tail": _OWN_JOB,
    "job.attempts": _OWN_JOB,
    "prerequisite.satisfy": {**_OF, "name": "p", "flow_id": 901},
    "prerequisite.revoke": {**_OF, "name": "p", "flow_id": 901},
    "prerequisite.list": _OF,
    "flow.unsubscribe": {"subscription": "x"},
    "context.unsubscribe": {"subscription": "x"},
    "runner.unsubscribe": {"subscription": "x"},
    "auth.ticket": {},
    "token.create": {"label": "x"},
    "token.list": {},
    "token.revoke": {"id": "0" * 32},
}


def forms(method: str) -> list[Any]:
    """The params object; by the name `params`; by position; its members by position."""
    params = PARAMS[method]
    given = list(METHODS[method].params.model_fields)
    by_position = [params[name] for name in given if name in params]
    is_in_order = [name for name in given if name in params] == given[: len(by_position)]
    spelled: list[Any] = [params, {"params": params}, [params]]
    if not params:
        return [params, []]
    return [*spelled, by_position] if is_in_order and by_position else spelled


def verdict(reply: Any) -> str:
    error = reply.get("error", {})
    if error.get("code") == -32001 and error["data"]["kind"] == "context":
        return "absent"
    return {-32002: "nobody", -32003: "forbidden"}.get(error.get("code"), "allowed")


def expected(method: str, role: str) -> str:
    if role == "nobody":
        return "nobody"
    allowed = RIGHTS[method][ROLES.index(role)]
    if allowed:
        return "allowed"
    is_about_context = METHODS[method].right not in (Right.ACTOR_CREATE, Right.ACTOR_LOAD, Right.KEY_ROTATE)
    is_about_context = is_about_context and METHODS[method].right is not Right.ACTOR_REVOKE
    return "absent" if role == "stranger" and is_about_context else "forbidden"


def test_each_method_has_a_row_and_a_line_in_the_table_here() -> None:
    assert {name for name, method in METHODS.items() if method.right is None} == set()
    assert {*RIGHTS} | PUBLIC == {*METHODS}
    assert {name for name, method in METHODS.items() if method.right is Right.PUBLIC} == PUBLIC
    assert {*PARAMS} == {*RIGHTS}
    assert {*TABLE} == {*Right}


def test_the_table_that_is_decided_by_says_the_same_as_the_one_here() -> None:
    in_part = {"actor.load", "actor.rotate_key", "context.create", "actor.create", "job.tail"}  # tried by themselves
    for method, cells in RIGHTS.items():
        right = METHODS[method].right
        assert right is not None
        for role, allowed in zip(ROLES, cells, strict=True):
            cell = TABLE[right].of(Role(role))
            if method not in in_part:
                assert (cell is not Cell.NO) == allowed, f"{method} by {role}"


def test_a_method_without_a_right_is_denied_to_everybody() -> None:
    assert all(cell is Cell.NO for cell in type(TABLE[Right.PUBLIC])())


@pytest.mark.parametrize("role", [*ROLES, "nobody", "runner elsewhere", "member elsewhere"])
def test_each_method_in_each_form(
    guarded: CoordinatorProcess, tokens: dict[str, str | None], transport: str, role: str, operator: Caller
) -> None:
    operator.call("actor.create", callers.actor(990))
    as_if = "stranger" if role.endswith("elsewhere") else role
    wrong: list[str] = []
    with caller(guarded, transport, tokens[role]) as one:
        for method in RIGHTS:
            wanted = expected(method, as_if)
            for params in forms(method):
                found = verdict(one.call(method, params))
                if found != wanted:
                    wrong.append(f"{method} {str(params)[:60]}: {found}, not {wanted}")
            batch = [{"jsonrpc": "2.0", "id": at, "method": method, "params": PARAMS[method]} for at in (1, 2)]
            found_in_batch = [verdict(reply) for reply in one.send(batch)]
            if found_in_batch != [wanted, wanted]:
                wrong.append(f"{method} in a batch: {found_in_batch}, not {wanted}")
    assert wrong == []


def test_a_notification_is_decided_on_as_a_call_is(
    guarded: CoordinatorProcess, tokens: dict[str, str | None], transport: str, operator: Caller
) -> None:
    for role in ("reader", "runner", "stranger", "nobody"):
        with caller(guarded, transport, tokens[role]) as one:
            noted = {"jsonrpc": "2.0", "method": "flow.create"}
            noted["params"] = {**_OF, "flow": callers.flow(CONTEXT, EXECUTOR, 950, [])}  # type: ignore[assignment]
            if one.http is not None:
                assert one.post(noted).status_code == (401 if role == "nobody" else 204)
            else:
                one.send([noted, {"jsonrpc": "2.0", "id": 1, "method": "auth.whoami"}])

    assert operator.code("flow.load", {**_OF, "id": 950}) == -32001


def test_without_a_login_the_whole_request_is_unauthorized(guarded: CoordinatorProcess) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": CONTEXT}}
    public = {"jsonrpc": "2.0", "id": 2, "method": "rpc.discover"}
    with caller(guarded, "http") as nobody:
        for message in (call, [call], [call, call]):
            refused = nobody.post(message)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert nobody.post([call, public]).status_code == 200
        assert nobody.post(public).status_code == 200
        assert nobody.http is not None
        assert nobody.http.get("/healthz").status_code == 200
        assert nobody.http.get("/metrics").status_code == 401


def test_the_metrics_are_the_operator_s(guarded: CoordinatorProcess, tokens: dict[str, str | None]) -> None:
    for role in ("operator", "admin", "runner"):
        with caller(guarded, "http", tokens[role]) as one:
            assert one.http is not None
            assert one.http.get("/metrics").status_code == (200 if role == "operator" else 401)
