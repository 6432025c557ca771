"""Send a message with a job in it, and wait until it is processed.

python examples/message.py
"""

import random
import time

from over_http import call

CONTEXT, CALLER = 1, 7
ID = random.randrange(10**9)

job = {
    "id": ID,
    "caller_id": CALLER,
    "context_id": CONTEXT,
    "script": "print('the letter is written')",
    "script_type": "Python",
    "timeout": 60,
    "retries": 0,
    "env_vars": {},
    "prerequisites": [],
    "depends": [],
}
message = {
    "id": ID,
    "caller_id": CALLER,
    "context_id": CONTEXT,
    "message": "please write the letter",
    "message_type": "Python",
    "message_format_type": "Text",
    "timeout": 60,  # seconds in all
    "timeout_ack": 30,  # seconds until a runner has it
    "timeout_result": 30,  # seconds from then until it is processed
    "job": [job],
}
call("message.create", context_id=CONTEXT, message=message)
call("message.send", context_id=CONTEXT, caller_id=CALLER, id=ID)
while True:
    loaded = call("message.load", context_id=CONTEXT, caller_id=CALLER, id=ID)
    if loaded["status"] in ("Processed", "Error"):
        break
    time.sleep(0.1)
print(loaded["status"], *loaded["logs"])
