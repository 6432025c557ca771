"""Keeps secrets out of what we say: who reads one tells us, and what goes to a log or to a client goes through here."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from urllib.parse import quote

__all__ = ["redact", "redact_values", "remember", "without_credentials"]

_SHORTEST: Final = 4
"""Characters of a secret that is looked for: a shorter one is part of every other word, and everybody guesses it."""
_HIDDEN: Final = "***"
_secrets: dict[str, None] = {}  # as they may be written; the longest first, for one may be in another
_CREDENTIALS: Final = re.compile(r"^([A-Za-z][\w+.-]*://)?.*@", re.S)


def remember(*secrets: str | None) -> None:
    """From now on `redact` hides these, however they are quoted."""
    written = {form for secret in secrets if secret for form in _forms(secret) if len(form) >= _SHORTEST}
    if not written <= _secrets.keys():
        merged = sorted({*written, *_secrets}, key=len, reverse=True)
        _secrets.clear()
        _secrets.update(dict.fromkeys(merged))


def _forms(secret: str) -> set[str]:
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        repr(secret)[1:-1],
        ascii(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }


def redact(text: str) -> str:
    """The text without secrets."""
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, _HIDDEN)
    return text


def redact_values(value: Any) -> Any:
    """The same of every text in a value made of dicts, lists and tuples. What is of no such type stays as it is."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redact_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(item) for item in value]
    return value


def without_credentials(url: str) -> str:
    """A URL, or what was meant as one, without what is before its last @."""
    return _CREDENTIALS.sub(rf"\g<1>{_HIDDEN}@", url)
