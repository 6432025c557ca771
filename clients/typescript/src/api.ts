// Made by `make clients` from specs/openrpc.json. What is changed here is gone with the next run.

import { RpcError, type CallOptions } from "./rpc.js";

/** Version of the API these types are of. */
export const API_VERSION = "0.2.0";

export type Access = "full" | "read";

export interface Actor {
  id: number;
  pubkey: string;
  address: IpAddr[];
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  updated_at: number;
}

export interface ActorCreate {
  id: number;
  pubkey: string;
  address: IpAddr[];
}

export interface ActorCreateParams {
  actor: ActorCreate;
}

export interface ActorLoadParams {
  id: number;
  /** Where callers log in: a context of which the caller is an admin and the actor a member */
  context_id?: number;
}

export interface ActorRevokeParams {
  id: number;
}

export interface ActorRevoked {
  id: number;
  pubkey: string;
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
  context_id: number;
  job: Job;
  /** The flow's under the job's own */
  env_vars: { [name: string]: string };
  /** Results of the jobs it depends on, by id */
  inputs: { [name: string]: { [name: string]: string } };
  /** Jobs whose results are not in `inputs`, for they are too large together; see job.inputs */
  inputs_from?: number[];
  attempt: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  lease: number;
  /** The flow it runs for; none of a message's job */
  flow_id?: number;
  /** What the job's were satisfied by when it was released, by name; left out if it has none */
  prerequisites?: { [name: string]: MetPrerequisite };
}

export interface AssignmentNotice {
  context_id: number;
  job: Job;
  /** The flow's under the job's own */
  env_vars: { [name: string]: string };
  /** Results of the jobs it depends on, by id */
  inputs: { [name: string]: { [name: string]: string } };
  /** Jobs whose results are not in `inputs`, for they are too large together; see job.inputs */
  inputs_from?: number[];
  attempt: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  lease: number;
  /** The flow it runs for; none of a message's job */
  flow_id?: number;
  /** What the job's were satisfied by when it was released, by name; left out if it has none */
  prerequisites?: { [name: string]: MetPrerequisite };
  subscription: string;
}

/**
 * What the job is after its attempt: Finished, Error, or Dispatched when it will be tried again.
 * A failure that is reported within 30 s of a cancel or a time-out changes no status; its result is kept.
 */
export interface AttemptOutcome {
  status: JobStatus;
  attempt: number;
}

export type AttemptOutcomeKind = "running" | "finished" | "failed" | "lost" | "timed_out" | "cancelled";

export interface AwaitedPrerequisite {
  name: string;
  /** Jobs waiting for it; of the first 1,000 flows if there are more */
  jobs: number;
  /** The first of them, at most 10 */
  waiters: WaitingJob[];
}

/** Params of the notification `runner.cancel`: stop this attempt, its outcome is no longer wanted. */
export interface CancelNotice {
  subscription: string;
  context_id: number;
  caller_id: number;
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  reason: string;
}

export interface Challenge {
  /** Names the coordinators of one store; it is signed */
  server: string;
  /** Of auth.challenge; it is good once */
  nonce: string;
  /** It is signed */
  expires_at: number;
}

export interface ChallengeParams {}

export interface Context {
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

export interface ContextCreate {
  id: number;
  /** Actor ids with full rights */
  admins: number[];
  /** Actor ids that may read */
  readers: number[];
  /** Actor ids that may run jobs */
  executors: number[];
}

export interface ContextCreateParams {
  context: ContextCreate;
}

export interface ContextDeleteParams {
  context_id: number;
}

/** `kind` says whose status changed: that of a flow, of a job of a flow, or of the context, which was deleted. */
export interface ContextEvent {
  /** Names an event of a flow, in order */
  event_id: string;
  kind: ContextEventKind;
  /** Unix time in ms */
  at: number;
  /** Left out if `kind` is `context` */
  flow_id?: number;
  /** The new status; `Deleted` of a flow or context that was deleted */
  status: string;
  job_id?: number;
  attempt?: number;
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  /** About 200 bytes at most; flow.events has all of it */
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
}

export type ContextEventKind = "flow" | "job" | "context";

/** Params of the notification `context.event`. The last one of a context that is deleted is of kind `context`. */
export interface ContextEventNotice {
  /** Names an event of a flow, in order */
  event_id: string;
  kind: ContextEventKind;
  /** Unix time in ms */
  at: number;
  /** Left out if `kind` is `context` */
  flow_id?: number;
  /** The new status; `Deleted` of a flow or context that was deleted */
  status: string;
  job_id?: number;
  attempt?: number;
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  /** About 200 bytes at most; flow.events has all of it */
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
  subscription: string;
  context_id: number;
  /** true: events between this one and the one before are no longer kept */
  missed?: boolean;
}

export interface ContextEvents {
  events: ContextEvent[];
  /** The `after` of the next call */
  last_event: string;
  /** Events after `after` are no longer kept, or were never */
  missed: boolean;
}

export interface ContextEventsParams {
  context_id: number;
  /** Begin after this event; left out: with those that come */
  after?: string;
  /** A page of large events has fewer. Default: 100 */
  limit?: number;
}

export interface ContextListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** Default: 100 */
  limit?: number;
}

