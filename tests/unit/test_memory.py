"""Memory that was used for large replies goes back to the operating system."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import ctypes
from coordinator.osprocess import MemoryReturner, _resident_bytes

MIB = 1024 * 1024
returner = MemoryReturner()
start = _resident_bytes()
blocks = [b"x" * 100_000 for _ in range(1000)]  # below the size from which glibc maps memory for each by itself
kept = blocks[::2]
for _ in range(3):
    returner.look()  # in vain: all of it is in use
held = _resident_bytes()
del blocks
for _ in range(MemoryReturner.MOST_PAUSE):
    returner.look()
print(held - start > 80 * MIB, _resident_bytes() - start < 70 * MIB)
"""


def test_it_is_returned_though_it_was_in_use_when_that_was_first_tried() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)

    assert ended.stdout.split() == ["True", "True"]
