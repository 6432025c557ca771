"""A typed client of the coordinator's API, on trio, over WebSocket.

```python
import trio
from coordinator.client import NotFound, connect
from coordinator.models import ContextCreate, JobCreate

async def main():
    async with connect("ws://127.0.0.1:9653") as client:
        await client.context_create(context=ContextCreate(id=1, admins=[7], readers=[], executors=[7]))
        job = JobCreate(
            id=1, caller_id=7, context_id=1, script="print(1)", script_type="Python", timeout=60, retries=2,
            env_vars={}, prerequisites=[], depends=[],
        )
        print(await client.job_create(context_id=1, job=job))
        try:
            with trio.fail_after(5):
                await client.job_load(context_id=1, caller_id=7, id=2)
        except NotFound as error:
            print(error)

trio.run(main)
```

The URL may be that of the HTTP API, too. For `https://` and `wss://` `ca` names a file of the certificates to trust, if
the system does not know them. `call_once` makes one call over HTTP or WebSocket, and `ClientError` is what all of them
may raise.

Every method of the API is there, `flow.submit` as `flow_submit`, its arguments given by name. `call` calls by name with
plain objects; `call_many` is the fastest way to do many calls. `submit_flow` submits a flow of any size. `follow_flow`
gives a flow's events, `follow_context` those of all flows of a context, `subscribe_runner` a runner's assignments; all
go on after a lost connection where they were.
"""

from coordinator.client.client import Client, connect
from coordinator.client.contexts import ContextFollower
from coordinator.client.credentials import Credentials
from coordinator.client.errors import (
    CallTooLarge,
    CannotBeSent,
    CannotConnect,
    ClientClosed,
    ClientError,
    Conflict,
    ConnectionLost,
    DagCycleDetected,
    DagMissingDependency,
    Forbidden,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    NoReply,
    NotFound,
    NotLoggedIn,
    NotSubscribed,
    Overloaded,
    ParseError,
    ReplyTooLarge,
    RpcError,
    StaleToken,
    StorageError,
    WebSocketRequired,
)
from coordinator.client.flows import FlowFollower
from coordinator.client.once import call_once
from coordinator.client.runners import RunnerSubscription

__all__ = [
    "CallTooLarge",
    "CannotBeSent",
    "CannotConnect",
    "Client",
    "ClientClosed",
    "ClientError",
    "Conflict",
    "ConnectionLost",
    "ContextFollower",
    "Credentials",
    "DagCycleDetected",
    "DagMissingDependency",
    "FlowFollower",
    "Forbidden",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "MethodNotFound",
    "NoReply",
    "NotFound",
    "NotLoggedIn",
    "NotSubscribed",
    "Overloaded",
    "ParseError",
    "ReplyTooLarge",
    "RpcError",
    "RunnerSubscription",
    "StaleToken",
    "StorageError",
    "WebSocketRequired",
    "call_once",
    "connect",
]
