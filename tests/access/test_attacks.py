"""What an attacker would try: replay, confusion, odd keys, other people's tokens and ids."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.access import callers
from tests.access.callers import Caller, Key, caller
from tests.access.conftest import ADMIN, CONTEXT, EXECUTOR, KEYS, OTHER_CONTEXT, READER, RUNNER, RUNNER_KEY, STRANGER
from tests.support.server import CoordinatorProcess

NOBODY, FORBIDDEN, CONFLICT, ABSENT, INVALID = -32002, -32003, -32040, -32001, -32602


def test_a_login_is_good_once_and_on_its_own_connection(guarded: CoordinatorProcess) -> None:
    with caller(guarded, "ws") as one, caller(guarded, "ws") as other:
        challenge = one.result("auth.challenge", {})
        params = KEYS[ADMIN].login(f"actor:{ADMIN}", challenge, one.host)

        assert other.code("auth.login", params) == NOBODY
        assert one.result("auth.login", params)["principal"] == f"actor:{ADMIN}"
        assert one.code("auth.login", params) == NOBODY
        for _ in range(4):  # two workers share the connections
            with caller(guarded, "ws") as further:
                assert further.code("auth.login", params) == NOBODY
        with caller(guarded, "http") as http:
            assert http.code("auth.login", params) == NOBODY


def test_over_http_a_login_is_good_once_on_every_worker(guarded: CoordinatorProcess) -> None:
    with caller(guarded, "http") as one:
        params = KEYS[ADMIN].login(f"actor:{ADMIN}", one.result("auth.challenge", {}), one.host)
        assert one.result("auth.login", params)["token"].startswith("hc_")
    for _ in range(6):
        with caller(guarded, "http") as further:
            assert further.code("auth.login", params) == NOBODY
            respelled = {**params, "nonce": params["nonce"].rstrip("=")}
            assert further.code("auth.login", respelled) == NOBODY
    with caller(guarded, "ws") as ws:
        assert ws.code("auth.login", params) == NOBODY


def test_a_login_over_http_gets_a_token_for_both_transports(guarded: CoordinatorProcess) -> None:
    with caller(guarded, "http") as one:
        token = one.log_in(KEYS[READER], f"actor:{READER}")["token"]
    for transport in ("http", "ws"):
        with caller(guarded, transport, token) as one:
            assert one.result("auth.whoami", {})["principal"] == f"actor:{READER}"
    with caller(guarded, "ws") as one:
        assert one.result("auth.login", {"token": token})["principal"] == f"actor:{READER}"
        assert one.result("context.load", {"id": CONTEXT})["id"] == CONTEXT


def test_actor_7_is_not_runner_7(guarded: CoordinatorProcess) -> None:
    with caller(guarded, "ws") as one:
        for key, principal in (
            (RUNNER_KEY, f"actor:{RUNNER}"),
            (KEYS[RUNNER], f"runner:{CONTEXT}:{RUNNER}"),
            (KEYS[ADMIN], f"actor:{STRANGER}"),
        ):
            challenge = one.result("auth.challenge", {})
            assert one.code("auth.login", key.login(principal, challenge, one.host)) == NOBODY
        challenge = one.result("auth.challenge", {})
        signed = KEYS[RUNNER].login(f"actor:{RUNNER}", challenge, one.host)
        assert one.code("auth.login", {**signed, "principal": f"runner:{CONTEXT}:{RUNNER}"}) == NOBODY
        challenge = one.result("auth.challenge", {})
        elsewhere = RUNNER_KEY.login(f"runner:{OTHER_CONTEXT}:{RUNNER}", challenge, one.host)
        assert one.code("auth.login", {**elsewhere, "principal": f"runner:{CONTEXT}:{RUNNER}"}) == NOBODY
        for name in (
            "actor:07",
            "actor:7 ",
            "Actor:7",
            "actor:4294967296",
            "runner:7",
            "operator",
            "actor:-1",
            "actor:٧",
        ):
            challenge = one.result("auth.challenge", {})
            assert one.code("auth.login", KEYS[7].login(name, challenge, one.host)) == INVALID


def test_what_is_signed_names_the_server_the_host_and_the_time(guarded: CoordinatorProcess) -> None:
    with caller(guarded, "ws") as one:
        for changed in ({"server": "0" * 32}, {"expires_at": 1}, {"nonce": "x" * 32}):
            challenge = one.result("auth.challenge", {})
            params = KEYS[ADMIN].login(f"actor:{ADMIN}", {**challenge, **changed}, one.host)
            assert one.code("auth.login", {**params, "nonce": challenge["nonce"]}) == NOBODY
        challenge = one.result("auth.challenge", {})
        assert one.code("auth.login", KEYS[ADMIN].login(f"actor:{ADMIN}", challenge, "evil.example")) == NOBODY
        challenge = one.result("auth.challenge", {})
        told = challenge["server"], one.host, f"actor:{ADMIN}", challenge["nonce"], str(challenge["expires_at"])
        rotation = {
            "principal": f"actor:{ADMIN}",
            "nonce": challenge["nonce"],
            "signature": KEYS[ADMIN].sign("rotate", *told),
        }
        assert one.code("auth.login", rotation) == NOBODY


def test_a_connection_does_not_change_hands(guarded: CoordinatorProcess) -> None:
    with caller(guarded, "ws") as one:
        one.log_in(KEYS[READER], f"actor:{READER}")
        challenge = one.result("auth.challenge", {})
        assert one.code("auth.login", KEYS[ADMIN].login(f"actor:{ADMIN}", challenge, one.host)) == CONFLICT
        challenge = one.result("auth.challenge", {})
        renewed = one.result("auth.renew", KEYS[READER].login(f"actor:{READER}", challenge, one.host))
        assert renewed["principal"] == f"actor:{READER}"


SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "01" + "00" * 30 + "80",
    "ec" + "ff" * 30 + "7f",
    "ec" + "ff" * 31,
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
    "ff" * 32,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]


@pytest.mark.parametrize("raw", SMALL_ORDER)
def test_a_key_that_anybody_can_sign_for_is_stored_and_cannot_log_in(
    guarded: CoordinatorProcess, operator: Caller, raw: str
) -> None:
    operator.call("actor.create", callers.actor(800 + SMALL_ORDER.index(raw), raw))
    # R and S of zero, or the identity, verify for keys of small order with lenient libraries.
    with caller(guarded, "ws") as one:
        for signature in (bytes(64), b"\1" + bytes(63), bytes.fromhex(raw) + bytes(32)):
            challenge = one.result("auth.challenge", {})
            params = {"principal": f"actor:{800 + SMALL_ORDER.index(raw)}", "nonce": challenge["nonce"]}
            params["signature"] = base64.b64encode(signature).decode()
            assert one.code("auth.login", params) == NOBODY


def test_each_spelling_of_a_key_logs_in(guarded: CoordinatorProcess, operator: Caller) -> None:
    key = Key()
    ssh = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + key.raw).decode()
    spellings = (key.public, key.raw.hex(), key.raw.hex().upper(), f"ssh-ed25519 {ssh} me@host", f"ssh-ed25519 {ssh}")
    in_files = [f"{spelling}{end}" for spelling in spellings for end in ("\n", "\r\n")]
    for id, spelling in enumerate((*spellings, *in_files, f"ssh-ed25519\t{ssh}  me@my host\n"), 8200):
        operator.result("actor.create", callers.actor(id, spelling))
        with caller(guarded, "ws") as one:
            assert one.log_in(key, f"actor:{id}")["principal"] == f"actor:{id}"


def test_an_actor_s_key_is_not_changed_by_creating_it_again(operator: Caller) -> None:
    operator.result("actor.create", callers.actor(830, "one"))

    assert operator.code("actor.create", callers.actor(830, "two")) == FORBIDDEN
    assert operator.result("actor.create", callers.actor(830, "one"))["pubkey"] == "one"
    operator.result("actor.revoke", {"id": 830})
    assert operator.code("actor.create", callers.actor(830, "one")) == FORBIDDEN
    assert operator.code("actor.rotate_key", {"id": 830, "pubkey": Key().public}) == CONFLICT


def test_a_key_is_rotated_by_both(guarded: CoordinatorProcess, operator: Caller) -> None:
    old, new, evil = Key(), Key(), Key()
    operator.result("actor.create", callers.actor(831, old.public))

    def rotation(one: Caller, by: Key, to: Key, proof: Key, id: int = 831) -> Any:
        challenge = one.result("auth.challenge", {})
        named = challenge["server"], one.host, f"actor:{id}", challenge["nonce"], str(challenge["expires_at"])
        told = *named, old.public, to.public
        signed = {"old_signature": by.sign("rotate", *told), "new_signature": proof.sign("rotate", *told)}
        return {"id": id, "pubkey": to.public, "nonce": challenge["nonce"], **signed}

    with caller(guarded, "ws") as one:
        one.log_in(old, "actor:831")
        assert one.code("actor.rotate_key", {"id": 831, "pubkey": evil.public}) == INVALID
        assert one.code("actor.rotate_key", rotation(one, evil, evil, evil)) == NOBODY
        assert one.code("actor.rotate_key", rotation(one, old, evil, old)) == NOBODY
        assert one.code("actor.rotate_key", rotation(one, old, new, new, id=ADMIN)) == FORBIDDEN
        assert one.code("actor.rotate_key", {**rotation(one, old, new, new), "pubkey": "x"}) == INVALID
        done = rotation(one, old, new, new)
        assert one.result("actor.rotate_key", done)["pubkey"] == new.public
        assert one.code("actor.rotate_key", done) == NOBODY
    for key in (old, new):  # while the old one is good
        with caller(guarded, "ws") as one:
            one.log_in(key, "actor:831")
    operator.result("actor.rotate_key", {"id": 831, "pubkey": evil.public, "overlap": 0})
    with caller(guarded, "ws") as one:
        for key in (old, new):
            challenge = one.result("auth.challenge", {})
            assert one.code("auth.login", key.login("actor:831", challenge, one.host)) == NOBODY
        one.log_in(evil, "actor:831")


def test_a_stranger_does_not_add_itself_to_a_context(
    guarded: CoordinatorProcess, tokens: dict[str, str | None], operator: Caller, transport: str
) -> None:
    before = operator.result("context.load", {"id": CONTEXT})
    for role, id in (("stranger", STRANGER), ("executor", EXECUTOR), ("reader", READER)):
        with caller(guarded, transport, tokens[role]) as one:
            params = callers.context(CONTEXT, admins=[id], executors=[id], readers=[])
            for form in (params, [params], {"params": params}, [params["context"]]):
                assert one.code("context.create", form) in (ABSENT, FORBIDDEN)
    assert operator.result("context.load", {"id": CONTEXT}) == before


def test_a_context_inside_is_the_one_outside(
    guarded: CoordinatorProcess, tokens: dict[str, str | None], transport: str
) -> None:
    job = callers.job(OTHER_CONTEXT, EXECUTOR, 1)
    flow = callers.flow(OTHER_CONTEXT, EXECUTOR, 1, [1])
    message = callers.message(OTHER_CONTEXT, EXECUTOR, 1, [])
    own_message = callers.message(CONTEXT, EXECUTOR, 1, [job])
    with caller(guarded, transport, tokens["executor"]) as one:
        for method, params in (
            ("job.create", {"context_id": CONTEXT, "job": job}),
            ("flow.create", {"context_id": CONTEXT, "flow": flow}),
            ("flow.submit", {"context_id": CONTEXT, "flow": flow, "jobs": [job]}),
            ("message.create", {"context_id": CONTEXT, "message": message}),
            ("message.create", {"context_id": CONTEXT, "message": own_message}),
        ):
            for form in (params, [params], {"params": params}, [*params.values()]):
                assert one.code(method, form) == INVALID, method
                outside = json.loads(
                    json.dumps(form).replace(f'"context_id": {CONTEXT}', f'"context_id": {OTHER_CONTEXT}')
                )
                if outside != form:
                    assert one.code(method, outside) in (ABSENT, INVALID), method


def test_a_token_in_a_query_counts_for_nothing(guarded: CoordinatorProcess, tokens: dict[str, str | None]) -> None:
    with caller(guarded, "http") as one:
        assert one.http is not None
        call = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": CONTEXT}}
        for name in ("token", "access_token", "authorization"):
            assert one.http.post("/", params={name: tokens["admin"] or ""}, json=call).status_code == 401


@pytest.mark.parametrize(
    "shown",
    [
        *("Bearer", "Bearer hc_", "Basic aGM6aGM=", "hc_{token}", "Bearer {token}x"),
        *("Bearer {token}, Bearer {token}", "bearer\t{token}"),
    ],
)
def test_what_is_no_token_is_refused(guarded: CoordinatorProcess, tokens: dict[str, str | None], shown: str) -> None:
    with caller(guarded, "http") as one:
        assert one.http is not None
        call = {"jsonrpc": "2.0", "id": 1, "method": "context.load", "params": {"id": CONTEXT}}
        header = shown.replace("{token}", tokens["admin"] or "")
        assert one.http.post("/", headers={"authorization": header}, json=call).status_code == 401


def test_a_token_makes_tokens_that_end_with_it(guarded: CoordinatorProcess, operator: Caller) -> None:
    operator.result("actor.create", callers.actor(840, Key().public))
    root = operator.result("token.create", {"label": "root", "principal": "actor:840", "expires_in": 100})
    with caller(guarded, "http", root["token"]) as one:
        child = one.result("token.create", {"label": "child", "expires_in": 10_000})
        assert child["expires_at"] <= root["expires_at"]
        limited = one.result("token.create", {"label": "r", "access": "read", "contexts": [CONTEXT]})
        assert one.code("token.create", {"label": "x", "principal": "actor:1"}) == FORBIDDEN
        assert one.code("token.list", {"principal": "actor:1"}) == FORBIDDEN
        listed = one.result("token.list", {})["items"]
        assert {item["label"] for item in listed} == {"root", "child", "r"}
        assert "hc_" not in str(listed)
    with caller(guarded, "http", child["token"]) as one:
        assert one.code("token.create", {"label": "grandchild"}) == FORBIDDEN
    with caller(guarded, "http", limited["token"]) as one:
        assert one.code("token.create", {"label": "more"}) == FORBIDDEN
        assert one.code("token.revoke", {"id": child["id"]}) == FORBIDDEN
    operator.result("token.revoke", {"id": root["id"]})
    for token in (root, child, limited):
        for _ in range(100):
            with caller(guarded, "http", token["token"]) as one:
                if one.post({"jsonrpc": "2.0", "id": 1, "method": "token.list"}).status_code == 401:
                    break
        else:
            raise AssertionError("a token outlives the one that made it")


def test_a_limited_token_does_less(guarded: CoordinatorProcess, operator: Caller, transport: str) -> None:
    reading = operator.result("token.create", {"label": "r", "principal": f"actor:{ADMIN}", "access": "read"})
    elsewhere = operator.result(
        "token.create", {"label": "c", "principal": f"actor:{ADMIN}", "contexts": [OTHER_CONTEXT]}
    )
    with caller(guarded, transport, reading["token"]) as one:
        assert one.result("context.load", {"id": CONTEXT})["admins"] == []  # as a reader sees it
        assert (
            one.code("flow.create", {"context_id": CONTEXT, "flow": callers.flow(CONTEXT, ADMIN, 1, [])}) == FORBIDDEN
        )
        assert one.code("runner.create", callers.runner(CONTEXT, 9)) == FORBIDDEN
    with caller(guarded, transport, elsewhere["token"]) as one:
        assert one.code("context.load", {"id": CONTEXT}) == ABSENT


def test_admins_make_tokens_for_runners_of_theirs_alone(
    guarded: CoordinatorProcess, tokens: dict[str, str | None]
) -> None:
    with caller(guarded, "http", tokens["admin"]) as one:
        made = one.result("token.create", {"label": "r", "principal": f"runner:{CONTEXT}:{RUNNER}"})
        assert one.result("token.revoke", {"id": made["id"]})["revoked"]
        for principal in (f"runner:{OTHER_CONTEXT}:{RUNNER}", f"actor:{EXECUTOR}", "operator"):
            assert one.code("token.create", {"label": "x", "principal": principal}) in (FORBIDDEN, INVALID)
    with caller(guarded, "http", tokens["executor"]) as one:
        assert one.code("token.create", {"label": "x", "principal": f"runner:{CONTEXT}:{RUNNER}"}) == FORBIDDEN


def test_cursors_and_events_lead_to_no_other_context(
    guarded: CoordinatorProcess, tokens: dict[str, str | None], operator: Caller
) -> None:
    for id in (1, 2, 3):
        flow = {"context_id": OTHER_CONTEXT, "flow": callers.flow(OTHER_CONTEXT, 6, id, [])}
        operator.result("flow.create", flow)
    cursor = operator.result("flow.list", {"context_id": OTHER_CONTEXT, "limit": 1})["cursor"]
    with caller(guarded, "http", tokens["reader"]) as one:
        assert one.code("flow.list", {"context_id": OTHER_CONTEXT, "cursor": cursor}) == ABSENT
        own = one.result("flow.list", {"context_id": CONTEXT, "cursor": cursor})
        assert all(item["context_id"] == CONTEXT for item in own["items"])
        assert one.code("flow.events", {"context_id": OTHER_CONTEXT, "id": 1, "after": "0-0"}) == ABSENT
