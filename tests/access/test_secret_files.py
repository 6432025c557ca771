"""Files with secrets: who else may read them, asked by a process that is not root, as a service is; and what stands in
their place that is no file."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from coordinator.client.credentials import Credentials
from coordinator.client.stream import tls_context
from coordinator.rpc.access.fresh import FRESH_FOR
from coordinator.secretfiles import Unusable, read_file, read_secret
from coordinator.storage.endpoint import Endpoint
from coordinator.storage.url import topology_from_url
from tests.access import callers
from tests.access.callers import caller
from tests.access.test_revocation import soon
from tests.support.commands import herocoordinator
from tests.support.server import coordinator
from tests.support.tls import Files

ASK = """
import os, sys
from coordinator.secretfiles import Unusable, read_secret
from pathlib import Path
os.setgroups([9652]); os.setresgid(9652, 9652, 9652); os.setresuid(9652, 9652, 9652)
for path in sys.argv[1:]:
    try:
        print(read_secret(Path(path), "token").decode())
    except Unusable as error:
        print("refused:", str(error).split()[0])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_a_secret_that_root_gave_to_our_group_is_ours_and_no_other_is() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own is closed to others
        directory = Path(name)
        directory.chmod(0o755)
        wanted = {
            "mounted": (0, 9652, 0o440, "mounted"),
            "own": (9652, 9652, 0o400, "own"),
            "own-of-group": (9652, 9652, 0o640, "refused: others"),
            "writable": (0, 9652, 0o460, "refused: others"),
            "world": (0, 9652, 0o444, "refused: others"),
            "colleague": (1000, 9652, 0o440, "refused: others"),
        }
        for path, (user, group, mode, _) in wanted.items():
            (directory / path).write_text(path)
            os.chown(directory / path, user, group)
            (directory / path).chmod(mode)

        said = subprocess.run(
            [sys.executable, "-c", ASK, *(str(directory / path) for path in wanted)],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    assert said.stdout.splitlines() == [says for *_, says in wanted.values()]


KINDS = ("pipe", "directory", "socket", "device", "loop")


def in_place(directory: Path, kind: str) -> Path:
    """Something else than a file with what is wanted in it, where one is expected."""
    path = directory / kind
    match kind:
        case "pipe":
            os.mkfifo(path, 0o600)
        case "directory":
            path.mkdir(mode=0o700)
        case "socket":
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(path))
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_a_file_is_read_and_nothing_stays_open(tmp_path: Path, kind: str) -> None:
    path = in_place(tmp_path, kind)
    before = os.listdir("/proc/self/fd")

    with pytest.raises(OSError, match=r"\S"):
        read_file(path, 10)
    with pytest.raises(Unusable, match=f"cannot read the key in {path}: "):
        read_secret(path, "key")

    assert os.listdir("/proc/self/fd") == before


