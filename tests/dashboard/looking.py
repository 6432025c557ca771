"""A person who looks at the dashboard in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from tests.support.chromium import Browser, Page

__all__ = ["HOSTILE", "Viewer", "job_of"]

HOSTILE: Final = (
    '<img src=x onerror="window.__xss=1">',
    "<script>window.__xss=2</script>",
    '"><svg onload=window.__xss=3>',
    "javascript:window.__xss=4",
    "{{constructor.constructor('window.__xss=5')()}}",
    "\x1b]8;;javascript:window.__xss=6\x07link\x1b]8;;\x07",
)
"""Hostile texts that others may have put into whatever a page shows."""


def job_of(id: int, context: int, script: str = "print('done')", **more: Any) -> dict[str, Any]:
    """A job's fields."""
    defaults = {
        "script_type": "Python",
        "timeout": 60,
        "retries": 0,
        "env_vars": {},
        "prerequisites": [],
        "depends": [],
    }
    return {**defaults, "id": id, "caller_id": 7, "context_id": context, "script": script, **more}


def flow_of(id: int, context: int, jobs: Iterable[int], **more: Any) -> dict[str, Any]:
    return {"id": id, "caller_id": 7, "context_id": context, "jobs": [*jobs], "env_vars": {}, **more}


_shown: WeakKeyDictionary[Browser, Page] = WeakKeyDictionary()


class Viewer:
    """A tab at the dashboard of a coordinator, of which all is kept that its browser complains of. The one before it in
    that browser is closed.

    Args:
        url: of the coordinator's HTTP port.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        if browser in _shown:
            _shown[browser].close()
        self.page: Page = browser.page()
        _shown[browser] = self.page
        self.url = url
        self.page.watch("Network", "Log", "Runtime", "Page")

    def open(self, place: str = "") -> None:
        """Go to a place of the dashboard."""
        self.page.run(f"location.hash = {json.dumps('#/' + place)}") if self._is_there() else self.page.open(
            f"{self.url}/#/{place}"
        )

    def _is_there(self) -> bool:
        return bool(self.page.run(f"location.href.startsWith({json.dumps(self.url)})"))

    def sees(self, *texts: str, timeout: float = 30.0) -> None:
        """Wait until all these are read on the page."""
        for text in texts:
            self.page.until(f"document.body.innerText.includes({json.dumps(text)})", timeout)

    def sees_no(self, text: str, timeout: float = 30.0) -> None:
        """Wait until this is not on the page."""
        self.page.until(f"!document.body.innerText.includes({json.dumps(text)})", timeout)

    def buttons(self) -> set[str]:
        """What may be pressed."""
        return {
            *self.page.run("[...document.querySelectorAll('button:not(:disabled)')].map(one => one.innerText.trim())")
        }

    def press(self, label: str, within: str = "body") -> None:
        """Press a button, or follow a link, of this name."""
        found = (
            f"[...document.querySelectorAll({json.dumps(within + ' button, ' + within + ' a')})]"
            f".find(one => one.innerText.trim() === {json.dumps(label)})"
        )
        self.page.until(f"!!({found}) && !({found}).disabled")
        self.page.run(f"({found}).click()")

    def type(self, selector: str, text: str) -> None:
        """Write into a field, as a person does."""
        self.page.until(f"!!document.querySelector({json.dumps(selector)})")
        self.page.run(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(text)};"
            "field.dispatchEvent(new Event('input', {bubbles: true}));"
            "field.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def rows(self) -> list[str]:
        """The text of each row of the tables."""
        rows: list[str] = self.page.run(
            "[...document.querySelectorAll('tbody tr, .long-table .rows .row')].map(one => one.innerText)"
        )
        return rows

    def hosts(self) -> set[str]:
        """Whom the browser has asked for anything."""
        asked = [one["request"]["url"] for one in self.page.told("Network.requestWillBeSent")]
        asked += [one["url"] for one in self.page.told("Network.webSocketCreated")]
        return {urlsplit(url).netloc for url in asked}

    def complaints(self) -> list[Any]:
        """What its browser has refused, or what has failed in it. That the server refuses a call is none."""
        entries = [one["entry"] for one in self.page.told("Log.entryAdded")]
        refused = [one for one in entries if one["level"] == "error" and one["source"] != "network"]
        return [*refused, *self.page.told("Runtime.exceptionThrown")]

    def is_clean(self) -> bool:
        """Whether the page is what it was written to be: no script of others ran, nothing was refused, and nobody else
        was asked for anything."""
        assert self.complaints() == []
        assert self.page.run("window.__xss") is None
        assert self.hosts() == {urlsplit(self.url).netloc}
        return True
