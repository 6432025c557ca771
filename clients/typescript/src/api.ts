// Made by `make clients` from specs/openrpc.json. What is changed here is gone with the next run.

import { RpcError, type CallOptions } from "./rpc.js";

/** Version of the API these types are of. */
export const API_VERSION = "0.2.0";

/** How much a token allows. */
export type Access = "full" | "read";

/** A person or a program that calls, as it is stored. */
export interface Actor {
  /** Id of the actor */
  id: number;
  /** The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in */
  pubkey: string;
  /** IP addresses */
  address: IpAddr[];
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
}

/** An actor as a client creates it. */
export interface ActorCreate {
  /** Id of the actor */
  id: number;
  /** The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in */
  pubkey: string;
  /** IP addresses */
  address: IpAddr[];
}

/** What actor.create takes. */
export interface ActorCreateParams {
  /** The actor */
  actor: ActorCreate;
}

/** What actor.load takes. */
export interface ActorLoadParams {
  /** Id of the actor */
  id: number;
  /** Where callers log in: a context of which the caller is an admin and the actor a member */
  context_id?: number;
}

/** What actor.revoke takes. */
export interface ActorRevokeParams {
  /** Id of the actor */
  id: number;
}

/** An actor that can log in no more. */
export interface ActorRevoked {
  /** Id of the actor */
  id: number;
  /** The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in */
  pubkey: string;
  /** IP addresses */
  address: IpAddr[];
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
  /** Unix time in seconds */
  revoked_at: number;
}

/** One attempt at a job, handed to a runner. Params of the notification `runner.job`, with `subscription`. */
export interface Assignment {
  /** Id of the context */
  context_id: number;
  /** The job */
  job: Job;
  /** The flow's under the job's own */
  env_vars: { [name: string]: string };
  /** Results of the jobs it depends on, by id */
  inputs: { [name: string]: { [name: string]: string } };
  /** Jobs whose results are not in `inputs`, for they are too large together; see job.inputs */
  inputs_from?: number[];
  /** Counts the attempts at the job, from 1 */
  attempt: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** Seconds for which an attempt is the runner's without a heartbeat */
  lease: number;
  /** The flow it runs for; none of a message's job */
  flow_id?: number;
  /** What the job's were satisfied by when it was released, by name; left out if it has none */
  prerequisites?: { [name: string]: MetPrerequisite };
  /** The request id of the call that has started its flow or message, if it had one */
  request_id?: string;
  /** The attempt's own span in the trace of that call (W3C Trace Context), if it is traced */
  traceparent?: string;
}

/** One attempt at a job, handed to a runner. Params of the notification `runner.job`. */
export interface AssignmentNotice {
  /** Id of the context */
  context_id: number;
  /** The job */
  job: Job;
  /** The flow's under the job's own */
  env_vars: { [name: string]: string };
  /** Results of the jobs it depends on, by id */
  inputs: { [name: string]: { [name: string]: string } };
  /** Jobs whose results are not in `inputs`, for they are too large together; see job.inputs */
  inputs_from?: number[];
  /** Which attempt at the job it is, from 1 */
  attempt: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** Seconds for which an attempt is the runner's without a heartbeat */
  lease: number;
  /** The flow it runs for; none of a message's job */
  flow_id?: number;
  /** What the job's were satisfied by when it was released, by name; left out if it has none */
  prerequisites?: { [name: string]: MetPrerequisite };
  /** The request id of the call that has started its flow or message, if it had one */
  request_id?: string;
  /** The attempt's own span in the trace of that call (W3C Trace Context), if it is traced */
  traceparent?: string;
  /** Names the subscription on its connection */
  subscription: string;
}

/**
 * What the job is after its attempt: Finished, Error, or Dispatched when it will be tried again.
 * A failure that is reported within 30 s of a cancel or a time-out changes no status; its result is kept.
 */
export interface AttemptOutcome {
  /** What the job is now */
  status: JobStatus;
  /** Which attempt at the job it is, from 1 */
  attempt: number;
}

/** How an attempt went. */
export type AttemptOutcomeKind = "running" | "finished" | "failed" | "lost" | "timed_out" | "cancelled";

/** A condition that jobs wait for. */
export interface AwaitedPrerequisite {
  /** Name of the condition */
  name: string;
  /** Jobs waiting for it; of the first 1,000 flows if there are more */
  jobs: number;
  /** The first of them, at most 10 */
  waiters: WaitingJob[];
}

/** Params of the notification `runner.cancel`: stop this attempt, its outcome is no longer wanted. */
export interface CancelNotice {
  /** Names the subscription on its connection */
  subscription: string;
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** Why the attempt is to stop */
  reason: string;
}

/** What a caller signs to log in. */
export interface Challenge {
  /** Names the coordinators of one store; it is signed */
  server: string;
  /** Of auth.challenge; it is good once */
  nonce: string;
  /** It is signed */
  expires_at: number;
}

/** What auth.challenge takes. */
export interface ChallengeParams {}

/** A tenant with its members, as it is stored. */
export interface Context {
  /** Id of the context */
  id: number;
  /** Actor ids with full rights */
  admins: number[];
  /** Actor ids that may read */
  readers: number[];
  /** Actor ids that may run jobs */
  executors: number[];
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
  /** true: runners get none of its jobs; see context.pause. Left out if not */
  paused?: boolean;
  /** Script types that are paused by themselves; left out if none is */
  paused_script_types?: ScriptType[];
}

/** A context as a client creates it. */
export interface ContextCreate {
  /** Id of the context */
  id: number;
  /** Actor ids with full rights */
  admins: number[];
  /** Actor ids that may read */
  readers: number[];
  /** Actor ids that may run jobs */
  executors: number[];
}

/** What context.create takes. */
export interface ContextCreateParams {
  /** The context */
  context: ContextCreate;
}

/** What context.delete takes. */
export interface ContextDeleteParams {
  /** Id of the context */
  context_id: number;
}

/** `kind` says whose status changed: that of a flow, of a job of a flow, or of the context, which was deleted. */
export interface ContextEvent {
  /** Names an event of a flow, in order */
  event_id: string;
  /** What the event is about */
  kind: ContextEventKind;
  /** Unix time in ms */
  at: number;
  /** Left out if `kind` is `context` */
  flow_id?: number;
  /** The new status; `Deleted` of a flow or context that was deleted */
  status: string;
  /** Id of the job */
  job_id?: number;
  /** Which attempt at the job it is, from 1 */
  attempt?: number;
  /** Id of the runner */
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  /** About 200 bytes at most; flow.events has all of it */
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
}

/** What an event is about. */
export type ContextEventKind = "flow" | "job" | "context";

/** Params of the notification `context.event`. The last one of a context that is deleted is of kind `context`. */
export interface ContextEventNotice {
  /** Names an event of a flow, in order */
  event_id: string;
  /** What the event is about */
  kind: ContextEventKind;
  /** Unix time in ms */
  at: number;
  /** Left out if `kind` is `context` */
  flow_id?: number;
  /** The new status; `Deleted` of a flow or context that was deleted */
  status: string;
  /** Id of the job */
  job_id?: number;
  /** Which attempt at the job it is, from 1 */
  attempt?: number;
  /** Id of the runner */
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  /** About 200 bytes at most; flow.events has all of it */
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
  /** Names the subscription on its connection */
  subscription: string;
  /** Id of the context */
  context_id: number;
  /** true: events between this one and the one before are no longer kept */
  missed?: boolean;
}

/** A page of what happened to the flows of a context. */
export interface ContextEvents {
  /** The events, oldest first */
  events: ContextEvent[];
  /** The `after` of the next call */
  last_event: string;
  /** Events after `after` are no longer kept, or were never */
  missed: boolean;
}

/** What context.events takes. */
export interface ContextEventsParams {
  /** Id of the context */
  context_id: number;
  /** Begin after this event; left out: with those that come */
  after?: string;
  /** A page of large events has fewer. Default: 100 */
  limit?: number;
}

/** What context.list takes. */
export interface ContextListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** At most so many records a page. Default: 100 */
  limit?: number;
}

/** What context.load takes. */
export interface ContextLoadParams {
  /** Id of the context */
  id: number;
}

