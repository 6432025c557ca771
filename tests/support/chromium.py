"""A real browser, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.sync.client import ClientConnection, connect

__all__ = ["Browser", "Page", "chromium", "pages_of_others"]

START_TIMEOUT: Final = 90.0
PATIENCE: Final = 60.0
EVENTS: Final = 20_000
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
)


class Page:
    """A tab of a browser."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target

    def close(self) -> None:
        self._browser.send("Target.closeTarget", targetId=self._target)

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        self._send("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url)})"):
            assert time.monotonic() < deadline, f"{url} does not load"
            time.sleep(0.05)

    def run(self, script: str) -> Any:
        """What an expression is; what it promises, if it is a promise."""
        done = self._send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, script: str, timeout: float = PATIENCE) -> Any:
        """What an expression is, once that is true."""
        deadline = time.monotonic() + timeout
        while not (found := self.run(script)):
            assert time.monotonic() < deadline, f"never true: {script}\n{self.text()}"
            time.sleep(0.05)
        return found

    def text(self) -> str:
        """What a person reads on it."""
        shown: str = self.run("document.body.innerText")
        return shown

    def watch(self, *domains: str) -> None:
        """Have the browser tell of what happens there: see `Browser.told`."""
        for domain in domains:
            self._send(f"{domain}.enable")

    def told(self, method: str) -> list[dict[str, Any]]:
        """The events of this name, of domains that are watched, that the browser has told of this tab."""
        self.run("0")
        told = self._browser.told
        return [one["params"] for one in told if one.get("sessionId") == self._session and one["method"] == method]

    def emulate(self, method: str, **params: Any) -> None:
        """Make the tab believe something of its surroundings: a command of the DevTools' domain Emulation."""
        self._send(f"Emulation.{method}", **params)

    def heap(self) -> int:
        """Bytes that its scripts hold."""
        self._send("HeapProfiler.collectGarbage")
        used: int = self._send("Runtime.getHeapUsage")["usedSize"]
        return used

    def picture(self) -> bytes:
        """What is seen of it, as PNG."""
        return base64.b64decode(self._send("Page.captureScreenshot", format="png")["data"])

    def cookies(self, url: str) -> list[dict[str, Any]]:
        """Those that the browser would send there."""
        found: list[dict[str, Any]] = self._send("Network.getCookies", urls=[url])["cookies"]
        return found

    def _send(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.send(method, self._session, **params)


class Browser:
    """One that is running.

    Attributes:
        told: the newest events that it has told of.
    """

    def __init__(self, devtools: ClientConnection) -> None:
        self.told: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._devtools = devtools
        self._number = 0

    def page(self) -> Page:
        """A new tab."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        return Page(self, self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"], target)

    def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """The result of a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        self._devtools.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        while True:
            reply = json.loads(self._devtools.recv(PATIENCE))
            if reply.get("id") == self._number:
                assert "result" in reply, reply
                result: dict[str, Any] = reply["result"]
                return result
            if "method" in reply:
                self.told.append(reply)


@contextlib.contextmanager
def chromium(directory: Path, *names: str) -> Iterator[Browser]:
    """A browser that finds these names at 127.0.0.1. Without one the test is skipped.

    Args:
        directory: for its profile.
    """
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        warnings.warn("Chromium is missing: NO test of what pages in a browser may do runs", stacklevel=1)
        pytest.skip("Chromium is missing: apt-get install chromium")
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in names)
    process = subprocess.Popen(
        [found, *FLAGS, f"--user-data-dir={directory}", f"--host-resolver-rules={rules}", "about:blank"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None
    timer = threading.Timer(START_TIMEOUT, process.kill)
    timer.start()
    try:
        line = next((line for line in process.stderr if "DevTools listening on " in line), "")
        timer.cancel()
        assert line, "the browser does not start"
        threading.Thread(target=partial(list, process.stderr), daemon=True).start()
        with connect(line.rpartition(" ")[2].strip(), max_size=None, open_timeout=PATIENCE, proxy=None) as devtools:
            yield Browser(devtools)
    finally:
        timer.cancel()
        process.kill()
        process.wait(PATIENCE)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>another page</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def pages_of_others(port: int = 0) -> Iterator[int]:
    """A server of empty pages on every loopback name. Yields its port."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
