"""The function library as a linter sees it: names are declared and used, lines short, functions say what they take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pytest
from luaparser import ast, astnodes

from coordinator.storage import fields
from coordinator.storage.library import SOURCE

pytestmark = pytest.mark.slow

PARTS: Final = sorted(Path(str(files("coordinator.storage") / "library")).glob("*.lua"))
MOST_COLUMNS: Final = 120
GIVEN: Final = {  # by the server, see https://valkey.io/topics/lua-api/
    *("redis", "cjson", "cmsgpack", "string", "table", "math"),
    *("ipairs", "pairs", "next", "unpack", "tonumber", "tostring", "type", "pcall", "error", "collectgarbage"),
}


class Scopes:
    """Walks a chunk and finds what is wrong with its names.

    Attributes:
        unknown: names that are used and not declared: globals, of which the library may have none.
        unused: local names that are declared and never used.
    """

    def __init__(self, chunk: astnodes.Chunk) -> None:
        self.unknown: set[str] = set()
        self.unused: set[str] = set()
        self._scopes: list[dict[str, bool]] = []
        self._block(chunk.body.body)

    def _declare(self, *names: str) -> None:
        for name in names:
            if self._scopes[-1].get(name) is False:
                self.unused.add(name)
            self._scopes[-1][name] = False

    def _use(self, name: str) -> None:
        for scope in reversed(self._scopes):
            if name in scope:
                scope[name] = True
                return
        if name not in GIVEN:
            self.unknown.add(name)

    def _block(self, statements: list[Any], *names: str, used: bool = False) -> None:
        """`names` are those of parameters and loops; `used`: they need not be."""
        self._scopes.append(dict.fromkeys(names, used))
        for statement in statements:
            self._visit(statement)
        self.unused |= {name for name, is_used in self._scopes.pop().items() if not is_used and name[0] != "_"}

    def _function(self, node: Any) -> None:
        self._block(node.body.body, *(arg.id for arg in node.args if isinstance(arg, astnodes.Name)), used=True)

    def _visit(self, node: Any) -> None:  # noqa: PLR0912 - a case for each kind of node
        match node:
            case list() | tuple():
                for item in node:
                    self._visit(item)
            case astnodes.LocalAssign():
                self._visit(node.values)
                self._declare(*(target.id for target in node.targets))
            case astnodes.LocalFunction():
                self._declare(node.name.id)
                self._function(node)
            case astnodes.Function():
                self._visit(node.name)
                self._function(node)
            case astnodes.AnonymousFunction():
                self._function(node)
            case astnodes.Fornum():
                self._visit([node.start, node.stop, node.step])
                self._block(node.body.body, node.target.id, used=True)
            case astnodes.Forin():
                self._visit(node.iter)
                self._block(node.body.body, *(target.id for target in node.targets), used=True)
            case astnodes.Block():
                self._block(node.body)
            case astnodes.Index():
                self._visit(node.value)
                if node.notation is not astnodes.IndexNotation.DOT:
                    self._visit(node.idx)
            case astnodes.Field():
                self._visit(node.value)
                if node.between_brackets:
                    self._visit(node.key)
            case astnodes.Name():
                self._use(node.id)
            case astnodes.Node():
                for name, value in vars(node).items():
                    if not name.startswith("_"):
                        self._visit(value)


@pytest.fixture(scope="module")
def scopes() -> Scopes:
    return Scopes(ast.parse(SOURCE.partition("\n")[2]))


def test_the_linter_finds_what_is_wrong() -> None:
    source = "local a, b, c = 1\nlocal function f(x) d = a + e.g + x end\nfor i = 1, 2 do b = {h = i} end"

    found = Scopes(ast.parse(source))

    assert found.unknown == {"d", "e"}
    assert found.unused == {"c", "f"}


def test_there_are_no_globals(scopes: Scopes) -> None:
    assert scopes.unknown == set()


def test_each_local_name_is_used(scopes: Scopes) -> None:
    assert scopes.unused == set()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.stem)
def test_lines_are_short(part: Path) -> None:
    assert [number for number, line in enumerate(part.read_text().splitlines(), 1) if len(line) > MOST_COLUMNS] == []


def documented(part: Path) -> Iterator[tuple[str, str]]:
    """The functions a part registers, each with the comment in front of it."""
    source = part.read_text()
    registered = re.findall(r"^register\('(\w+)', (\w+)", source, re.MULTILINE)
    registered += re.findall(r"function_name = '(\w+)', callback = (\w+)", source)
    registered += re.findall(r"^redis.register_function\('(\w+)', (\w+)\)", source, re.MULTILINE)
    everything = "\n".join(each.read_text() for each in PARTS)
    for name, function in registered:
        if function == "callback":
            continue
        found = re.search(rf"((?:^--.*\n)+)(?:local )?function {function}\(", everything, re.MULTILINE)
        yield name, found[1] if found else ""


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.stem)
def test_each_function_says_what_it_takes_and_returns(part: Path) -> None:
    for name, comment in documented(part):
        takes = re.search(r"Arguments|ARGV|KEYS", comment)
        returns = re.search(r"Result|Returns", comment)
        assert takes, name
        assert returns, name


def test_field_lists_are_declared_once() -> None:
    names = re.findall(r"^local (\w+) =", fields.lua(), re.MULTILINE)
    assert len(names) == len(set(names))
