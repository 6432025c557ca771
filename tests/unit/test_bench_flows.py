"""What the benchmark of flows says of its figures, and which peers it can do without."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from bench import cargo, node, stacks
from bench.flows.__main__ import PEERS, table


def waits(*found: tuple[float, float]) -> list[dict[str, float]]:
    return [{"p50_ms": p50, "p99_ms": p99} for p50, p99 in found]


def row(text: str, name: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_rates_and_waits_are_compared_within_each_round_and_judged_by_their_goals() -> None:
    rates = {"coordinator": [100.0, 400.0, 900.0], "BullMQ": [100.0, 200.0, 300.0], "Celery": [50.0, 50.0, 50.0]}
    found = {"coordinator": waits((1, 4), (2, 4), (3, 4)), "BullMQ": waits((1, 8), (1, 8), (1, 7))}

    text = table(rates, found)

    assert row(text, "coordinator") == ["coordinator", "400", "", "2.00 / 4.00", ""]
    assert row(text, "BullMQ")[2] == "**2.00** (1.00–3.00) ≥ 2 met"
    assert row(text, "BullMQ")[4] == "**2.00** ≤ 1 **missed** / **0.50** ≤ 0.5 met"
    assert row(text, "Celery")[2:] == ["**8.00** (2.00–18.00) ≥ 5 met", "", ""]


def test_a_wait_without_a_goal_is_compared_and_not_judged() -> None:
    text = table({"coordinator": [1.0], "Restate": [1.0]}, {"coordinator": waits((1, 4)), "Restate": waits((2, 4))})

    assert row(text, "Restate")[2] == "**1.00** (1.00–1.00) ≥ 10 **missed**"
    assert row(text, "Restate")[4] == "**0.50** / **1.00**"


@pytest.mark.parametrize(
    ("peer", "lack"),
    [("DBOS", "the extra `peers`"), ("RQ", "the extra `peers`"), ("Restate", "Node with npm"), ("coordinator", "")],
)
def test_a_peer_says_what_it_lacks(peer: str, lack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr("bench.flows.__main__.find_spec", lambda name: real(name) if name == "coordinator" else None)
    monkeypatch.setattr(node, "is_there", lambda: False)

    assert PEERS[peer].lacks == lack


def test_without_cargo_the_peer_in_rust_is_left_out_and_has_no_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = lambda *_, **__: None  # noqa: E731
    monkeypatch.setattr("bench.cargo.shutil.which", nothing)

    assert stacks.missing("jsonrpsee") == "cargo"
    assert cargo.versions() == {}


def test_what_the_peer_in_rust_depends_on_is_pinned() -> None:
    versions = [
        item["version"] if isinstance(item, dict) else item for item in cargo.manifest()["dependencies"].values()
    ]
    assert len(versions) == 5
    assert all(version.startswith("=") for version in versions)
