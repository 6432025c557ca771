"""The layout of the package: imports go downward from room to room, and nowhere in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

import coordinator

ROOT: Final = Path(coordinator.__file__).parent
DOWNWARD: Final = ("cli", "server", "rpc", "engine", "operations", "actors", "storage", "models")
BESIDE: Final = ("client", "load", "runner")


@cache
def imports() -> dict[str, set[str]]:
    """For each module of the package those it imports anywhere, for types too."""
    files = {name_of(path): path for path in ROOT.rglob("*.py")}
    return {name: {*imported(path, {*files})} - {name} for name, path in files.items()}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            for alias in node.names:
                member = f"{node.module}.{alias.name}"
                if member in modules:
                    yield member
                elif node.module in modules:
                    yield node.module


def room_of(module: str) -> str:
    """Its room, or its own name if it is in none."""
    return module.partition(".")[2].partition(".")[0]


def arrows(importing: str) -> set[tuple[str, str]]:
    """What the modules of a room import, as (module, imported module)."""
    return {(module, other) for module, others in imports().items() for other in others if room_of(module) == importing}


def test_there_are_modules_in_each_room() -> None:
    assert {*DOWNWARD, *BESIDE} <= {room_of(module) for module in imports()}
    assert ("coordinator.actors.supervisor", "coordinator.actors.rounds") in arrows("actors")


@pytest.mark.parametrize("room", DOWNWARD)
def test_a_room_imports_only_rooms_below(room: str) -> None:
    above = {*DOWNWARD[: DOWNWARD.index(room)]}

    assert [arrow for arrow in sorted(arrows(room)) if room_of(arrow[1]) in above] == []


@pytest.mark.parametrize("room", BESIDE)
def test_the_client_and_the_runner_import_nothing_of_the_coordinator_itself(room: str) -> None:
    others = {*DOWNWARD} - {"models"}

    assert [arrow for arrow in sorted(arrows(room)) if room_of(arrow[1]) in others] == []


def test_modules_outside_the_rooms_import_no_room_but_models() -> None:
    rooms = {*DOWNWARD, *BESIDE} - {"models"}
    leaves = {room_of(module) for module in imports()} - {*DOWNWARD, *BESIDE, "__main__"}
    upward = {(leaf, room_of(other)) for leaf in leaves for _, other in arrows(leaf) if room_of(other) in rooms}

    assert upward == {("settings", "storage")}  # the settings are checked as the store will read them


def test_only_what_is_above_the_store_knows_the_settings() -> None:
    below = {*DOWNWARD[DOWNWARD.index("rpc") :]}

    assert [arrow for room in below for arrow in arrows(room) if arrow[1] == "coordinator.settings"] == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))