/** A page of the ids of contexts. */
export interface ContextPage {
  /** Ids of all contexts ever written to, ascending */
  items: number[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

/** What context.pause and context.resume take. */
export interface ContextPauseParams {
  /** Id of the context */
  context_id: number;
  /** Only the jobs of this type; left out: all of the context */
  script_type?: ScriptType;
}

/** What of a context is paused. */
export interface ContextPaused {
  /** Id of the context */
  context_id: number;
  /** The whole context is */
  paused: boolean;
  /** Those that are paused by themselves */
  script_types: ScriptType[];
}

/** What a context has, in numbers. */
export interface ContextStats {
  /** Flows by status; every status is there */
  flows: { [name in FlowStatus]?: number };
  /** Jobs by status; every status is there */
  jobs: { [name in JobStatus]?: number };
  /** Every type is there */
  script_types: { [name in ScriptType]?: ScriptTypeStats };
  /** How many runners there are */
  runners: RunnerStats;
}

/** What context.stats takes. */
export interface ContextStatsParams {
  /** Id of the context */
  context_id: number;
}

/** What context.subscribe takes. */
export interface ContextSubscribeParams {
  /** Id of the context */
  context_id: number;
  /** Begin after this event; left out: with those that come */
  after?: string;
  /** Several notifications at once come as one JSON-RPC batch; by default each is a message. Default: false */
  batch?: boolean;
}

/** A subscription to what happens to the flows of a context. */
export interface ContextSubscribed {
  /** Names the subscription on its connection */
  subscription: string;
  /** The notifications begin after this one */
  last_event: string;
  /** Events after `after` are no longer kept, or were never */
  missed: boolean;
}

/** How much was deleted. */
export interface Deleted {
  /** Records deleted */
  deleted: number;
}

/** Tuple [from, to] representing a directed edge */
export type EdgeTuple = [number, number];

/** What an event is about. */
export type EventKind = "flow" | "job" | "log";

/** Jobs that run in the order of their dependencies, as stored. */
export interface Flow {
  /** Id of the flow */
  id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the context */
  context_id: number;
  /** Ids of the flow's jobs, stored under the flow's caller_id */
  jobs: number[];
  /** Environment of every job; a job's own value wins */
  env_vars: { [name: string]: string };
  /** What people call it: one printable line. It need not be unique */
  name?: NameText;
  /** Short texts by which lists find it */
  tags?: Tags;
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
  /** Results of the last jobs, by job id, each a map as JSON text; of a flow in Error its `error` */
  result: { [name: string]: string };
  /** How far it is */
  status: FlowStatus;
  /** true: none of its jobs is handed out, see flow.pause; only while Started, left out if not */
  paused?: boolean;
}

/** What flow.cancel takes. */
export interface FlowCancelParams {
  /** Id of the context */
  context_id: number;
  /** Id of the flow */
  id: number;
  /** What followers of the flow are told */
  reason?: string;
}

/** A flow as a client creates it. */
export interface FlowCreate {
  /** Id of the flow */
  id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the context */
  context_id: number;
  /** Ids of the flow's jobs, stored under the flow's caller_id */
  jobs: number[];
  /** Environment of every job; a job's own value wins */
  env_vars: { [name: string]: string };
  /** What people call it: one printable line. It need not be unique */
  name?: NameText;
  /** Short texts by which lists find it */
  tags?: Tags;
  /** The result it begins with; an empty one unless given */
  result?: { [name: string]: string };
}

/** What flow.create takes. */
export interface FlowCreateParams {
  /** Id of the context */
  context_id: number;
  /** The flow */
  flow: FlowCreate;
  /**
   * Seconds after which the flow, and the jobs made for it, are deleted unless it was started. Each further call
   * with it begins the time anew, 0 ends it; a flow that was there without it stays without
   */
  abandon_after?: number;
}

/** The order in which the jobs of a flow run. */
export interface FlowDag {
  /** Id of the flow */
  flow_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the context */
  context_id: number;
  /** Map keyed by job id (serialized as string in JSON) */
  nodes: { [name: string]: JobSummary };
  /** [dependency, dependent], ascending */
  edges: EdgeTuple[];
  /** [dependent, dependency], ascending */
  reverse_edges: EdgeTuple[];
  /** Jobs without a dependency, ascending */
  roots: number[];
  /** Jobs without a dependent, ascending */
  leaves: number[];
  /**
   * Topological execution layers (parallelizable batches): levels[k] are the jobs whose longest path from a root
   * has k edges, ascending
   */
  levels: number[][];
}

/** `kind` says what happened: the flow's or a job's status changed, or a job wrote log lines. */
export interface FlowEvent {
  /** Names an event of a flow, in order */
  event_id: string;
  /** What the event is about */
  kind: EventKind;
  /** Unix time in ms */
  at: number;
  /** The new status */
  status?: string;
  /** Id of the job */
  job_id?: number;
  /** Which attempt at the job it is, from 1 */
  attempt?: number;
  /** Id of the runner */
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  /** Why, where something went wrong */
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
  /** The flow was paused, or resumed; its status is as it was */
  paused?: boolean;
  /** Which output of the script wrote the lines */
  stream?: LogStream;
  /** Log lines */
  lines?: string[];
}

/** Params of the notification `flow.event`. The last one of a flow that is deleted has the status Deleted. */
export interface FlowEventNotice {
  /** Names an event of a flow, in order */
  event_id: string;
  /** What the event is about */
  kind: EventKind;
  /** Unix time in ms */
  at: number;
  /** The new status */
  status?: string;
  /** Id of the job */
  job_id?: number;
  /** Which attempt at the job it is, from 1 */
  attempt?: number;
  /** Id of the runner */
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  /** Why, where something went wrong */
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
  /** The flow was paused, or resumed; its status is as it was */
  paused?: boolean;
  /** Which output of the script wrote the lines */
  stream?: LogStream;
  /** Log lines */
  lines?: string[];
  /** Names the subscription on its connection */
  subscription: string;
  /** Id of the context */
  context_id: number;
  /** Id of the flow */
  flow_id: number;
  /** true: events between this one and the one before are no longer kept */
  missed?: boolean;
}

/** A page of what happened to a flow. */
export interface FlowEvents {
  /** The events, oldest first */
  events: FlowEvent[];
  /** The `after` of the next call */
  last_event: string;
  /** Events after `after` are no longer kept */
  missed: boolean;
}

/** What flow.events takes. */
export interface FlowEventsParams {
  /** Id of the context */
  context_id: number;
  /** Id of the flow */
  id: number;
  /** Names an event of a flow, in order. Default: "0-0" */
  after?: string;
  /** A page of large events has fewer. Default: 100 */
  limit?: number;
}

/** Flows that are all of this. */
export interface FlowFilter {
  /** How far it is */
  status?: FlowStatus;
  /** It has one of these */
  statuses?: FlowStatuses;
  /** It has a name that begins with this */
  name_prefix?: NameText;
  /** This is one of its tags */
  tag?: string;
  /** It is this caller's */
  caller_id?: number;
  /** It was created at this time or later (Unix time in seconds) */
  created_from?: number;
  /** It was created before this time */
  created_to?: number;
  /** It has ended, in Finished or Error, at this time or later (Unix time in seconds) */
  ended_from?: number;
  /** It has ended, before this time */
  ended_to?: number;
}

/** What flow.list takes. */
export interface FlowListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** At most so many records a page. Default: 100 */
  limit?: number;
  /** Id of the context */
  context_id: number;
  /** Only flows in this status */
  status?: FlowStatus;
  /** It has one of these */
  statuses?: FlowStatuses;
  /** It has a name that begins with this */
  name_prefix?: NameText;
  /** This is one of its tags */
  tag?: string;
  /** It is this caller's */
  caller_id?: number;
  /** It was created at this time or later (Unix time in seconds) */
  created_from?: number;
  /** It was created before this time */
  created_to?: number;
  /** It has ended, in Finished or Error, at this time or later (Unix time in seconds) */
  ended_from?: number;
  /** It has ended, before this time */
  ended_to?: number;
  /**
   * By when they were created, or have ended; those that have not ended come last. Of the same time, by id.
   * Default: "id"
   */
  sort?: SortBy;
  /** The newest, or the largest id, first. Default: false */
  descending?: boolean;
}

/** What flow.load and flow.dag take. */
export interface FlowLoadParams {
  /** Id of the context */
  context_id: number;
  /** Id of the flow */
  id: number;
}

/** What a flow and jobs of it have from now on. */
export interface FlowOverrides {
  /** Over those the flow has: the others stay */
  env_vars?: { [name: string]: string };
  /** Each once */
  jobs?: JobOverride[];
}

/** A page of flows. */
export interface FlowPage {
  /** The records */
  items: Flow[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

/** What flow.start and flow.retry and flow.status and flow.delete and flow.pause and flow.resume take. */
export interface FlowParams {
  /** Id of the context */
  context_id: number;
  /** Id of the flow */
  id: number;
}

/** A flow with the progress of its jobs. */
export interface FlowReport {
  /** The flow */
  flow: Flow;
  /** Jobs by status; every status is there */
  counts: { [name in JobStatus]?: number };
  /** Ascending by id */
  jobs: JobProgress[];
  /** Ids of jobs the flow lists that are not there, ascending; left out if all are */
  missing?: number[];
  /** Unix time in ms */
  started_at?: number;
  /** Unix time in ms */
  ended_at?: number;
  /** Subscribe after this one to miss nothing */
  last_event: string;
}

/** What flow.rerun takes. */
export interface FlowRerunParams {
  /** Id of the context */
  context_id: number;
  /** Id of the flow */
  id: number;
  /** Only this job of the flow and those that depend on it, on others too; left out: all jobs */
  from_job?: number;
  /** What runs otherwise than before; it is written into the records */
  overrides?: FlowOverrides;
}

/** How far a flow is. */
export type FlowStatus = "Dispatched" | "Started" | "Error" | "Finished";

/** Statuses of flows. */
export type FlowStatuses = FlowStatus[];

/** What flow.submit takes. */
export interface FlowSubmitParams {
  /** Id of the context */
  context_id: number;
  /** The flow */
  flow: FlowCreate;
  /** Every job the flow lists */
  jobs: JobCreate[];
}

/** What flow.subscribe takes. */
export interface FlowSubscribeParams {
  /** Id of the context */
  context_id: number;
  /** Id of the flow */
  id: number;
  /** Names an event of a flow, in order. Default: "0-0" */
  after?: string;
  /** Several notifications at once come as one JSON-RPC batch; by default each is a message. Default: false */
  batch?: boolean;
}

/** A subscription to what happens to a flow. */
export interface FlowSubscribed {
  /** Names the subscription on its connection */
  subscription: string;
  /** Events after `after` are no longer kept */
  missed: boolean;
}

/** What flow.cancel_many takes. */
export interface FlowsCancelParams {
  /** Id of the context */
  context_id: number;
  /** Without members it means all flows of the context */
  filter: FlowFilter;
  /** true: say which these are, and do nothing. Default: false */
  dry_run?: boolean;
  /** The last reply's `cursor`, to go on; none for the beginning */
  cursor?: string;
  /** Do it to so many at most, then reply. Default: 1000 */
  limit?: number;
  /** Recorded with the job and told to its runner */
  reason?: string;
}

/** What was done by one call. It works for a few seconds: the next one goes on at `cursor`. */
export interface FlowsDone {
  /** Nothing was done but counted */
  dry_run: boolean;
  /** Flows that are meant, and to which it applies */
  matched: number;
  /** To so many of them it was done */
  done: number;
  /** The first 100 of those that are meant, ascending */
  ids: number[];
  /** The first 100 to which it could not be done */
  refused: RefusedFlow[];
  /** Where to go on; left out if that were all */
  cursor?: string;
}

/** What is to be done to all flows that a filter means and to which it applies, in the order of their ids. */
export interface FlowsParams {
  /** Id of the context */
  context_id: number;
  /** Without members it means all flows of the context */
  filter: FlowFilter;
  /** true: say which these are, and do nothing. Default: false */
  dry_run?: boolean;
  /** The last reply's `cursor`, to go on; none for the beginning */
  cursor?: string;
  /** Do it to so many at most, then reply. Default: 1000 */
  limit?: number;
}

/** The lease of an attempt after its renewal. */
export interface Heartbeat {
  /** Seconds for which an attempt is the runner's without a heartbeat */
  lease: number;
}

/** A job of which a runner has a running attempt. */
export interface HeldJob {
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
}

/** IPv4 or IPv6 textual address */
export type IpAddr = string;

/** A script with what it needs, as it is stored. */
export interface Job {
  /** Id of the job */
  id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the context */
  context_id: number;
  /** The text of the script */
  script: string;
  /** Which runners can run it */
  script_type: ScriptType;
  /** Seconds an attempt may take, 0 for no limit */
  timeout: number;
  /** Attempts that may follow a failed one */
  retries: number;
  /** Environment of the job's script */
  env_vars: { [name: string]: string };
  /** Names of external conditions the job waits for */
  prerequisites: string[];
  /** Ids of jobs that must finish first */
  depends: number[];
  /** Attempts that may follow one lost with its runner; the coordinator's setting unless given */
  lost_retries?: number;
  /** What people call it: one printable line. It need not be unique */
  name?: NameText;
  /** Short texts by which lists find it */
  tags?: Tags;
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
  /** What the job's script has returned, by name */
  result: { [name: string]: string };
  /** How far it is */
  status: JobStatus;
}

/** How an attempt at a job went. */
export interface JobAttempt {
  /** Its number; they begin anew when the job is started again */
  attempt: number;
  /** Id of the runner */
  runner_id: number;
  /** Unix time in ms */
  started_at: number;
  /** Left out while it is running */
  ended_at?: number;
  /** How it went */
  outcome: AttemptOutcomeKind;
  /** Why it did not finish; the first 1,000 bytes */
  error?: string;
}

/** The newest attempts at a job. */
export interface JobAttempts {
  /** The newest of the job's attempts, 20 at most, oldest first */
  attempts: JobAttempt[];
}

/** What job.cancel takes. */
export interface JobCancelParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
  /** Recorded with the job and told to its runner */
  reason?: string;
}

/** A job as a client creates it. */
export interface JobCreate {
  /** Id of the job */
  id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the context */
  context_id: number;
  /** The text of the script */
  script: string;
  /** Which runners can run it */
  script_type: ScriptType;
  /** Seconds an attempt may take, 0 for no limit */
  timeout: number;
  /** Attempts that may follow a failed one */
  retries: number;
  /** Environment of the job's script */
  env_vars: { [name: string]: string };
  /** Names of external conditions the job waits for */
  prerequisites: string[];
  /** Ids of jobs that must finish first */
  depends: number[];
  /** Attempts that may follow one lost with its runner; the coordinator's setting unless given */
  lost_retries?: number;
  /** What people call it: one printable line. It need not be unique */
  name?: NameText;
  /** Short texts by which lists find it */
  tags?: Tags;
  /** The result it begins with; an empty one unless given */
  result?: { [name: string]: string };
}

/** What job.create takes. */
export interface JobCreateParams {
  /** Id of the context */
  context_id: number;
  /** The job */
  job: JobCreate;
}

/** What job.fail takes. */
export interface JobFailParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** Why the attempt has failed, for people */
  error: string;
  /** What the script has returned in spite of that */
  result?: { [name: string]: string };
  /** false: do not try again, whatever `retries` says. Default: true */
  retry?: boolean;
  /**
   * The attempt ends because its runner does, not by the job's fault: it counts among `lost_retries`, and
   * `retry` says nothing. Default: false
   */
  lost?: boolean;
}

/** What job.finish takes. */
export interface JobFinishParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** What the script has returned, by name */
  result?: { [name: string]: string };
}

