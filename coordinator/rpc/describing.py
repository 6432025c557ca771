"""What the OpenRPC document says in words: of each method, of each type, and of members whose models say nothing."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["INFO", "describe", "description_of_method"]

INFO: Final = (
    "JSON-RPC API over HTTP and WebSocket for creating and loading domain models, for running flows of jobs, and for "
    "the runners that do the jobs. Host and ports are configurable via CLI flags. Any call may be answered with one of "
    "the errors InvalidRequest, MethodNotFound, InternalError, NotLoggedIn, Forbidden and Overloaded, besides those "
    "that are listed for its method; a message that is no JSON is answered with ParseError, and a call of a batch "
    "whose replies are too large together with ReplyTooLarge."
)

_METHODS: Final[dict[str, str]] = {
    "actor.create": "Creates an actor, or replaces what an actor with this id has; `created_at` stays. With logins it "
    "never changes the key of an actor that is there: see actor.rotate_key.",
    "actor.load": "Returns the actor. With logins an admin of a context may load its members by giving `context_id`.",
    "context.create": "Creates a context, which is a tenant with data of its own, or replaces its lists of members. "
    "Actors that a list names need not be there yet.",
    "context.load": "Returns the context with its members.",
    "runner.create": "Creates a runner in a context, or replaces what a runner with this id has. A runner must be "
    "created before it can take jobs.",
    "runner.load": "Returns the runner as it was created; runner.list also says whether it is held back.",
    "flow.create": "Creates a flow, or replaces it. Nothing runs before flow.start. The jobs that it lists need not be "
    "there yet. The status stays, and so does the result unless a result is given.",
    "flow.load": "Returns the flow with its status and its result.",
    "flow.dag": "Looks up the flow's jobs, which are stored under the flow's `caller_id`, and computes in which order "
    "they run. Every list in the result is ascending. Nothing is changed.",
    "job.create": "Creates a job, or replaces it. It runs when a flow that lists it is started. Other content for a "
    "job that has ended makes a new job of it; for one that runs that is a Conflict.",
    "job.load": "Returns the job with its status and its result.",
    "message.create": "Creates a message with the jobs in it, or replaces it. Its jobs run after message.send.",
    "message.load": "Returns the message with its jobs as they are now, and the log lines of its runners.",
    "flow.submit": "Creates a flow and its jobs and starts it, in one atomic step. Sent again with the same content it "
    "changes nothing; with other content for the same ids it is a Conflict that says what differs.",
    "flow.start": "Checks that the jobs depend on each other without a cycle, and moves the whole flow in one step: "
    "jobs that wait for nothing are queued for runners. A flow that was started before stays as it is.",
    "flow.cancel": "Ends the flow in Error. Runners are asked to stop the attempts that run, and nothing else of it "
    "starts.",
    "flow.retry": "Starts the failed part of a flow in Error again, with the jobs and dependencies that it has by now. "
    "Jobs that are Finished keep their results; the others get all their attempts anew.",
    "flow.status": "Returns the flow, the number of its jobs in each status, and the progress of each job. Subscribe "
    "with flow.subscribe after its `last_event` to learn what happens next.",
    "flow.events": "Returns what happened to the flow after an event, oldest first: changes of status and log lines. "
    "It needs no WebSocket. Events are kept until some time after the flow has ended.",
    "flow.subscribe": "Sends what happens to the flow as notifications `flow.event`, from an event on or from the "
    "first that is kept. The subscription lasts until flow.unsubscribe or the end of the connection.",
    "flow.unsubscribe": "Ends a subscription that flow.subscribe on this connection has made.",
    "runner.subscribe": "Hands jobs to a runner as notifications `runner.job`, at most `capacity` unfinished ones at a "
    "time; `runner.cancel` asks it to stop one. A runner that connects again gives its `session` and what it holds.",
    "runner.unsubscribe": "Ends a subscription that runner.subscribe on this connection has made. Attempts that were "
    "handed out are still the runner's.",
    "job.take": "Returns jobs for a runner, and waits up to `wait` seconds if there is none. Sent again with the same "
    "`take_id` it returns the same jobs. It cannot be a notification.",
    "job.heartbeat": "Says that the attempt goes on, so that its lease does not lapse. An attempt that has ended, was "
    "lost or was cancelled is answered with StaleToken.",
    "job.inputs": "Returns, page by page, the results of the jobs that this attempt's job depends on. Only a runner "
    "whose assignment has `inputs_from` needs it. It is no heartbeat.",
    "job.log": "Appends lines to the log of the attempt, and renews its lease. Followers of the flow get them as "
    "events.",
    "job.tail": "Returns the newest log lines of the job, about 16 KiB, for as long as the job is stored.",
    "job.finish": "Reports that the attempt has succeeded, with its result. Jobs that waited for this one are released "
    "in the same step. Reporting it again with the same token is answered as the first time.",
    "job.fail": "Reports that the attempt has failed, or that the runner gives it up (`lost`). The job is tried again "
    "while it has attempts left.",
    "message.send": "Makes the message's embedded jobs jobs of the context and runs them like a flow. A message that "
    "was sent before stays as it is.",
    "prerequisite.satisfy": "Declares that an external condition is met, for the jobs of one flow or of the whole "
    "context. Jobs that waited for it and for nothing else are queued. It is remembered for jobs that come later.",
    "prerequisite.revoke": "Declares that an external condition is no longer met. Jobs that were not released yet wait "
    "for it again; jobs that were released go on.",
    "prerequisite.list": "Returns a page of the conditions that jobs wait for, each with some of these jobs, and then "
    "of those that are satisfied.",
    "context.list": "Returns a page of the ids of all contexts that were ever written to, ascending.",
    "runner.list": "Returns a page of the context's runners by id, each with what holds it back if anything does.",
    "runner.connected": "Returns how many runners are connected that take jobs of each type, at whatever coordinator "
    "on the store.",
    "flow.list": "Returns a page of the context's flows.",
    "job.list": "Returns a page of the context's jobs.",
    "message.list": "Returns a page of the context's messages.",
    "runner.delete": "Deletes the runner. Deleting one that is not there is no error.",
    "flow.delete": "Deletes the flow with its jobs, except those that another flow lists. A flow that runs is a "
    "Conflict; deleting one that is not there is no error.",
    "job.delete": "Deletes the job. One that runs, or that an active flow needs, is a Conflict; deleting one that is "
    "not there is no error.",
    "message.delete": "Deletes the message with the jobs that it was sent with. One that is being processed is a "
    "Conflict; deleting one that is not there is no error.",
    "auth.challenge": "Returns a nonce for the caller to sign with its key. SECURITY.md describes the text that is "
    "signed.",
    "auth.login": "Logs in with a signature, a token or a ticket. On a WebSocket the whole connection is somebody "
    "from then on; over HTTP the result has a token for the calls that follow.",
    "auth.renew": "Logs in once more, as the same principal, before a login is over. Subscriptions go on.",
    "auth.ticket": "Returns a ticket with which auth.login logs in on a WebSocket, once and within 30 s. It is for "
    "pages whose cookie does not reach the WebSocket's port.",
    "auth.whoami": "Returns whom the coordinator takes the caller for, and until when.",
    "token.create": "Makes a token and shows it once. An actor makes tokens for itself, an admin of a context for its "
    "runners, the operator for anybody.",
    "token.list": "Returns the tokens of a principal, without their secrets.",
    "token.revoke": "Ends a token. Connections, subscriptions and waiting calls that were opened with it end within a "
    "second.",
    "actor.rotate_key": "Gives an actor another key. The operator needs no signatures; the actor itself signs with "
    "the old key and with the new one. The old key can log in for `overlap` seconds more.",
    "actor.revoke": "Ends all logins of an actor, for good. Its record stays.",
    "job.attempts": "Returns the newest 20 attempts at the job, over retries of its flow.",
    "context.stats": "Counts the context's flows and jobs by status, what waits for runners, and the runners.",
    "job.cancel": "Ends one job that waits or runs, and its flow or message with it, in Error.",
    "flow.rerun": "Runs a flow again that has ended: all of it, or a job and what depends on it.",
    "flow.pause": "Hands out none of a started flow's jobs. What runs goes on. A restart releases nothing.",
    "flow.resume": "Hands out the jobs of a paused flow again.",
    "flow.cancel_many": "Stops the flows that a filter means, for some seconds a call; `cursor` goes on.",
    "flow.retry_many": "Retries the flows in Error that a filter means, for some seconds a call.",
    "flow.delete_many": "Deletes the flows that a filter means and that do not run, for some seconds a call.",
    "context.pause": "Hands out none of the context's jobs, or none of one script type. What runs goes on.",
    "context.resume": "Ends what context.pause with the same params has begun.",
    "context.delete": "Deletes a context with all that is in it, in slices. It goes on after a restart.",
    "runner.drain": "Gives the runner nothing new. It finishes what it holds, and stays drained.",
    "runner.undrain": "Gives the runner jobs again.",
    "context.subscribe": "Sends what happens to all flows of the context as notifications `context.event`.",
    "context.unsubscribe": "Ends a subscription that context.subscribe on this connection has made.",
    "context.events": "Returns a page of what happened to all flows of the context. It needs no WebSocket.",
}

_SCHEMAS: Final[dict[str, str]] = {
    "Access": "How much a token allows.",
    "Actor": "A person or a program that calls, as it is stored.",
    "ActorCreate": "An actor as a client creates it.",
    "ActorRevoked": "An actor that can log in no more.",
    "AssignmentNotice": "One attempt at a job, handed to a runner. Params of the notification `runner.job`.",
    "AwaitedPrerequisite": "A condition that jobs wait for.",
    "Challenge": "What a caller signs to log in.",
    "Context": "A tenant with its members, as it is stored.",
    "ContextCreate": "A context as a client creates it.",
    "ContextPage": "A page of the ids of contexts.",
    "Deleted": "How much was deleted.",
    "EventKind": "What an event is about.",
    "Flow": "Jobs that run in the order of their dependencies, as stored.",
    "FlowCreate": "A flow as a client creates it.",
    "FlowDag": "The order in which the jobs of a flow run.",
    "FlowEvents": "A page of what happened to a flow.",
    "FlowPage": "A page of flows.",
    "FlowReport": "A flow with the progress of its jobs.",
    "FlowStatus": "How far a flow is.",
    "FlowSubscribed": "A subscription to what happens to a flow.",
    "Heartbeat": "The lease of an attempt after its renewal.",
    "Job": "A script with what it needs, as it is stored.",
    "JobCreate": "A job as a client creates it.",
    "JobInputs": "A page of the results that a job gets as inputs.",
    "JobPage": "A page of jobs.",
    "JobProgress": "How far a job of a flow is.",
    "JobStatus": "How far a job is.",
    "JobSummary": "What the graph says of a job.",
    "JobTail": "The end of a job's log.",
    "JobTaken": "Jobs for a runner; none if none came in time.",
    "ListedRunner": "A runner with what holds it back.",
    "LogReport": "Log lines that a runner reported together.",
    "LogStream": "Which output of a script wrote the lines.",
    "Logged": "How many lines were kept.",
    "LoggedIn": "Who is logged in, and until when.",
    "Message": "A message with its jobs, as it is stored.",
    "MessageCreate": "A message as a client creates it.",
    "MessageFormatType": "How the text of a message is written.",
    "MessagePage": "A page of messages.",
    "MessageStatus": "How far a message is.",
    "MessageType": "Kinds of messages. No member has this type: `message_type` takes a ScriptType.",
    "MetPrerequisite": "With what a condition was satisfied.",
    "NewToken": "A token with its secret, which is shown this once.",
    "Prerequisites": "A page of conditions.",
    "Revoked": "What became of a condition that was revoked.",
    "Runner": "A process that runs jobs of a context, as it is stored.",
    "RunnerCreate": "A runner as a client creates it.",
    "RunnerPage": "A page of runners.",
    "RunnerSubscribed": "A subscription to jobs.",
    "RunnersConnected": "How many runners are connected.",
    "Satisfied": "A condition that was satisfied, and how many jobs had waited for it.",
    "SatisfiedPrerequisite": "A condition that is satisfied.",
    "Scope": "Whether a condition is about one flow or about the whole context.",
    "ScriptType": "Who runs a script: a runner says which types it takes.",
    "Ticket": "A ticket to log in on a WebSocket.",
    "TokenInfo": "A token without its secret.",
    "TokenPage": "The tokens of a principal.",
    "TokenRevoked": "What became of a token.",
    "TransportStatus": "How far a message is on its way to a runner.",
    "Unsubscribed": "The subscription that has ended.",
    "WaitingJob": "A job that waits for a condition.",
    "WhoAmI": "Whom the coordinator takes the caller for.",
    "AttemptOutcomeKind": "How an attempt went.",
    "ContextPaused": "What of a context is paused.",
    "ContextStats": "What a context has, in numbers.",
    "ContextEventKind": "What an event is about.",
    "ContextEvents": "A page of what happened to the flows of a context.",
    "ContextSubscribed": "A subscription to what happens to the flows of a context.",
    "RoleName": "What a caller is in a context.",
    "FlowStatuses": "Statuses of flows.",
    "HeldJob": "A job of which a runner has a running attempt.",
    "JobAttempts": "The newest attempts at a job.",
    "JobStatuses": "Statuses of jobs.",
    "NameText": "A name for people: one printable line.",
    "RefusedFlow": "A flow that stayed as it is.",
    "RunnerStats": "How many runners a context has.",
    "ScriptTypeStats": "Jobs of one script type, in numbers.",
    "SortBy": "By what a list is sorted.",
    "Tags": "Labels, by which lists can be filtered.",
}

_THINGS: Final = ("actor", "context", "runner", "flow", "job", "message")

_MEMBERS: Final[dict[str, str]] = {
    # by type and member
    "ActorCreateParams.actor": "The actor",
    "Assignment.attempt": "Counts the attempts at the job, from 1",
    "Assignment.job": "The job",
    "AssignmentNotice.job": "The job",
    "AttemptOutcome.status": "What the job is now",
    "CancelNotice.id": "Id of the job",
    "CancelNotice.reason": "Why the attempt is to stop",
    "Flow.result": "Results of the last jobs, by job id, each a map as JSON text; of a flow in Error its `error`",
    "FlowCancelParams.reason": "What followers of the flow are told",
    "FlowCreate.result": "The result it begins with; an empty one unless given",
    "FlowEvents.events": "The events, oldest first",
    "FlowReport.flow": "The flow",
    "Job.result": "What the job's script has returned, by name",
    "JobCreate.result": "The result it begins with; an empty one unless given",
    "JobFailParams.error": "Why the attempt has failed, for people",
    "JobFailParams.result": "What the script has returned in spite of that",
    "JobFinishParams.result": "What the script has returned, by name",
    "JobProgress.depends": "Ids of the jobs it waits for",
    "JobSummary.depends": "Ids of the jobs it waits for",
    "JobSummary.prerequisites": "Names of the external conditions it waits for",
    "JobTaken.jobs": "The jobs, each with the token of its attempt",
    "KeyRotateParams.id": "Id of the actor",
    "LoginEndedNotice.reason": "Why it has ended",
    "LoginEndedNotice.subscription": "The subscription that has ended; left out if the whole login has",
    "Message.job": "Its jobs, as they are now",
    "Message.transport_id": "Names the sending",
    "MessageCreate.job": "Its jobs",
    "MessageCreateParams.message": "The message",
    **{
        f"{schema}.name": "Name of the condition"
        for schema in (
            "AwaitedPrerequisite",
            "PrerequisiteRevokeParams",
            "PrerequisiteSatisfyParams",
            "Revoked",
            "Satisfied",
            "SatisfiedPrerequisite",
        )
    },
    "Prerequisites.satisfied": "Conditions that are satisfied",
    "FlowListParams.status": "Only flows in this status",
    "JobListParams.status": "Only jobs in this status",
    "MessageListParams.status": "Only messages in this status",
    "ContextEvents.events": "The events, oldest first",
    "ContextStats.runners": "How many runners there are",
    "FlowRerunParams.overrides": "What runs otherwise than before; it is written into the records",
    "FlowsDone.dry_run": "Nothing was done but counted",
    "JobAttempt.outcome": "How it went",
    # by member
    "access": "How much the token allows",
    "actor": "The actor",
    "address": "IP addresses",
    "attempt": "Which attempt at the job it is, from 1",
    "by": "Who said so",
    "caller_id": "Id of the actor for whom it is; together with `id` it names the record in its context",
    "context": "The context",
    "context_id": "Id of the context",
    "contexts": "Contexts for which the token is good; left out if for all",
    "env_vars": "Environment of the job's script",
    "flow": "The flow",
    "flow_id": "Id of the flow",
    "items": "The records",
    "job": "The job",
    "job_id": "Id of the job",
    "jobs": "The jobs",
    "kind": "What the event is about",
    "label": "What the token is for, for people",
    "lease": "Seconds for which an attempt is the runner's without a heartbeat",
    "limit": "At most so many records a page",
    "lines": "Log lines",
    "logs": "Log lines, the message's own first",
    "message": "The text of the message",
    "message_format_type": "How the text is written",
    "message_type": "Who is to understand the text",
    "name": "Name, for people",
    "payload": "What the jobs get with it",
    "principal": "Who it is: `actor:7`, `runner:1:3` or `operator`",
    "pubkey": "The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in",
    "reason": "Why, where something went wrong",
    "result": "The result, by name",
    "runner": "The runner",
    "runner_id": "Id of the runner",
    "scope": "Whether it is about one flow or about the whole context",
    "script": "The text of the script",
    "script_type": "Which runners can run it",
    "script_types": "The types of jobs the runner takes",
    "status": "How far it is",
    "stream": "Which output of the script wrote the lines",
    "subscription": "Names the subscription on its connection",
    "transport_status": "How far it is on its way to a runner",
    "tags": "Labels, by which lists can be filtered",
}


def description_of_method(name: str, summary: str) -> str:
    return _METHODS.get(name) or summary.removesuffix(".") + "."


def describe(name: str, schema: dict[str, Any], methods: dict[str, list[str]]) -> dict[str, Any]:
    """A type with its title, and with words for itself and for its members where its model has none.

    Args:
        methods: names of methods, by the type of their params.
    """
    if "description" not in schema:
        text = _SCHEMAS.get(name)
        if text is None and name in methods:
            text = f"What {' and '.join(methods[name])} take{'' if len(methods[name]) > 1 else 's'}."
        schema["description"] = text or f"{name}."
    for member, described in schema.get("properties", {}).items():
        if "description" not in described:
            described["description"] = _member(name, member)
    return {"title": name, **schema}


def _member(schema: str, member: str) -> str:
    text = _MEMBERS.get(f"{schema}.{member}") or _MEMBERS.get(member)
    if text is None and member == "id":
        thing = next((thing for thing in _THINGS if thing in schema.lower()), "record")
        return f"Id of the {thing}"
    return text or member.replace("_", " ").capitalize()
