"""Where the socket of an embedded Valkey is: not in the data directory, whose path may be too long or be gone."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Final

from coordinator.storage.faults import EmbeddedFailed

__all__ = ["SocketPlace"]

_SOCKET_PATH_LIMIT: Final = 100  # bytes; sockaddr_un holds 104 to 108
_RUNTIME_PREFIX: Final = "herocoordinator-store-"
_SOCKET_NAME: Final = len("/herocoordinator-store-12345678/valkey.sock")


class SocketPlace:
    """The place of one socket.

    Attributes:
        path: where it is now; in the data directory until another is chosen.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.path = data_dir / "valkey.sock"

    def choose(self, resources: contextlib.ExitStack) -> None:
        """Choose where the socket is: where it can be reached when the data directory cannot. A link in there says
        where, also to us after a kill -9.

        Args:
            resources: what is made is removed when they are closed.

        Raises:
            EmbeddedFailed.
        """
        link = self._data_dir / "valkey.sock"
        with contextlib.suppress(OSError):
            before = Path(os.readlink(link)).parent
            if before.name.startswith(_RUNTIME_PREFIX) and before.stat().st_uid == os.geteuid():
                shutil.rmtree(before, ignore_errors=True)
        try:
            runtime = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX, dir=_short_temporary_directory()))
        except OSError as error:
            raise EmbeddedFailed(f"cannot make a directory for the socket: {error.strerror}; see TMPDIR") from error
        resources.callback(shutil.rmtree, runtime, ignore_errors=True)
        self.path = runtime / "valkey.sock"
        with contextlib.suppress(OSError):
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)
            resources.callback(link.unlink, missing_ok=True)

    def make_room(self) -> None:
        """Remove what is in its place, and make its directory again if that is gone.

        Raises:
            EmbeddedFailed, OSError.
        """
        runtime = self.path.parent
        if runtime == self._data_dir:
            self.path.unlink(missing_ok=True)
            return
        with contextlib.suppress(FileExistsError):
            runtime.mkdir(mode=0o700)  # somebody has removed it
        found = runtime.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():  # and then somebody else was quicker
            raise EmbeddedFailed(f"the socket's directory, {runtime}, is somebody else's; start the coordinator again")
        self.path.unlink(missing_ok=True)

    def is_missing(self) -> bool:
        """Whether somebody has removed it; not if we merely cannot tell."""
        try:
            self.path.lstat()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return False


def _short_temporary_directory() -> str:
    """One in which a socket's path is short enough: TMPDIR may be anywhere."""
    chosen = os.path.abspath(tempfile.gettempdir())  # and relative, but Valkey works in another directory
    return chosen if len(os.fsencode(chosen)) + _SOCKET_NAME <= _SOCKET_PATH_LIMIT else "/tmp"