/** What job.heartbeat takes. */
export interface JobHeartbeatParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
}

/** A page of the results that a job gets as inputs. */
export interface JobInputs {
  /** Results of jobs it depends on, by id */
  inputs: { [name: string]: { [name: string]: string } };
  /** The `after` of the next page; left out on the last one */
  after?: number;
}

/** What job.inputs takes. */
export interface JobInputsParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** The page before ended with this job; left out for the first page */
  after?: number;
}

/** What job.list takes. */
export interface JobListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** At most so many records a page. Default: 100 */
  limit?: number;
  /** Id of the context */
  context_id: number;
  /** Only jobs in this status */
  status?: JobStatus;
  /** It has one of these */
  statuses?: JobStatuses;
  /** It has a name that begins with this */
  name_prefix?: NameText;
  /** This is one of its tags */
  tag?: string;
  /** It is this caller's */
  caller_id?: number;
  /** It was created at this time or later (Unix time in seconds) */
  created_from?: number;
  /** It was created before this time */
  created_to?: number;
  /** It has ended, in Finished or Error, at this time or later (Unix time in seconds) */
  ended_from?: number;
  /** It has ended, before this time */
  ended_to?: number;
  /** This runner was given its last attempt */
  runner_id?: number;
  /**
   * By when they were created, or have ended; those that have not ended come last. Of the same time, by id.
   * Default: "id"
   */
  sort?: SortBy;
  /** The newest, or the largest id, first. Default: false */
  descending?: boolean;
}

/** What job.load and job.tail and job.attempts and job.delete take. */
export interface JobLoadParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
}

/** What job.log takes. */
export interface JobLogParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** Log lines */
  lines: string[];
  /** Which output of the script wrote the lines. Default: "stdout" */
  stream?: LogStream;
}

/** What a job runs with from now on. */
export interface JobOverride {
  /** Id of the job */
  id: number;
  /** In the place of the one it has */
  script?: string;
  /** Over those it has: the others stay */
  env_vars?: { [name: string]: string };
}

