"""Small pieces of Markdown."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

__all__ = ["GENERATED", "code", "json_block", "plain", "table", "text_block"]

GENERATED: Final = "<!-- Made by `make reference`; do not edit. -->\n"
WIDTH: Final = 88


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a bar or a line break in a cell is written so that it stays in the cell."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|").replace("\n", " ")


def plain(text: str) -> str:
    """Text in which nothing is markup but what stands between backticks."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return html.escape(text, quote=False)
    return "`".join(
        part if at % 2 else html.escape(part, quote=False).replace("*", "\\*") for at, part in enumerate(parts)
    )


def code(text: object) -> str:
    return f"`{text}`"


def json_block(value: Any) -> str:
    return f"```json\n{_laid_out(value, 0)}\n```\n"


def text_block(text: str) -> str:
    return f"```text\n{text}\n```\n"


def _laid_out(value: Any, depth: int) -> str:
    """JSON with what fits into a line in one line."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) + 2 * depth <= WIDTH or not isinstance(value, dict | list) or not value:
        return short
    indent = "  " * (depth + 1)
    if isinstance(value, dict):
        items = [f"{json.dumps(name)}: {_laid_out(item, depth + 1)}" for name, item in value.items()]
        opening, closing = "{", "}"
    else:
        items = [_laid_out(item, depth + 1) for item in value]
        opening, closing = "[", "]"
    inner = ",\n".join(f"{indent}{item}" for item in items)
    return f"{opening}\n{inner}\n{'  ' * depth}{closing}"
