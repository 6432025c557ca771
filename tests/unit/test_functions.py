"""What Python and the function library must agree on, and what happens with what one of them does not know."""

from __future__ import annotations

import ast
import re
from collections import Counter
from enum import Enum
from pathlib import Path
from typing import Any, Final

import pytest

import coordinator
from coordinator.actors.progress import advance
from coordinator.actors.request import WithEffects
from coordinator.errors import InternalError
from coordinator.models import FlowParams, JobHeartbeatParams
from coordinator.operations.attempts import heartbeat
from coordinator.operations.flows import start_flow
from coordinator.storage.functions import (
    attempts,
    control,
    events,
    flows,
    messages,
    prerequisites,
    records,
    runners,
    upkeep,
)
from coordinator.storage.functions.effects import EffectKind, read_effect
from coordinator.storage.functions.kinds import GROWING, LONG
from coordinator.storage.functions.results import UnknownReply, Word, read_effects
from coordinator.storage.keys import Layout
from coordinator.storage.library import SOURCE

KEYS = Layout().keyspace(1)

PACKAGE: Final = Path(coordinator.__file__).parent
FUNCTIONS: Final = PACKAGE / "storage" / "functions"
AROUND_OTHERS: Final = re.compile("hc_(many|guarded)")
"""Functions that carry out others, by names that are put together: see joined.py and guarding.py."""


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


def registered() -> set[str]:
    """The functions of the library's source."""
    return {*re.findall(r"^(?:redis\.)?register\w*(?:\(|\{function_name = )'(hc_\w+)'", SOURCE, re.MULTILINE)}


def called(root: Path) -> Counter[str]:
    """The functions of the library that modules build calls of, and in how many places."""
    calls = (node for path in root.rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    return Counter(
        str(node.args[0].value)
        for node in calls
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("call", "transition")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).startswith("hc_")
    )


def test_each_function_is_called_from_one_place() -> None:
    once = {name for name in registered() if not AROUND_OTHERS.match(name)} - {"hc_version"}

    assert called(FUNCTIONS) == Counter(once)
    assert called(PACKAGE) == called(FUNCTIONS)


def test_both_know_which_functions_grow_what_is_stored_and_which_may_be_much_work() -> None:
    assert registered() >= LONG
    assert {*re.findall(r"^register\('(hc_\w+)', \w+, GROWS\)", SOURCE, re.MULTILINE)} == GROWING


@pytest.mark.parametrize(
    ("read", "result"),
    [
        (flows.read_flow, [b"perhaps"]),
        (flows.read_flow, [b"all"]),
        (flows.read_flow_create, [b"none"]),
        (flows.read_flow_add, [b"new"]),
        (flows.read_flow_submit, [b"none"]),
        (records.read_record_delete, [b"none"]),
        (attempts.read_report, [b"fine Finished 1"]),
        (attempts.read_append_log, [b"busy"]),
        (attempts.read_take, [b"some", []]),
        (messages.read_message_send, [b"all"]),
        (events.read_flow_follow, [b"again", 1]),
        (events.read_flow_read, [b"again", 1, []]),
        (attempts.read_resume, [b"none", []]),
        (prerequisites.read_prerequisite_satisfy, [b"new", b"1", 1]),
        (read_effects, [b"new"]),
        (upkeep.read_tick, [b"new"]),
        (runners.read_runners_count, [b"none", []]),
        (control.read_job_cancel, [b"busy"]),
        (control.read_context_pause, [b"more"]),
        (control.read_runner_drain, [b"state"]),
        (flows.read_flow_mark, [b"new"]),
        (control.read_context_delete, [b"again"]),
    ],
)
def test_a_word_that_a_function_does_not_return_is_an_error(read: Any, result: Any) -> None:
    with pytest.raises(UnknownReply):
        read([result, []])


def test_an_unknown_effect_is_an_error() -> None:
    with pytest.raises(UnknownReply):
        read_effect(b"party:1")


def test_a_caller_is_answered_an_internal_error_with_an_incident() -> None:
    operation = start_flow(KEYS, FlowParams(context_id=1, id=5))
    next(operation)

    outcome = advance(operation, [[[b"perhaps"], []]], 1)

    assert isinstance(outcome, InternalError)
    assert outcome.incident


def test_so_is_one_whose_call_is_one_command() -> None:
    params = JobHeartbeatParams(context_id=1, caller_id=7, id=1, token="9-1")
    _, finish, asked = heartbeat(KEYS, params)

    with pytest.raises(UnknownReply):
        finish([[b"perhaps"], []], asked)
    answer = finish([[b"ok 2500"], []], asked)
    assert isinstance(answer, WithEffects)