/** A page of jobs. */
export interface JobPage {
  /** The records */
  items: Job[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

/** How far a job of a flow is. */
export interface JobProgress {
  /** Id of the job */
  id: number;
  /** Which runners can run it */
  script_type: ScriptType;
  /** Ids of the jobs it waits for */
  depends: number[];
  /** How far it is */
  status: JobStatus;
  /** Attempts begun in this run */
  attempt: number;
  /** Id of the runner */
  runner_id?: number;
  /** Unix time in ms */
  queued_at?: number;
  /** Unix time in ms */
  started_at?: number;
  /** Unix time in ms */
  ended_at?: number;
  /** Of the attempts, those that were lost; left out if none */
  lost?: number;
  /** What people call it: one printable line. It need not be unique */
  name?: NameText;
  /** When the next attempt is due, while backing off */
  retry_at?: number;
  /** Why the last attempt failed */
  failure?: string;
}

/** How far a job is. */
export type JobStatus = "Dispatched" | "WaitingForPrerequisites" | "Started" | "Error" | "Finished";

/** Statuses of jobs. */
export type JobStatuses = JobStatus[];

/** What the graph says of a job. */
export interface JobSummary {
  /** Id of the job */
  id: number;
  /** Ids of the jobs it waits for */
  depends: number[];
  /** Names of the external conditions it waits for */
  prerequisites: string[];
  /** Which runners can run it */
  script_type: ScriptType;
}

/** The end of a job's log. */
export interface JobTail {
  /** The newest log lines of the job, about 16 KiB, oldest first */
  reports: LogReport[];
}

/** What job.take takes. */
export interface JobTakeParams {
  /** Id of the context */
  context_id: number;
  /** Id of the runner */
  runner_id: number;
  /** The types of jobs the runner takes */
  script_types: ScriptType[];
  /** Jobs it may hold at once. Default: 1 */
  count?: number;
  /** Seconds to wait for a job. Default: 0.0 */
  wait?: number;
  /** Seconds a job is held without a heartbeat. Default: 30.0 */
  lease?: number;
  /** Sent again with the same one, the runner gets the same jobs */
  take_id?: string;
}

/** Jobs for a runner; none if none came in time. */
export interface JobTaken {
  /** The jobs, each with the token of its attempt */
  jobs: Assignment[];
}

/** What actor.rotate_key takes. */
export interface KeyRotateParams {
  /** Id of the actor */
  id: number;
  /** The new one */
  pubkey: string;
  /** Seconds for which the old key can still log in. Default: 3600 */
  overlap?: number;
  /** Of auth.challenge; it is good once */
  nonce?: string;
  /** By the old key, unless the operator */
  old_signature?: string;
  /** By the new key, unless the operator */
  new_signature?: string;
}

/** A runner with what holds it back. */
export interface ListedRunner {
  /** Id of the runner */
  id: number;
  /** The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in */
  pubkey: string;
  /** IP addresses */
  address: IpAddr;
  /** Names the runner's subscription, usually runner<id> */
  topic: string;
  /** Whether the runner runs beside the coordinator */
  local: boolean;
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
  /** true: it gets nothing new, see runner.drain; left out if not */
  draining?: boolean;
  /** It is subscribed, or waits for a job by job.take, or has done so in the last 5 s */
  connected?: boolean;
  /** Since when it is subscribed; the earliest if it is more than once */
  connected_since?: number;
  /** Jobs it may have at once, of all its subscriptions */
  capacity?: number;
  /** Attempts that it has and that are running; left out if none */
  attempts?: number;
  /** The jobs of those attempts, 20 at most, by id */
  jobs?: HeldJob[];
  /** Attempts it failed within ten seconds each since it last finished one; 5 are too many */
  failed_in_a_row?: number;
  /** Attempts it was handed by job.take and let lapse, since it was last heard of */
  lost_in_a_row?: number;
  /** Seconds for which it gets no job */
  held_back_for?: number;
}

/** Log lines that a runner reported together. */
export interface LogReport {
  /** Unix time in ms */
  at: number;
  /** Which attempt at the job it is, from 1 */
  attempt: number;
  /** Which output of the script wrote the lines */
  stream: LogStream;
  /** Log lines */
  lines: string[];
}

/** Which output of a script wrote the lines. */
export type LogStream = "stdout" | "stderr";

/** How many lines were kept. */
export interface Logged {
  /** How many were kept: none once a message has logged 16 MiB */
  lines: number;
  /** true: the attempt was cancelled or has timed out, and its script must be stopped */
  over?: boolean;
}

/** Who is logged in, and until when. */
export interface LoggedIn {
  /** Who it is: `actor:7`, `runner:1:3` or `operator` */
  principal: string;
  /** Left out of the operator's */
  expires_at?: number;
  /** Over HTTP, for the calls that follow */
  token?: string;
}

/**
 * Params of the notification `auth.ended`: a subscription has ended, or without one the whole login, and the
 * connection closes.
 */
export interface LoginEndedNotice {
  /** Why it has ended */
  reason: string;
  /** The subscription that has ended; left out if the whole login has */
  subscription?: string;
}

/** What auth.login and auth.renew take. */
export interface LoginParams {
  /** `actor:7`, or `runner:1:3` for runner 3 of context 1 */
  principal?: string;
  /** Of auth.challenge; it is good once */
  nonce?: string;
  /** Ed25519, in base64, of the text that SECURITY.md describes */
  signature?: string;
  /** Instead of a signature, `hc_…` or a JWT; on a WebSocket only */
  token?: string;
  /** Instead of a signature, from auth.ticket; on a WebSocket only */
  ticket?: string;
}

/** A message with its jobs, as it is stored. */
export interface Message {
  /** Id of the message */
  id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the context */
  context_id: number;
  /** The text of the message */
  message: string;
  /** Who is to understand the text */
  message_type: ScriptType;
  /** How the text is written */
  message_format_type: MessageFormatType;
  /** Seconds, 0 for none */
  timeout: number;
  /** Seconds, 0 for none */
  timeout_ack: number;
  /** Seconds, 0 for none */
  timeout_result: number;
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
  /** Its jobs, as they are now */
  job: Job[];
  /** Log lines, the message's own first */
  logs: string[];
  /** How far it is */
  status: MessageStatus;
  /** Names the sending */
  transport_id?: string;
  /** How far it is on its way to a runner */
  transport_status?: TransportStatus;
}

/** A message as a client creates it. */
export interface MessageCreate {
  /** Id of the message */
  id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the context */
  context_id: number;
  /** The text of the message */
  message: string;
  /** Who is to understand the text */
  message_type: ScriptType;
  /** How the text is written */
  message_format_type: MessageFormatType;
  /** Seconds, 0 for none */
  timeout: number;
  /** Seconds, 0 for none */
  timeout_ack: number;
  /** Seconds, 0 for none */
  timeout_result: number;
  /** Its jobs */
  job: JobCreate[];
  /** Log lines, the message's own first */
  logs?: string[];
}

/** What message.create takes. */
export interface MessageCreateParams {
  /** Id of the context */
  context_id: number;
  /** The message */
  message: MessageCreate;
}

/** How the text of a message is written. */
export type MessageFormatType = "Html" | "Text" | "Md";

/** What message.list takes. */
export interface MessageListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** At most so many records a page. Default: 100 */
  limit?: number;
  /** Id of the context */
  context_id: number;
  /** Only messages in this status */
  status?: MessageStatus;
}

/** What message.load and message.delete take. */
export interface MessageLoadParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the message */
  id: number;
}