export interface ContextLoadParams {
  id: number;
}

export interface ContextPage {
  /** Ids of all contexts ever written to, ascending */
  items: number[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

export interface ContextPauseParams {
  context_id: number;
  /** Only the jobs of this type; left out: all of the context */
  script_type?: ScriptType;
}

export interface ContextPaused {
  context_id: number;
  /** The whole context is */
  paused: boolean;
  /** Those that are paused by themselves */
  script_types: ScriptType[];
}

export interface ContextStats {
  /** Flows by status; every status is there */
  flows: { [name in FlowStatus]?: number };
  /** Jobs by status; every status is there */
  jobs: { [name in JobStatus]?: number };
  /** Every type is there */
  script_types: { [name in ScriptType]?: ScriptTypeStats };
  runners: RunnerStats;
}

export interface ContextStatsParams {
  context_id: number;
}

export interface ContextSubscribeParams {
  context_id: number;
  /** Begin after this event; left out: with those that come */
  after?: string;
  /** Several notifications at once come as one JSON-RPC batch; by default each is a message. Default: false */
  batch?: boolean;
}

export interface ContextSubscribed {
  subscription: string;
  /** The notifications begin after this one */
  last_event: string;
  /** Events after `after` are no longer kept, or were never */
  missed: boolean;
}

export interface Deleted {
  /** Records deleted */
  deleted: number;
}

/** Tuple [from, to] representing a directed edge */
export type EdgeTuple = [number, number];

export type EventKind = "flow" | "job" | "log";

export interface Flow {
  id: number;
  caller_id: number;
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
  result: { [name: string]: string };
  status: FlowStatus;
  /** true: none of its jobs is handed out, see flow.pause; only while Started, left out if not */
  paused?: boolean;
}

export interface FlowCancelParams {
  context_id: number;
  id: number;
  reason?: string;
}

export interface FlowCreate {
  id: number;
  caller_id: number;
  context_id: number;
  /** Ids of the flow's jobs, stored under the flow's caller_id */
  jobs: number[];
  /** Environment of every job; a job's own value wins */
  env_vars: { [name: string]: string };
  /** What people call it: one printable line. It need not be unique */
  name?: NameText;
  /** Short texts by which lists find it */
  tags?: Tags;
  result?: { [name: string]: string };
}

export interface FlowCreateParams {
  context_id: number;
  flow: FlowCreate;
  /**
   * Seconds after which the flow, and the jobs made for it, are deleted unless it was started. Each further call
   * with it begins the time anew, 0 ends it; a flow that was there without it stays without
   */
  abandon_after?: number;
}

export interface FlowDag {
  flow_id: number;
  caller_id: number;
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
  kind: EventKind;
  /** Unix time in ms */
  at: number;
  /** The new status */
  status?: string;
  job_id?: number;
  attempt?: number;
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
  /** The flow was paused, or resumed; its status is as it was */
  paused?: boolean;
  stream?: LogStream;
  lines?: string[];
}

/** Params of the notification `flow.event`. The last one of a flow that is deleted has the status Deleted. */
export interface FlowEventNotice {
  /** Names an event of a flow, in order */
  event_id: string;
  kind: EventKind;
  /** Unix time in ms */
  at: number;
  /** The new status */
  status?: string;
  job_id?: number;
  attempt?: number;
  runner_id?: number;
  /** The runner's topic */
  topic?: string;
  reason?: string;
  /** The attempt was lost with its runner rather than failed; left out if not */
  lost?: boolean;
  /** The flow was paused, or resumed; its status is as it was */
  paused?: boolean;
  stream?: LogStream;
  lines?: string[];
  subscription: string;
  context_id: number;
  flow_id: number;
  /** true: events between this one and the one before are no longer kept */
  missed?: boolean;
}

export interface FlowEvents {
  events: FlowEvent[];
  /** The `after` of the next call */
  last_event: string;
  /** Events after `after` are no longer kept */
  missed: boolean;
}

export interface FlowEventsParams {
  context_id: number;
  id: number;
  /** Names an event of a flow, in order. Default: "0-0" */
  after?: string;
  /** A page of large events has fewer. Default: 100 */
  limit?: number;
}

/** Flows that are all of this. */
export interface FlowFilter {
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

export interface FlowListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** Default: 100 */
  limit?: number;
  context_id: number;
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

export interface FlowLoadParams {
  context_id: number;
  id: number;
}

/** What a flow and jobs of it have from now on. */
export interface FlowOverrides {
  /** Over those the flow has: the others stay */
  env_vars?: { [name: string]: string };
  /** Each once */
  jobs?: JobOverride[];
}

export interface FlowPage {
  items: Flow[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

export interface FlowParams {
  context_id: number;
  id: number;
}

export interface FlowReport {
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

export interface FlowRerunParams {
  context_id: number;
  id: number;
  /** Only this job of the flow and those that depend on it, on others too; left out: all jobs */
  from_job?: number;
  overrides?: FlowOverrides;
}

export type FlowStatus = "Dispatched" | "Started" | "Error" | "Finished";

export type FlowStatuses = FlowStatus[];

export interface FlowSubmitParams {
  context_id: number;
  flow: FlowCreate;
  /** Every job the flow lists */
  jobs: JobCreate[];
}

export interface FlowSubscribeParams {
  context_id: number;
  id: number;
  /** Names an event of a flow, in order. Default: "0-0" */
  after?: string;
  /** Several notifications at once come as one JSON-RPC batch; by default each is a message. Default: false */
  batch?: boolean;
}

export interface FlowSubscribed {
  subscription: string;
  /** Events after `after` are no longer kept */
  missed: boolean;
}

export interface FlowsCancelParams {
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

export interface Heartbeat {
  lease: number;
}

export interface HeldJob {
  caller_id: number;
  id: number;
}

/** IPv4 or IPv6 textual address */
export type IpAddr = string;

export interface Job {
  id: number;
  caller_id: number;
  context_id: number;
  script: string;
  script_type: ScriptType;
  /** Seconds an attempt may take, 0 for no limit */
  timeout: number;
  /** Attempts that may follow a failed one */
  retries: number;
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
  result: { [name: string]: string };
  status: JobStatus;
}

/** How an attempt at a job went. */
export interface JobAttempt {
  /** Its number; they begin anew when the job is started again */
  attempt: number;
  runner_id: number;
  /** Unix time in ms */
  started_at: number;
  /** Left out while it is running */
  ended_at?: number;
  outcome: AttemptOutcomeKind;
  /** Why it did not finish; the first 1,000 bytes */
  error?: string;
}

export interface JobAttempts {
  /** The newest of the job's attempts, 20 at most, oldest first */
  attempts: JobAttempt[];
}

export interface JobCancelParams {
  context_id: number;
  caller_id: number;
  id: number;
  /** Recorded with the job and told to its runner */
  reason?: string;
}

export interface JobCreate {
  id: number;
  caller_id: number;
  context_id: number;
  script: string;
  script_type: ScriptType;
  /** Seconds an attempt may take, 0 for no limit */
  timeout: number;
  /** Attempts that may follow a failed one */
  retries: number;
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
  result?: { [name: string]: string };
}

export interface JobCreateParams {
  context_id: number;
  job: JobCreate;
}

export interface JobFailParams {
  context_id: number;
  caller_id: number;
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  error: string;
  result?: { [name: string]: string };
  /** false: do not try again, whatever `retries` says. Default: true */
  retry?: boolean;
  /**
   * The attempt ends because its runner does, not by the job's fault: it counts among `lost_retries`, and
   * `retry` says nothing. Default: false
   */
  lost?: boolean;
}

export interface JobFinishParams {
  context_id: number;
  caller_id: number;
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  result?: { [name: string]: string };
}

export interface JobHeartbeatParams {
  context_id: number;
  caller_id: number;
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
}

export interface JobInputs {
  /** Results of jobs it depends on, by id */
  inputs: { [name: string]: { [name: string]: string } };
  /** The `after` of the next page; left out on the last one */
  after?: number;
}

export interface JobInputsParams {
  context_id: number;
  caller_id: number;
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  /** The page before ended with this job; left out for the first page */
  after?: number;
}

export interface JobListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** Default: 100 */
  limit?: number;
  context_id: number;
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

export interface JobLoadParams {
  context_id: number;
  caller_id: number;
  id: number;
}

export interface JobLogParams {
  context_id: number;
  caller_id: number;
  id: number;
  /** Names one attempt; valid until it ends or is lost */
  token: string;
  lines: string[];
  /** Default: "stdout" */
  stream?: LogStream;
}

/** What a job runs with from now on. */
export interface JobOverride {
  id: number;
  /** In the place of the one it has */
  script?: string;
  /** Over those it has: the others stay */
  env_vars?: { [name: string]: string };
}

export interface JobPage {
  items: Job[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

export interface JobProgress {
  id: number;
  script_type: ScriptType;
  depends: number[];
  status: JobStatus;
  /** Attempts begun in this run */
  attempt: number;
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

export type JobStatus = "Dispatched" | "WaitingForPrerequisites" | "Started" | "Error" | "Finished";

export type JobStatuses = JobStatus[];

export interface JobSummary {
  id: number;
  depends: number[];
  prerequisites: string[];
  script_type: ScriptType;
}

export interface JobTail {
  /** The newest log lines of the job, about 16 KiB, oldest first */
  reports: LogReport[];
}

export interface JobTakeParams {
  context_id: number;
  runner_id: number;
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

export interface JobTaken {
  jobs: Assignment[];
}

export interface KeyRotateParams {
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

export interface ListedRunner {
  id: number;
  pubkey: string;
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

export interface LogReport {
  /** Unix time in ms */
  at: number;
  attempt: number;
  stream: LogStream;
  lines: string[];
}

export type LogStream = "stdout" | "stderr";

export interface Logged {
  /** How many were kept: none once a message has logged 16 MiB */
  lines: number;
  /** true: the attempt was cancelled or has timed out, and its script must be stopped */
  over?: boolean;
}

export interface LoggedIn {
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
  reason: string;
  subscription?: string;
}

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

export interface Message {
  id: number;
  caller_id: number;
  context_id: number;
  message: string;
  message_type: ScriptType;
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
  job: Job[];
  logs: string[];
  status: MessageStatus;
  transport_id?: string;
  transport_status?: TransportStatus;
}

export interface MessageCreate {
  id: number;
  caller_id: number;
  context_id: number;
  message: string;
  message_type: ScriptType;
  message_format_type: MessageFormatType;
  /** Seconds, 0 for none */
  timeout: number;
  /** Seconds, 0 for none */
  timeout_ack: number;
  /** Seconds, 0 for none */
  timeout_result: number;
  job: JobCreate[];
  logs?: string[];
}

export interface MessageCreateParams {
  context_id: number;
  message: MessageCreate;
}

export type MessageFormatType = "Html" | "Text" | "Md";

export interface MessageListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** Default: 100 */
  limit?: number;
  context_id: number;
  status?: MessageStatus;
}

export interface MessageLoadParams {
  context_id: number;
  caller_id: number;
  id: number;
}

export interface MessagePage {
  items: Message[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

export interface MessageParams {
  context_id: number;
  caller_id: number;
  id: number;
}

export type MessageStatus = "Dispatched" | "Acknowledged" | "Error" | "Processed";

export type MessageType = "Job" | "Chat" | "Mail";

export interface MetPrerequisite {
  /** Unix time in ms */
  satisfied_at: number;
  /** Whether it is satisfied for the jobs of one flow, or of the whole context */
  scope: Scope;
  by?: string;
  payload?: { [name: string]: string };
}

export type NameText = string;

export interface NewToken {
  /** Names a token; it is no secret */
  id: string;
  principal: string;
  label: string;
  access: Access;
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

export interface PrerequisiteListParams {
  context_id: number;
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** Default: 100 */
  limit?: number;
}

export interface PrerequisiteRevokeParams {
  context_id: number;
  name: string;
  /** For the jobs of this flow alone; left out: of the whole context */
  flow_id?: number;
}

export interface PrerequisiteSatisfyParams {
  context_id: number;
  name: string;
  /** For the jobs of this flow alone; left out: of the whole context */
  flow_id?: number;
  /** What the jobs get with it; at most 64 KiB as JSON */
  payload?: { [name: string]: string };
  /** Who says so */
  by?: string;
}

export interface Prerequisites {
  satisfied: SatisfiedPrerequisite[];
  /** All pages of these come first */
  waiting: AwaitedPrerequisite[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

export interface RefusedFlow {
  id: number;
  /** Why it stayed as it is */
  detail: string;
}

export interface Revoked {
  name: string;
  scope: Scope;
  flow_id?: number;
  /** false: it was not satisfied */
  revoked: boolean;
}

export type RoleName = "operator" | "admin" | "executor" | "reader" | "runner" | "stranger";

export interface Runner {
  id: number;
  pubkey: string;
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

export interface RunnerConnectedParams {
  context_id: number;
}

export interface RunnerCreate {
  id: number;
  pubkey: string;
  address: IpAddr;
  /** Names the runner's subscription, usually runner<id> */
  topic: string;
  /** Whether the runner runs beside the coordinator */
  local: boolean;
}

export interface RunnerCreateParams {
  context_id: number;
  runner: RunnerCreate;
}

export interface RunnerListParams {
  /** The last reply's `cursor`; none for the beginning */
  cursor?: string;
  /** Default: 100 */
  limit?: number;
  context_id: number;
}

export interface RunnerLoadParams {
  context_id: number;
  id: number;
}

export interface RunnerPage {
  items: ListedRunner[];
  /** Where the next page begins; left out on the last one */
  cursor?: string;
}

export interface RunnerStats {
  /** Those that are subscribed, or wait for a job by job.take; for 5 s after that */
  connected: number;
  /** Those that have a running attempt, connected or not */
  busy: number;
}

export interface RunnerSubscribeParams {
  context_id: number;
  runner_id: number;
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

export interface RunnerSubscribed {
  subscription: string;
  lease: number;
  /** Tokens of `holding` that are not, or no longer, this runner's */
  lost: string[];
}

export interface RunnersConnected {
  /**
   * How many runners are connected that take jobs of each type; every type is there. One that asks by job.take
   * counts for 30 s after it did
   */
  script_types: { [name in ScriptType]?: number };
}

export interface Satisfied {
  /** Unix time in ms */
  satisfied_at: number;
  /** Whether it is satisfied for the jobs of one flow, or of the whole context */
  scope: Scope;
  by?: string;
  payload?: { [name: string]: string };
  name: string;
  flow_id?: number;
  /** Jobs that had waited for it */
  released: number;
}

export interface SatisfiedPrerequisite {
  /** Unix time in ms */
  satisfied_at: number;
  /** Whether it is satisfied for the jobs of one flow, or of the whole context */
  scope: Scope;
  by?: string;
  payload?: { [name: string]: string };
  name: string;
  flow_id?: number;
}

export type Scope = "context" | "flow";

export type ScriptType = "Osis" | "Sal" | "V" | "Python";

export interface ScriptTypeStats {
  /** Jobs of this type, in whatever status */
  jobs: number;
  /** Those that wait for a runner. One that was cancelled counts until a runner comes by */
  queued: number;
  /** Seconds for which the one that is next has waited for a runner */
  oldest: number;
}

export type SortBy = "id" | "created" | "ended";

export interface SubscriptionParams {
  subscription: string;
}

export type Tags = string[];

export interface Ticket {
  /** For auth.login on a WebSocket, once: whoever has it is the caller */
  ticket: string;
  /** Unix time in seconds */
  expires_at: number;
}

export interface TicketParams {}

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

export interface TokenInfo {
  /** Names a token; it is no secret */
  id: string;
  principal: string;
  label: string;
  access: Access;
  contexts?: number[];
  /** Unix time in seconds */
  created_at: number;
  /** Unix time in seconds */
  expires_at: number;
  /** To the minute; left out if never */
  used_at?: number;
}

export interface TokenListParams {
  /** The caller's own unless given; as in token.create */
  principal?: string;
}

export interface TokenPage {
  items: TokenInfo[];
}

export interface TokenRevokeParams {
  /** Names a token; it is no secret */
  id: string;
}

export interface TokenRevoked {
  /** Names a token; it is no secret */
  id: string;
  /** false: there is no such token */
  revoked: boolean;
}

export type TransportStatus = "Queued" | "Sent" | "Delivered" | "Read" | "Failed";

export interface Unsubscribed {
  subscription: string;
}

export interface WaitingJob {
  caller_id: number;
  job_id: number;
  /** Left out if a message runs the job */
  flow_id?: number;
}

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
     * Create/Upsert Actor
     * Throws InvalidParams, NotFound, StorageError.
     */
    create(params: ActorCreateParams, options?: CallOptions): Promise<Actor>;
    /**
     * Load an Actor by id
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: ActorLoadParams, options?: CallOptions): Promise<Actor>;
    /**
     * Give an actor another key: the operator, or the actor itself signed by both keys
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound, Overloaded.
     */
    rotateKey(params: KeyRotateParams, options?: CallOptions): Promise<Actor>;
    /**
     * Let an actor log in no more, for good
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
     */
    revoke(params: ActorRevokeParams, options?: CallOptions): Promise<ActorRevoked>;
  };
  readonly context: {
    /**
     * Create/Upsert Context (stored in its own DB index)
     * Throws InvalidParams, StorageError.
     */
    create(params: ContextCreateParams, options?: CallOptions): Promise<Context>;
    /**
     * Load a Context by id
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: ContextLoadParams, options?: CallOptions): Promise<Context>;
    /**
     * A page of what happened to all flows of a context, from the first such call on
     * Throws InvalidParams, StorageError.
     */
    events(params: ContextEventsParams, options?: CallOptions): Promise<ContextEvents>;
    /**
     * Follow all flows of a context: what happens comes as notifications `context.event` (WebSocket)
     * Throws InvalidParams, StorageError, Overloaded, WebSocketRequired.
     */
    subscribe(params: ContextSubscribeParams, options?: CallOptions): Promise<ContextSubscribed>;
    /**
     * End a subscription of context.subscribe (WebSocket)
     * Throws InvalidParams, NotSubscribed, WebSocketRequired.
     */
    unsubscribe(params: SubscriptionParams, options?: CallOptions): Promise<Unsubscribed>;
    /**
     * A page of the ids of all contexts ever written to
     * Throws InvalidParams, StorageError.
     */
    list(params?: ContextListParams, options?: CallOptions): Promise<ContextPage>;
    /**
     * How many flows and jobs a context has by status, what waits for runners, and how many of them there are
     * Throws InvalidParams, StorageError.
     */
    stats(params: ContextStatsParams, options?: CallOptions): Promise<ContextStats>;
    /**
     * Hand out none of a context's jobs, or of one script type of it, until context.resume; what runs goes on
     * Throws InvalidParams, NotFound, StorageError.
     */
    pause(params: ContextPauseParams, options?: CallOptions): Promise<ContextPaused>;
    /**
     * End what context.pause has begun with the same params
     * Throws InvalidParams, NotFound, StorageError.
     */
    resume(params: ContextPauseParams, options?: CallOptions): Promise<ContextPaused>;
    /**
     * Delete a context with all that is in it; whoever waits or is subscribed there is told
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: ContextDeleteParams, options?: CallOptions): Promise<Deleted>;
  };
  readonly runner: {
    /**
     * Create/Upsert Runner in a context
     * Throws InvalidParams, StorageError.
     */
    create(params: RunnerCreateParams, options?: CallOptions): Promise<Runner>;
    /**
     * Load Runner by id from a context
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: RunnerLoadParams, options?: CallOptions): Promise<Runner>;
    /**
     * Supply a runner with jobs: they come as notifications `runner.job`, and `runner.cancel` (WebSocket)
     * Throws InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
     */
    subscribe(params: RunnerSubscribeParams, options?: CallOptions): Promise<RunnerSubscribed>;
    /**
     * End a subscription of runner.subscribe; attempts handed out stay the runner's (WebSocket)
     * Throws InvalidParams, NotSubscribed, WebSocketRequired.
     */
    unsubscribe(params: SubscriptionParams, options?: CallOptions): Promise<Unsubscribed>;
    /**
     * A page of a context's runners
     * Throws InvalidParams, StorageError.
     */
    list(params: RunnerListParams, options?: CallOptions): Promise<RunnerPage>;
    /**
     * How many runners that take each type of jobs are connected
     * Throws InvalidParams, StorageError.
     */
    connected(params: RunnerConnectedParams, options?: CallOptions): Promise<RunnersConnected>;
    /**
     * Delete a runner
     * Throws InvalidParams, StorageError.
     */
    delete(params: RunnerLoadParams, options?: CallOptions): Promise<Deleted>;
    /**
     * Give a runner nothing new until runner.undrain; it finishes what it holds
     * Throws InvalidParams, NotFound, StorageError.
     */
    drain(params: RunnerLoadParams, options?: CallOptions): Promise<Runner>;
    /**
     * Give a runner jobs again
     * Throws InvalidParams, NotFound, StorageError.
     */
    undrain(params: RunnerLoadParams, options?: CallOptions): Promise<Runner>;
  };
  readonly flow: {
    /**
     * Create/Upsert Flow in a context
     * Throws InvalidParams, StorageError, Overloaded.
     */
    create(params: FlowCreateParams, options?: CallOptions): Promise<Flow>;
    /**
     * Load Flow by id from a context
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: FlowLoadParams, options?: CallOptions): Promise<Flow>;
    /**
     * Compute and return the execution DAG for a Flow
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected.
     */
    dag(params: FlowLoadParams, options?: CallOptions): Promise<FlowDag>;
    /**
     * Create a flow with its jobs and start it, in one step
     * Throws InvalidParams, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
     */
    submit(params: FlowSubmitParams, options?: CallOptions): Promise<Flow>;
    /**
     * Start a flow; one that was started stays as it is
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
     */
    start(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * Stop a flow: it ends in Error
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    cancel(params: FlowCancelParams, options?: CallOptions): Promise<Flow>;
    /**
     * Start the unfinished part of a flow in Error again
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
     */
    retry(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * A flow with the progress of each of its jobs
     * Throws InvalidParams, NotFound, StorageError.
     */
    status(params: FlowParams, options?: CallOptions): Promise<FlowReport>;
    /**
     * A page of what happened to a flow
     * Throws InvalidParams, NotFound, StorageError.
     */
    events(params: FlowEventsParams, options?: CallOptions): Promise<FlowEvents>;
    /**
     * Follow a flow: what happens comes as notifications `flow.event` (WebSocket)
     * Throws InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
     */
    subscribe(params: FlowSubscribeParams, options?: CallOptions): Promise<FlowSubscribed>;
    /**
     * End a subscription of flow.subscribe (WebSocket)
     * Throws InvalidParams, NotSubscribed, WebSocketRequired.
     */
    unsubscribe(params: SubscriptionParams, options?: CallOptions): Promise<Unsubscribed>;
    /**
     * A page of a context's flows
     * Throws InvalidParams, StorageError.
     */
    list(params: FlowListParams, options?: CallOptions): Promise<FlowPage>;
    /**
     * Delete a flow with its jobs, unless it is running
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: FlowParams, options?: CallOptions): Promise<Deleted>;
    /**
     * Run a flow that has ended again, or only a job of it and what depends on that
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict,
     * Overloaded.
     */
    rerun(params: FlowRerunParams, options?: CallOptions): Promise<Flow>;
    /**
     * Hand out none of a started flow's jobs until flow.resume; what runs goes on
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    pause(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * End what flow.pause has begun
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    resume(params: FlowParams, options?: CallOptions): Promise<Flow>;
    /**
     * Stop all flows that a filter means, some seconds a call
     * Throws InvalidParams, StorageError.
     */
    cancelMany(params: FlowsCancelParams, options?: CallOptions): Promise<FlowsDone>;
    /**
     * Start the unfinished part of all flows in Error that a filter means again, some seconds a call
     * Throws InvalidParams, StorageError.
     */
    retryMany(params: FlowsParams, options?: CallOptions): Promise<FlowsDone>;
    /**
     * Delete all flows that a filter means and that do not run, with their jobs, some seconds a call
     * Throws InvalidParams, StorageError.
     */
    deleteMany(params: FlowsParams, options?: CallOptions): Promise<FlowsDone>;
  };
  readonly job: {
    /**
     * Create/Upsert Job in a context
     * Throws InvalidParams, StorageError, Conflict, Overloaded.
     */
    create(params: JobCreateParams, options?: CallOptions): Promise<Job>;
    /**
     * Load Job by ids from a context
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: JobLoadParams, options?: CallOptions): Promise<Job>;
    /**
     * Take jobs for a runner without a WebSocket; waits for one if there is none
     * Throws InvalidParams, NotFound, StorageError, Overloaded.
     */
    take(params: JobTakeParams, options?: CallOptions): Promise<JobTaken>;
    /**
     * Renew the lease of an attempt
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    heartbeat(params: JobHeartbeatParams, options?: CallOptions): Promise<Heartbeat>;
    /**
     * A page of the results of the jobs that an attempt's job depends on
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    inputs(params: JobInputsParams, options?: CallOptions): Promise<JobInputs>;
    /**
     * Append lines to the log of an attempt; renews its lease
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    log(params: JobLogParams, options?: CallOptions): Promise<Logged>;
    /**
     * The newest log lines of a job, also when its flow's events no longer have them
     * Throws InvalidParams, NotFound, StorageError.
     */
    tail(params: JobLoadParams, options?: CallOptions): Promise<JobTail>;
    /**
     * How the newest attempts at a job went: by which runner, from when to when, and why they failed
     * Throws InvalidParams, NotFound, StorageError.
     */
    attempts(params: JobLoadParams, options?: CallOptions): Promise<JobAttempts>;
    /**
     * Report that an attempt has succeeded
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    finish(params: JobFinishParams, options?: CallOptions): Promise<AttemptOutcome>;
    /**
     * Report that an attempt has failed
     * Throws InvalidParams, NotFound, StorageError, StaleToken.
     */
    fail(params: JobFailParams, options?: CallOptions): Promise<AttemptOutcome>;
    /**
     * A page of a context's jobs
     * Throws InvalidParams, StorageError.
     */
    list(params: JobListParams, options?: CallOptions): Promise<JobPage>;
    /**
     * Delete a job, unless it is running or may be
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: JobLoadParams, options?: CallOptions): Promise<Deleted>;
    /**
     * End a job that waits or runs in Error, and its flow or message with it
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    cancel(params: JobCancelParams, options?: CallOptions): Promise<Job>;
  };
  readonly message: {
    /**
     * Create/Upsert Message in a context
     * Throws InvalidParams, StorageError.
     */
    create(params: MessageCreateParams, options?: CallOptions): Promise<Message>;
    /**
     * Load Message by ids from a context
     * Throws InvalidParams, NotFound, StorageError.
     */
    load(params: MessageLoadParams, options?: CallOptions): Promise<Message>;
    /**
     * Run the jobs embedded in a stored message
     * Throws InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict,
     * Overloaded.
     */
    send(params: MessageParams, options?: CallOptions): Promise<Message>;
    /**
     * A page of a context's messages
     * Throws InvalidParams, StorageError.
     */
    list(params: MessageListParams, options?: CallOptions): Promise<MessagePage>;
    /**
     * Delete a message with the jobs it was sent with, unless it is being processed
     * Throws InvalidParams, StorageError, Conflict.
     */
    delete(params: MessageLoadParams, options?: CallOptions): Promise<Deleted>;
  };
  readonly prerequisite: {
    /**
     * Declare an external condition as met, for the jobs of a flow or of the whole context
     * Throws InvalidParams, NotFound, StorageError, Conflict.
     */
    satisfy(params: PrerequisiteSatisfyParams, options?: CallOptions): Promise<Satisfied>;
    /**
     * Declare an external condition as not met: jobs that were not released yet wait for it again
     * Throws InvalidParams, NotFound, StorageError.
     */
    revoke(params: PrerequisiteRevokeParams, options?: CallOptions): Promise<Revoked>;
    /**
     * A page of the prerequisites jobs wait for, with who waits, and of those that are satisfied
     * Throws InvalidParams, StorageError.
     */
    list(params: PrerequisiteListParams, options?: CallOptions): Promise<Prerequisites>;
  };
  readonly auth: {
    /**
     * A text to sign for auth.login, or for actor.rotate_key; it is good once, and for 30 s
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict.
     */
    challenge(params?: ChallengeParams, options?: CallOptions): Promise<Challenge>;
    /**
     * Log in: on a WebSocket for the connection, over HTTP for a token
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
     */
    login(params?: LoginParams, options?: CallOptions): Promise<LoggedIn>;
    /**
     * Log in once more before a login is over; subscriptions go on
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
     */
    renew(params?: LoginParams, options?: CallOptions): Promise<LoggedIn>;
    /**
     * A ticket that logs in on a WebSocket, by auth.login, once and within 30 s; for pages that have a cookie
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict.
     */
    ticket(params?: TicketParams, options?: CallOptions): Promise<Ticket>;
    /**
     * Who the coordinator takes the caller for
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict.
     */
    whoami(params?: WhoAmIParams, options?: CallOptions): Promise<WhoAmI>;
  };
  readonly token: {
    /**
     * Make a token, by which whoever has it is a principal; it is shown once
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
     */
    create(params: TokenCreateParams, options?: CallOptions): Promise<NewToken>;
    /**
     * The tokens of a principal, without the secrets
     * Throws InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
     */
    list(params?: TokenListParams, options?: CallOptions): Promise<TokenPage>;
    /**
     * Let a token be good no longer; what it has open ends within a second
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
