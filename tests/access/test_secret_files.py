"""Who else may read a file with a secret: asked by a process that is not root, as a service is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

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
