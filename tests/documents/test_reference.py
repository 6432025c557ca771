"""What of the documents is made from the code is what would be made of it now."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from coordinator.errors import DOCUMENTED_ERRORS
from coordinator.rpc import openrpc
from coordinator.rpc.methods import METHODS
from tools.reference import ROOT, made_files
from tools.reference.__main__ import exchanges_text
from tools.reference.scenario import UNRECORDED, record

made_now = cache(made_files)
MAKE = "run `make reference`, and commit what it has changed"


def test_the_examples_are_what_a_coordinator_answers(tmp_path: Path) -> None:
    recorded = record(tmp_path)

    assert {name: UNRECORDED for name in (*METHODS, *openrpc.NOTIFICATIONS) if name not in recorded} == {}
    kept = openrpc.exchanges()
    assert {name for name in kept if kept[name] != recorded.get(name)} == set(), MAKE
    assert openrpc.EXCHANGES.read_text() == exchanges_text(recorded), MAKE


def test_the_document_and_the_pages_are_current() -> None:
    made = made_now()

    assert [
        str(path.relative_to(ROOT)) for path in made if not path.exists() or path.read_text() != made[path]
    ] == [], MAKE


def test_no_page_of_what_is_gone_remains() -> None:
    made = made_now()

    pages = [*(ROOT / "docs" / "reference").glob("**/*.md")]
    generated = {path for path in pages if path.read_text().startswith("<!-- Made by")}
    assert generated <= made.keys()
    assert {path.name for path in pages if path not in generated} == {"api.md"}


@pytest.mark.parametrize("name", openrpc.NOTIFICATIONS)
def test_the_notifications_are_as_their_types_say(name: str) -> None:
    openrpc.NOTIFICATIONS[name].model_validate(openrpc.exchanges()[name].params)


@pytest.mark.parametrize("code", sorted({error.code for error in DOCUMENTED_ERRORS.values()}))
def test_the_rules_explain_each_code(code: int) -> None:
    assert f"\n| {code} | " in (ROOT / "docs" / "reference" / "api.md").read_text()
