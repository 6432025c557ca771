"""Follow a flow over HTTP alone: ask for what has happened since the last event, until the flow has ended.

python examples/follow_over_http.py FLOW
"""

import sys
import time

from over_http import call

CONTEXT = 1


def follow(flow):
    after = "0-0"
    while True:
        page = call("flow.events", context_id=CONTEXT, id=flow, after=after)
        if page["missed"]:
            print("(some events are no longer kept)")
        for event in page["events"]:
            match event["kind"]:
                case "log":
                    print(f"  {event['job_id']} | " + f"\n  {event['job_id']} | ".join(event["lines"]))
                case "job":
                    print(f"  {event['job_id']} {event['status']}")
                case "flow":
                    print(f"flow {event['status']}")
                    if event["status"] in ("Finished", "Error", "Deleted"):
                        return event["status"]
        after = page["last_event"]
        if not page["events"]:
            time.sleep(0.2)


if len(sys.argv) != 2 or not sys.argv[1].isdigit():
    sys.exit(__doc__)
sys.exit(0 if follow(int(sys.argv[1])) == "Finished" else 1)
