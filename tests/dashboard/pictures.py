"""Makes the pictures of the dashboard that the documents show: python -m tests.dashboard.pictures"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.access.callers import Caller, caller
from tests.dashboard.looking import Viewer, flow_of, job_of
from tests.support.chromium import chromium
from tests.support.runner import runner
from tests.support.server import coordinator

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
MOST_BYTES: Final = 100 * 1024
PAUSE: Final = 1.5  # seconds until what was painted stands still


def nap(seconds: float) -> str:
    return f"import time\nprint('working', flush=True)\ntime.sleep({seconds})"


def submit(api: Caller, id: int, jobs: list[dict[str, Any]], **more: Any) -> None:
    flow = flow_of(id, 1, [job["id"] for job in jobs], **more)
    api.result("flow.submit", {"context_id": 1, "flow": flow, "jobs": jobs})


def build(api: Caller, id: int, *, fails: bool, **more: Any) -> None:
    first = id * 100
    names = ("fetch sources", "compile", "unit tests", "lint", "integration tests", "package", "publish")
    depends = ((), (0,), (1,), (0,), (1,), (2, 3, 4), (5,))
    scripts = [nap(0.2)] * len(names)
    if fails:
        scripts[2] = "import sys\nsys.exit('2 of 214 tests failed')"
    jobs = [
        job_of(first + at, 1, scripts[at], depends=[first + one for one in depends[at]], name=names[at])
        for at in range(len(names))
    ]
    jobs[-1]["prerequisites"] = ["release approval"]
    submit(api, id, jobs, name=f"build {4700 + id}", **more)


def main() -> None:
    """Run some flows, and take pictures of them."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as place,
        chromium(Path(place) / "profile") as browser,
        coordinator("--data-dir", f"{place}/data") as server,
        caller(server, "http") as api,
        runner(server.ws, 1, arguments=("--capacity", "8"), wait=False),
    ):
        api.result("context.create", {"context": {"id": 1, "admins": [7], "readers": [8], "executors": [9]}})
        viewer = Viewer(browser, f"http://127.0.0.1:{server.http.rpartition(':')[2]}")
        viewer.page.emulate("setDeviceMetricsOverride", width=1280, height=760, deviceScaleFactor=1, mobile=False)
        viewer.open("c/1")
        viewer.sees("live")
        build(api, 11, fails=True, tags=["nightly"])
        build(api, 12, fails=False, tags=["main"])
        wide = [
            job_of(5000 + at, 1, nap(0.1 * (at % 9)), depends=[] if at < 60 else [5000 + at - 60]) for at in range(90)
        ]
        submit(api, 13, wide, name="import of March")
        viewer.sees("Failed", "build 4711")
        time.sleep(12)

        def take(name: str, address: str | None = None) -> None:
            if address is not None:
                viewer.open(address)
            time.sleep(PAUSE)
            picture = viewer.page.picture()
            assert len(picture) < MOST_BYTES
            (IMAGES / f"{name}.png").write_bytes(picture)

        take("overview")
        take("dashboard", "c/1/flow/11")
        take("timeline", "c/1/flow/13?tab=timeline")


if __name__ == "__main__":
    main()
