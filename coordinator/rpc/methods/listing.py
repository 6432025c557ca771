"""The methods of looking at what there is in a context: lists, counts; and of deleting records."""

from __future__ import annotations

from typing import Final

from coordinator import models
from coordinator.errors import Conflict
from coordinator.operations import listing, views
from coordinator.rpc.access.rights import Right
from coordinator.rpc.methods.method import WRITE, Method, Steps, in_global
from coordinator.storage import codec

__all__ = ["LISTING_METHODS"]

_PAGE_EXAMPLE: Final = {"context_id": 1, "limit": 20}
_EXAMPLE: Final = {"context_id": 1, "id": 1}
_OF_A_CALLER: Final = {"context_id": 1, "caller_id": 7, "id": 1}

LISTING_METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "context.list",
            "A page of the ids of all contexts ever written to",
            models.ContextListParams,
            models.ContextPage,
            WRITE,
            does=Steps(listing.list_contexts),
            context=in_global,
            example={"limit": 20},
            replies="small",
            right=Right.CONTEXT_LIST,
        ),
        Method(
            "context.stats",
            "How many flows and jobs a context has by status, what waits for runners, and how many of them there are",
            models.ContextStatsParams,
            models.ContextStats,
            WRITE,
            does=Steps(views.context_stats),
            example={"context_id": 1},
            right=Right.STATS_READ,
        ),
        Method(
            "runner.list",
            "A page of a context's runners",
            models.RunnerListParams,
            models.RunnerPage,
            WRITE,
            does=Steps(listing.list_runners),
            example=_PAGE_EXAMPLE,
            replies="page",
            right=Right.RUNNER_READ,
        ),
        Method(
            "runner.connected",
            "How many runners that take each type of jobs are connected",
            models.RunnerConnectedParams,
            models.RunnersConnected,
            WRITE,
            does=Steps(views.connected_runners),
            example={"context_id": 1},
            replies="small",
            right=Right.RUNNERS_CONNECTED,
        ),
        Method(
            "flow.list",
            "A page of a context's flows",
            models.FlowListParams,
            models.FlowPage,
            WRITE,
            does=Steps(listing.page_of(codec.FLOW)),
            example={**_PAGE_EXAMPLE, "status": "Started"},
            replies="page",
            right=Right.RECORD_READ,
        ),
        Method(
            "job.list",
            "A page of a context's jobs",
            models.JobListParams,
            models.JobPage,
            WRITE,
            does=Steps(listing.page_of(codec.JOB)),
            example={**_PAGE_EXAMPLE, "status": "Error"},
            replies="page",
            right=Right.RECORD_READ,
        ),
        Method(
            "message.list",
            "A page of a context's messages",
            models.MessageListParams,
            models.MessagePage,
            WRITE,
            does=Steps(listing.page_of(codec.MESSAGE)),
            example=_PAGE_EXAMPLE,
            replies="page",
            right=Right.RECORD_READ,
        ),
        Method(
            "runner.delete",
            "Delete a runner",
            models.RunnerLoadParams,
            models.Deleted,
            WRITE,
            does=Steps(listing.delete_runner),
            writes=True,
            example={"context_id": 1, "id": 3},
            replies="small",
            right=Right.RUNNER_WRITE,
        ),
        Method(
            "flow.delete",
            "Delete a flow with its jobs, unless it is running",
            models.FlowParams,
            models.Deleted,
            (*WRITE, Conflict),
            does=Steps(listing.delete_flow),
            writes=True,
            example=_EXAMPLE,
            replies="small",
            right=Right.DELETE,
        ),
        Method(
            "job.delete",
            "Delete a job, unless it is running or may be",
            models.JobLoadParams,
            models.Deleted,
            (*WRITE, Conflict),
            does=Steps(listing.delete_job),
            writes=True,
            example=_OF_A_CALLER,
            replies="small",
            right=Right.DELETE,
        ),
        Method(
            "message.delete",
            "Delete a message with the jobs it was sent with, unless it is being processed",
            models.MessageLoadParams,
            models.Deleted,
            (*WRITE, Conflict),
            does=Steps(listing.delete_message),
            writes=True,
            example=_OF_A_CALLER,
            replies="small",
            right=Right.DELETE,
        ),
    )
}
