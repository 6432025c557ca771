"""Sandboxes for attempts (`--isolate`): what bubblewrap is told, and whether it can do that here.

    host: guard ──► bwrap ──► [ inside.py ──► script ──► … ]   own processes, network, IPC, mounts, user

A script sees the system's programs and libraries, Python and what `--isolate-path` names, read-only; its own attempt's
files, read-only; and one file system in memory of `--disk-limit`, which is all that it may write to. As root each
attempt has a user of its own, whom nothing else belongs to; otherwise a user namespace, in which it has no rights.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coordinator.runner import inside, seccomp
from coordinator.runner.inside import HOME, JOB, WRITABLE
from coordinator.runner.warden import Sandbox

if TYPE_CHECKING:
    from coordinator.runner.inside import Inside

__all__ = ["CannotIsolate", "Isolation", "find_bubblewrap"]

_SYSTEM: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_CONFIGURATION: Final = (
    "alternatives", "ca-certificates", "gai.conf", "host.conf", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "locale.alias", "locale.conf", "localtime", "mime.types", "networks", "nsswitch.conf", "os-release",
    "pki/tls/certs", "protocols", "resolv.conf", "services", "ssl/cert.pem", "ssl/certs",
    "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
"""What is shown of /etc, in which there are secrets too."""
_INSIDE: Final = "/run/herocoordinator/inside.py"
_SHARED_MEMORY: Final = 64 * 1024 * 1024  # bytes of /dev/shm, at most
_OWN: Final = ("/", "/dev", "/etc", "/home", "/job", "/proc", "/root", "/run", "/sys", "/tmp", "/var")
"""Places that are not shown: there are other things in them than somebody means to share."""
_FIRST_USER: Final = 1_900_000_000  # of those that root gives to attempts; nobody has accounts there
_USERS: Final = 100_000_000
_USER_INSIDE: Final = 1000  # as which a script sees itself without root
_COUNTS_BY_NAMESPACE: Final = (5, 14)  # Linux, from which on processes of a user are counted apart in each namespace


class CannotIsolate(Exception):
    """There is no sandbox to be had here; the text says why, and the way out."""


def find_bubblewrap() -> str:
    """Its path. Raises CannotIsolate if there is none, or too old a one."""
    if not sys.platform.startswith("linux"):
        raise CannotIsolate(
            f"--isolate needs Linux, and this is {platform.system()}; leave it out to run trusted scripts"
        )
    path = shutil.which("bwrap")
    if path is None:
        raise CannotIsolate(
            "--isolate needs bubblewrap, and there is no bwrap on PATH; install it, on Debian and Ubuntu: apt install "
            "bubblewrap"
        )
    try:
        help_text = subprocess.run(
            [path, "--help"], capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotIsolate(f"--isolate needs bubblewrap, and {path} does not run: {error}") from error
    if "--size" not in help_text.stdout + help_text.stderr:
        raise CannotIsolate(f"--isolate needs bubblewrap 0.7 or newer, which can limit a disk, and {path} is older")
    return path


@dataclass(frozen=True)
class Isolation:
    """How sandboxes are made.

    Attributes:
        bubblewrap: the program's path.
        network: whether scripts have the machine's.
        paths: what they may read beside the system.
        hidden: files that they may not, wherever these are.
        processes, disk, file: how many processes and threads a script and all it starts may be, how many bytes they
            may write, and to one file.
    """

    bubblewrap: str
    network: bool = False
    paths: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    processes: int = 512
    disk: int = 1024**3
    file: int = 1024**3
    _users: set[int] = field(default_factory=set)

    @contextlib.contextmanager
    def user(self) -> Iterator[int]:
        """A user for one attempt, whom no other has meanwhile; -1 unless we are root and so can become it."""
        if os.geteuid() != 0:
            yield -1
            return
        while True:
            chosen = _FIRST_USER + random.SystemRandom().randrange(_USERS)
            if chosen not in self._users:
                break
        self._users.add(chosen)
        try:
            yield chosen
        finally:
            self._users.discard(chosen)

    def sandbox(self, directory: Path, user: int, argv: list[str], env: dict[str, str], copied: str) -> Sandbox:
        """Write what the sandbox needs to know into an attempt's directory, and give that to its user.

        Args:
            copied: a file in there that the script finds in its working directory, or "".

        Raises OSError.
        """
        what: Inside = {
            "argv": argv,
            "env": env,
            "copy": copied,
            "processes": self.processes,
            "hard_processes": self.processes + self.processes // 4 + 32 if _counts_processes(user) else 0,
            "disk": self.disk,
            "file": self.file,
        }
        (directory / "inside").write_bytes(marshal.dumps({**what}))
        (directory / "passwd").write_text(
            f"hero:x:{_user_inside(user)}:{_user_inside(user)}::{HOME}:/bin/sh\n", "utf-8"
        )
        (directory / "group").write_text(f"hero:x:{_user_inside(user)}:\n", "utf-8")
        (directory / "seccomp").write_bytes(seccomp.program())
        if user >= 0:
            for path in (directory, *directory.iterdir()):
                os.chown(path, user, user, follow_symlinks=False)
        return {
            "argv": [self.bubblewrap, *self._options(directory, user), "--", *_STARTS_INSIDE, str(user)],
            "owner": user,
            "result": str(directory / "result"),
            "seccomp": str(directory / "seccomp") if seccomp.program() else "",
        }

    def _options(self, directory: Path, user: int) -> Iterator[str]:
        yield from ("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--as-pid-1")
        yield from ("--die-with-parent", "--hostname", "sandbox", "--chdir", "/")
        if not self.network:
            yield "--unshare-net"
        if user >= 0:  # to become the attempt's user, with which these are lost
            yield from ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
        else:
            yield from ("--unshare-user", "--uid", str(_USER_INSIDE), "--gid", str(_USER_INSIDE))
        system = ("/usr", *_SYSTEM)
        shown = [*_of_python(), *(str(path) for path in self.paths if not _is_within_any(str(path), system))]
        yield from ("--ro-bind", "/usr", "/usr")
        for path in _SYSTEM:
            if os.path.islink(path):
                yield from ("--symlink", os.readlink(path), path)
            elif os.path.isdir(path):
                yield from ("--ro-bind", path, path)
        yield from ("--perms", "1777", "--size", str(self.disk), "--tmpfs", WRITABLE)
        bound = [f"/etc/{name}" for name in _CONFIGURATION if os.path.exists(f"/etc/{name}")]
        for directory_above in _above([*bound, "/var/tmp", _INSIDE, *shown]):
            yield from ("--perms", "0755", "--dir", directory_above)
        for path in bound:
            yield from ("--ro-bind-try", path, path)
        for name in ("passwd", "group"):
            yield from ("--ro-bind", str(directory / name), f"/etc/{name}")
        yield from ("--proc", "/proc", "--dev", "/dev")
        yield from ("--perms", "1777", "--size", str(min(self.disk, _SHARED_MEMORY)), "--tmpfs", "/dev/shm")
        yield from ("--symlink", f"..{WRITABLE}", "/var/tmp")
        for path in shown:
            yield from ("--ro-bind", path, path)
        for path in _beneath(self.hidden, (*system, *shown)):
            yield from ("--ro-bind", os.devnull, path)
        yield from ("--ro-bind", inside.__file__, _INSIDE, "--ro-bind", str(directory), JOB)
        yield from ("--remount-ro", "/dev", "--remount-ro", "/")

    @staticmethod
    def checked_path(path: Path) -> Path:
        """One of `paths`, as it is used. Raises ValueError."""
        try:
            real = path.expanduser().resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        kept = [Path(tempfile.gettempdir()).resolve(), Path(os.path.expanduser("~")).resolve()]
        if str(real) in _OWN or any(place.is_relative_to(real) for place in kept):
            raise ValueError(f"{path} holds more than scripts should read; name what they need in it")
        return real


_STARTS_INSIDE: Final = (sys.executable, "-I", "-S", "-X", "utf8", _INSIDE)
"""The first process in a sandbox, but for its descriptors."""


def _of_python() -> Iterator[str]:
    """Where the Python is that we run on, as far as it is not the system's."""
    places = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    for path in sorted(places | {os.path.dirname(os.path.realpath(sys.executable))}):
        if path != "/" and not _is_within(path, "/usr") and os.path.isdir(path):
            yield path


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _is_within_any(path: str, directories: Iterable[str]) -> bool:
    return any(_is_within(path, directory) for directory in directories)


def _above(paths: Iterable[str]) -> list[str]:
    """The directories that these are in, the outer ones first: bubblewrap would make them for itself alone."""
    return sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/", WRITABLE})


def _beneath(hidden: Iterable[Path], shown: tuple[str, ...]) -> Iterator[str]:
    """Those of the hidden files that would be shown, by the paths at which they would be."""
    for path in hidden:
        for name in {os.path.abspath(path), os.path.realpath(path)}:
            if os.path.isfile(name) and not os.path.islink(name) and _is_within_any(name, shown):
                yield name


def _user_inside(user: int) -> int:
    return user if user >= 0 else _USER_INSIDE


def _counts_processes(user: int) -> bool:
    """Whether the kernel counts an attempt's processes apart from all others."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    return user >= 0 or (version is not None and (int(version[1]), int(version[2])) >= _COUNTS_BY_NAMESPACE)
