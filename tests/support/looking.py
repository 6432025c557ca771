"""What a coordinator shows of itself from outside."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import trio

__all__ = ["metric", "resident", "until_metric"]


def metric(base: str, name: str) -> int:
    """A number of the metrics page."""
    text = httpx.get(f"{base}/metrics", timeout=20, verify=False).text
    found = re.search(rf"^herocoordinator_{name} ([0-9.e+]+)$", text, re.MULTILINE)
    assert found is not None, text
    return int(float(found[1]))


def resident(pid: int, field: str = "VmRSS") -> float:
    """A process's memory, in MiB; `VmHWM` is the most it ever had."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


async def until_metric(base: str, value: int, name: str = "subscriptions") -> None:
    """Wait until the metric has this value."""
    while await trio.to_thread.run_sync(metric, base, name) != value:
        await trio.sleep(0.02)
