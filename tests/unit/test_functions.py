"""What Python and the function library must agree on, and what happens with what one of them does not know."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import pytest

from coordinator.actors.progress import advance
from coordinator.actors.request import WithEffects
from coordinator.errors import InternalError
from coordinator.models import FlowParams, JobHeartbeatParams
from coordinator.operations import execution
from coordinator.storage import functions
from coordinator.storage.functions import EffectKind, UnknownReply, Word
from coordinator.storage.keys import Layout
from coordinator.storage.library import SOURCE

KEYS = Layout().keyspace(1)


def table(name: str) -> dict[str, str]:
    """A table of the library's source: names → texts."""
    found = re.search(rf"^(?:local )?{name} = {{\n(.*?)^}}", SOURCE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return dict(re.findall(r"(\w+) = '([^']*)'", found[1]))


def texts(kinds: type[Enum]) -> dict[str, str]:
    return {kind.name: kind.value.decode() for kind in kinds}


def test_both_know_the_same_words() -> None:
    assert table("WORD") == texts(Word)


def test_both_know_the_same_effects() -> None:
    assert table("EFFECT") == {name: f"{text}:" for name, text in texts(EffectKind).items()}


def test_the_library_uses_no_word_but_those_of_its_tables() -> None:
    assert {*re.findall(r"WORD\.(\w+)", SOURCE)} == {*table("WORD")}
    assert {*re.findall(r"EFFECT\.(\w+)", SOURCE)} == {*table("EFFECT")}
    returned = re.findall(r"^[^-]*return (?:nil, )?'(\w+)", SOURCE, re.MULTILINE)
    assert not {*returned} & {*texts(Word).values()}


@pytest.mark.parametrize(
    ("read", "result"),
    [
        (functions.read_flow, [b"perhaps"]),
        (functions.read_flow, [b"all"]),
        (functions.read_flow_create, [b"none"]),
        (functions.read_flow_add, [b"new"]),
        (functions.read_flow_submit, [b"none"]),
        (functions.read_record_delete, [b"none"]),
        (functions.read_report, [b"fine Finished 1"]),
        (functions.read_append_log, [b"busy"]),
        (functions.read_take, [b"some", []]),
        (functions.read_message_send, [b"all"]),
        (functions.read_flow_follow, [b"again", 1]),
        (functions.read_flow_read, [b"again", 1, []]),
        (functions.read_resume, [b"none", []]),
        (functions.read_prerequisite_satisfy, [b"new", b"1", 1]),
        (functions.read_effects, [b"new"]),
        (functions.read_tick, [b"new"]),
        (functions.read_runners_count, [b"none", []]),
        (functions.read_job_cancel, [b"busy"]),
        (functions.read_context_pause, [b"more"]),
        (functions.read_runner_drain, [b"state"]),
        (functions.read_flow_mark, [b"new"]),
        (functions.read_context_delete, [b"again"]),
    ],
)
def test_a_word_that_a_function_does_not_return_is_an_error(read: Any, result: Any) -> None:
    with pytest.raises(UnknownReply):
        read([result, []])


def test_an_unknown_effect_is_an_error() -> None:
    with pytest.raises(UnknownReply):
        functions.read_effect(b"party:1")


def test_a_caller_is_answered_an_internal_error_with_an_incident() -> None:
    operation = execution.start_flow(KEYS, FlowParams(context_id=1, id=5))
    next(operation)

    outcome = advance(operation, [[[b"perhaps"], []]], 1)

    assert isinstance(outcome, InternalError)
    assert outcome.incident


def test_so_is_one_whose_call_is_one_command() -> None:
    params = JobHeartbeatParams(context_id=1, caller_id=7, id=1, token="9-1")
    _, finish, asked = execution.heartbeat(KEYS, params)

    with pytest.raises(UnknownReply):
        finish([[b"perhaps"], []], asked)
    answer = finish([[b"ok 2500"], []], asked)
    assert isinstance(answer, WithEffects)
