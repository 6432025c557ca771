"""Before Python 3.11.4, as on Debian 12, what is raised inside `except*` reaches the caller in a group of its own: no
`except` of it matches, and a SystemExit is shown as a traceback."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import coordinator

ROOT: Final = Path(coordinator.__file__).parent
LEAVING: Final = {"fail", "exit"}


def test_nothing_new_is_raised_while_a_group_is_handled() -> None:
    places = {path: {*leaving(ast.parse(path.read_text()))} for path in ROOT.rglob("*.py")}

    assert len(places) > 100
    assert {path: lines for path, lines in places.items() if lines} == {}


def test_each_form_of_it_is_found() -> None:
    for line in ("raise KeyError from None", "fail('no')", "sys.exit(1)"):
        assert [*leaving(ast.parse(f"try: pass\nexcept* ValueError:\n  if x:\n    {line}"))] == [4]
        assert [*leaving(ast.parse(f"try: pass\nexcept ValueError:\n  {line}"))] == []
    assert [*leaving(ast.parse("try: pass\nexcept* ValueError:\n  raise"))] == []


def leaving(tree: ast.AST) -> Iterator[int]:
    """The lines in which something else is raised than the group."""
    for block in ast.walk(tree):
        if isinstance(block, ast.TryStar):
            for handler in block.handlers:
                for node in ast.walk(handler):
                    if isinstance(node, ast.Raise | ast.Call) and _leaves(node):
                        yield node.lineno


def _leaves(node: ast.Raise | ast.Call) -> bool:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        return name in LEAVING
    return node.exc is not None
