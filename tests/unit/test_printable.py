"""What a terminal would act upon is shown instead, by commands and in logs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from coordinator.cli.flow_state import named
from coordinator.printable import visible, visible_json, visible_lines

NASTY = {
    "\x1b[2J": r"\x1b[2J",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b2J": r"\x9b2J",
    "a\rb": r"a\rb",
    "a\nb": r"a\nb",
    "a\x08b": r"a\x08b",
    "\x7f": r"\x7f",
    "\x85": r"\x85",
    "\u202eabc\u202c": r"\u202eabc\u202c",
    "\u2066x\u2069": r"\u2066x\u2069",
    "\u2028": r"\u2028",
    "\u200bx": r"\u200bx",
    "\U000e0041": r"\U000e0041",
    "\ud83d": r"\ud83d",
    "\0": r"\x00",
}
HARMLESS = ["", "plain", "tab\there", "größer", "日本語", "👩‍👩‍👧", "\u00a0", "نام‌ها", "a\\x1b"]  # two have joiners


@pytest.mark.parametrize("text", NASTY)
def test_what_a_terminal_acts_upon_is_written_as_in_a_literal(text: str) -> None:
    assert visible(text) == NASTY[text]
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_stays(text: str) -> None:
    assert visible(text) == text == visible_lines(text)


def test_no_control_and_nothing_that_turns_text_round_is_left() -> None:
    everything = "".join(map(chr, range(0x110000)))

    shown = visible(everything)

    kinds = {unicodedata.category(character) for character in shown if character != "\t"}
    assert not kinds & {"Cc", "Cs", "Zl", "Zp"}
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(character) for character in shown} & turning


def test_lines_stay_lines() -> None:
    assert visible_lines("a\n\x1b[2J\r\nb") == "a\n\\x1b[2J\\r\nb"


@pytest.mark.parametrize("text", [text for text in NASTY if text != "\ud83d"])
def test_json_stays_json_of_the_same_meaning(text: str) -> None:
    value = {text: [text, {"a": text + "ü"}]}

    shown = visible_json(json.dumps(value, indent=2, ensure_ascii=False))

    assert json.loads(shown) == value
    assert visible_lines(shown) == shown
    assert "ü" in shown


LOGGING = r"""
import logging, sys, structlog
from coordinator import logs
NASTY = "\x1b[2J\x9b2J\x1b]0;t\x07\u202e\r"
logs.configure("info", sys.argv[1])
log = structlog.get_logger("test")
log.warning("said " + NASTY, word=NASTY, text="a b" + NASTY, many=[NASTY], error=ValueError(NASTY))
logging.getLogger("library").warning("a library says %s", NASTY)
try:
    raise ValueError(NASTY)
except ValueError:
    log.exception("raised")
    logging.getLogger("library").exception("raised")
"""


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_others_said_is_shown_in_logs(form: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING, form], capture_output=True, check=True)
    text = done.stderr.decode()

    assert visible_lines(text) == text
    assert text.count("u202e") >= 8
    if form == "json":
        assert [json.loads(line)["event"] for line in text.splitlines()][2:] == ["raised", "raised"]


PLAIN = r"""
import logging
from coordinator import logs
logs.configure_plain()
logging.getLogger("coordinator.client").warning("it says \x1b[2J")
raise RuntimeError("\x1b[2J\x9b")
"""


def test_so_it_is_where_there_are_no_logs_also_in_what_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("it says \\x1b[2J\nTraceback")
    assert done.stderr.endswith("RuntimeError: \\x1b[2J\\x9b\n")


def test_commands_print_through_the_function_that_does_this() -> None:
    """Those that print in another way have nothing of others to print."""
    allowed = {"output.py", "sending.py", "cert.py", "openrpc.py", "version.py"}
    found = {
        path.name
        for path in (Path(__file__).parents[2] / "coordinator" / "cli").glob("*.py")
        if re.search(r"click\.s?echo\(|^ *print\(", path.read_text(), re.M)
    }

    assert found <= allowed


def test_jobs_are_named_wherever_they_are_spoken_of_by_number() -> None:
    names = {5: "fetch", 12: "report"}

    assert named("job 5: exit status 1", names) == "job fetch: exit status 1"
    assert named("job 7/12 is being run for flow 5", names) == "job report is being run for flow 5"
    assert named("job 6: job 55", names) == "job 6: job 55"
