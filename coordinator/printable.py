"""Foreign text as a terminal may have it. Names, log lines, results and errors come from whoever may call the API; in
them may be what moves the cursor, clears the screen, sets the title or turns the order of letters round."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["escaped_in_json", "visible", "visible_json", "visible_lines"]

# Controls of C0 but the tab, DEL, those of C1; marks, embeddings, overrides and isolates of writing direction; what has
# no width and is no part of how words are written; separators of lines; tags; halves of surrogate pairs, which no
# encoding has.
_HARMFUL: Final = (
    "\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff"
)
_IN_A_LINE: Final = re.compile(f"[{_HARMFUL}]")
_IN_LINES: Final = re.compile(f"[{_HARMFUL}]".replace("\x0a-\x1f", "\x0b-\x1f"))
_SHORT: Final = {"\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    """The text on one line, with what a terminal would act upon, or would not show, written as in Python's literals."""
    return _IN_A_LINE.sub(_escaped, text)


def visible_lines(text: str) -> str:
    """The same of a text that may have several lines."""
    return _IN_LINES.sub(_escaped, text)


def visible_json(text: str) -> str:
    """The same of JSON, indented or not: it stays JSON of the same meaning."""
    return _IN_LINES.sub(lambda found: escaped_in_json(found[0]), text)


def escaped_in_json(character: str) -> str:
    """The character as it may be written within a string of JSON."""
    code = ord(character)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
