"""What names a span."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.tracing import is_traceparent, span_of_attempt, traceparent_of_attempt

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "given",
    [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-ff", f"01-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01-what.ever"],
)
def test_a_span_may_be_named_so(given: str) -> None:
    assert is_traceparent(given)


@pytest.mark.parametrize(
    "given",
    [
        *(None, 1, {}, "", b"00"),
        *(f"00-{TRACE}-{SPAN}-01-more", f"ff-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01 more"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{SPAN}-01"),
        *(f"00-{TRACE}-{SPAN}", f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-01\n", f" 00-{TRACE}-{SPAN}-01"),
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_names_none_is_ignored(given: Any) -> None:
    assert not is_traceparent(given)


def test_an_attempt_has_a_span_of_its_own_in_the_trace() -> None:
    own = traceparent_of_attempt(f"00-{TRACE}-{SPAN}-01", "token-7-1")

    assert own == f"00-{TRACE}-{span_of_attempt('token-7-1')}-01"
    assert is_traceparent(own)
    assert span_of_attempt("token-7-1") != span_of_attempt("token-7-2")
