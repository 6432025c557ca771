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
    assert parse_results(text.encode()) == (values, None)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("report<<END\none\ntwo\nEND\nrows=1\n", {"report": "one\ntwo", "rows": "1"}),
        ("report<<END\nEND", {"report": ""}),
        ("report<<END\n\n a=b \n=\n\nEND\n", {"report": "\n a=b \n=\n"}),
        ("report << END \none\r\nEND\r\n", {"report": "one\r"}),
        ("report<<END\r\none\r\ntwo\r\nEND\r\na=1\r\n", {"report": "one\ntwo", "a": "1"}),
        ("a<<x=y\nwhatever\nx=y\n", {"a": "whatever"}),
        ("a=1<<2\n", {"a": "1<<2"}),
        ("a<<E\n1\nE\na<<E\n2\nE\n", {"a": "2"}),
    ],
)
def test_a_value_may_have_several_lines_up_to_a_mark(text: str, values: dict[str, str]) -> None:
    assert parse_results(text.encode()) == (values, None)


@pytest.mark.parametrize(
    ("text", "values", "fault"),
    [
        ("a=1\nnonsense\n=2\nb=3\n", {"a": "1", "b": "3"}, "line 2 is no key=value: 'nonsense' (and 1 more lines"),
        ("=2\n", {}, "line 1 is no key=value: '=2'"),
        ("a=1\nreport<<END\none\n", {"a": "1"}, "line 2 begins a value that no line 'END' ends"),
        ("report<<\none\n", {}, "line 1 is no key=value: 'report<<'"),
        ("<<END\none\nEND\n", {}, "line 1 is no key=value: '<<END'"),
        ("x" * 1000 + "\n", {}, "line 1 is no key=value: '" + "x" * 100 + "'"),
    ],
)
def test_anything_else_is_a_fault_that_names_the_line(text: str, values: dict[str, str], fault: str) -> None:
    results = parse_results(text.encode())

    assert results.values == values
    assert str(results.fault).startswith(f"HERO_RESULT {fault}")


def test_of_a_file_that_is_too_large_nothing_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "result"
    file.write_bytes(b"a=1\n" + b"b=" + b"x" * (MAX_RESULT_BYTES - 6))
    assert read_results(file).values.keys() == {"a", "b"}

    file.write_bytes(file.read_bytes() + b"x")

    results = read_results(file)
    assert results.values == {}
    assert "too large: 65537 bytes, at most 65536" in str(results.fault)


@pytest.mark.parametrize("wrong", [b"b=\xff", b"b=\xed\xa0\x80", b"b=\xc3", b"\xfe=b", b"b<<E\n\xff\nE"])
def test_what_is_no_utf8_is_a_fault_and_never_another_value(wrong: bytes) -> None:
    line = 2 + wrong.split(b"\xff")[0].count(b"\n")

    assert parse_results(b"a=1\n" + wrong) == ({}, f"HERO_RESULT line {line} is not UTF-8")


def test_a_mark_of_utf8_is_no_part_of_the_first_key() -> None:
    assert parse_results(b"\xef\xbb\xbfa=1\nb=\xef\xbb\xbf2\n") == ({"a": "1", "b": "\ufeff2"}, None)


def test_a_file_that_is_gone_has_no_results(tmp_path: Path) -> None:
    assert read_results(tmp_path / "result") == ({}, None)


def test_what_was_put_in_its_place_is_not_followed_or_waited_for(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a=1\n")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()

    for name in ("link", "fifo", "directory"):
        results = read_results(tmp_path / name)
        assert results.values == {}
        assert "cannot be read" in str(results.fault)
