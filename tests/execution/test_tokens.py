"""An attempt's token is known to nobody but the runner that was given it, and is of use to no other session."""

from __future__ import annotations

import itertools
import re

import pytest

from coordinator.errors import StaleToken
from tests.execution.driver import Attempt, Context, Runner, job

MINE = Runner(3, "mine")


def secret_of(token: str) -> str:
    secret, _, _ = token.rsplit("-", 2)
    return secret


def test_each_take_has_a_secret_of_its_own(context: Context) -> None:
    context.submit(1, [job(id) for id in range(1, 41)])

    secrets = [{secret_of(attempt.token) for attempt in context.take(2)} for _ in range(20)]

    assert [len(one) for one in secrets] == [1] * 20
    distinct = set[str]().union(*secrets)
    assert len(distinct) == 20
    assert all(re.fullmatch(r"[\w-]{22}", secret) for secret in distinct)
    for place in range(21):  # the time, or a counter's first digits, would be the same in all of them
        assert len({secret[place] for secret in distinct}) > 3


def neighbours(token: str) -> set[str]:
    """Every token that differs in one character, and those whose numbers are others."""
    found = {
        token[:at] + other + token[at + 1 :] for at in range(len(token)) for other in "0123456789abcdef-ABCDEF_ghijkl"
    }
    numbers = [*re.finditer(r"\d+", token)]
    for number, step in itertools.product(numbers, range(-30, 31)):
        found.add(f"{token[: number.start()]}{int(number.group()) + step}{token[number.end() :]}")
    return found - {token}


def test_nobody_guesses_a_token_from_one_it_knows(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    known, wanted = context.take_one(), context.take_one(Runner(4, "other"))
    guesses = {
        *neighbours(known.token),
        *(guess.replace(f"-{known.id}", f"-{wanted.id}") for guess in neighbours(known.token) | {known.token}),
    }

    assert len(guesses) > 999
    for guess in guesses:
        with pytest.raises(StaleToken):
            context.finish(Attempt(wanted.caller_id, wanted.id, guess, {}), forged="yes")
    assert context.finish(wanted)["status"] == "Finished"


def test_a_take_that_is_sent_again_gives_the_same_tokens(context: Context) -> None:
    context.submit(1, [job(1), job(2)])

    first, again = (context.take(2, holder="one", number=1) for _ in range(2))

    assert [attempt.token for attempt in again] == [attempt.token for attempt in first]


@pytest.mark.parametrize("stranger", [Runner(4, "mine"), Runner(3, "another"), Runner(3, ""), Runner(4, "")])
def test_what_one_session_holds_is_told_to_no_other(context: Context, stranger: Runner) -> None:
    context.submit(1, [job(1), job(2)])
    held = [attempt.token for attempt in context.take(2, MINE)]

    assert context.resume(stranger, *held, "no token at all", "x-7-1") == sorted([*held, "no token at all", "x-7-1"])

    assert context.statuses(1) == {1: "Started", 2: "Started"}
    assert context.resume(MINE, *held) == []


@pytest.mark.parametrize("session", ["", "job.take"])
def test_what_was_handed_out_in_no_session_is_its_runners(context: Context, session: str) -> None:
    context.submit(1, [job(1)])
    attempt = context.take_one(Runner(3, session))

    assert context.resume(Runner(4, "mine"), attempt.token) == [attempt.token]
    assert context.resume(MINE, attempt.token) == []


def test_a_token_of_an_earlier_version_is_good_to_its_end(context: Context) -> None:
    context.submit(1, [job(1), job(2)])
    attempts = context.take(2, MINE)
    for attempt, old in zip(attempts, ("1700000000000-1", "1700000000000-2-7-2"), strict=True):
        key = f"{context.keys.prefix}job:7:{attempt.id}"
        (field,) = context.wire.ask(("HGET", key, "x_attempt"))
        context.wire.ask(("HSET", key, "x_attempt", field.decode().replace(attempt.token, old)))
        context.heartbeat(Attempt(7, attempt.id, old, {}))
        assert context.finish(Attempt(7, attempt.id, old, {}))["status"] == "Finished"

    assert context.load_flow(1)["status"] == "Finished"
