"""The function library as a linter sees it: names are declared and used, lines short, functions say what they take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest
import tree_sitter_lua
from tree_sitter import Language, Node, Parser

from coordinator.storage import fields
from coordinator.storage.library import SOURCE

pytestmark = pytest.mark.slow

PARTS: Final = sorted(Path(str(files("coordinator.storage") / "library")).glob("*.lua"))
MOST_COLUMNS: Final = 120
GIVEN: Final = {  # by the server, see https://valkey.io/topics/lua-api/
    *("redis", "cjson", "cmsgpack", "string", "table", "math"),
    *("ipairs", "pairs", "next", "unpack", "tonumber", "tostring", "type", "pcall", "error", "collectgarbage"),
}


def parsed(source: str) -> Node:
    root = Parser(Language(tree_sitter_lua.language())).parse(source.encode()).root_node
    assert not root.has_error  # or nothing is known of the names in what it could not read
    return root


def name_of(node: Node) -> str:
    return (node.text or b"").decode()


class Scopes:
    """Walks a chunk and finds what is wrong with its names.

    Attributes:
        unknown: names that are used and not declared: globals, of which the library may have none.
        unused: local names that are declared and never used.
    """

    def __init__(self, chunk: Node) -> None:
        self.unknown: set[str] = set()
        self.unused: set[str] = set()
        self._scopes: list[dict[str, bool]] = []
        self._block([chunk])

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

    def _block(self, nodes: list[Node], *names: str) -> None:
        """`names` are those of parameters and loops, which need not be used."""
        self._scopes.append(dict.fromkeys(names, True))
        for node in nodes:
            self._visit(node)
        self.unused |= {name for name, is_used in self._scopes.pop().items() if not is_used and name[0] != "_"}

    def _visit_all(self, nodes: list[Node]) -> None:
        for node in nodes:
            self._visit(node)

    def _function(self, node: Node, *names: str) -> None:
        (parameters,) = node.children_by_field_name("parameters")
        names += tuple(name_of(name) for name in parameters.children_by_field_name("name"))
        self._block(node.children_by_field_name("body"), *names)

    def _visit(self, node: Node) -> None:  # noqa: PLR0912 - a case for each kind of node
        fields = node.children_by_field_name
        match node.type:
            case "identifier":
                self._use(name_of(node))
            case "variable_declaration":  # of local names; its values do not know them yet
                (inner,) = [child for child in node.named_children if child.type != "comment"]
                targets, *values = inner.named_children if inner.type == "assignment_statement" else [inner]
                self._visit_all(values)
                self._declare(*(name_of(name) for name in targets.children_by_field_name("name")))
            case "function_declaration" if node.children[0].type == "local":
                self._declare(*(name_of(name) for name in fields("name")))
                self._function(node)
            case "function_declaration":
                self._visit_all(fields("name"))
                self._function(node, *(["self"] if fields("name")[0].type == "method_index_expression" else []))
            case "function_definition":
                self._function(node)
            case "for_statement":
                (clause,) = fields("clause")
                named = clause if clause.type == "for_numeric_clause" else clause.named_children[0]
                names = named.children_by_field_name("name")
                self._visit_all([child for child in clause.named_children if child not in (*names, named)])
                self._block(fields("body"), *(name_of(name) for name in names))
            case "repeat_statement":  # its condition knows the names of its body
                self._block([*fields("body"), *fields("condition")])
            case "while_statement" | "do_statement" | "if_statement" | "elseif_statement" | "else_statement":
                for child in node.named_children:
                    self._block([child])
            case "dot_index_expression" | "method_index_expression":
                self._visit_all(fields("table"))
            case "field":
                if node.children[0].type == "[":
                    self._visit_all(fields("name"))
                self._visit_all(fields("value"))
            case "goto_statement" | "label_statement":
                pass
            case _:
                self._visit_all(node.named_children)


@pytest.fixture(scope="module")
def scopes() -> Scopes:
    return Scopes(parsed(SOURCE.partition("\n")[2]))


def test_the_linter_finds_what_is_wrong() -> None:
    source = "local a, b, c = 1\nlocal function f(x) d = a + e.g + x end\nfor i = 1, 2 do b = {h = i} end"

    found = Scopes(parsed(source))

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
    for name, function in registered:
        if function != "callback":
            found = [comments(other)[function] for other in (part, *PARTS) if function in comments(other)]
            yield name, found[0] if found else ""


@cache
def comments(part: Path) -> dict[str, str]:
    """The comment in front of each function of a part."""
    found = re.findall(r"((?:^--.*\n)+)(?:local )?function (\w+)\(", part.read_text(), re.MULTILINE)
    return {function: comment for comment, function in found}


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