/** A page of messages. */
export interface MessagePage {
  /** The records */
  items: Message[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

/** What message.send takes. */
export interface MessageParams {
  /** Id of the context */
  context_id: number;
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the message */
  id: number;
}

/** How far a message is. */
export type MessageStatus = "Dispatched" | "Acknowledged" | "Error" | "Processed";

/** Kinds of messages. No member has this type: `message_type` takes a ScriptType. */
export type MessageType = "Job" | "Chat" | "Mail";

/** With what a condition was satisfied. */
export interface MetPrerequisite {
  /** Unix time in ms */
  satisfied_at: number;
  /** Whether it is satisfied for the jobs of one flow, or of the whole context */
  scope: Scope;
  /** Who said so */
  by?: string;
  /** What the jobs get with it */
  payload?: { [name: string]: string };
  /**
   * true: `by` and `payload` are left out, for those of the job before them have 1 MiB together, or as they were
   * revoked a week ago
   */
  omitted?: boolean;
}

/** A name for people: one printable line. */
export type NameText = string;

/** A token with its secret, which is shown this once. */
export interface NewToken {
  /** Names a token; it is no secret */
  id: string;
  /** Who it is: `actor:7`, `runner:1:3` or `operator` */
  principal: string;
  /** What the token is for, for people */
  label: string;
  /** How much the token allows */
  access: Access;
  /** Contexts for which the token is good; left out if for all */
  contexts?: number[];
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  expires_at: number;
  /** To the minute; left out if never */
  used_at?: number;
  /** `hc_…`: whoever has it is that principal; shown once */
  token: string;
}

/** What prerequisite.list takes. */
export interface PrerequisiteListParams {
  /** Id of the context */
  context_id: number;
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** At most so many records a page. Default: 100 */
  limit?: number;
}

/** What prerequisite.revoke takes. */
export interface PrerequisiteRevokeParams {
  /** Id of the context */
  context_id: number;
  /** Name of the condition */
  name: string;
  /** For the jobs of this flow alone; left out: of the whole context */
  flow_id?: number;
}

/** What prerequisite.satisfy takes. */
export interface PrerequisiteSatisfyParams {
  /** Id of the context */
  context_id: number;
  /** Name of the condition */
  name: string;
  /** For the jobs of this flow alone; left out: of the whole context */
  flow_id?: number;
  /** What the jobs get with it; at most 64 KiB as JSON */
  payload?: { [name: string]: string };
  /** Who says so */
  by?: string;
}

/** A page of conditions. */
export interface Prerequisites {
  /** Conditions that are satisfied */
  satisfied: SatisfiedPrerequisite[];
  /** All pages of these come first */
  waiting: AwaitedPrerequisite[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

/** A flow that stayed as it is. */
export interface RefusedFlow {
  /** Id of the flow */
  id: number;
  /** Why it stayed as it is */
  detail: string;
}

/** What became of a condition that was revoked. */
export interface Revoked {
  /** Name of the condition */
  name: string;
  /** Whether it is about one flow or about the whole context */
  scope: Scope;
  /** Id of the flow */
  flow_id?: number;
  /** false: it was not satisfied */
  revoked: boolean;
}

/** What a caller is in a context. */
export type RoleName = "operator" | "admin" | "executor" | "reader" | "runner" | "stranger";

/** A process that runs jobs of a context, as it is stored. */
export interface Runner {
  /** Id of the runner */
  id: number;
  /** The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in */
  pubkey: string;
  /** IP addresses */
  address: IpAddr;
  /** Names the runner's subscription, usually runner<id> */
  topic: string;
  /** Whether the runner runs beside the coordinator */
  local: boolean;
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
  /** true: it gets nothing new, see runner.drain; left out if not */
  draining?: boolean;
}

/** What runner.connected takes. */
export interface RunnerConnectedParams {
  /** Id of the context */
  context_id: number;
}

/** A runner as a client creates it. */
export interface RunnerCreate {
  /** Id of the runner */
  id: number;
  /** The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in */
  pubkey: string;
  /** IP addresses */
  address: IpAddr;
  /** Names the runner's subscription, usually runner<id> */
  topic: string;
  /** Whether the runner runs beside the coordinator */
  local: boolean;
}

/** What runner.create takes. */
export interface RunnerCreateParams {
  /** Id of the context */
  context_id: number;
  /** The runner */
  runner: RunnerCreate;
}

/** What runner.list takes. */
export interface RunnerListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** At most so many records a page. Default: 100 */
  limit?: number;
  /** Id of the context */
  context_id: number;
}

/** What runner.load and runner.delete and runner.drain and runner.undrain take. */
export interface RunnerLoadParams {
  /** Id of the context */
  context_id: number;
  /** Id of the runner */
  id: number;
}

/** A page of runners. */
export interface RunnerPage {
  /** The records */
  items: ListedRunner[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

/** How many runners a context has. */
export interface RunnerStats {
  /** Those that are subscribed, or wait for a job by job.take; for 5 s after that */
  connected: number;
  /** Those that have a running attempt, connected or not */
  busy: number;
}

/** What runner.subscribe takes. */
export interface RunnerSubscribeParams {
  /** Id of the context */
  context_id: number;
  /** Id of the runner */
  runner_id: number;
  /** The types of jobs the runner takes */
  script_types: ScriptType[];
  /** Jobs it may hold at once */
  capacity: number;
  /** Seconds a job is held without a heartbeat. Default: 30.0 */
  lease?: number;
  /** Names the runner's process, the same after it reconnects */
  session?: string;
  /** Tokens of attempts it still works on */
  holding?: string[];
  /** Several notifications at once come as one JSON-RPC batch; by default each is a message. Default: false */
  batch?: boolean;
}

/** A subscription to jobs. */
export interface RunnerSubscribed {
  /** Names the subscription on its connection */
  subscription: string;
  /** Seconds for which an attempt is the runner's without a heartbeat */
  lease: number;
  /** Tokens of `holding` that are not, or no longer, this runner's */
  lost: string[];
}

/** How many runners are connected. */
export interface RunnersConnected {
  /**
   * How many runners are connected that take jobs of each type; every type is there. One that asks by job.take
   * counts for 30 s after it did
   */
  script_types: { [name in ScriptType]?: number };
}

/** A condition that was satisfied, and how many jobs had waited for it. */
export interface Satisfied {
  /** Unix time in ms */
  satisfied_at: number;
  /** Whether it is satisfied for the jobs of one flow, or of the whole context */
  scope: Scope;
  /** Who said so */
  by?: string;
  /** What the jobs get with it */
  payload?: { [name: string]: string };
  /**
   * true: `by` and `payload` are left out, for those of the job before them have 1 MiB together, or as they were
   * revoked a week ago
   */
  omitted?: boolean;
  /** Name of the condition */
  name: string;
  /** Id of the flow */
  flow_id?: number;
  /** Jobs that had waited for it */
  released: number;
}

/** A condition that is satisfied. */
export interface SatisfiedPrerequisite {
  /** Unix time in ms */
  satisfied_at: number;
  /** Whether it is satisfied for the jobs of one flow, or of the whole context */
  scope: Scope;
  /** Who said so */
  by?: string;
  /** What the jobs get with it */
  payload?: { [name: string]: string };
  /**
   * true: `by` and `payload` are left out, for those of the job before them have 1 MiB together, or as they were
   * revoked a week ago
   */
  omitted?: boolean;
  /** Name of the condition */
  name: string;
  /** Id of the flow */
  flow_id?: number;
}

/** Whether a condition is about one flow or about the whole context. */
export type Scope = "context" | "flow";

/** Who runs a script: a runner says which types it takes. */
export type ScriptType = "Osis" | "Sal" | "V" | "Python";

/** Jobs of one script type, in numbers. */
export interface ScriptTypeStats {
  /** Jobs of this type, in whatever status */
  jobs: number;
  /** Those that wait for a runner. One that was cancelled counts until a runner comes by */
  queued: number;
  /** Seconds for which the one that is next has waited for a runner */
  oldest: number;
}

/** By what a list is sorted. */
export type SortBy = "id" | "created" | "ended";

/** What flow.unsubscribe and context.unsubscribe and runner.unsubscribe take. */
export interface SubscriptionParams {
  /** Names the subscription on its connection */
  subscription: string;
}

/** Labels, by which lists can be filtered. */
export type Tags = string[];

/** A ticket to log in on a WebSocket. */
export interface Ticket {
  /** For auth.login on a WebSocket, once: whoever has it is the caller */
  ticket: string;
  /** Unix time in seconds */
  expires_at: number;
}

/** What auth.ticket takes. */
export interface TicketParams {}

/** What token.create takes. */
export interface TokenCreateParams {
  /** For people, who see it in lists */
  label: string;
  /** Seconds. Default: 2592000 */
  expires_in?: number;
  /** Whose it is: the caller's unless given. Anybody's for the operator, a context's runners' for its admins */
  principal?: string;
  /** `read`: what a reader may. Default: "full" */
  access?: Access;
  /** Only these; all if left out */
  contexts?: number[];
}

/** A token without its secret. */
export interface TokenInfo {
  /** Names a token; it is no secret */
  id: string;
  /** Who it is: `actor:7`, `runner:1:3` or `operator` */
  principal: string;
  /** What the token is for, for people */
  label: string;
  /** How much the token allows */
  access: Access;
  /** Contexts for which the token is good; left out if for all */
  contexts?: number[];
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  expires_at: number;
  /** To the minute; left out if never */
  used_at?: number;
}

/** What token.list takes. */
export interface TokenListParams {
  /** The caller's own unless given; as in token.create */
  principal?: string;
}

/** The tokens of a principal. */
export interface TokenPage {
  /** The records */
  items: TokenInfo[];
}

/** What token.revoke takes. */
export interface TokenRevokeParams {
  /** Names a token; it is no secret */
  id: string;
}

/** What became of a token. */
export interface TokenRevoked {
  /** Names a token; it is no secret */
  id: string;
  /** false: there is no such token */
  revoked: boolean;
}

/** How far a message is on its way to a runner. */
export type TransportStatus = "Queued" | "Sent" | "Delivered" | "Read" | "Failed";

/** The subscription that has ended. */
export interface Unsubscribed {
  /** Names the subscription on its connection */
  subscription: string;
}

/** A job that waits for a condition. */
export interface WaitingJob {
  /** Id of the actor for whom it is; together with `id` it names the record in its context */
  caller_id: number;
  /** Id of the job */
  job_id: number;
  /** Left out if a message runs the job */
  flow_id?: number;
}

/** Whom the coordinator takes the caller for. */
export interface WhoAmI {
  /** `open` where nobody has to log in, `stranger` before one has */
  principal: string;
  /** Unix time in seconds */
  expires_at?: number;
  /** Names a token; it is no secret */
  token_id?: string;
  /** In the context that was asked for; a token for reading makes a reader of everybody */
  role?: RoleName;
  /**
   * What that role may do there, if only with what is its own, in the words in which error -32003 names what is
   * missing; left out where nobody has to log in, who may do everything
   */
  rights?: string[];
}

/** What auth.whoami takes. */
export interface WhoAmIParams {
  /** A context, to be told what the caller is and may do there */
  context_id?: number;
}

export interface InvalidParamsDataItem {
  loc: (string | number)[];
  msg: string;
  type: string;
}

/** What each method takes and returns. */
export interface Methods {
  "actor.create": { params: ActorCreateParams; result: Actor };
  "actor.load": { params: ActorLoadParams; result: Actor };
  "context.create": { params: ContextCreateParams; result: Context };
  "context.load": { params: ContextLoadParams; result: Context };
  "runner.create": { params: RunnerCreateParams; result: Runner };
  "runner.load": { params: RunnerLoadParams; result: Runner };
  "flow.create": { params: FlowCreateParams; result: Flow };
  "flow.load": { params: FlowLoadParams; result: Flow };
  "flow.dag": { params: FlowLoadParams; result: FlowDag };
  "job.create": { params: JobCreateParams; result: Job };
  "job.load": { params: JobLoadParams; result: Job };
  "message.create": { params: MessageCreateParams; result: Message };
  "message.load": { params: MessageLoadParams; result: Message };
  "flow.submit": { params: FlowSubmitParams; result: Flow };
  "flow.start": { params: FlowParams; result: Flow };
  "flow.cancel": { params: FlowCancelParams; result: Flow };
  "flow.retry": { params: FlowParams; result: Flow };
  "flow.status": { params: FlowParams; result: FlowReport };
  "flow.events": { params: FlowEventsParams; result: FlowEvents };
  "flow.subscribe": { params: FlowSubscribeParams; result: FlowSubscribed };
  "flow.unsubscribe": { params: SubscriptionParams; result: Unsubscribed };
  "context.events": { params: ContextEventsParams; result: ContextEvents };
  "context.subscribe": { params: ContextSubscribeParams; result: ContextSubscribed };
  "context.unsubscribe": { params: SubscriptionParams; result: Unsubscribed };
  "runner.subscribe": { params: RunnerSubscribeParams; result: RunnerSubscribed };
  "runner.unsubscribe": { params: SubscriptionParams; result: Unsubscribed };
  "job.take": { params: JobTakeParams; result: JobTaken };
  "job.heartbeat": { params: JobHeartbeatParams; result: Heartbeat };
  "job.inputs": { params: JobInputsParams; result: JobInputs };
  "job.log": { params: JobLogParams; result: Logged };
  "job.tail": { params: JobLoadParams; result: JobTail };
  "job.attempts": { params: JobLoadParams; result: JobAttempts };
  "job.finish": { params: JobFinishParams; result: AttemptOutcome };
  "job.fail": { params: JobFailParams; result: AttemptOutcome };
  "message.send": { params: MessageParams; result: Message };
  "prerequisite.satisfy": { params: PrerequisiteSatisfyParams; result: Satisfied };
  "prerequisite.revoke": { params: PrerequisiteRevokeParams; result: Revoked };
  "prerequisite.list": { params: PrerequisiteListParams; result: Prerequisites };
  "context.list": { params: ContextListParams; result: ContextPage };
  "context.stats": { params: ContextStatsParams; result: ContextStats };
  "runner.list": { params: RunnerListParams; result: RunnerPage };
  "runner.connected": { params: RunnerConnectedParams; result: RunnersConnected };
  "flow.list": { params: FlowListParams; result: FlowPage };
  "job.list": { params: JobListParams; result: JobPage };
  "message.list": { params: MessageListParams; result: MessagePage };
  "runner.delete": { params: RunnerLoadParams; result: Deleted };
  "flow.delete": { params: FlowParams; result: Deleted };
  "job.delete": { params: JobLoadParams; result: Deleted };
  "message.delete": { params: MessageLoadParams; result: Deleted };
  "job.cancel": { params: JobCancelParams; result: Job };
  "flow.rerun": { params: FlowRerunParams; result: Flow };
  "flow.pause": { params: FlowParams; result: Flow };
  "flow.resume": { params: FlowParams; result: Flow };
  "flow.cancel_many": { params: FlowsCancelParams; result: FlowsDone };
  "flow.retry_many": { params: FlowsParams; result: FlowsDone };
  "flow.delete_many": { params: FlowsParams; result: FlowsDone };
  "context.pause": { params: ContextPauseParams; result: ContextPaused };
  "context.resume": { params: ContextPauseParams; result: ContextPaused };
  "context.delete": { params: ContextDeleteParams; result: Deleted };
  "runner.drain": { params: RunnerLoadParams; result: Runner };
  "runner.undrain": { params: RunnerLoadParams; result: Runner };
  "auth.challenge": { params: ChallengeParams; result: Challenge };
  "auth.login": { params: LoginParams; result: LoggedIn };
  "auth.renew": { params: LoginParams; result: LoggedIn };
  "auth.ticket": { params: TicketParams; result: Ticket };
  "auth.whoami": { params: WhoAmIParams; result: WhoAmI };
  "token.create": { params: TokenCreateParams; result: NewToken };
  "token.list": { params: TokenListParams; result: TokenPage };
  "token.revoke": { params: TokenRevokeParams; result: TokenRevoked };
  "actor.rotate_key": { params: KeyRotateParams; result: Actor };
  "actor.revoke": { params: ActorRevokeParams; result: ActorRevoked };
}

export type MethodName = keyof Methods;

/** What the coordinator sends by itself, on a WebSocket. */
export interface Notifications {
  "runner.job": AssignmentNotice;
  "runner.cancel": CancelNotice;
  "context.event": ContextEventNotice;
  "flow.event": FlowEventNotice;
  "auth.ended": LoginEndedNotice;
}

/** Subscriptions to events, which go on after any of them. */
export interface EventSubscriptions {
  "context.subscribe": { params: ContextSubscribeParams; event: ContextEventNotice };
  "flow.subscribe": { params: FlowSubscribeParams; event: FlowEventNotice };
}

/** Not Found (-32001). */
export class NotFound extends RpcError<NotFoundData> {
  static readonly code = -32001;
  override readonly name: string = "NotFound";
}

export type NotFoundData = {
  detail: string;
  kind: string;
  ids: { [name: string]: number };
} & { [member: string]: unknown };

/** Not Logged In (-32002). */
export class NotLoggedIn extends RpcError<NotLoggedInData> {
  static readonly code = -32002;
  override readonly name: string = "NotLoggedIn";
}

export type NotLoggedInData = {
  detail: string;
} & { [member: string]: unknown };

/** Forbidden (-32003). */
export class Forbidden extends RpcError<ForbiddenData> {
  static readonly code = -32003;
  override readonly name: string = "Forbidden";
}

export type ForbiddenData = {
  detail: string;
  right: string;
} & { [member: string]: unknown };

/** Storage Error (-32010). */
export class StorageError extends RpcError<StorageErrorData> {
  static readonly code = -32010;
  override readonly name: string = "StorageError";
}

export type StorageErrorData = {
  detail: string;
  may_have_been_applied: boolean;
} & { [member: string]: unknown };

/** DAG Missing Dependency (-32020). */
export class DagMissingDependency extends RpcError<DagMissingDependencyData> {
  static readonly code = -32020;
  override readonly name: string = "DagMissingDependency";
}

export type DagMissingDependencyData = {
  detail: string;
  job: number;
  missing: number;
} & { [member: string]: unknown };

/** DAG Cycle Detected (-32021). */
export class DagCycleDetected extends RpcError<DagCycleDetectedData> {
  static readonly code = -32021;
  override readonly name: string = "DagCycleDetected";
}

export type DagCycleDetectedData = {
  detail: string;
  cycle: number[];
} & { [member: string]: unknown };

/** Reply Too Large (-32030). */
export class ReplyTooLarge extends RpcError<ReplyTooLargeData> {
  static readonly code = -32030;
  override readonly name: string = "ReplyTooLarge";
}

export type ReplyTooLargeData = {
  detail: string;
  limit: number;
  setting?: string;
} & { [member: string]: unknown };

/** Conflict (-32040). */
export class Conflict extends RpcError<ConflictData> {
  static readonly code = -32040;
  override readonly name: string = "Conflict";
}

export type ConflictData = {
  detail: string;
} & { [member: string]: unknown };

/** Stale Attempt Token (-32041). */
export class StaleToken extends RpcError<StaleTokenData> {
  static readonly code = -32041;
  override readonly name: string = "StaleToken";
}

export type StaleTokenData = {
  detail: string;
  token: string;
} & { [member: string]: unknown };

/** Not Subscribed (-32042). */
export class NotSubscribed extends RpcError<NotSubscribedData> {
  static readonly code = -32042;
  override readonly name: string = "NotSubscribed";
}

export type NotSubscribedData = {
  detail: string;
  subscription: string;
} & { [member: string]: unknown };

/** Overloaded (-32043). */
export class Overloaded extends RpcError<OverloadedData> {
  static readonly code = -32043;
  override readonly name: string = "Overloaded";
}

export type OverloadedData = {
  detail: string;
  limit: number;
  setting: string;
  retry_after?: number;
  used?: number;
} & { [member: string]: unknown };

/** WebSocket Required (-32044). */
export class WebSocketRequired extends RpcError<WebSocketRequiredData> {
  static readonly code = -32044;
  override readonly name: string = "WebSocketRequired";
}

export type WebSocketRequiredData = {
  detail: string;
} & { [member: string]: unknown };

/** Invalid Request (-32600). */
export class InvalidRequest extends RpcError<InvalidRequestData> {
  static readonly code = -32600;
  override readonly name: string = "InvalidRequest";
}

export type InvalidRequestData = {
  detail: string;
  limit?: number;
  setting?: string;
} & { [member: string]: unknown };

/** Method not found (-32601). */
export class MethodNotFound extends RpcError<MethodNotFoundData> {
  static readonly code = -32601;
  override readonly name: string = "MethodNotFound";
}

export type MethodNotFoundData = {
  detail: string;
  did_you_mean?: string[];
} & { [member: string]: unknown };

/** Invalid params (-32602). */
export class InvalidParams extends RpcError<InvalidParamsData> {
  static readonly code = -32602;
  override readonly name: string = "InvalidParams";
}

export type InvalidParamsData = InvalidParamsDataItem[];

/** Internal error (-32603). */
export class InternalError extends RpcError<InternalErrorData> {
  static readonly code = -32603;
  override readonly name: string = "InternalError";
}

export type InternalErrorData = {
  detail: string;
  incident: string;
} & { [member: string]: unknown };

/** Parse error (-32700). */
export class ParseError extends RpcError<ParseErrorData> {
  static readonly code = -32700;
  override readonly name: string = "ParseError";
}

export type ParseErrorData = {
  detail: string;
} & { [member: string]: unknown };

/** The class of each error. */
export const errorClasses = [
  NotFound,
  NotLoggedIn,
  Forbidden,
  StorageError,
  DagMissingDependency,
  DagCycleDetected,
  ReplyTooLarge,
  Conflict,
  StaleToken,
  NotSubscribed,
  Overloaded,
  WebSocketRequired,
  InvalidRequest,
  MethodNotFound,
  InvalidParams,
  InternalError,
  ParseError,
] as const;

/** Every method, by its subject. */
export interface Api {
  readonly actor: {
    /**
     * Creates an actor, or replaces what an actor with this id has; `created_at` stays. With logins it never
     * changes the key of an actor that is there: see actor.rotate_key.
     * Throws InvalidParams, NotFound, StorageError.
     */
    create(params: ActorCreateParams, options?: CallOptions): Promise<Actor>;
    /**
     * Returns the actor. With logins an admin of a context may load its members by giving `context_id`.
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: ActorLoadParams, options?: CallOptions): Promise<Actor>;
    /**
     * Gives an actor another key. The operator needs no signatures; the actor itself signs with the old key and
     * with the new one. The old key can log in for `overlap` seconds more.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound, Overloaded.
     */
    rotateKey(params: KeyRotateParams, options?: CallOptions): Promise<Actor>;
    /**
     * Ends all logins of an actor, for good. Its record stays.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
     */
    revoke(params: ActorRevokeParams, options?: CallOptions): Promise<ActorRevoked>;
  };
  readonly context: {
    /**
     * Creates a context, which is a tenant with data of its own, or replaces its lists of members. Actors that a
     * list names need not be there yet.
     * Throws InvalidParams, StorageError.
     */
    create(params: ContextCreateParams, options?: CallOptions): Promise<Context>;
    /**
     * Returns the context with its members.
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: ContextLoadParams, options?: CallOptions): Promise<Context>;
    /**
     * Returns a page of what happened to all flows of the context. It needs no WebSocket.
     * Throws InvalidParams, StorageError.
     */
    events(params: ContextEventsParams, options?: CallOptions): Promise<ContextEvents>;
    /**
     * Sends what happens to all flows of the context as notifications `context.event`.
     * Throws InvalidParams, StorageError, Overloaded, WebSocketRequired.
     */
    subscribe(params: ContextSubscribeParams, options?: CallOptions): Promise<ContextSubscribed>;
    /**
     * Ends a subscription that context.subscribe on this connection has made.
     * Throws InvalidParams, NotSubscribed, WebSocketRequired.
     */
    unsubscribe(params: SubscriptionParams, options?: CallOptions): Promise<Unsubscribed>;
    /**
     * Returns a page of the ids of all contexts that were ever written to, ascending.
     * Throws InvalidParams, StorageError.
     */
    list(params?: ContextListParams, options?: CallOptions): Promise<ContextPage>;
    /**
     * Counts the context's flows and jobs by status, what waits for runners, and the runners.
     * Throws InvalidParams, StorageError.
     */
    stats(params: ContextStatsParams, options?: CallOptions): Promise<ContextStats>;
    /**
     * Hands out none of the context's jobs, or none of one script type. What runs goes on.
     * Throws InvalidParams, NotFound, StorageError.
     */
    pause(params: ContextPauseParams, options?: CallOptions): Promise<ContextPaused>;
    /**
     * Ends what context.pause with the same params has begun.
     * Throws InvalidParams, NotFound, StorageError.
     */
    resume(params: ContextPauseParams, options?: CallOptions): Promise<ContextPaused>;
    /**
     * Deletes a context with all that is in it, in slices. It goes on after a restart.
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: ContextDeleteParams, options?: CallOptions): Promise<Deleted>;
  };
  readonly runner: {
    /**
     * Creates a runner in a context, or replaces what a runner with this id has. A runner must be created before
     * it can take jobs.
     * Throws InvalidParams, StorageError.
     */
    create(params: RunnerCreateParams, options?: CallOptions): Promise<Runner>;
    /**
     * Returns the runner as it was created; runner.list also says whether it is held back.
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: RunnerLoadParams, options?: CallOptions): Promise<Runner>;
    /**
     * Hands jobs to a runner as notifications `runner.job`, at most `capacity` unfinished ones at a time;
     * `runner.cancel` asks it to stop one. A runner that connects again gives its `session` and what it holds.
     * Throws InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
     */
    subscribe(params: RunnerSubscribeParams, options?: CallOptions): Promise<RunnerSubscribed>;
    /**
     * Ends a subscription that runner.subscribe on this connection has made. Attempts that were handed out are
     * still the runner's.
     * Throws InvalidParams, NotSubscribed, WebSocketRequired.
     */
    unsubscribe(params: SubscriptionParams, options?: CallOptions): Promise<Unsubscribed>;
    /**
     * Returns a page of the context's runners by id, each with what holds it back if anything does.
     * Throws InvalidParams, StorageError.
     */
    list(params: RunnerListParams, options?: CallOptions): Promise<RunnerPage>;
    /**
     * Returns how many runners are connected that take jobs of each type, at whatever coordinator on the store.
     * Throws InvalidParams, StorageError.
     */
    connected(params: RunnerConnectedParams, options?: CallOptions): Promise<RunnersConnected>;
    /**
     * Deletes the runner. Deleting one that is not there is no error.
     * Throws InvalidParams, StorageError.
     */
    delete(params: RunnerLoadParams, options?: CallOptions): Promise<Deleted>;
    /**
     * Gives the runner nothing new. It finishes what it holds, and stays drained.
     * Throws InvalidParams, NotFound, StorageError.
     */
    drain(params: RunnerLoadParams, options?: CallOptions): Promise<Runner>;
    /**
     * Gives the runner jobs again.
     * Throws InvalidParams, NotFound, StorageError.
     */
    undrain(params: RunnerLoadParams, options?: CallOptions): Promise<Runner>;
  };
  readonly flow: {
    /**
     * Creates a flow, or replaces it. Nothing runs before flow.start. The jobs that it lists need not be there
     * yet. The status stays, and so does the result unless a result is given.
     * Throws InvalidParams, StorageError, Overloaded.
     */
    create(params: FlowCreateParams, options?: CallOptions): Promise<Flow>;
    /**
     * Returns the flow with its status and its result.
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: FlowLoadParams, options?: CallOptions): Promise<Flow>;
    /**
     * Looks up the flow's jobs, which are stored under the flow's `caller_id`, and computes in which order they
     * run. Every list in the result is ascending. Nothing is changed.
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected.
     */
    dag(params: FlowLoadParams, options?: CallOptions): Promise<FlowDag>;
    /**
     * Creates a flow and its jobs and starts it, in one atomic step. Sent again with the same content it changes
     * nothing; with other content for the same ids it is a Conflict that says what differs.
     * Throws InvalidParams, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
     */
    submit(params: FlowSubmitParams, options?: CallOptions): Promise<Flow>;
    /**
     * Checks that the jobs depend on each other without a cycle, and moves the whole flow in one step: jobs that
     * wait for nothing are queued for runners. A flow that was started before stays as it is.
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
     */
    start(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * Ends the flow in Error. Runners are asked to stop the attempts that run, and nothing else of it starts.
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    cancel(params: FlowCancelParams, options?: CallOptions): Promise<Flow>;
    /**
     * Starts the failed part of a flow in Error again, with the jobs and dependencies that it has by now. Jobs
     * that are Finished keep their results; the others get all their attempts anew.
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
     */
    retry(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * Returns the flow, the number of its jobs in each status, and the progress of each job. Subscribe with
     * flow.subscribe after its `last_event` to learn what happens next.
     * Throws InvalidParams, NotFound, StorageError.
     */
    status(params: FlowParams, options?: CallOptions): Promise<FlowReport>;
    /**
     * Returns what happened to the flow after an event, oldest first: changes of status and log lines. It needs
     * no WebSocket. Events are kept until some time after the flow has ended.
     * Throws InvalidParams, NotFound, StorageError.
     */
    events(params: FlowEventsParams, options?: CallOptions): Promise<FlowEvents>;
    /**
     * Sends what happens to the flow as notifications `flow.event`, from an event on or from the first that is
     * kept. The subscription lasts until flow.unsubscribe or the end of the connection.
     * Throws InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
     */
    subscribe(params: FlowSubscribeParams, options?: CallOptions): Promise<FlowSubscribed>;
    /**
     * Ends a subscription that flow.subscribe on this connection has made.
     * Throws InvalidParams, NotSubscribed, WebSocketRequired.
     */
    unsubscribe(params: SubscriptionParams, options?: CallOptions): Promise<Unsubscribed>;
    /**
     * Returns a page of the context's flows.
     * Throws InvalidParams, StorageError.
     */
    list(params: FlowListParams, options?: CallOptions): Promise<FlowPage>;
    /**
     * Deletes the flow with its jobs, except those that another flow lists. A flow that runs is a Conflict;
     * deleting one that is not there is no error.
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: FlowParams, options?: CallOptions): Promise<Deleted>;
    /**
     * Runs a flow again that has ended: all of it, or a job and what depends on it.
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict,
     * Overloaded.
     */
    rerun(params: FlowRerunParams, options?: CallOptions): Promise<Flow>;
    /**
     * Hands out none of a started flow's jobs. What runs goes on. A restart releases nothing.
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    pause(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * Hands out the jobs of a paused flow again.
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    resume(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * Stops the flows that a filter means, for some seconds a call; `cursor` goes on.
     * Throws InvalidParams, StorageError.
     */
    cancelMany(params: FlowsCancelParams, options?: CallOptions): Promise<FlowsDone>;
    /**
     * Retries the flows in Error that a filter means, for some seconds a call.
     * Throws InvalidParams, StorageError.
     */
    retryMany(params: FlowsParams, options?: CallOptions): Promise<FlowsDone>;
    /**
     * Deletes the flows that a filter means and that do not run, for some seconds a call.
     * Throws InvalidParams, StorageError.
     */
    deleteMany(params: FlowsParams, options?: CallOptions): Promise<FlowsDone>;
  };
  readonly job: {
    /**
     * Creates a job, or replaces it. It runs when a flow that lists it is started. Other content for a job that
     * has ended makes a new job of it; for one that runs that is a Conflict.
     * Throws InvalidParams, StorageError, Conflict, Overloaded.
     */
    create(params: JobCreateParams, options?: CallOptions): Promise<Job>;
    /**
     * Returns the job with its status and its result.
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: JobLoadParams, options?: CallOptions): Promise<Job>;
    /**
     * Returns jobs for a runner, and waits up to `wait` seconds if there is none. Sent again with the same
     * `take_id` it returns the same jobs. It cannot be a notification.
     * Throws InvalidParams, NotFound, StorageError, Overloaded.
     */
    take(params: JobTakeParams, options?: CallOptions): Promise<JobTaken>;
    /**
     * Says that the attempt goes on, so that its lease does not lapse. An attempt that has ended, was lost or
     * was cancelled is answered with StaleToken.
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    heartbeat(params: JobHeartbeatParams, options?: CallOptions): Promise<Heartbeat>;
    /**
     * Returns, page by page, the results of the jobs that this attempt's job depends on. Only a runner whose
     * assignment has `inputs_from` needs it. It is no heartbeat.
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    inputs(params: JobInputsParams, options?: CallOptions): Promise<JobInputs>;
    /**
     * Appends lines to the log of the attempt, and renews its lease. Followers of the flow get them as events.
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    log(params: JobLogParams, options?: CallOptions): Promise<Logged>;
    /**
     * Returns the newest log lines of the job, about 16 KiB, for as long as the job is stored.
     * Throws InvalidParams, NotFound, StorageError.
     */
    tail(params: JobLoadParams, options?: CallOptions): Promise<JobTail>;
    /**
     * Returns the newest 20 attempts at the job, over retries of its flow.
     * Throws InvalidParams, NotFound, StorageError.
     */
    attempts(params: JobLoadParams, options?: CallOptions): Promise<JobAttempts>;
    /**
     * Reports that the attempt has succeeded, with its result. Jobs that waited for this one are released in the
     * same step. Reporting it again with the same token is answered as the first time.
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    finish(params: JobFinishParams, options?: CallOptions): Promise<AttemptOutcome>;
    /**
     * Reports that the attempt has failed, or that the runner gives it up (`lost`). The job is tried again while
     * it has attempts left.
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    fail(params: JobFailParams, options?: CallOptions): Promise<AttemptOutcome>;
    /**
     * Returns a page of the context's jobs.
     * Throws InvalidParams, StorageError.
     */
    list(params: JobListParams, options?: CallOptions): Promise<JobPage>;
    /**
     * Deletes the job. One that runs, or that an active flow needs, is a Conflict; deleting one that is not
     * there is no error.
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: JobLoadParams, options?: CallOptions): Promise<Deleted>;
    /**
     * Ends one job that waits or runs, and its flow or message with it, in Error.
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    cancel(params: JobCancelParams, options?: CallOptions): Promise<Job>;
  };
  readonly message: {
    /**
     * Creates a message with the jobs in it, or replaces it. Its jobs run after message.send.
     * Throws InvalidParams, StorageError.
     */
    create(params: MessageCreateParams, options?: CallOptions): Promise<Message>;
    /**
     * Returns the message with its jobs as they are now, and the log lines of its runners.
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: MessageLoadParams, options?: CallOptions): Promise<Message>;
    /**
     * Makes the message's embedded jobs jobs of the context and runs them like a flow. A message that was sent
     * before stays as it is.
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict,
     * Overloaded.
     */
    send(params: MessageParams, options?: CallOptions): Promise<Message>;
    /**
     * Returns a page of the context's messages.
     * Throws InvalidParams, StorageError.
     */
    list(params: MessageListParams, options?: CallOptions): Promise<MessagePage>;
    /**
     * Deletes the message with the jobs that it was sent with. One that is being processed is a Conflict;
     * deleting one that is not there is no error.
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: MessageLoadParams, options?: CallOptions): Promise<Deleted>;
  };
  readonly prerequisite: {
    /**
     * Declares that an external condition is met, for the jobs of one flow or of the whole context. Jobs that
     * waited for it and for nothing else are queued. It is remembered for jobs that come later.
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    satisfy(params: PrerequisiteSatisfyParams, options?: CallOptions): Promise<Satisfied>;
    /**
     * Declares that an external condition is no longer met. Jobs that were not released yet wait for it again;
     * jobs that were released go on.
     * Throws InvalidParams, NotFound, StorageError.
     */
    revoke(params: PrerequisiteRevokeParams, options?: CallOptions): Promise<Revoked>;
    /**
     * Returns a page of the conditions that jobs wait for, each with some of these jobs, and then of those that
     * are satisfied.
     * Throws InvalidParams, StorageError.
     */
    list(params: PrerequisiteListParams, options?: CallOptions): Promise<Prerequisites>;
  };
  readonly auth: {
    /**
     * Returns a nonce for the caller to sign with its key. SECURITY.md describes the text that is signed.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict.
     */
    challenge(params?: ChallengeParams, options?: CallOptions): Promise<Challenge>;
    /**
     * Logs in with a signature, a token or a ticket. On a WebSocket the whole connection is somebody from then
     * on; over HTTP the result has a token for the calls that follow.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
     */
    login(params?: LoginParams, options?: CallOptions): Promise<LoggedIn>;
    /**
     * Logs in once more, as the same principal, before a login is over. Subscriptions go on.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
     */
    renew(params?: LoginParams, options?: CallOptions): Promise<LoggedIn>;
    /**
     * Returns a ticket with which auth.login logs in on a WebSocket, once and within 30 s. It is for pages whose
     * cookie does not reach the WebSocket's port.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict.
     */
    ticket(params?: TicketParams, options?: CallOptions): Promise<Ticket>;
    /**
     * Returns whom the coordinator takes the caller for, and until when.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict.
     */
    whoami(params?: WhoAmIParams, options?: CallOptions): Promise<WhoAmI>;
  };
  readonly token: {
    /**
     * Makes a token and shows it once. An actor makes tokens for itself, an admin of a context for its runners,
     * the operator for anybody.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
     */
    create(params: TokenCreateParams, options?: CallOptions): Promise<NewToken>;
    /**
     * Returns the tokens of a principal, without their secrets.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
     */
    list(params?: TokenListParams, options?: CallOptions): Promise<TokenPage>;
    /**
     * Ends a token. Connections, subscriptions and waiting calls that were opened with it end within a second.
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
     */
    revoke(params: TokenRevokeParams, options?: CallOptions): Promise<TokenRevoked>;
  };
}

const places: readonly (readonly [string, string, MethodName])[] = [
  ["actor", "create", "actor.create"],
  ["actor", "load", "actor.load"],
  ["actor", "rotateKey", "actor.rotate_key"],
  ["actor", "revoke", "actor.revoke"],
  ["context", "create", "context.create"],
  ["context", "load", "context.load"],
  ["context", "events", "context.events"],
  ["context", "subscribe", "context.subscribe"],
  ["context", "unsubscribe", "context.unsubscribe"],
  ["context", "list", "context.list"],
  ["context", "stats", "context.stats"],
  ["context", "pause", "context.pause"],
  ["context", "resume", "context.resume"],
  ["context", "delete", "context.delete"],
  ["runner", "create", "runner.create"],
  ["runner", "load", "runner.load"],
  ["runner", "subscribe", "runner.subscribe"],
  ["runner", "unsubscribe", "runner.unsubscribe"],
  ["runner", "list", "runner.list"],
  ["runner", "connected", "runner.connected"],
  ["runner", "delete", "runner.delete"],
  ["runner", "drain", "runner.drain"],
  ["runner", "undrain", "runner.undrain"],
  ["flow", "create", "flow.create"],
  ["flow", "load", "flow.load"],
  ["flow", "dag", "flow.dag"],
  ["flow", "submit", "flow.submit"],
  ["flow", "start", "flow.start"],
  ["flow", "cancel", "flow.cancel"],
  ["flow", "retry", "flow.retry"],
  ["flow", "status", "flow.status"],
  ["flow", "events", "flow.events"],
  ["flow", "subscribe", "flow.subscribe"],
  ["flow", "unsubscribe", "flow.unsubscribe"],
  ["flow", "list", "flow.list"],
  ["flow", "delete", "flow.delete"],
  ["flow", "rerun", "flow.rerun"],
  ["flow", "pause", "flow.pause"],
  ["flow", "resume", "flow.resume"],
  ["flow", "cancelMany", "flow.cancel_many"],
  ["flow", "retryMany", "flow.retry_many"],
  ["flow", "deleteMany", "flow.delete_many"],
  ["job", "create", "job.create"],
  ["job", "load", "job.load"],
  ["job", "take", "job.take"],
  ["job", "heartbeat", "job.heartbeat"],
  ["job", "inputs", "job.inputs"],
  ["job", "log", "job.log"],
  ["job", "tail", "job.tail"],
  ["job", "attempts", "job.attempts"],
  ["job", "finish", "job.finish"],
  ["job", "fail", "job.fail"],
  ["job", "list", "job.list"],
  ["job", "delete", "job.delete"],
  ["job", "cancel", "job.cancel"],
  ["message", "create", "message.create"],
  ["message", "load", "message.load"],
  ["message", "send", "message.send"],
  ["message", "list", "message.list"],
  ["message", "delete", "message.delete"],
  ["prerequisite", "satisfy", "prerequisite.satisfy"],
  ["prerequisite", "revoke", "prerequisite.revoke"],
  ["prerequisite", "list", "prerequisite.list"],
  ["auth", "challenge", "auth.challenge"],
  ["auth", "login", "auth.login"],
  ["auth", "renew", "auth.renew"],
  ["auth", "ticket", "auth.ticket"],
  ["auth", "whoami", "auth.whoami"],
  ["token", "create", "token.create"],
  ["token", "list", "token.list"],
  ["token", "revoke", "token.revoke"],
];

/** Makes a call. */
export type Call = <M extends MethodName>(
  method: M,
  params: Methods[M]["params"],
  options?: CallOptions,
) => Promise<Methods[M]["result"]>;

/** All methods, each making its call by `call`. */
export function bind(call: Call): Api {
  const api: Record<string, Record<string, unknown>> = {};
  for (const [group, name, method] of places) {
    (api[group] ??= {})[name] = (params: object = {}, options?: CallOptions) =>
      call(method, params as never, options);
  }
  return api as unknown as Api;
}
