"""How long the store may work for one caller, and that others in the same context get theirs."""

from __future__ import annotations

import time
from pathlib import Path

from tests.access import callers
from tests.access.callers import caller
from tests.support.server import coordinator

OVERLOADED = -32043
LIMIT = 0.02  # of a second
JOBS = 1_000


def test_who_lets_the_store_work_is_refused_and_nobody_else(tmp_path: Path) -> None:
    arguments = "--auth", "keys", "--caller-store-time", str(LIMIT)
    with coordinator("--data-dir", str(tmp_path), *arguments, "--workers", "1") as server:
        with caller(server, "http", callers.operator_token(tmp_path)) as operator:
            for id in (1, 2):
                operator.result("actor.create", callers.actor(id))
            operator.result("context.create", callers.context(1, admins=[1, 2], executors=[], readers=[]))
            tokens = [
                operator.result("token.create", {"label": "t", "principal": f"actor:{id}"})["token"] for id in (1, 2)
            ]
        with caller(server, "ws", tokens[0]) as greedy, caller(server, "ws", tokens[1]) as modest:
            flows = 0
            error = None
            while error is None:  # each has the store work for some milliseconds
                flows += 1
                assert flows < 200, "nothing was refused"
                jobs = range(1, JOBS + 1)
                made = [{**callers.job(1, 1, id), "script": ""} for id in jobs]
                flow = callers.flow(1, 1, 1, [*jobs])
                reply = greedy.call("flow.submit", {"context_id": 1, "flow": flow, "jobs": made})
                assert "result" in modest.call("context.load", {"id": 1})
                error = reply.get("error")
                if error is None:
                    for change in ("flow.cancel", "flow.delete"):
                        reply = greedy.call(change, {"context_id": 1, "id": 1})
                        error = error or reply.get("error")
            assert error["code"] == OVERLOADED
            data = error["data"]
            assert (data["setting"], data["limit"]) == ("caller_store_time", LIMIT)
            assert 0 < data["retry_after"] <= 60
            for _ in range(20):
                assert "result" in modest.call("context.load", {"id": 1})
            time.sleep(data["retry_after"])
            assert "result" in greedy.call("context.load", {"id": 1})
