"""The result file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coordinator.runner.results import MAX_RESULT_BYTES, parse_results, read_results


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("a=1\nb=2\n", {"a": "1", "b": "2"}),
        ("a=1\nb=2", {"a": "1", "b": "2"}),
        ("a=1\r\nb=2\r\n", {"a": "1", "b": "2"}),
        ("a=1\n\n  \nb=2\n", {"a": "1", "b": "2"}),
        ("a=1\na=2\n", {"a": "2"}),
        ("url=http://x?y=z\n", {"url": "http://x?y=z"}),
        (" key = value with blanks \n", {"key": " value with blanks "}),
        ("empty=\n", {"empty": ""}),
        ("clé=é😀\n", {"clé": "é😀"}),
    ],
)
def test_each_line_is_a_key_and_a_value(text: str, values: dict[str, str]) -> None:
    assert parse_results(text.encode()) == (values, [])


def test_lines_that_are_none_are_left_out_and_named() -> None:
    results = parse_results(b"a=1\nnonsense\n=2\nb=3\n")

    assert results.values == {"a": "1", "b": "3"}
    assert results.complaints == [
        "HERO_RESULT line 2 left out: it is no key=value",
        "HERO_RESULT line 3 left out: it is no key=value",
    ]


def test_many_wrong_lines_cost_few_complaints() -> None:
    complaints = parse_results(b"nonsense\n" * 1000).complaints

    assert len(complaints) == 6
    assert complaints[-1] == "HERO_RESULT: 995 more lines left out"


def test_only_whole_lines_within_the_limit_are_read() -> None:
    results = parse_results(b"a=1\n" + b"b=" + b"x" * MAX_RESULT_BYTES)

    assert results.values == {"a": "1"}
    assert "first 65536 bytes" in results.complaints[0]


def test_invalid_utf8_is_replaced() -> None:
    assert parse_results(b"a=\xff\n").values == {"a": "\ufffd"}


def test_a_file_that_is_gone_has_no_results(tmp_path: Path) -> None:
    results = read_results(tmp_path / "result")

    assert results.values == {}
    assert "No such file" in results.complaints[0]


def test_what_was_put_in_its_place_is_not_followed_or_waited_for(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a=1\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()

    for name in ("link", "fifo", "directory"):
        results = read_results(tmp_path / name)
        assert results.values == {}
        assert "cannot be read" in results.complaints[0]
