// Made by `make clients` from specs/openrpc.json. What is changed here is gone with the next run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rpc::{Caller, Error};

/// Version of the API these types are of.
pub const API_VERSION: &str = "0.2.0";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Access {
    #[default]
    #[serde(rename = "full")]
    Full,
    #[serde(rename = "read")]
    Read,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Actor {
    pub id: u32,
    pub pubkey: String,
    pub address: Vec<IpAddr>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorCreate {
    pub id: u32,
    pub pubkey: String,
    pub address: Vec<IpAddr>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorCreateParams {
    pub actor: ActorCreate,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorLoadParams {
    pub id: u32,
    /// Where callers log in: a context of which the caller is an admin and the actor a member
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorRevokeParams {
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorRevoked {
    pub id: u32,
    pub pubkey: String,
    pub address: Vec<IpAddr>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
    /// Unix time in seconds
    pub revoked_at: i64,
}

/// One attempt at a job, handed to a runner. Params of the notification `runner.job`, with `subscription`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Assignment {
    pub context_id: u32,
    pub job: Job,
    /// The flow's under the job's own
    pub env_vars: BTreeMap<String, String>,
    /// Results of the jobs it depends on, by id
    pub inputs: BTreeMap<String, BTreeMap<String, String>>,
    /// Jobs whose results are not in `inputs`, for they are too large together; see job.inputs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_from: Option<Vec<u32>>,
    pub attempt: i64,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    pub lease: f64,
    /// The flow it runs for; none of a message's job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// What the job's were satisfied by when it was released, by name; left out if it has none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prerequisites: Option<BTreeMap<String, MetPrerequisite>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AssignmentNotice {
    pub context_id: u32,
    pub job: Job,
    /// The flow's under the job's own
    pub env_vars: BTreeMap<String, String>,
    /// Results of the jobs it depends on, by id
    pub inputs: BTreeMap<String, BTreeMap<String, String>>,
    /// Jobs whose results are not in `inputs`, for they are too large together; see job.inputs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_from: Option<Vec<u32>>,
    pub attempt: i64,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    pub lease: f64,
    /// The flow it runs for; none of a message's job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// What the job's were satisfied by when it was released, by name; left out if it has none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prerequisites: Option<BTreeMap<String, MetPrerequisite>>,
    pub subscription: String,
}

/// What the job is after its attempt: Finished, Error, or Dispatched when it will be tried again.
///
/// A failure that is reported within 30 s of a cancel or a time-out changes no status; its result is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AttemptOutcome {
    pub status: JobStatus,
    pub attempt: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum AttemptOutcomeKind {
    #[default]
    #[serde(rename = "running")]
    Running,
    #[serde(rename = "finished")]
    Finished,
    #[serde(rename = "failed")]
    Failed,
    #[serde(rename = "lost")]
    Lost,
    #[serde(rename = "timed_out")]
    TimedOut,
    #[serde(rename = "cancelled")]
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AwaitedPrerequisite {
    pub name: String,
    /// Jobs waiting for it; of the first 1,000 flows if there are more
    pub jobs: i64,
    /// The first of them, at most 10
    pub waiters: Vec<WaitingJob>,
}

/// Params of the notification `runner.cancel`: stop this attempt, its outcome is no longer wanted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CancelNotice {
    pub subscription: String,
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Challenge {
    /// Names the coordinators of one store; it is signed
    pub server: String,
    /// Of auth.challenge; it is good once
    pub nonce: String,
    /// It is signed
    pub expires_at: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChallengeParams {}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Context {
    pub id: u32,
    /// Actor ids with full rights
    pub admins: Vec<u32>,
    /// Actor ids that may read
    pub readers: Vec<u32>,
    /// Actor ids that may run jobs
    pub executors: Vec<u32>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
    /// true: runners get none of its jobs; see context.pause. Left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Script types that are paused by themselves; left out if none is
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_script_types: Option<Vec<ScriptType>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextCreate {
    pub id: u32,
    /// Actor ids with full rights
    pub admins: Vec<u32>,
    /// Actor ids that may read
    pub readers: Vec<u32>,
    /// Actor ids that may run jobs
    pub executors: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextCreateParams {
    pub context: ContextCreate,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextDeleteParams {
    pub context_id: u32,
}

/// `kind` says whose status changed: that of a flow, of a job of a flow, or of the context, which was deleted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextEvent {
    /// Names an event of a flow, in order
    pub event_id: String,
    pub kind: ContextEventKind,
    /// Unix time in ms
    pub at: i64,
    /// Left out if `kind` is `context`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// The new status; `Deleted` of a flow or context that was deleted
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// The runner's topic
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// About 200 bytes at most; flow.events has all of it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt was lost with its runner rather than failed; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum ContextEventKind {
    #[default]
    #[serde(rename = "flow")]
    Flow,
    #[serde(rename = "job")]
    Job,
    #[serde(rename = "context")]
    Context,
}

/// Params of the notification `context.event`. The last one of a context that is deleted is of kind `context`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextEventNotice {
    /// Names an event of a flow, in order
    pub event_id: String,
    pub kind: ContextEventKind,
    /// Unix time in ms
    pub at: i64,
    /// Left out if `kind` is `context`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// The new status; `Deleted` of a flow or context that was deleted
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// The runner's topic
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// About 200 bytes at most; flow.events has all of it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt was lost with its runner rather than failed; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
    pub subscription: String,
    pub context_id: u32,
    /// true: events between this one and the one before are no longer kept
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextEvents {
    pub events: Vec<ContextEvent>,
    /// The `after` of the next call
    pub last_event: String,
    /// Events after `after` are no longer kept, or were never
    pub missed: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextEventsParams {
    pub context_id: u32,
    /// Begin after this event; left out: with those that come
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// A page of large events has fewer
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextLoadParams {
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextPage {
    /// Ids of all contexts ever written to, ascending
    pub items: Vec<u32>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextPauseParams {
    pub context_id: u32,
    /// Only the jobs of this type; left out: all of the context
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_type: Option<ScriptType>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextPaused {
    pub context_id: u32,
    /// The whole context is
    pub paused: bool,
    /// Those that are paused by themselves
    pub script_types: Vec<ScriptType>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextStats {
    /// Flows by status; every status is there
    pub flows: BTreeMap<FlowStatus, i64>,
    /// Jobs by status; every status is there
    pub jobs: BTreeMap<JobStatus, i64>,
    /// Every type is there
    pub script_types: BTreeMap<ScriptType, ScriptTypeStats>,
    pub runners: RunnerStats,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextStatsParams {
    pub context_id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextSubscribeParams {
    pub context_id: u32,
    /// Begin after this event; left out: with those that come
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Several notifications at once come as one JSON-RPC batch; by default each is a message
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextSubscribed {
    pub subscription: String,
    /// The notifications begin after this one
    pub last_event: String,
    /// Events after `after` are no longer kept, or were never
    pub missed: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Deleted {
    /// Records deleted
    pub deleted: i64,
}

/// Tuple [from, to] representing a directed edge
pub type EdgeTuple = (u32, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum EventKind {
    #[default]
    #[serde(rename = "flow")]
    Flow,
    #[serde(rename = "job")]
    Job,
    #[serde(rename = "log")]
    Log,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Flow {
    pub id: u32,
    pub caller_id: u32,
    pub context_id: u32,
    /// Ids of the flow's jobs, stored under the flow's caller_id
    pub jobs: Vec<u32>,
    /// Environment of every job; a job's own value wins
    pub env_vars: BTreeMap<String, String>,
    /// What people call it: one printable line. It need not be unique
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NameText>,
    /// Short texts by which lists find it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
    pub result: BTreeMap<String, String>,
    pub status: FlowStatus,
    /// true: none of its jobs is handed out, see flow.pause; only while Started, left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowCancelParams {
    pub context_id: u32,
    pub id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowCreate {
    pub id: u32,
    pub caller_id: u32,
    pub context_id: u32,
    /// Ids of the flow's jobs, stored under the flow's caller_id
    pub jobs: Vec<u32>,
    /// Environment of every job; a job's own value wins
    pub env_vars: BTreeMap<String, String>,
    /// What people call it: one printable line. It need not be unique
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NameText>,
    /// Short texts by which lists find it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowCreateParams {
    pub context_id: u32,
    pub flow: FlowCreate,
    /// Seconds after which the flow, and the jobs made for it, are deleted unless it was started. Each further call with it begins the time anew, 0 ends it; a flow that was there without it stays without
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandon_after: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowDag {
    pub flow_id: u32,
    pub caller_id: u32,
    pub context_id: u32,
    /// Map keyed by job id (serialized as string in JSON)
    pub nodes: BTreeMap<String, JobSummary>,
    /// [dependency, dependent], ascending
    pub edges: Vec<EdgeTuple>,
    /// [dependent, dependency], ascending
    pub reverse_edges: Vec<EdgeTuple>,
    /// Jobs without a dependency, ascending
    pub roots: Vec<u32>,
    /// Jobs without a dependent, ascending
    pub leaves: Vec<u32>,
    /// Topological execution layers (parallelizable batches): levels[k] are the jobs whose longest path from a root has k edges, ascending
    pub levels: Vec<Vec<u32>>,
}

/// `kind` says what happened: the flow's or a job's status changed, or a job wrote log lines.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowEvent {
    /// Names an event of a flow, in order
    pub event_id: String,
    pub kind: EventKind,
    /// Unix time in ms
    pub at: i64,
    /// The new status
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// The runner's topic
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt was lost with its runner rather than failed; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
    /// The flow was paused, or resumed; its status is as it was
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<String>>,
}

/// Params of the notification `flow.event`. The last one of a flow that is deleted has the status Deleted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowEventNotice {
    /// Names an event of a flow, in order
    pub event_id: String,
    pub kind: EventKind,
    /// Unix time in ms
    pub at: i64,
    /// The new status
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// The runner's topic
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt was lost with its runner rather than failed; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
    /// The flow was paused, or resumed; its status is as it was
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<String>>,
    pub subscription: String,
    pub context_id: u32,
    pub flow_id: u32,
    /// true: events between this one and the one before are no longer kept
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowEvents {
    pub events: Vec<FlowEvent>,
    /// The `after` of the next call
    pub last_event: String,
    /// Events after `after` are no longer kept
    pub missed: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowEventsParams {
    pub context_id: u32,
    pub id: u32,
    /// Names an event of a flow, in order
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// A page of large events has fewer
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Flows that are all of this.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowFilter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<FlowStatus>,
    /// It has one of these
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<FlowStatuses>,
    /// It has a name that begins with this
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<NameText>,
    /// This is one of its tags
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// It is this caller's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<u32>,
    /// It was created at this time or later (Unix time in seconds)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_from: Option<i64>,
    /// It was created before this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_to: Option<i64>,
    /// It has ended, in Finished or Error, at this time or later (Unix time in seconds)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_from: Option<i64>,
    /// It has ended, before this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_to: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    pub context_id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<FlowStatus>,
    /// It has one of these
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<FlowStatuses>,
    /// It has a name that begins with this
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<NameText>,
    /// This is one of its tags
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// It is this caller's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<u32>,
    /// It was created at this time or later (Unix time in seconds)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_from: Option<i64>,
    /// It was created before this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_to: Option<i64>,
    /// It has ended, in Finished or Error, at this time or later (Unix time in seconds)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_from: Option<i64>,
    /// It has ended, before this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_to: Option<i64>,
    /// By when they were created, or have ended; those that have not ended come last. Of the same time, by id
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<SortBy>,
    /// The newest, or the largest id, first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descending: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowLoadParams {
    pub context_id: u32,
    pub id: u32,
}

/// What a flow and jobs of it have from now on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowOverrides {
    /// Over those the flow has: the others stay
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Each once
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<JobOverride>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowPage {
    pub items: Vec<Flow>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowParams {
    pub context_id: u32,
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowReport {
    pub flow: Flow,
    /// Jobs by status; every status is there
    pub counts: BTreeMap<JobStatus, i64>,
    /// Ascending by id
    pub jobs: Vec<JobProgress>,
    /// Ids of jobs the flow lists that are not there, ascending; left out if all are
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<u32>>,
    /// Unix time in ms
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// Unix time in ms
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// Subscribe after this one to miss nothing
    pub last_event: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowRerunParams {
    pub context_id: u32,
    pub id: u32,
    /// Only this job of the flow and those that depend on it, on others too; left out: all jobs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_job: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<FlowOverrides>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum FlowStatus {
    #[default]
    Dispatched,
    Started,
    Error,
    Finished,
}

pub type FlowStatuses = Vec<FlowStatus>;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowSubmitParams {
    pub context_id: u32,
    pub flow: FlowCreate,
    /// Every job the flow lists
    pub jobs: Vec<JobCreate>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowSubscribeParams {
    pub context_id: u32,
    pub id: u32,
    /// Names an event of a flow, in order
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Several notifications at once come as one JSON-RPC batch; by default each is a message
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowSubscribed {
    pub subscription: String,
    /// Events after `after` are no longer kept
    pub missed: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowsCancelParams {
    pub context_id: u32,
    /// Without members it means all flows of the context
    pub filter: FlowFilter,
    /// true: say which these are, and do nothing
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// The last reply's `cursor`, to go on; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Do it to so many at most, then reply
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Recorded with the job and told to its runner
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was done by one call. It works for a few seconds: the next one goes on at `cursor`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowsDone {
    pub dry_run: bool,
    /// Flows that are meant, and to which it applies
    pub matched: i64,
    /// To so many of them it was done
    pub done: i64,
    /// The first 100 of those that are meant, ascending
    pub ids: Vec<u32>,
    /// The first 100 to which it could not be done
    pub refused: Vec<RefusedFlow>,
    /// Where to go on; left out if that were all
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What is to be done to all flows that a filter means and to which it applies, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowsParams {
    pub context_id: u32,
    /// Without members it means all flows of the context
    pub filter: FlowFilter,
    /// true: say which these are, and do nothing
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// The last reply's `cursor`, to go on; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Do it to so many at most, then reply
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    pub lease: f64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HeldJob {
    pub caller_id: u32,
    pub id: u32,
}

/// IPv4 or IPv6 textual address
pub type IpAddr = String;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Job {
    pub id: u32,
    pub caller_id: u32,
    pub context_id: u32,
    pub script: String,
    pub script_type: ScriptType,
    /// Seconds an attempt may take, 0 for no limit
    pub timeout: u32,
    /// Attempts that may follow a failed one
    pub retries: i64,
    pub env_vars: BTreeMap<String, String>,
    /// Names of external conditions the job waits for
    pub prerequisites: Vec<String>,
    /// Ids of jobs that must finish first
    pub depends: Vec<u32>,
    /// Attempts that may follow one lost with its runner; the coordinator's setting unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_retries: Option<i64>,
    /// What people call it: one printable line. It need not be unique
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NameText>,
    /// Short texts by which lists find it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
    pub result: BTreeMap<String, String>,
    pub status: JobStatus,
}

/// How an attempt at a job went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobAttempt {
    /// Its number; they begin anew when the job is started again
    pub attempt: i64,
    pub runner_id: u32,
    /// Unix time in ms
    pub started_at: i64,
    /// Left out while it is running
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    pub outcome: AttemptOutcomeKind,
    /// Why it did not finish; the first 1,000 bytes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobAttempts {
    /// The newest of the job's attempts, 20 at most, oldest first
    pub attempts: Vec<JobAttempt>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobCancelParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
    /// Recorded with the job and told to its runner
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobCreate {
    pub id: u32,
    pub caller_id: u32,
    pub context_id: u32,
    pub script: String,
    pub script_type: ScriptType,
    /// Seconds an attempt may take, 0 for no limit
    pub timeout: u32,
    /// Attempts that may follow a failed one
    pub retries: i64,
    pub env_vars: BTreeMap<String, String>,
    /// Names of external conditions the job waits for
    pub prerequisites: Vec<String>,
    /// Ids of jobs that must finish first
    pub depends: Vec<u32>,
    /// Attempts that may follow one lost with its runner; the coordinator's setting unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_retries: Option<i64>,
    /// What people call it: one printable line. It need not be unique
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NameText>,
    /// Short texts by which lists find it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobCreateParams {
    pub context_id: u32,
    pub job: JobCreate,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobFailParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    pub error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
    /// false: do not try again, whatever `retries` says
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
    /// The attempt ends because its runner does, not by the job's fault: it counts among `lost_retries`, and `retry` says nothing
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobFinishParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobHeartbeatParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobInputs {
    /// Results of jobs it depends on, by id
    pub inputs: BTreeMap<String, BTreeMap<String, String>>,
    /// The `after` of the next page; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobInputsParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// The page before ended with this job; left out for the first page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    pub context_id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<JobStatus>,
    /// It has one of these
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statuses: Option<JobStatuses>,
    /// It has a name that begins with this
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<NameText>,
    /// This is one of its tags
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// It is this caller's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<u32>,
    /// It was created at this time or later (Unix time in seconds)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_from: Option<i64>,
    /// It was created before this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_to: Option<i64>,
    /// It has ended, in Finished or Error, at this time or later (Unix time in seconds)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_from: Option<i64>,
    /// It has ended, before this time
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_to: Option<i64>,
    /// This runner was given its last attempt
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// By when they were created, or have ended; those that have not ended come last. Of the same time, by id
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<SortBy>,
    /// The newest, or the largest id, first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descending: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobLoadParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobLogParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    pub lines: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
}

/// What a job runs with from now on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobOverride {
    pub id: u32,
    /// In the place of the one it has
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Over those it has: the others stay
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobPage {
    pub items: Vec<Job>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobProgress {
    pub id: u32,
    pub script_type: ScriptType,
    pub depends: Vec<u32>,
    pub status: JobStatus,
    /// Attempts begun in this run
    pub attempt: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// Unix time in ms
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_at: Option<i64>,
    /// Unix time in ms
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    /// Unix time in ms
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// Of the attempts, those that were lost; left out if none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<i64>,
    /// What people call it: one printable line. It need not be unique
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NameText>,
    /// When the next attempt is due, while backing off
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<i64>,
    /// Why the last attempt failed
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum JobStatus {
    #[default]
    Dispatched,
    WaitingForPrerequisites,
    Started,
    Error,
    Finished,
}

pub type JobStatuses = Vec<JobStatus>;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobSummary {
    pub id: u32,
    pub depends: Vec<u32>,
    pub prerequisites: Vec<String>,
    pub script_type: ScriptType,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobTail {
    /// The newest log lines of the job, about 16 KiB, oldest first
    pub reports: Vec<LogReport>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobTakeParams {
    pub context_id: u32,
    pub runner_id: u32,
    pub script_types: Vec<ScriptType>,
    /// Jobs it may hold at once
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Seconds to wait for a job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<f64>,
    /// Seconds a job is held without a heartbeat
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<f64>,
    /// Sent again with the same one, the runner gets the same jobs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobTaken {
    pub jobs: Vec<Assignment>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KeyRotateParams {
    pub id: u32,
    /// The new one
    pub pubkey: String,
    /// Seconds for which the old key can still log in
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<i64>,
    /// Of auth.challenge; it is good once
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// By the old key, unless the operator
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_signature: Option<String>,
    /// By the new key, unless the operator
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_signature: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ListedRunner {
    pub id: u32,
    pub pubkey: String,
    pub address: IpAddr,
    /// Names the runner's subscription, usually runner<id>
    pub topic: String,
    /// Whether the runner runs beside the coordinator
    pub local: bool,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
    /// true: it gets nothing new, see runner.drain; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
    /// It is subscribed, or waits for a job by job.take, or has done so in the last 5 s
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<bool>,
    /// Since when it is subscribed; the earliest if it is more than once
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_since: Option<i64>,
    /// Jobs it may have at once, of all its subscriptions
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<i64>,
    /// Attempts that it has and that are running; left out if none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i64>,
    /// The jobs of those attempts, 20 at most, by id
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<Vec<HeldJob>>,
    /// Attempts it failed within ten seconds each since it last finished one; 5 are too many
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_in_a_row: Option<i64>,
    /// Attempts it was handed by job.take and let lapse, since it was last heard of
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_in_a_row: Option<i64>,
    /// Seconds for which it gets no job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back_for: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LogReport {
    /// Unix time in ms
    pub at: i64,
    pub attempt: i64,
    pub stream: LogStream,
    pub lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum LogStream {
    #[default]
    #[serde(rename = "stdout")]
    Stdout,
    #[serde(rename = "stderr")]
    Stderr,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Logged {
    /// How many were kept: none once a message has logged 16 MiB
    pub lines: i64,
    /// true: the attempt was cancelled or has timed out, and its script must be stopped
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoggedIn {
    pub principal: String,
    /// Left out of the operator's
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Over HTTP, for the calls that follow
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Params of the notification `auth.ended`: a subscription has ended, or without one the whole login, and the
/// connection closes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoginEndedNotice {
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoginParams {
    /// `actor:7`, or `runner:1:3` for runner 3 of context 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Of auth.challenge; it is good once
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Ed25519, in base64, of the text that SECURITY.md describes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Instead of a signature, `hc_…` or a JWT; on a WebSocket only
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Instead of a signature, from auth.ticket; on a WebSocket only
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    pub id: u32,
    pub caller_id: u32,
    pub context_id: u32,
    pub message: String,
    pub message_type: ScriptType,
    pub message_format_type: MessageFormatType,
    /// Seconds, 0 for none
    pub timeout: u32,
    /// Seconds, 0 for none
    pub timeout_ack: u32,
    /// Seconds, 0 for none
    pub timeout_result: u32,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
    pub job: Vec<Job>,
    pub logs: Vec<String>,
    pub status: MessageStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_status: Option<TransportStatus>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageCreate {
    pub id: u32,
    pub caller_id: u32,
    pub context_id: u32,
    pub message: String,
    pub message_type: ScriptType,
    pub message_format_type: MessageFormatType,
    /// Seconds, 0 for none
    pub timeout: u32,
    /// Seconds, 0 for none
    pub timeout_ack: u32,
    /// Seconds, 0 for none
    pub timeout_result: u32,
    pub job: Vec<JobCreate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageCreateParams {
    pub context_id: u32,
    pub message: MessageCreate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum MessageFormatType {
    #[default]
    Html,
    Text,
    Md,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    pub context_id: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<MessageStatus>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageLoadParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessagePage {
    pub items: Vec<Message>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageParams {
    pub context_id: u32,
    pub caller_id: u32,
    pub id: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum MessageStatus {
    #[default]
    Dispatched,
    Acknowledged,
    Error,
    Processed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum MessageType {
    #[default]
    Job,
    Chat,
    Mail,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MetPrerequisite {
    /// Unix time in ms
    pub satisfied_at: i64,
    /// Whether it is satisfied for the jobs of one flow, or of the whole context
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BTreeMap<String, String>>,
}

pub type NameText = String;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NewToken {
    /// Names a token; it is no secret
    pub id: String,
    pub principal: String,
    pub label: String,
    pub access: Access,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Vec<u32>>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub expires_at: i64,
    /// To the minute; left out if never
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<i64>,
    /// `hc_…`: whoever has it is that principal; shown once
    pub token: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PrerequisiteListParams {
    pub context_id: u32,
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PrerequisiteRevokeParams {
    pub context_id: u32,
    pub name: String,
    /// For the jobs of this flow alone; left out: of the whole context
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PrerequisiteSatisfyParams {
    pub context_id: u32,
    pub name: String,
    /// For the jobs of this flow alone; left out: of the whole context
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// What the jobs get with it; at most 64 KiB as JSON
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BTreeMap<String, String>>,
    /// Who says so
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Prerequisites {
    pub satisfied: Vec<SatisfiedPrerequisite>,
    /// All pages of these come first
    pub waiting: Vec<AwaitedPrerequisite>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RefusedFlow {
    pub id: u32,
    /// Why it stayed as it is
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Revoked {
    pub name: String,
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// false: it was not satisfied
    pub revoked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum RoleName {
    #[default]
    #[serde(rename = "operator")]
    Operator,
    #[serde(rename = "admin")]
    Admin,
    #[serde(rename = "executor")]
    Executor,
    #[serde(rename = "reader")]
    Reader,
    #[serde(rename = "runner")]
    Runner,
    #[serde(rename = "stranger")]
    Stranger,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Runner {
    pub id: u32,
    pub pubkey: String,
    pub address: IpAddr,
    /// Names the runner's subscription, usually runner<id>
    pub topic: String,
    /// Whether the runner runs beside the coordinator
    pub local: bool,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
    /// true: it gets nothing new, see runner.drain; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerConnectedParams {
    pub context_id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerCreate {
    pub id: u32,
    pub pubkey: String,
    pub address: IpAddr,
    /// Names the runner's subscription, usually runner<id>
    pub topic: String,
    /// Whether the runner runs beside the coordinator
    pub local: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerCreateParams {
    pub context_id: u32,
    pub runner: RunnerCreate,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    pub context_id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerLoadParams {
    pub context_id: u32,
    pub id: u32,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerPage {
    pub items: Vec<ListedRunner>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerStats {
    /// Those that are subscribed, or wait for a job by job.take; for 5 s after that
    pub connected: i64,
    /// Those that have a running attempt, connected or not
    pub busy: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerSubscribeParams {
    pub context_id: u32,
    pub runner_id: u32,
    pub script_types: Vec<ScriptType>,
    /// Jobs it may hold at once
    pub capacity: i64,
    /// Seconds a job is held without a heartbeat
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<f64>,
    /// Names the runner's process, the same after it reconnects
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Tokens of attempts it still works on
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding: Option<Vec<String>>,
    /// Several notifications at once come as one JSON-RPC batch; by default each is a message
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerSubscribed {
    pub subscription: String,
    pub lease: f64,
    /// Tokens of `holding` that are not, or no longer, this runner's
    pub lost: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnersConnected {
    /// How many runners are connected that take jobs of each type; every type is there. One that asks by job.take counts for 30 s after it did
    pub script_types: BTreeMap<ScriptType, i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Satisfied {
    /// Unix time in ms
    pub satisfied_at: i64,
    /// Whether it is satisfied for the jobs of one flow, or of the whole context
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BTreeMap<String, String>>,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// Jobs that had waited for it
    pub released: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SatisfiedPrerequisite {
    /// Unix time in ms
    pub satisfied_at: i64,
    /// Whether it is satisfied for the jobs of one flow, or of the whole context
    pub scope: Scope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BTreeMap<String, String>>,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Scope {
    #[default]
    #[serde(rename = "context")]
    Context,
    #[serde(rename = "flow")]
    Flow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum ScriptType {
    #[default]
    Osis,
    Sal,
    V,
    Python,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScriptTypeStats {
    /// Jobs of this type, in whatever status
    pub jobs: i64,
    /// Those that wait for a runner. One that was cancelled counts until a runner comes by
    pub queued: i64,
    /// Seconds for which the one that is next has waited for a runner
    pub oldest: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum SortBy {
    #[default]
    #[serde(rename = "id")]
    Id,
    #[serde(rename = "created")]
    Created,
    #[serde(rename = "ended")]
    Ended,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SubscriptionParams {
    pub subscription: String,
}

pub type Tags = Vec<String>;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ticket {
    /// For auth.login on a WebSocket, once: whoever has it is the caller
    pub ticket: String,
    /// Unix time in seconds
    pub expires_at: i64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TicketParams {}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenCreateParams {
    /// For people, who see it in lists
    pub label: String,
    /// Seconds
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<i64>,
    /// Whose it is: the caller's unless given. Anybody's for the operator, a context's runners' for its admins
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// `read`: what a reader may
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Only these; all if left out
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Vec<u32>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Names a token; it is no secret
    pub id: String,
    pub principal: String,
    pub label: String,
    pub access: Access,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Vec<u32>>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub expires_at: i64,
    /// To the minute; left out if never
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenListParams {
    /// The caller's own unless given; as in token.create
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenPage {
    pub items: Vec<TokenInfo>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenRevokeParams {
    /// Names a token; it is no secret
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// Names a token; it is no secret
    pub id: String,
    /// false: there is no such token
    pub revoked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum TransportStatus {
    #[default]
    Queued,
    Sent,
    Delivered,
    Read,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Unsubscribed {
    pub subscription: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WaitingJob {
    pub caller_id: u32,
    pub job_id: u32,
    /// Left out if a message runs the job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WhoAmI {
    /// `open` where nobody has to log in, `stranger` before one has
    pub principal: String,
    /// Unix time in seconds
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Names a token; it is no secret
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// In the context that was asked for; a token for reading makes a reader of everybody
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleName>,
    /// What that role may do there, if only with what is its own, in the words in which error -32003 names what is missing; left out where nobody has to log in, who may do everything
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WhoAmIParams {
    /// A context, to be told what the caller is and may do there
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InvalidParamsDataItem {
    pub loc: Vec<Value>,
    pub msg: String,
    pub r#type: String,
}

/// What comes with NotFound: Not Found (-32001).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NotFoundData {
    pub detail: String,
    pub kind: String,
    pub ids: BTreeMap<String, i64>,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with NotLoggedIn: Not Logged In (-32002).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NotLoggedInData {
    pub detail: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with Forbidden: Forbidden (-32003).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ForbiddenData {
    pub detail: String,
    pub right: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with StorageError: Storage Error (-32010).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StorageErrorData {
    pub detail: String,
    pub may_have_been_applied: bool,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with DagMissingDependency: DAG Missing Dependency (-32020).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DagMissingDependencyData {
    pub detail: String,
    pub job: u32,
    pub missing: u32,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with DagCycleDetected: DAG Cycle Detected (-32021).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DagCycleDetectedData {
    pub detail: String,
    pub cycle: Vec<u32>,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with ReplyTooLarge: Reply Too Large (-32030).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReplyTooLargeData {
    pub detail: String,
    pub limit: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with Conflict: Conflict (-32040).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ConflictData {
    pub detail: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with StaleToken: Stale Attempt Token (-32041).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StaleTokenData {
    pub detail: String,
    pub token: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with NotSubscribed: Not Subscribed (-32042).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NotSubscribedData {
    pub detail: String,
    pub subscription: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with Overloaded: Overloaded (-32043).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OverloadedData {
    pub detail: String,
    pub limit: f64,
    pub setting: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<f64>,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with WebSocketRequired: WebSocket Required (-32044).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WebSocketRequiredData {
    pub detail: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with InvalidRequest: Invalid Request (-32600).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InvalidRequestData {
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with MethodNotFound: Method not found (-32601).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MethodNotFoundData {
    pub detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub did_you_mean: Option<Vec<String>>,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with InvalidParams: Invalid params (-32602).
pub type InvalidParamsData = Vec<InvalidParamsDataItem>;

/// What comes with InternalError: Internal error (-32603).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InternalErrorData {
    pub detail: String,
    pub incident: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// What comes with ParseError: Parse error (-32700).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ParseErrorData {
    pub detail: String,
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// The errors by code, each with its data if that is as it is described.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Not Found (-32001).
    NotFound(Option<NotFoundData>),
    /// Not Logged In (-32002).
    NotLoggedIn(Option<NotLoggedInData>),
    /// Forbidden (-32003).
    Forbidden(Option<ForbiddenData>),
    /// Storage Error (-32010).
    StorageError(Option<StorageErrorData>),
    /// DAG Missing Dependency (-32020).
    DagMissingDependency(Option<DagMissingDependencyData>),
    /// DAG Cycle Detected (-32021).
    DagCycleDetected(Option<DagCycleDetectedData>),
    /// Reply Too Large (-32030).
    ReplyTooLarge(Option<ReplyTooLargeData>),
    /// Conflict (-32040).
    Conflict(Option<ConflictData>),
    /// Stale Attempt Token (-32041).
    StaleToken(Option<StaleTokenData>),
    /// Not Subscribed (-32042).
    NotSubscribed(Option<NotSubscribedData>),
    /// Overloaded (-32043).
    Overloaded(Option<OverloadedData>),
    /// WebSocket Required (-32044).
    WebSocketRequired(Option<WebSocketRequiredData>),
    /// Invalid Request (-32600).
    InvalidRequest(Option<InvalidRequestData>),
    /// Method not found (-32601).
    MethodNotFound(Option<MethodNotFoundData>),
    /// Invalid params (-32602).
    InvalidParams(Option<InvalidParamsData>),
    /// Internal error (-32603).
    InternalError(Option<InternalErrorData>),
    /// Parse error (-32700).
    ParseError(Option<ParseErrorData>),
    Unknown,
}

impl ErrorKind {
    pub(crate) fn of(code: i64, data: &Value) -> ErrorKind {
        match code {
            -32001 => ErrorKind::NotFound(serde_json::from_value(data.clone()).ok()),
            -32002 => ErrorKind::NotLoggedIn(serde_json::from_value(data.clone()).ok()),
            -32003 => ErrorKind::Forbidden(serde_json::from_value(data.clone()).ok()),
            -32010 => ErrorKind::StorageError(serde_json::from_value(data.clone()).ok()),
            -32020 => ErrorKind::DagMissingDependency(serde_json::from_value(data.clone()).ok()),
            -32021 => ErrorKind::DagCycleDetected(serde_json::from_value(data.clone()).ok()),
            -32030 => ErrorKind::ReplyTooLarge(serde_json::from_value(data.clone()).ok()),
            -32040 => ErrorKind::Conflict(serde_json::from_value(data.clone()).ok()),
            -32041 => ErrorKind::StaleToken(serde_json::from_value(data.clone()).ok()),
            -32042 => ErrorKind::NotSubscribed(serde_json::from_value(data.clone()).ok()),
            -32043 => ErrorKind::Overloaded(serde_json::from_value(data.clone()).ok()),
            -32044 => ErrorKind::WebSocketRequired(serde_json::from_value(data.clone()).ok()),
            -32600 => ErrorKind::InvalidRequest(serde_json::from_value(data.clone()).ok()),
            -32601 => ErrorKind::MethodNotFound(serde_json::from_value(data.clone()).ok()),
            -32602 => ErrorKind::InvalidParams(serde_json::from_value(data.clone()).ok()),
            -32603 => ErrorKind::InternalError(serde_json::from_value(data.clone()).ok()),
            -32700 => ErrorKind::ParseError(serde_json::from_value(data.clone()).ok()),
            _ => ErrorKind::Unknown,
        }
    }
}

/// What the coordinator sends by itself, on a WebSocket.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Notification {
    RunnerJob(AssignmentNotice),
    RunnerCancel(CancelNotice),
    ContextEvent(ContextEventNotice),
    FlowEvent(FlowEventNotice),
    AuthEnded(LoginEndedNotice),
    Other { method: String, params: Value },
}

impl Notification {
    pub(crate) fn of(method: &str, params: Value) -> Result<Notification, serde_json::Error> {
        Ok(match method {
            "runner.job" => Notification::RunnerJob(serde_json::from_value(params)?),
            "runner.cancel" => Notification::RunnerCancel(serde_json::from_value(params)?),
            "context.event" => Notification::ContextEvent(serde_json::from_value(params)?),
            "flow.event" => Notification::FlowEvent(serde_json::from_value(params)?),
            "auth.ended" => Notification::AuthEnded(serde_json::from_value(params)?),
            _ => Notification::Other { method: method.to_owned(), params },
        })
    }
}

/// Every method, for whatever makes calls.
pub trait Api: Caller {
    /// Create/Upsert Actor
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn actor_create(&mut self, params: &ActorCreateParams) -> Result<Actor, Error> {
        self.call("actor.create", params)
    }

    /// Load an Actor by id
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn actor_load(&mut self, params: &ActorLoadParams) -> Result<Actor, Error> {
        self.call("actor.load", params)
    }

    /// Create/Upsert Context (stored in its own DB index)
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_create(&mut self, params: &ContextCreateParams) -> Result<Context, Error> {
        self.call("context.create", params)
    }

    /// Load a Context by id
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn context_load(&mut self, params: &ContextLoadParams) -> Result<Context, Error> {
        self.call("context.load", params)
    }

    /// Create/Upsert Runner in a context
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_create(&mut self, params: &RunnerCreateParams) -> Result<Runner, Error> {
        self.call("runner.create", params)
    }

    /// Load Runner by id from a context
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn runner_load(&mut self, params: &RunnerLoadParams) -> Result<Runner, Error> {
        self.call("runner.load", params)
    }

    /// Create/Upsert Flow in a context
    ///
    /// Errors: InvalidParams, StorageError, Overloaded.
    fn flow_create(&mut self, params: &FlowCreateParams) -> Result<Flow, Error> {
        self.call("flow.create", params)
    }

    /// Load Flow by id from a context
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn flow_load(&mut self, params: &FlowLoadParams) -> Result<Flow, Error> {
        self.call("flow.load", params)
    }

    /// Compute and return the execution DAG for a Flow
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected.
    fn flow_dag(&mut self, params: &FlowLoadParams) -> Result<FlowDag, Error> {
        self.call("flow.dag", params)
    }

    /// Create/Upsert Job in a context
    ///
    /// Errors: InvalidParams, StorageError, Conflict, Overloaded.
    fn job_create(&mut self, params: &JobCreateParams) -> Result<Job, Error> {
        self.call("job.create", params)
    }

    /// Load Job by ids from a context
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn job_load(&mut self, params: &JobLoadParams) -> Result<Job, Error> {
        self.call("job.load", params)
    }

    /// Create/Upsert Message in a context
    ///
    /// Errors: InvalidParams, StorageError.
    fn message_create(&mut self, params: &MessageCreateParams) -> Result<Message, Error> {
        self.call("message.create", params)
    }

    /// Load Message by ids from a context
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn message_load(&mut self, params: &MessageLoadParams) -> Result<Message, Error> {
        self.call("message.load", params)
    }

    /// Create a flow with its jobs and start it, in one step
    ///
    /// Errors: InvalidParams, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
    fn flow_submit(&mut self, params: &FlowSubmitParams) -> Result<Flow, Error> {
        self.call("flow.submit", params)
    }

    /// Start a flow; one that was started stays as it is
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
    fn flow_start(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.start", params)
    }

    /// Stop a flow: it ends in Error
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn flow_cancel(&mut self, params: &FlowCancelParams) -> Result<Flow, Error> {
        self.call("flow.cancel", params)
    }

    /// Start the unfinished part of a flow in Error again
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
    fn flow_retry(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.retry", params)
    }

    /// A flow with the progress of each of its jobs
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn flow_status(&mut self, params: &FlowParams) -> Result<FlowReport, Error> {
        self.call("flow.status", params)
    }

    /// A page of what happened to a flow
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn flow_events(&mut self, params: &FlowEventsParams) -> Result<FlowEvents, Error> {
        self.call("flow.events", params)
    }

    /// Follow a flow: what happens comes as notifications `flow.event` (WebSocket)
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
    fn flow_subscribe(&mut self, params: &FlowSubscribeParams) -> Result<FlowSubscribed, Error> {
        self.call("flow.subscribe", params)
    }

    /// End a subscription of flow.subscribe (WebSocket)
    ///
    /// Errors: InvalidParams, NotSubscribed, WebSocketRequired.
    fn flow_unsubscribe(&mut self, params: &SubscriptionParams) -> Result<Unsubscribed, Error> {
        self.call("flow.unsubscribe", params)
    }

    /// A page of what happened to all flows of a context, from the first such call on
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_events(&mut self, params: &ContextEventsParams) -> Result<ContextEvents, Error> {
        self.call("context.events", params)
    }

    /// Follow all flows of a context: what happens comes as notifications `context.event` (WebSocket)
    ///
    /// Errors: InvalidParams, StorageError, Overloaded, WebSocketRequired.
    fn context_subscribe(&mut self, params: &ContextSubscribeParams) -> Result<ContextSubscribed, Error> {
        self.call("context.subscribe", params)
    }

    /// End a subscription of context.subscribe (WebSocket)
    ///
    /// Errors: InvalidParams, NotSubscribed, WebSocketRequired.
    fn context_unsubscribe(&mut self, params: &SubscriptionParams) -> Result<Unsubscribed, Error> {
        self.call("context.unsubscribe", params)
    }

    /// Supply a runner with jobs: they come as notifications `runner.job`, and `runner.cancel` (WebSocket)
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
    fn runner_subscribe(&mut self, params: &RunnerSubscribeParams) -> Result<RunnerSubscribed, Error> {
        self.call("runner.subscribe", params)
    }

    /// End a subscription of runner.subscribe; attempts handed out stay the runner's (WebSocket)
    ///
    /// Errors: InvalidParams, NotSubscribed, WebSocketRequired.
    fn runner_unsubscribe(&mut self, params: &SubscriptionParams) -> Result<Unsubscribed, Error> {
        self.call("runner.unsubscribe", params)
    }

    /// Take jobs for a runner without a WebSocket; waits for one if there is none
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Overloaded.
    fn job_take(&mut self, params: &JobTakeParams) -> Result<JobTaken, Error> {
        self.call("job.take", params)
    }

    /// Renew the lease of an attempt
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_heartbeat(&mut self, params: &JobHeartbeatParams) -> Result<Heartbeat, Error> {
        self.call("job.heartbeat", params)
    }

    /// A page of the results of the jobs that an attempt's job depends on
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_inputs(&mut self, params: &JobInputsParams) -> Result<JobInputs, Error> {
        self.call("job.inputs", params)
    }

    /// Append lines to the log of an attempt; renews its lease
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_log(&mut self, params: &JobLogParams) -> Result<Logged, Error> {
        self.call("job.log", params)
    }

    /// The newest log lines of a job, also when its flow's events no longer have them
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn job_tail(&mut self, params: &JobLoadParams) -> Result<JobTail, Error> {
        self.call("job.tail", params)
    }

    /// How the newest attempts at a job went: by which runner, from when to when, and why they failed
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn job_attempts(&mut self, params: &JobLoadParams) -> Result<JobAttempts, Error> {
        self.call("job.attempts", params)
    }

    /// Report that an attempt has succeeded
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_finish(&mut self, params: &JobFinishParams) -> Result<AttemptOutcome, Error> {
        self.call("job.finish", params)
    }

    /// Report that an attempt has failed
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_fail(&mut self, params: &JobFailParams) -> Result<AttemptOutcome, Error> {
        self.call("job.fail", params)
    }

    /// Run the jobs embedded in a stored message
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
    fn message_send(&mut self, params: &MessageParams) -> Result<Message, Error> {
        self.call("message.send", params)
    }

    /// Declare an external condition as met, for the jobs of a flow or of the whole context
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn prerequisite_satisfy(&mut self, params: &PrerequisiteSatisfyParams) -> Result<Satisfied, Error> {
        self.call("prerequisite.satisfy", params)
    }

    /// Declare an external condition as not met: jobs that were not released yet wait for it again
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn prerequisite_revoke(&mut self, params: &PrerequisiteRevokeParams) -> Result<Revoked, Error> {
        self.call("prerequisite.revoke", params)
    }

    /// A page of the prerequisites jobs wait for, with who waits, and of those that are satisfied
    ///
    /// Errors: InvalidParams, StorageError.
    fn prerequisite_list(&mut self, params: &PrerequisiteListParams) -> Result<Prerequisites, Error> {
        self.call("prerequisite.list", params)
    }

    /// A page of the ids of all contexts ever written to
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_list(&mut self, params: &ContextListParams) -> Result<ContextPage, Error> {
        self.call("context.list", params)
    }

    /// How many flows and jobs a context has by status, what waits for runners, and how many of them there are
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_stats(&mut self, params: &ContextStatsParams) -> Result<ContextStats, Error> {
        self.call("context.stats", params)
    }

    /// A page of a context's runners
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_list(&mut self, params: &RunnerListParams) -> Result<RunnerPage, Error> {
        self.call("runner.list", params)
    }

    /// How many runners that take each type of jobs are connected
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_connected(&mut self, params: &RunnerConnectedParams) -> Result<RunnersConnected, Error> {
        self.call("runner.connected", params)
    }

    /// A page of a context's flows
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_list(&mut self, params: &FlowListParams) -> Result<FlowPage, Error> {
        self.call("flow.list", params)
    }

    /// A page of a context's jobs
    ///
    /// Errors: InvalidParams, StorageError.
    fn job_list(&mut self, params: &JobListParams) -> Result<JobPage, Error> {
        self.call("job.list", params)
    }

    /// A page of a context's messages
    ///
    /// Errors: InvalidParams, StorageError.
    fn message_list(&mut self, params: &MessageListParams) -> Result<MessagePage, Error> {
        self.call("message.list", params)
    }

    /// Delete a runner
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_delete(&mut self, params: &RunnerLoadParams) -> Result<Deleted, Error> {
        self.call("runner.delete", params)
    }

    /// Delete a flow with its jobs, unless it is running
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn flow_delete(&mut self, params: &FlowParams) -> Result<Deleted, Error> {
        self.call("flow.delete", params)
    }

    /// Delete a job, unless it is running or may be
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn job_delete(&mut self, params: &JobLoadParams) -> Result<Deleted, Error> {
        self.call("job.delete", params)
    }

    /// Delete a message with the jobs it was sent with, unless it is being processed
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn message_delete(&mut self, params: &MessageLoadParams) -> Result<Deleted, Error> {
        self.call("message.delete", params)
    }

    /// End a job that waits or runs in Error, and its flow or message with it
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn job_cancel(&mut self, params: &JobCancelParams) -> Result<Job, Error> {
        self.call("job.cancel", params)
    }

    /// Run a flow that has ended again, or only a job of it and what depends on that
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
    fn flow_rerun(&mut self, params: &FlowRerunParams) -> Result<Flow, Error> {
        self.call("flow.rerun", params)
    }

    /// Hand out none of a started flow's jobs until flow.resume; what runs goes on
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn flow_pause(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.pause", params)
    }

    /// End what flow.pause has begun
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn flow_resume(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.resume", params)
    }

    /// Stop all flows that a filter means, some seconds a call
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_cancel_many(&mut self, params: &FlowsCancelParams) -> Result<FlowsDone, Error> {
        self.call("flow.cancel_many", params)
    }

    /// Start the unfinished part of all flows in Error that a filter means again, some seconds a call
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_retry_many(&mut self, params: &FlowsParams) -> Result<FlowsDone, Error> {
        self.call("flow.retry_many", params)
    }

    /// Delete all flows that a filter means and that do not run, with their jobs, some seconds a call
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_delete_many(&mut self, params: &FlowsParams) -> Result<FlowsDone, Error> {
        self.call("flow.delete_many", params)
    }

    /// Hand out none of a context's jobs, or of one script type of it, until context.resume; what runs goes on
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn context_pause(&mut self, params: &ContextPauseParams) -> Result<ContextPaused, Error> {
        self.call("context.pause", params)
    }

    /// End what context.pause has begun with the same params
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn context_resume(&mut self, params: &ContextPauseParams) -> Result<ContextPaused, Error> {
        self.call("context.resume", params)
    }

    /// Delete a context with all that is in it; whoever waits or is subscribed there is told
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn context_delete(&mut self, params: &ContextDeleteParams) -> Result<Deleted, Error> {
        self.call("context.delete", params)
    }

    /// Give a runner nothing new until runner.undrain; it finishes what it holds
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn runner_drain(&mut self, params: &RunnerLoadParams) -> Result<Runner, Error> {
        self.call("runner.drain", params)
    }

    /// Give a runner jobs again
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn runner_undrain(&mut self, params: &RunnerLoadParams) -> Result<Runner, Error> {
        self.call("runner.undrain", params)
    }

    /// A text to sign for auth.login, or for actor.rotate_key; it is good once, and for 30 s
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict.
    fn auth_challenge(&mut self, params: &ChallengeParams) -> Result<Challenge, Error> {
        self.call("auth.challenge", params)
    }

    /// Log in: on a WebSocket for the connection, over HTTP for a token
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
    fn auth_login(&mut self, params: &LoginParams) -> Result<LoggedIn, Error> {
        self.call("auth.login", params)
    }

    /// Log in once more before a login is over; subscriptions go on
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
    fn auth_renew(&mut self, params: &LoginParams) -> Result<LoggedIn, Error> {
        self.call("auth.renew", params)
    }

    /// A ticket that logs in on a WebSocket, by auth.login, once and within 30 s; for pages that have a cookie
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict.
    fn auth_ticket(&mut self, params: &TicketParams) -> Result<Ticket, Error> {
        self.call("auth.ticket", params)
    }

    /// Who the coordinator takes the caller for
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict.
    fn auth_whoami(&mut self, params: &WhoAmIParams) -> Result<WhoAmI, Error> {
        self.call("auth.whoami", params)
    }

    /// Make a token, by which whoever has it is a principal; it is shown once
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn token_create(&mut self, params: &TokenCreateParams) -> Result<NewToken, Error> {
        self.call("token.create", params)
    }

    /// The tokens of a principal, without the secrets
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn token_list(&mut self, params: &TokenListParams) -> Result<TokenPage, Error> {
        self.call("token.list", params)
    }

    /// Let a token be good no longer; what it has open ends within a second
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn token_revoke(&mut self, params: &TokenRevokeParams) -> Result<TokenRevoked, Error> {
        self.call("token.revoke", params)
    }

    /// Give an actor another key: the operator, or the actor itself signed by both keys
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound, Overloaded.
    fn actor_rotate_key(&mut self, params: &KeyRotateParams) -> Result<Actor, Error> {
        self.call("actor.rotate_key", params)
    }

    /// Let an actor log in no more, for good
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn actor_revoke(&mut self, params: &ActorRevokeParams) -> Result<ActorRevoked, Error> {
        self.call("actor.revoke", params)
    }
}

impl<C: Caller> Api for C {}
