"""A runner for a script type of your own, over HTTP alone: it takes jobs of the type V, which are sums like `2 + 3`.

python examples/runner_over_http.py [JOBS]     # ends after so many jobs; without a number it goes on
"""

import sys
import threading

from over_http import RpcError, call

CONTEXT, RUNNER, LEASE = 1, 12, 10.0
STALE_TOKEN = -32041


def heartbeats(attempt, done):
    """Say that the attempt goes on, three times a lease."""
    while not done.wait(LEASE / 3):
        try:
            call("job.heartbeat", **attempt)
        except RpcError as error:
            if error.code == STALE_TOKEN:  # cancelled, or somebody else has it
                return


def work(script):
    return sum(int(word) for word in script.split("+"))


def serve(jobs):
    runner = {"id": RUNNER, "pubkey": "none", "address": "127.0.0.1", "topic": "sums", "local": True}
    call("runner.create", context_id=CONTEXT, runner=runner)
    while jobs != 0:
        wanted = {"script_types": ["V"], "count": 1, "wait": 20.0, "lease": LEASE}
        for assignment in call("job.take", context_id=CONTEXT, runner_id=RUNNER, **wanted)["jobs"]:
            job = assignment["job"]
            attempt = {
                "context_id": CONTEXT,
                "caller_id": job["caller_id"],
                "id": job["id"],
                "token": assignment["token"],
            }
            done = threading.Event()
            threading.Thread(target=heartbeats, args=(attempt, done), daemon=True).start()
            try:
                result = work(job["script"])
            except ValueError as error:
                call("job.fail", **attempt, error=f"{type(error).__name__}: {error}", retry=False)
            else:
                call("job.log", **attempt, lines=[f"{job['script']} = {result}"])
                call("job.finish", **attempt, result={"sum": str(result)})
            done.set()
            jobs -= 1


serve(int(sys.argv[1]) if len(sys.argv) > 1 else -1)