SERVING: dict[str, tuple[str, ...]] = {
    "--operator-token-file": ("--auth", "keys"),
    "--tls-cert": ("--tls-key", "PATH"),
    "--tls-client-ca": ("--tls-cert", "cert.pem", "--tls-key", "key.pem", "--tls-client-certs", "optional"),
    "--jwt-keys": ("--auth", "keys", "--jwt-issuer", "i", "--jwt-audience", "a"),
    "--redis-url-file": (),
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate and its key, by the names of their files."""
    files = Files(tmp_path_factory.mktemp("pair"))
    return {"cert.pem": str(files.certificate), "key.pem": str(files.key)}


@pytest.mark.parametrize("flag", SERVING)
def test_a_start_that_is_given_something_else_than_a_file_ends_with_one_line(
    tmp_path: Path, pair: dict[str, str], flag: str
) -> None:
    path = in_place(tmp_path, "pipe")
    more = [str(path) if text == "PATH" else pair.get(text, text) for text in SERVING[flag]]
    ports = ("--api-http-port", "0", "--api-ws-port", "0", "--data-dir", str(tmp_path / "data"))

    ended = herocoordinator("serve", flag, str(path), *more, *ports)

    assert ended.returncode in (1, 2)
    lines = [line for line in ended.stderr.splitlines() if line.startswith("herocoordinator: ")]
    assert len(lines) == 1, ended.stderr
    assert str(path) in lines[0]
    assert "Traceback" not in ended.stderr


CLIENTS: dict[str, tuple[str, ...]] = {
    "--token-file": (),
    "--key": ("--as", "actor:1"),
    "--ca": (),
    "--client-cert": (),
}


@pytest.mark.parametrize("flag", CLIENTS)
def test_a_command_that_is_given_something_else_than_a_file_says_so(tmp_path: Path, flag: str) -> None:
    path = in_place(tmp_path, "pipe")

    ended = herocoordinator("flow", "list", "--url", "https://127.0.0.1:1", flag, str(path), *CLIENTS[flag])

    assert ended.returncode == 2, ended.stderr
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_file_of_a_token_that_is_empty_is_not_the_same_as_none(tmp_path: Path) -> None:
    (tmp_path / "token").touch(0o600)
    with pytest.raises(Unusable, match="no token in"):
        Credentials(token_file=tmp_path / "token").headers()


def test_a_file_of_authorities_that_is_empty_does_not_mean_the_system_s(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    with pytest.raises(ValueError, match="no certificate"):
        tls_context(tmp_path / "ca.pem")


def test_comments_in_a_file_of_authorities_may_be_in_any_language(tmp_path: Path, pair: dict[str, str]) -> None:
    (tmp_path / "ca.pem").write_text(f"# Főtanúsítvány\n{Path(pair['cert.pem']).read_text()}")

    assert tls_context(tmp_path / "ca.pem").cert_store_stats()["x509"] == 1
    store = topology_from_url(f"rediss://h?ssl_ca_certs={tmp_path}/ca.pem")
    assert isinstance(store, Endpoint)
    assert store.tls is not None
    assert store.tls.cert_store_stats()["x509"] == 1


@pytest.mark.parametrize("kind", [*KINDS, "empty"])
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
@pytest.mark.parametrize("url", ["rediss://h", "rediss+cluster://h:1,i:2", "rediss+sentinel://h/main"])
def test_a_url_of_a_store_names_nothing_but_files(
    tmp_path: Path, pair: dict[str, str], url: str, option: str, kind: str
) -> None:
    path = tmp_path / "empty"
    if kind == "empty":
        path.touch()
    else:
        path = in_place(tmp_path, kind)
    certificate = f"&ssl_certfile={pair['cert.pem']}" if option == "ssl_keyfile" else ""

    with pytest.raises(ValueError, match=f"TLS files of the Redis URL: .*{path}"):
        topology_from_url(f"{url}?{option}={path}{certificate}")


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(tmp_path: Path, pair: dict[str, str]) -> None:
    key = load_pem_private_key(Path(pair["key.pem"]).read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    (tmp_path / "key.pem").write_bytes(locked)
    url = f"rediss://h?ssl_certfile={pair['cert.pem']}&ssl_keyfile={tmp_path}/key.pem"

    with pytest.raises(ValueError, match="TLS files"):
        topology_from_url(url)
    assert topology_from_url(f"{url}&ssl_password=sesame")


def test_the_operator_s_token_is_replaced_in_a_file_only(tmp_path: Path) -> None:
    device = in_place(tmp_path, "device")

    ended = herocoordinator("token", "rotate-operator", "--operator-token-file", str(device))

    assert ended.returncode == 2
    assert str(device) in ended.stderr
    assert os.readlink(device) == "/dev/zero"


def test_a_file_that_becomes_a_pipe_while_serving_stops_nobody_else(tmp_path: Path) -> None:
    """Nobody is the operator then, until there is a file again; and no descriptor is lost each time it is looked at."""
    metrics, keys = tmp_path / "metrics", tmp_path / "keys.pem"
    metrics.write_text("hc_" + "m" * 43)
    metrics.chmod(0o600)
    public = Ed25519PrivateKey.generate().public_key()
    keys.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    data = tmp_path / "data"
    extra = ("--jwt-keys", str(keys), "--jwt-issuer", "i", "--jwt-audience", "a", "--metrics-token-file", str(metrics))
    with coordinator("--auth", "keys", "--data-dir", str(data), *extra) as server:
        token = callers.operator_token(data)
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        with caller(server, "http", token) as one:
            assert one.result("auth.whoami", {})["principal"] == "operator"
            for path, kind in ((data / "operator.token", "pipe"), (metrics, "pipe"), (keys, "directory")):
                path.rename(path.with_suffix(".before"))
                in_place(path.parent, kind).rename(path)
            server.wait_for("the file of the operator's tokens cannot be used: none of its tokens is good now")
            server.wait_for("the file of --jwt-keys cannot be used: no JWT is good now")
            assert one.code("context.list", {}) == -32002
            before = len(os.listdir(descriptors))
            looks = 5
            time.sleep(looks * FRESH_FOR)
            assert len(os.listdir(descriptors)) < before + looks

            (data / "operator.before").rename(data / "operator.token")
            soon(lambda: "result" in one.call("context.list", {}))
        told = [entry for entry in server.logs if "operator's tokens cannot be used" in entry["event"]]
        assert len(told) == 1
