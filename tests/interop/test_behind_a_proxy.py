"""The configurations of docs/operations/proxy.md, in the proxies that they are for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import pytest

from tests.support.commands import herocoordinator
from tests.support.server import coordinator, free_port
from tests.support.tls import Files
from tests.support.waiting import until_sync

pytestmark = pytest.mark.slow

PAGE: Final = (Path(__file__).parents[2] / "docs" / "operations" / "proxy.md").read_text()
SBIN: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))
CALL: Final = {"jsonrpc": "2.0", "id": 1, "method": "context.list", "params": {}}
AROUND: Final = """
daemon off; pid nginx.pid; error_log stderr; {user}
events {{}}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {configuration}
}}
"""


class Front(NamedTuple):
    """A proxy before a coordinator that has its callers log in.

    Attributes:
        url: of the API through it.
        directory: with `ada.key` of actor 7, an admin of context 1.
    """

    url: str
    directory: Path
    authority: ssl.SSLContext
    operator: str
    access_log: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return herocoordinator(*arguments, "--ca", str(self.directory / "ca.pem"))

    def client(self, *, http2: bool = False) -> httpx.Client:
        """One that is no proxy of ours by its address."""
        transport = httpx.HTTPTransport(verify=self.authority, local_address="127.0.0.2", http2=http2)
        return httpx.Client(transport=transport, headers={"authorization": f"Bearer {self.operator}"})


def shown(language: str, replaced: dict[str, str]) -> str:
    """The page's configuration, with our own ports and files."""
    match = re.search(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)
    assert match is not None
    text = match[1]
    for old, new in replaced.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def program(name: str) -> str:
    found = shutil.which(name, path=SBIN)
    if found is None:
        warnings.warn(f"{name} is missing: NO test of a coordinator behind it runs", stacklevel=1)
        pytest.skip(f"{name} is missing: apt-get install {name}")
    return found


def nginx(directory: Path, port: int, upstream: str, path: str) -> list[str]:
    replaced = {
        "127.0.0.1:9652": upstream,
        "listen 443 ": f"listen 127.0.0.1:{port} ",
        "/etc/ssl/hero.example/cert.pem": str(directory / "cert.pem"),
        "/etc/ssl/hero.example/key.pem": str(directory / "key.pem"),
    }
    if path:  # as the page says that it is beneath one
        replaced |= {"location / ": f"location {path} ", "http://herocoordinator;": "http://herocoordinator/;"}
    user = "user root;" if os.geteuid() == 0 else ""
    file = directory / "nginx.conf"
    file.write_text(AROUND.format(user=user, configuration=shown("nginx", replaced)))
    return [program("nginx"), "-p", str(directory), "-c", str(file)]


def haproxy(directory: Path, port: int, upstream: str, _: str) -> list[str]:
    both = directory / "both.pem"
    both.write_text((directory / "cert.pem").read_text() + (directory / "key.pem").read_text())
    replaced = {
        "127.0.0.1:9652": upstream,
        "bind :443 ": f"bind 127.0.0.1:{port} ",
        "/etc/ssl/hero.example/both.pem": str(both),
    }
    file = directory / "haproxy.cfg"
    file.write_text(shown("haproxy", replaced))
    return [program("haproxy"), "-db", "-f", str(file)]


@pytest.fixture(
    scope="module",
    params=[(nginx, ""), (nginx, "/hero/"), (haproxy, "")],
    ids=["nginx", "nginx beneath a path", "haproxy"],
)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    configure, path = request.param
    program(configure.__name__)
    directory = tmp_path_factory.mktemp("proxy")
    files = Files(directory)
    files.authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    authority = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    port, log, data = free_port(), directory / "access.log", directory / "data"
    public = f"https://hero.example:{port}{path.rstrip('/')}"
    with contextlib.ExitStack() as running:
        of_proxy = ("--behind-proxy", "127.0.0.1", "--public-url", public)
        flags = ("--data-dir", str(data), "--auth", "keys", "--access-log", str(log), *of_proxy)
        server = running.enter_context(coordinator(*flags))
        process = subprocess.Popen(configure(directory, port, server.http.removeprefix("http://"), path))
        running.callback(process.wait, 30)
        running.callback(process.terminate)
        operator = (data / "operator.token").read_text().split()[0]
        front = Front(f"https://localhost:{port}{path}", directory, authority, operator, log)
        until_sync(lambda: is_ready(front))
        key = herocoordinator("key", "new", str(directory / "ada.key")).stdout.strip()
        with front.client() as client:
            for method, params in (
                ("actor.create", {"actor": {"id": 7, "pubkey": key, "address": []}}),
                ("context.create", {"context": {"id": 1, "admins": [7], "readers": [], "executors": []}}),
            ):
                answer = client.post(front.url, json={**CALL, "method": method, "params": params}).json()
                assert "result" in answer, answer
        yield front


def is_ready(front: Front) -> bool:
    with front.client() as client, contextlib.suppress(httpx.TransportError):
        return client.get(f"{front.url.rstrip('/')}/readyz").status_code == 200
    return False


def test_commands_log_in_with_keys_and_follow_through_it(front: Front) -> None:
    login = ("--key", str(front.directory / "ada.key"), "--as", "actor:7")
    websocket = front.url.replace("https://", "wss://")

    for url in (front.url, websocket):
        who = front.run("whoami", "--url", url, *login)
        listed = front.run("flow", "list", "--url", url, *login)

        assert who.stdout.startswith("actor:7"), who.stderr
        assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_a_client_is_where_the_proxy_says_and_not_where_it_says_itself(front: Front, http2: bool) -> None:
    claimed = {"x-forwarded-for": "203.0.113.9", "forwarded": "for=203.0.113.9", "x-request-id": f"claim-{http2}"}

    with front.client(http2=http2) as client:
        answered = client.post(front.url, json=CALL, headers=claimed)

    assert answered.json()["result"] == {"items": [1]}
    assert answered.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    until_sync(lambda: [line["address"] for line in logged(front) if line["request_id"] == claimed["x-request-id"]])
    [address] = [line["address"] for line in logged(front) if line["request_id"] == claimed["x-request-id"]]
    assert address == "127.0.0.2"


def logged(front: Front) -> list[dict[str, str]]:
    return [json.loads(line) for line in front.access_log.read_text().splitlines()]


@pytest.mark.parametrize("accept", ["text/html", "*/*"], ids=["dashboard", "page"])
def test_what_the_pages_lead_to_is_there(front: Front, accept: str) -> None:
    with front.client() as client:
        page = client.get(front.url, headers={"accept": accept})
        leads = re.findall(r'(?:src|href)="([^"#]+)"', page.text)

        assert page.status_code == 200
        assert leads
        assert {lead: client.get(page.url.join(lead)).status_code for lead in leads} == dict.fromkeys(leads, 200)


def test_what_is_too_large_is_refused_in_the_words_of_the_coordinator(front: Front) -> None:
    with front.client() as client:
        refused = client.post(front.url, content=b" " * (2 << 20), headers={"content-type": "application/json"})

    assert refused.json()["error"]["data"]["setting"] == "max_body_bytes"


def test_another_host_is_refused(front: Front) -> None:
    with front.client() as client:
        refused = client.post(front.url, json=CALL, headers={"host": "evil.example"})

    assert refused.status_code == 403
