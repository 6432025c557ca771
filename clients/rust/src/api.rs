// Made by `make clients` from specs/openrpc.json. What is changed here is gone with the next run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rpc::{Caller, Error};

/// Version of the API these types are of.
pub const API_VERSION: &str = "0.2.0";

/// How much a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Access {
    #[default]
    #[serde(rename = "full")]
    Full,
    #[serde(rename = "read")]
    Read,
}

/// A person or a program that calls, as it is stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Actor {
    /// Id of the actor
    pub id: u32,
    /// The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in
    pub pubkey: String,
    /// IP addresses
    pub address: Vec<IpAddr>,
    /// Unix time in seconds
    pub created_at: i64,
    /// Unix time in seconds
    pub updated_at: i64,
}

/// An actor as a client creates it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorCreate {
    /// Id of the actor
    pub id: u32,
    /// The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in
    pub pubkey: String,
    /// IP addresses
    pub address: Vec<IpAddr>,
}

/// What actor.create takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorCreateParams {
    /// The actor
    pub actor: ActorCreate,
}

/// What actor.load takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorLoadParams {
    /// Id of the actor
    pub id: u32,
    /// Where callers log in: a context of which the caller is an admin and the actor a member
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_id: Option<u32>,
}

/// What actor.revoke takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorRevokeParams {
    /// Id of the actor
    pub id: u32,
}

/// An actor that can log in no more.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ActorRevoked {
    /// Id of the actor
    pub id: u32,
    /// The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in
    pub pubkey: String,
    /// IP addresses
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
    /// Id of the context
    pub context_id: u32,
    /// The job
    pub job: Job,
    /// The flow's under the job's own
    pub env_vars: BTreeMap<String, String>,
    /// Results of the jobs it depends on, by id
    pub inputs: BTreeMap<String, BTreeMap<String, String>>,
    /// Jobs whose results are not in `inputs`, for they are too large together; see job.inputs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_from: Option<Vec<u32>>,
    /// Counts the attempts at the job, from 1
    pub attempt: i64,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// Seconds for which an attempt is the runner's without a heartbeat
    #[serde(serialize_with = "crate::rpc::finite")]
    pub lease: f64,
    /// The flow it runs for; none of a message's job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// What the job's were satisfied by when it was released, by name; left out if it has none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prerequisites: Option<BTreeMap<String, MetPrerequisite>>,
    /// The request id of the call that has started its flow or message, if it had one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The attempt's own span in the trace of that call (W3C Trace Context), if it is traced
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// One attempt at a job, handed to a runner. Params of the notification `runner.job`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AssignmentNotice {
    /// Id of the context
    pub context_id: u32,
    /// The job
    pub job: Job,
    /// The flow's under the job's own
    pub env_vars: BTreeMap<String, String>,
    /// Results of the jobs it depends on, by id
    pub inputs: BTreeMap<String, BTreeMap<String, String>>,
    /// Jobs whose results are not in `inputs`, for they are too large together; see job.inputs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs_from: Option<Vec<u32>>,
    /// Which attempt at the job it is, from 1
    pub attempt: i64,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// Seconds for which an attempt is the runner's without a heartbeat
    #[serde(serialize_with = "crate::rpc::finite")]
    pub lease: f64,
    /// The flow it runs for; none of a message's job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// What the job's were satisfied by when it was released, by name; left out if it has none
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prerequisites: Option<BTreeMap<String, MetPrerequisite>>,
    /// The request id of the call that has started its flow or message, if it had one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The attempt's own span in the trace of that call (W3C Trace Context), if it is traced
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Names the subscription on its connection
    pub subscription: String,
}

/// What the job is after its attempt: Finished, Error, or Dispatched when it will be tried again.
///
/// A failure that is reported within 30 s of a cancel or a time-out changes no status; its result is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AttemptOutcome {
    /// What the job is now
    pub status: JobStatus,
    /// Which attempt at the job it is, from 1
    pub attempt: i64,
}

/// How an attempt went.
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

/// A condition that jobs wait for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AwaitedPrerequisite {
    /// Name of the condition
    pub name: String,
    /// Jobs waiting for it; of the first 1,000 flows if there are more
    pub jobs: i64,
    /// The first of them, at most 10
    pub waiters: Vec<WaitingJob>,
}

/// Params of the notification `runner.cancel`: stop this attempt, its outcome is no longer wanted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct CancelNotice {
    /// Names the subscription on its connection
    pub subscription: String,
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// Why the attempt is to stop
    pub reason: String,
}

/// What a caller signs to log in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Challenge {
    /// Names the coordinators of one store; it is signed
    pub server: String,
    /// Of auth.challenge; it is good once
    pub nonce: String,
    /// It is signed
    pub expires_at: i64,
}

/// What auth.challenge takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChallengeParams {}

/// A tenant with its members, as it is stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Context {
    /// Id of the context
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

/// A context as a client creates it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextCreate {
    /// Id of the context
    pub id: u32,
    /// Actor ids with full rights
    pub admins: Vec<u32>,
    /// Actor ids that may read
    pub readers: Vec<u32>,
    /// Actor ids that may run jobs
    pub executors: Vec<u32>,
}

/// What context.create takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextCreateParams {
    /// The context
    pub context: ContextCreate,
}

/// What context.delete takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextDeleteParams {
    /// Id of the context
    pub context_id: u32,
}

/// `kind` says whose status changed: that of a flow, of a job of a flow, or of the context, which was deleted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextEvent {
    /// Names an event of a flow, in order
    pub event_id: String,
    /// What the event is about
    pub kind: ContextEventKind,
    /// Unix time in ms
    pub at: i64,
    /// Left out if `kind` is `context`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// The new status; `Deleted` of a flow or context that was deleted
    pub status: String,
    /// Id of the job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    /// Which attempt at the job it is, from 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// Id of the runner
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

/// What an event is about.
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
    /// What the event is about
    pub kind: ContextEventKind,
    /// Unix time in ms
    pub at: i64,
    /// Left out if `kind` is `context`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// The new status; `Deleted` of a flow or context that was deleted
    pub status: String,
    /// Id of the job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    /// Which attempt at the job it is, from 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// Id of the runner
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
    /// Names the subscription on its connection
    pub subscription: String,
    /// Id of the context
    pub context_id: u32,
    /// true: events between this one and the one before are no longer kept
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<bool>,
}

/// A page of what happened to the flows of a context.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextEvents {
    /// The events, oldest first
    pub events: Vec<ContextEvent>,
    /// The `after` of the next call
    pub last_event: String,
    /// Events after `after` are no longer kept, or were never
    pub missed: bool,
}

/// What context.events takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextEventsParams {
    /// Id of the context
    pub context_id: u32,
    /// Begin after this event; left out: with those that come
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// A page of large events has fewer
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What context.list takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many records a page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What context.load takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextLoadParams {
    /// Id of the context
    pub id: u32,
}

/// A page of the ids of contexts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextPage {
    /// Ids of all contexts ever written to, ascending
    pub items: Vec<u32>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What context.pause and context.resume take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextPauseParams {
    /// Id of the context
    pub context_id: u32,
    /// Only the jobs of this type; left out: all of the context
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script_type: Option<ScriptType>,
}

/// What of a context is paused.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextPaused {
    /// Id of the context
    pub context_id: u32,
    /// The whole context is
    pub paused: bool,
    /// Those that are paused by themselves
    pub script_types: Vec<ScriptType>,
}

/// What a context has, in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextStats {
    /// Flows by status; every status is there
    pub flows: BTreeMap<FlowStatus, i64>,
    /// Jobs by status; every status is there
    pub jobs: BTreeMap<JobStatus, i64>,
    /// Every type is there
    pub script_types: BTreeMap<ScriptType, ScriptTypeStats>,
    /// How many runners there are
    pub runners: RunnerStats,
}

/// What context.stats takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextStatsParams {
    /// Id of the context
    pub context_id: u32,
}

/// What context.subscribe takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextSubscribeParams {
    /// Id of the context
    pub context_id: u32,
    /// Begin after this event; left out: with those that come
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Several notifications at once come as one JSON-RPC batch; by default each is a message
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
}

/// A subscription to what happens to the flows of a context.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ContextSubscribed {
    /// Names the subscription on its connection
    pub subscription: String,
    /// The notifications begin after this one
    pub last_event: String,
    /// Events after `after` are no longer kept, or were never
    pub missed: bool,
}

/// How much was deleted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Deleted {
    /// Records deleted
    pub deleted: i64,
}

/// Tuple [from, to] representing a directed edge
pub type EdgeTuple = (u32, u32);

/// What an event is about.
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

/// Jobs that run in the order of their dependencies, as stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Flow {
    /// Id of the flow
    pub id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the context
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
    /// Results of the last jobs, by job id, each a map as JSON text; of a flow in Error its `error`
    pub result: BTreeMap<String, String>,
    /// How far it is
    pub status: FlowStatus,
    /// true: none of its jobs is handed out, see flow.pause; only while Started, left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// What flow.cancel takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowCancelParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the flow
    pub id: u32,
    /// What followers of the flow are told
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A flow as a client creates it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowCreate {
    /// Id of the flow
    pub id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the context
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
    /// The result it begins with; an empty one unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
}

/// What flow.create takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowCreateParams {
    /// Id of the context
    pub context_id: u32,
    /// The flow
    pub flow: FlowCreate,
    /// Seconds after which the flow, and the jobs made for it, are deleted unless it was started. Each further call with it begins the time anew, 0 ends it; a flow that was there without it stays without
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
    pub abandon_after: Option<f64>,
}

/// The order in which the jobs of a flow run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowDag {
    /// Id of the flow
    pub flow_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the context
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
    /// What the event is about
    pub kind: EventKind,
    /// Unix time in ms
    pub at: i64,
    /// The new status
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Id of the job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    /// Which attempt at the job it is, from 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// Id of the runner
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// The runner's topic
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Why, where something went wrong
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt was lost with its runner rather than failed; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
    /// The flow was paused, or resumed; its status is as it was
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Which output of the script wrote the lines
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Log lines
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<String>>,
}

/// Params of the notification `flow.event`. The last one of a flow that is deleted has the status Deleted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowEventNotice {
    /// Names an event of a flow, in order
    pub event_id: String,
    /// What the event is about
    pub kind: EventKind,
    /// Unix time in ms
    pub at: i64,
    /// The new status
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Id of the job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u32>,
    /// Which attempt at the job it is, from 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// Id of the runner
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u32>,
    /// The runner's topic
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Why, where something went wrong
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt was lost with its runner rather than failed; left out if not
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
    /// The flow was paused, or resumed; its status is as it was
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Which output of the script wrote the lines
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Log lines
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<String>>,
    /// Names the subscription on its connection
    pub subscription: String,
    /// Id of the context
    pub context_id: u32,
    /// Id of the flow
    pub flow_id: u32,
    /// true: events between this one and the one before are no longer kept
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<bool>,
}

/// A page of what happened to a flow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowEvents {
    /// The events, oldest first
    pub events: Vec<FlowEvent>,
    /// The `after` of the next call
    pub last_event: String,
    /// Events after `after` are no longer kept
    pub missed: bool,
}

/// What flow.events takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowEventsParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the flow
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
    /// How far it is
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

/// What flow.list takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many records a page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Id of the context
    pub context_id: u32,
    /// Only flows in this status
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

/// What flow.load and flow.dag take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowLoadParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the flow
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

/// A page of flows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowPage {
    /// The records
    pub items: Vec<Flow>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What flow.start and flow.retry and flow.status and flow.delete and flow.pause and flow.resume take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the flow
    pub id: u32,
}

/// A flow with the progress of its jobs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowReport {
    /// The flow
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

/// What flow.rerun takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowRerunParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the flow
    pub id: u32,
    /// Only this job of the flow and those that depend on it, on others too; left out: all jobs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_job: Option<u32>,
    /// What runs otherwise than before; it is written into the records
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<FlowOverrides>,
}

/// How far a flow is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum FlowStatus {
    #[default]
    Dispatched,
    Started,
    Error,
    Finished,
}

/// Statuses of flows.
pub type FlowStatuses = Vec<FlowStatus>;

/// What flow.submit takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowSubmitParams {
    /// Id of the context
    pub context_id: u32,
    /// The flow
    pub flow: FlowCreate,
    /// Every job the flow lists
    pub jobs: Vec<JobCreate>,
}

/// What flow.subscribe takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowSubscribeParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the flow
    pub id: u32,
    /// Names an event of a flow, in order
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Several notifications at once come as one JSON-RPC batch; by default each is a message
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<bool>,
}

/// A subscription to what happens to a flow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowSubscribed {
    /// Names the subscription on its connection
    pub subscription: String,
    /// Events after `after` are no longer kept
    pub missed: bool,
}

/// What flow.cancel_many takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FlowsCancelParams {
    /// Id of the context
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
    /// Nothing was done but counted
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
    /// Id of the context
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

/// The lease of an attempt after its renewal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Seconds for which an attempt is the runner's without a heartbeat
    #[serde(serialize_with = "crate::rpc::finite")]
    pub lease: f64,
}

/// A job of which a runner has a running attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HeldJob {
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
}

/// IPv4 or IPv6 textual address
pub type IpAddr = String;

/// A script with what it needs, as it is stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Job {
    /// Id of the job
    pub id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the context
    pub context_id: u32,
    /// The text of the script
    pub script: String,
    /// Which runners can run it
    pub script_type: ScriptType,
    /// Seconds an attempt may take, 0 for no limit
    pub timeout: u32,
    /// Attempts that may follow a failed one
    pub retries: i64,
    /// Environment of the job's script
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
    /// What the job's script has returned, by name
    pub result: BTreeMap<String, String>,
    /// How far it is
    pub status: JobStatus,
}

/// How an attempt at a job went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobAttempt {
    /// Its number; they begin anew when the job is started again
    pub attempt: i64,
    /// Id of the runner
    pub runner_id: u32,
    /// Unix time in ms
    pub started_at: i64,
    /// Left out while it is running
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
    /// How it went
    pub outcome: AttemptOutcomeKind,
    /// Why it did not finish; the first 1,000 bytes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The newest attempts at a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobAttempts {
    /// The newest of the job's attempts, 20 at most, oldest first
    pub attempts: Vec<JobAttempt>,
}

/// What job.cancel takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobCancelParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
    /// Recorded with the job and told to its runner
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A job as a client creates it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobCreate {
    /// Id of the job
    pub id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the context
    pub context_id: u32,
    /// The text of the script
    pub script: String,
    /// Which runners can run it
    pub script_type: ScriptType,
    /// Seconds an attempt may take, 0 for no limit
    pub timeout: u32,
    /// Attempts that may follow a failed one
    pub retries: i64,
    /// Environment of the job's script
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
    /// The result it begins with; an empty one unless given
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
}

/// What job.create takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobCreateParams {
    /// Id of the context
    pub context_id: u32,
    /// The job
    pub job: JobCreate,
}

/// What job.fail takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobFailParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// Why the attempt has failed, for people
    pub error: String,
    /// What the script has returned in spite of that
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
    /// false: do not try again, whatever `retries` says
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<bool>,
    /// The attempt ends because its runner does, not by the job's fault: it counts among `lost_retries`, and `retry` says nothing
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<bool>,
}

/// What job.finish takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobFinishParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// What the script has returned, by name
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BTreeMap<String, String>>,
}

/// What job.heartbeat takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobHeartbeatParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
}

/// A page of the results that a job gets as inputs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobInputs {
    /// Results of jobs it depends on, by id
    pub inputs: BTreeMap<String, BTreeMap<String, String>>,
    /// The `after` of the next page; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
}

/// What job.inputs takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobInputsParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// The page before ended with this job; left out for the first page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
}

/// What job.list takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many records a page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Id of the context
    pub context_id: u32,
    /// Only jobs in this status
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

/// What job.load and job.tail and job.attempts and job.delete take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobLoadParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
}

/// What job.log takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobLogParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub id: u32,
    /// Names one attempt; valid until it ends or is lost
    pub token: String,
    /// Log lines
    pub lines: Vec<String>,
    /// Which output of the script wrote the lines
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
}

/// What a job runs with from now on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobOverride {
    /// Id of the job
    pub id: u32,
    /// In the place of the one it has
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Over those it has: the others stay
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobPage {
    /// The records
    pub items: Vec<Job>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// How far a job of a flow is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobProgress {
    /// Id of the job
    pub id: u32,
    /// Which runners can run it
    pub script_type: ScriptType,
    /// Ids of the jobs it waits for
    pub depends: Vec<u32>,
    /// How far it is
    pub status: JobStatus,
    /// Attempts begun in this run
    pub attempt: i64,
    /// Id of the runner
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

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum JobStatus {
    #[default]
    Dispatched,
    WaitingForPrerequisites,
    Started,
    Error,
    Finished,
}

/// Statuses of jobs.
pub type JobStatuses = Vec<JobStatus>;

/// What the graph says of a job.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobSummary {
    /// Id of the job
    pub id: u32,
    /// Ids of the jobs it waits for
    pub depends: Vec<u32>,
    /// Names of the external conditions it waits for
    pub prerequisites: Vec<String>,
    /// Which runners can run it
    pub script_type: ScriptType,
}

/// The end of a job's log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobTail {
    /// The newest log lines of the job, about 16 KiB, oldest first
    pub reports: Vec<LogReport>,
}

/// What job.take takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobTakeParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the runner
    pub runner_id: u32,
    /// The types of jobs the runner takes
    pub script_types: Vec<ScriptType>,
    /// Jobs it may hold at once
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    /// Seconds to wait for a job
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
    pub wait: Option<f64>,
    /// Seconds a job is held without a heartbeat
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
    pub lease: Option<f64>,
    /// Sent again with the same one, the runner gets the same jobs
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take_id: Option<String>,
}

/// Jobs for a runner; none if none came in time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JobTaken {
    /// The jobs, each with the token of its attempt
    pub jobs: Vec<Assignment>,
}

/// What actor.rotate_key takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KeyRotateParams {
    /// Id of the actor
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

/// A runner with what holds it back.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ListedRunner {
    /// Id of the runner
    pub id: u32,
    /// The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in
    pub pubkey: String,
    /// IP addresses
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
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
    pub held_back_for: Option<f64>,
}

/// Log lines that a runner reported together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LogReport {
    /// Unix time in ms
    pub at: i64,
    /// Which attempt at the job it is, from 1
    pub attempt: i64,
    /// Which output of the script wrote the lines
    pub stream: LogStream,
    /// Log lines
    pub lines: Vec<String>,
}

/// Which output of a script wrote the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum LogStream {
    #[default]
    #[serde(rename = "stdout")]
    Stdout,
    #[serde(rename = "stderr")]
    Stderr,
}

/// How many lines were kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Logged {
    /// How many were kept: none once a message has logged 16 MiB
    pub lines: i64,
    /// true: the attempt was cancelled or has timed out, and its script must be stopped
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<bool>,
}

/// Who is logged in, and until when.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LoggedIn {
    /// Who it is: `actor:7`, `runner:1:3` or `operator`
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
    /// Why it has ended
    pub reason: String,
    /// The subscription that has ended; left out if the whole login has
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
}

/// What auth.login and auth.renew take.
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

/// A message with its jobs, as it is stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Message {
    /// Id of the message
    pub id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the context
    pub context_id: u32,
    /// The text of the message
    pub message: String,
    /// Who is to understand the text
    pub message_type: ScriptType,
    /// How the text is written
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
    /// Its jobs, as they are now
    pub job: Vec<Job>,
    /// Log lines, the message's own first
    pub logs: Vec<String>,
    /// How far it is
    pub status: MessageStatus,
    /// Names the sending
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_id: Option<String>,
    /// How far it is on its way to a runner
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport_status: Option<TransportStatus>,
}

/// A message as a client creates it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageCreate {
    /// Id of the message
    pub id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the context
    pub context_id: u32,
    /// The text of the message
    pub message: String,
    /// Who is to understand the text
    pub message_type: ScriptType,
    /// How the text is written
    pub message_format_type: MessageFormatType,
    /// Seconds, 0 for none
    pub timeout: u32,
    /// Seconds, 0 for none
    pub timeout_ack: u32,
    /// Seconds, 0 for none
    pub timeout_result: u32,
    /// Its jobs
    pub job: Vec<JobCreate>,
    /// Log lines, the message's own first
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logs: Option<Vec<String>>,
}

/// What message.create takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageCreateParams {
    /// Id of the context
    pub context_id: u32,
    /// The message
    pub message: MessageCreate,
}

/// How the text of a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum MessageFormatType {
    #[default]
    Html,
    Text,
    Md,
}

/// What message.list takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many records a page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Id of the context
    pub context_id: u32,
    /// Only messages in this status
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<MessageStatus>,
}

/// What message.load and message.delete take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageLoadParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the message
    pub id: u32,
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessagePage {
    /// The records
    pub items: Vec<Message>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// What message.send takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MessageParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the message
    pub id: u32,
}

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum MessageStatus {
    #[default]
    Dispatched,
    Acknowledged,
    Error,
    Processed,
}

/// Kinds of messages. No member has this type: `message_type` takes a ScriptType.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum MessageType {
    #[default]
    Job,
    Chat,
    Mail,
}

/// With what a condition was satisfied.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MetPrerequisite {
    /// Unix time in ms
    pub satisfied_at: i64,
    /// Whether it is satisfied for the jobs of one flow, or of the whole context
    pub scope: Scope,
    /// Who said so
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the jobs get with it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BTreeMap<String, String>>,
    /// true: `by` and `payload` are left out, for those of the job before them have 1 MiB together, or as they were revoked a week ago
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<bool>,
}

/// A name for people: one printable line.
pub type NameText = String;

/// A token with its secret, which is shown this once.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NewToken {
    /// Names a token; it is no secret
    pub id: String,
    /// Who it is: `actor:7`, `runner:1:3` or `operator`
    pub principal: String,
    /// What the token is for, for people
    pub label: String,
    /// How much the token allows
    pub access: Access,
    /// Contexts for which the token is good; left out if for all
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

/// What prerequisite.list takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PrerequisiteListParams {
    /// Id of the context
    pub context_id: u32,
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many records a page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What prerequisite.revoke takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PrerequisiteRevokeParams {
    /// Id of the context
    pub context_id: u32,
    /// Name of the condition
    pub name: String,
    /// For the jobs of this flow alone; left out: of the whole context
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
}

/// What prerequisite.satisfy takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PrerequisiteSatisfyParams {
    /// Id of the context
    pub context_id: u32,
    /// Name of the condition
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

/// A page of conditions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Prerequisites {
    /// Conditions that are satisfied
    pub satisfied: Vec<SatisfiedPrerequisite>,
    /// All pages of these come first
    pub waiting: Vec<AwaitedPrerequisite>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A flow that stayed as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RefusedFlow {
    /// Id of the flow
    pub id: u32,
    /// Why it stayed as it is
    pub detail: String,
}

/// What became of a condition that was revoked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Revoked {
    /// Name of the condition
    pub name: String,
    /// Whether it is about one flow or about the whole context
    pub scope: Scope,
    /// Id of the flow
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// false: it was not satisfied
    pub revoked: bool,
}

/// What a caller is in a context.
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

/// A process that runs jobs of a context, as it is stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Runner {
    /// Id of the runner
    pub id: u32,
    /// The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in
    pub pubkey: String,
    /// IP addresses
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

/// What runner.connected takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerConnectedParams {
    /// Id of the context
    pub context_id: u32,
}

/// A runner as a client creates it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerCreate {
    /// Id of the runner
    pub id: u32,
    /// The public key with which it logs in, as `ed25519:…`; any other text is kept, and cannot log in
    pub pubkey: String,
    /// IP addresses
    pub address: IpAddr,
    /// Names the runner's subscription, usually runner<id>
    pub topic: String,
    /// Whether the runner runs beside the coordinator
    pub local: bool,
}

/// What runner.create takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerCreateParams {
    /// Id of the context
    pub context_id: u32,
    /// The runner
    pub runner: RunnerCreate,
}

/// What runner.list takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerListParams {
    /// The last reply's `cursor`; none for the beginning
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many records a page
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
    /// Id of the context
    pub context_id: u32,
}

/// What runner.load and runner.delete and runner.drain and runner.undrain take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerLoadParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the runner
    pub id: u32,
}

/// A page of runners.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerPage {
    /// The records
    pub items: Vec<ListedRunner>,
    /// Where the next page begins; left out on the last one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// How many runners a context has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerStats {
    /// Those that are subscribed, or wait for a job by job.take; for 5 s after that
    pub connected: i64,
    /// Those that have a running attempt, connected or not
    pub busy: i64,
}

/// What runner.subscribe takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerSubscribeParams {
    /// Id of the context
    pub context_id: u32,
    /// Id of the runner
    pub runner_id: u32,
    /// The types of jobs the runner takes
    pub script_types: Vec<ScriptType>,
    /// Jobs it may hold at once
    pub capacity: i64,
    /// Seconds a job is held without a heartbeat
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
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

/// A subscription to jobs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnerSubscribed {
    /// Names the subscription on its connection
    pub subscription: String,
    /// Seconds for which an attempt is the runner's without a heartbeat
    #[serde(serialize_with = "crate::rpc::finite")]
    pub lease: f64,
    /// Tokens of `holding` that are not, or no longer, this runner's
    pub lost: Vec<String>,
}

/// How many runners are connected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunnersConnected {
    /// How many runners are connected that take jobs of each type; every type is there. One that asks by job.take counts for 30 s after it did
    pub script_types: BTreeMap<ScriptType, i64>,
}

/// A condition that was satisfied, and how many jobs had waited for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Satisfied {
    /// Unix time in ms
    pub satisfied_at: i64,
    /// Whether it is satisfied for the jobs of one flow, or of the whole context
    pub scope: Scope,
    /// Who said so
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the jobs get with it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BTreeMap<String, String>>,
    /// true: `by` and `payload` are left out, for those of the job before them have 1 MiB together, or as they were revoked a week ago
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<bool>,
    /// Name of the condition
    pub name: String,
    /// Id of the flow
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
    /// Jobs that had waited for it
    pub released: i64,
}

/// A condition that is satisfied.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SatisfiedPrerequisite {
    /// Unix time in ms
    pub satisfied_at: i64,
    /// Whether it is satisfied for the jobs of one flow, or of the whole context
    pub scope: Scope,
    /// Who said so
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the jobs get with it
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<BTreeMap<String, String>>,
    /// true: `by` and `payload` are left out, for those of the job before them have 1 MiB together, or as they were revoked a week ago
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<bool>,
    /// Name of the condition
    pub name: String,
    /// Id of the flow
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
}

/// Whether a condition is about one flow or about the whole context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Scope {
    #[default]
    #[serde(rename = "context")]
    Context,
    #[serde(rename = "flow")]
    Flow,
}

/// Who runs a script: a runner says which types it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum ScriptType {
    #[default]
    Osis,
    Sal,
    V,
    Python,
}

/// Jobs of one script type, in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ScriptTypeStats {
    /// Jobs of this type, in whatever status
    pub jobs: i64,
    /// Those that wait for a runner. One that was cancelled counts until a runner comes by
    pub queued: i64,
    /// Seconds for which the one that is next has waited for a runner
    #[serde(serialize_with = "crate::rpc::finite")]
    pub oldest: f64,
}

/// By what a list is sorted.
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

/// What flow.unsubscribe and context.unsubscribe and runner.unsubscribe take.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SubscriptionParams {
    /// Names the subscription on its connection
    pub subscription: String,
}

/// Labels, by which lists can be filtered.
pub type Tags = Vec<String>;

/// A ticket to log in on a WebSocket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ticket {
    /// For auth.login on a WebSocket, once: whoever has it is the caller
    pub ticket: String,
    /// Unix time in seconds
    pub expires_at: i64,
}

/// What auth.ticket takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TicketParams {}

/// What token.create takes.
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

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Names a token; it is no secret
    pub id: String,
    /// Who it is: `actor:7`, `runner:1:3` or `operator`
    pub principal: String,
    /// What the token is for, for people
    pub label: String,
    /// How much the token allows
    pub access: Access,
    /// Contexts for which the token is good; left out if for all
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

/// What token.list takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenListParams {
    /// The caller's own unless given; as in token.create
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
}

/// The tokens of a principal.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenPage {
    /// The records
    pub items: Vec<TokenInfo>,
}

/// What token.revoke takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenRevokeParams {
    /// Names a token; it is no secret
    pub id: String,
}

/// What became of a token.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// Names a token; it is no secret
    pub id: String,
    /// false: there is no such token
    pub revoked: bool,
}

/// How far a message is on its way to a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum TransportStatus {
    #[default]
    Queued,
    Sent,
    Delivered,
    Read,
    Failed,
}

/// The subscription that has ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Unsubscribed {
    /// Names the subscription on its connection
    pub subscription: String,
}

/// A job that waits for a condition.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct WaitingJob {
    /// Id of the actor for whom it is; together with `id` it names the record in its context
    pub caller_id: u32,
    /// Id of the job
    pub job_id: u32,
    /// Left out if a message runs the job
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u32>,
}

/// Whom the coordinator takes the caller for.
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

/// What auth.whoami takes.
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
    #[serde(serialize_with = "crate::rpc::finite")]
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
    #[serde(serialize_with = "crate::rpc::finite")]
    pub limit: f64,
    pub setting: String,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
    pub retry_after: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
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
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "crate::rpc::finite_if_any")]
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
    /// Creates an actor, or replaces what an actor with this id has; `created_at` stays. With logins it never changes the key of an actor that is there: see actor.rotate_key.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn actor_create(&mut self, params: &ActorCreateParams) -> Result<Actor, Error> {
        self.call("actor.create", params)
    }

    /// Returns the actor. With logins an admin of a context may load its members by giving `context_id`.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn actor_load(&mut self, params: &ActorLoadParams) -> Result<Actor, Error> {
        self.call("actor.load", params)
    }

    /// Creates a context, which is a tenant with data of its own, or replaces its lists of members. Actors that a list names need not be there yet.
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_create(&mut self, params: &ContextCreateParams) -> Result<Context, Error> {
        self.call("context.create", params)
    }

    /// Returns the context with its members.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn context_load(&mut self, params: &ContextLoadParams) -> Result<Context, Error> {
        self.call("context.load", params)
    }

    /// Creates a runner in a context, or replaces what a runner with this id has. A runner must be created before it can take jobs.
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_create(&mut self, params: &RunnerCreateParams) -> Result<Runner, Error> {
        self.call("runner.create", params)
    }

    /// Returns the runner as it was created; runner.list also says whether it is held back.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn runner_load(&mut self, params: &RunnerLoadParams) -> Result<Runner, Error> {
        self.call("runner.load", params)
    }

    /// Creates a flow, or replaces it. Nothing runs before flow.start. The jobs that it lists need not be there yet. The status stays, and so does the result unless a result is given.
    ///
    /// Errors: InvalidParams, StorageError, Overloaded.
    fn flow_create(&mut self, params: &FlowCreateParams) -> Result<Flow, Error> {
        self.call("flow.create", params)
    }

    /// Returns the flow with its status and its result.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn flow_load(&mut self, params: &FlowLoadParams) -> Result<Flow, Error> {
        self.call("flow.load", params)
    }

    /// Looks up the flow's jobs, which are stored under the flow's `caller_id`, and computes in which order they run. Every list in the result is ascending. Nothing is changed.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected.
    fn flow_dag(&mut self, params: &FlowLoadParams) -> Result<FlowDag, Error> {
        self.call("flow.dag", params)
    }

    /// Creates a job, or replaces it. It runs when a flow that lists it is started. Other content for a job that has ended makes a new job of it; for one that runs that is a Conflict.
    ///
    /// Errors: InvalidParams, StorageError, Conflict, Overloaded.
    fn job_create(&mut self, params: &JobCreateParams) -> Result<Job, Error> {
        self.call("job.create", params)
    }

    /// Returns the job with its status and its result.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn job_load(&mut self, params: &JobLoadParams) -> Result<Job, Error> {
        self.call("job.load", params)
    }

    /// Creates a message with the jobs in it, or replaces it. Its jobs run after message.send.
    ///
    /// Errors: InvalidParams, StorageError.
    fn message_create(&mut self, params: &MessageCreateParams) -> Result<Message, Error> {
        self.call("message.create", params)
    }

    /// Returns the message with its jobs as they are now, and the log lines of its runners.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn message_load(&mut self, params: &MessageLoadParams) -> Result<Message, Error> {
        self.call("message.load", params)
    }

    /// Creates a flow and its jobs and starts it, in one atomic step. Sent again with the same content it changes nothing; with other content for the same ids it is a Conflict that says what differs.
    ///
    /// Errors: InvalidParams, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
    fn flow_submit(&mut self, params: &FlowSubmitParams) -> Result<Flow, Error> {
        self.call("flow.submit", params)
    }

    /// Checks that the jobs depend on each other without a cycle, and moves the whole flow in one step: jobs that wait for nothing are queued for runners. A flow that was started before stays as it is.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
    fn flow_start(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.start", params)
    }

    /// Ends the flow in Error. Runners are asked to stop the attempts that run, and nothing else of it starts.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn flow_cancel(&mut self, params: &FlowCancelParams) -> Result<Flow, Error> {
        self.call("flow.cancel", params)
    }

    /// Starts the failed part of a flow in Error again, with the jobs and dependencies that it has by now. Jobs that are Finished keep their results; the others get all their attempts anew.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict.
    fn flow_retry(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.retry", params)
    }

    /// Returns the flow, the number of its jobs in each status, and the progress of each job. Subscribe with flow.subscribe after its `last_event` to learn what happens next.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn flow_status(&mut self, params: &FlowParams) -> Result<FlowReport, Error> {
        self.call("flow.status", params)
    }

    /// Returns what happened to the flow after an event, oldest first: changes of status and log lines. It needs no WebSocket. Events are kept until some time after the flow has ended.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn flow_events(&mut self, params: &FlowEventsParams) -> Result<FlowEvents, Error> {
        self.call("flow.events", params)
    }

    /// Sends what happens to the flow as notifications `flow.event`, from an event on or from the first that is kept. The subscription lasts until flow.unsubscribe or the end of the connection.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
    fn flow_subscribe(&mut self, params: &FlowSubscribeParams) -> Result<FlowSubscribed, Error> {
        self.call("flow.subscribe", params)
    }

    /// Ends a subscription that flow.subscribe on this connection has made.
    ///
    /// Errors: InvalidParams, NotSubscribed, WebSocketRequired.
    fn flow_unsubscribe(&mut self, params: &SubscriptionParams) -> Result<Unsubscribed, Error> {
        self.call("flow.unsubscribe", params)
    }

    /// Returns a page of what happened to all flows of the context. It needs no WebSocket.
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_events(&mut self, params: &ContextEventsParams) -> Result<ContextEvents, Error> {
        self.call("context.events", params)
    }

    /// Sends what happens to all flows of the context as notifications `context.event`.
    ///
    /// Errors: InvalidParams, StorageError, Overloaded, WebSocketRequired.
    fn context_subscribe(&mut self, params: &ContextSubscribeParams) -> Result<ContextSubscribed, Error> {
        self.call("context.subscribe", params)
    }

    /// Ends a subscription that context.subscribe on this connection has made.
    ///
    /// Errors: InvalidParams, NotSubscribed, WebSocketRequired.
    fn context_unsubscribe(&mut self, params: &SubscriptionParams) -> Result<Unsubscribed, Error> {
        self.call("context.unsubscribe", params)
    }

    /// Hands jobs to a runner as notifications `runner.job`, at most `capacity` unfinished ones at a time; `runner.cancel` asks it to stop one. A runner that connects again gives its `session` and what it holds.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Overloaded, WebSocketRequired.
    fn runner_subscribe(&mut self, params: &RunnerSubscribeParams) -> Result<RunnerSubscribed, Error> {
        self.call("runner.subscribe", params)
    }

    /// Ends a subscription that runner.subscribe on this connection has made. Attempts that were handed out are still the runner's.
    ///
    /// Errors: InvalidParams, NotSubscribed, WebSocketRequired.
    fn runner_unsubscribe(&mut self, params: &SubscriptionParams) -> Result<Unsubscribed, Error> {
        self.call("runner.unsubscribe", params)
    }

    /// Returns jobs for a runner, and waits up to `wait` seconds if there is none. Sent again with the same `take_id` it returns the same jobs. It cannot be a notification.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Overloaded.
    fn job_take(&mut self, params: &JobTakeParams) -> Result<JobTaken, Error> {
        self.call("job.take", params)
    }

    /// Says that the attempt goes on, so that its lease does not lapse. An attempt that has ended, was lost or was cancelled is answered with StaleToken.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_heartbeat(&mut self, params: &JobHeartbeatParams) -> Result<Heartbeat, Error> {
        self.call("job.heartbeat", params)
    }

    /// Returns, page by page, the results of the jobs that this attempt's job depends on. Only a runner whose assignment has `inputs_from` needs it. It is no heartbeat.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_inputs(&mut self, params: &JobInputsParams) -> Result<JobInputs, Error> {
        self.call("job.inputs", params)
    }

    /// Appends lines to the log of the attempt, and renews its lease. Followers of the flow get them as events.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_log(&mut self, params: &JobLogParams) -> Result<Logged, Error> {
        self.call("job.log", params)
    }

    /// Returns the newest log lines of the job, about 16 KiB, for as long as the job is stored.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn job_tail(&mut self, params: &JobLoadParams) -> Result<JobTail, Error> {
        self.call("job.tail", params)
    }

    /// Returns the newest 20 attempts at the job, over retries of its flow.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn job_attempts(&mut self, params: &JobLoadParams) -> Result<JobAttempts, Error> {
        self.call("job.attempts", params)
    }

    /// Reports that the attempt has succeeded, with its result. Jobs that waited for this one are released in the same step. Reporting it again with the same token is answered as the first time.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_finish(&mut self, params: &JobFinishParams) -> Result<AttemptOutcome, Error> {
        self.call("job.finish", params)
    }

    /// Reports that the attempt has failed, or that the runner gives it up (`lost`). The job is tried again while it has attempts left.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, StaleToken.
    fn job_fail(&mut self, params: &JobFailParams) -> Result<AttemptOutcome, Error> {
        self.call("job.fail", params)
    }

    /// Makes the message's embedded jobs jobs of the context and runs them like a flow. A message that was sent before stays as it is.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
    fn message_send(&mut self, params: &MessageParams) -> Result<Message, Error> {
        self.call("message.send", params)
    }

    /// Declares that an external condition is met, for the jobs of one flow or of the whole context. Jobs that waited for it and for nothing else are queued. It is remembered for jobs that come later.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn prerequisite_satisfy(&mut self, params: &PrerequisiteSatisfyParams) -> Result<Satisfied, Error> {
        self.call("prerequisite.satisfy", params)
    }

    /// Declares that an external condition is no longer met. Jobs that were not released yet wait for it again; jobs that were released go on.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn prerequisite_revoke(&mut self, params: &PrerequisiteRevokeParams) -> Result<Revoked, Error> {
        self.call("prerequisite.revoke", params)
    }

    /// Returns a page of the conditions that jobs wait for, each with some of these jobs, and then of those that are satisfied.
    ///
    /// Errors: InvalidParams, StorageError.
    fn prerequisite_list(&mut self, params: &PrerequisiteListParams) -> Result<Prerequisites, Error> {
        self.call("prerequisite.list", params)
    }

    /// Returns a page of the ids of all contexts that were ever written to, ascending.
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_list(&mut self, params: &ContextListParams) -> Result<ContextPage, Error> {
        self.call("context.list", params)
    }

    /// Counts the context's flows and jobs by status, what waits for runners, and the runners.
    ///
    /// Errors: InvalidParams, StorageError.
    fn context_stats(&mut self, params: &ContextStatsParams) -> Result<ContextStats, Error> {
        self.call("context.stats", params)
    }

    /// Returns a page of the context's runners by id, each with what holds it back if anything does.
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_list(&mut self, params: &RunnerListParams) -> Result<RunnerPage, Error> {
        self.call("runner.list", params)
    }

    /// Returns how many runners are connected that take jobs of each type, at whatever coordinator on the store.
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_connected(&mut self, params: &RunnerConnectedParams) -> Result<RunnersConnected, Error> {
        self.call("runner.connected", params)
    }

    /// Returns a page of the context's flows.
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_list(&mut self, params: &FlowListParams) -> Result<FlowPage, Error> {
        self.call("flow.list", params)
    }

    /// Returns a page of the context's jobs.
    ///
    /// Errors: InvalidParams, StorageError.
    fn job_list(&mut self, params: &JobListParams) -> Result<JobPage, Error> {
        self.call("job.list", params)
    }

    /// Returns a page of the context's messages.
    ///
    /// Errors: InvalidParams, StorageError.
    fn message_list(&mut self, params: &MessageListParams) -> Result<MessagePage, Error> {
        self.call("message.list", params)
    }

    /// Deletes the runner. Deleting one that is not there is no error.
    ///
    /// Errors: InvalidParams, StorageError.
    fn runner_delete(&mut self, params: &RunnerLoadParams) -> Result<Deleted, Error> {
        self.call("runner.delete", params)
    }

    /// Deletes the flow with its jobs, except those that another flow lists. A flow that runs is a Conflict; deleting one that is not there is no error.
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn flow_delete(&mut self, params: &FlowParams) -> Result<Deleted, Error> {
        self.call("flow.delete", params)
    }

    /// Deletes the job. One that runs, or that an active flow needs, is a Conflict; deleting one that is not there is no error.
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn job_delete(&mut self, params: &JobLoadParams) -> Result<Deleted, Error> {
        self.call("job.delete", params)
    }

    /// Deletes the message with the jobs that it was sent with. One that is being processed is a Conflict; deleting one that is not there is no error.
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn message_delete(&mut self, params: &MessageLoadParams) -> Result<Deleted, Error> {
        self.call("message.delete", params)
    }

    /// Ends one job that waits or runs, and its flow or message with it, in Error.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn job_cancel(&mut self, params: &JobCancelParams) -> Result<Job, Error> {
        self.call("job.cancel", params)
    }

    /// Runs a flow again that has ended: all of it, or a job and what depends on it.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, DagMissingDependency, DagCycleDetected, Conflict, Overloaded.
    fn flow_rerun(&mut self, params: &FlowRerunParams) -> Result<Flow, Error> {
        self.call("flow.rerun", params)
    }

    /// Hands out none of a started flow's jobs. What runs goes on. A restart releases nothing.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn flow_pause(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.pause", params)
    }

    /// Hands out the jobs of a paused flow again.
    ///
    /// Errors: InvalidParams, NotFound, StorageError, Conflict.
    fn flow_resume(&mut self, params: &FlowParams) -> Result<Flow, Error> {
        self.call("flow.resume", params)
    }

    /// Stops the flows that a filter means, for some seconds a call; `cursor` goes on.
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_cancel_many(&mut self, params: &FlowsCancelParams) -> Result<FlowsDone, Error> {
        self.call("flow.cancel_many", params)
    }

    /// Retries the flows in Error that a filter means, for some seconds a call.
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_retry_many(&mut self, params: &FlowsParams) -> Result<FlowsDone, Error> {
        self.call("flow.retry_many", params)
    }

    /// Deletes the flows that a filter means and that do not run, for some seconds a call.
    ///
    /// Errors: InvalidParams, StorageError.
    fn flow_delete_many(&mut self, params: &FlowsParams) -> Result<FlowsDone, Error> {
        self.call("flow.delete_many", params)
    }

    /// Hands out none of the context's jobs, or none of one script type. What runs goes on.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn context_pause(&mut self, params: &ContextPauseParams) -> Result<ContextPaused, Error> {
        self.call("context.pause", params)
    }

    /// Ends what context.pause with the same params has begun.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn context_resume(&mut self, params: &ContextPauseParams) -> Result<ContextPaused, Error> {
        self.call("context.resume", params)
    }

    /// Deletes a context with all that is in it, in slices. It goes on after a restart.
    ///
    /// Errors: InvalidParams, StorageError, Conflict.
    fn context_delete(&mut self, params: &ContextDeleteParams) -> Result<Deleted, Error> {
        self.call("context.delete", params)
    }

    /// Gives the runner nothing new. It finishes what it holds, and stays drained.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn runner_drain(&mut self, params: &RunnerLoadParams) -> Result<Runner, Error> {
        self.call("runner.drain", params)
    }

    /// Gives the runner jobs again.
    ///
    /// Errors: InvalidParams, NotFound, StorageError.
    fn runner_undrain(&mut self, params: &RunnerLoadParams) -> Result<Runner, Error> {
        self.call("runner.undrain", params)
    }

    /// Returns a nonce for the caller to sign with its key. SECURITY.md describes the text that is signed.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict.
    fn auth_challenge(&mut self, params: &ChallengeParams) -> Result<Challenge, Error> {
        self.call("auth.challenge", params)
    }

    /// Logs in with a signature, a token or a ticket. On a WebSocket the whole connection is somebody from then on; over HTTP the result has a token for the calls that follow.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
    fn auth_login(&mut self, params: &LoginParams) -> Result<LoggedIn, Error> {
        self.call("auth.login", params)
    }

    /// Logs in once more, as the same principal, before a login is over. Subscriptions go on.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Overloaded.
    fn auth_renew(&mut self, params: &LoginParams) -> Result<LoggedIn, Error> {
        self.call("auth.renew", params)
    }

    /// Returns a ticket with which auth.login logs in on a WebSocket, once and within 30 s. It is for pages whose cookie does not reach the WebSocket's port.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict.
    fn auth_ticket(&mut self, params: &TicketParams) -> Result<Ticket, Error> {
        self.call("auth.ticket", params)
    }

    /// Returns whom the coordinator takes the caller for, and until when.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict.
    fn auth_whoami(&mut self, params: &WhoAmIParams) -> Result<WhoAmI, Error> {
        self.call("auth.whoami", params)
    }

    /// Makes a token and shows it once. An actor makes tokens for itself, an admin of a context for its runners, the operator for anybody.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn token_create(&mut self, params: &TokenCreateParams) -> Result<NewToken, Error> {
        self.call("token.create", params)
    }

    /// Returns the tokens of a principal, without their secrets.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn token_list(&mut self, params: &TokenListParams) -> Result<TokenPage, Error> {
        self.call("token.list", params)
    }

    /// Ends a token. Connections, subscriptions and waiting calls that were opened with it end within a second.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn token_revoke(&mut self, params: &TokenRevokeParams) -> Result<TokenRevoked, Error> {
        self.call("token.revoke", params)
    }

    /// Gives an actor another key. The operator needs no signatures; the actor itself signs with the old key and with the new one. The old key can log in for `overlap` seconds more.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound, Overloaded.
    fn actor_rotate_key(&mut self, params: &KeyRotateParams) -> Result<Actor, Error> {
        self.call("actor.rotate_key", params)
    }

    /// Ends all logins of an actor, for good. Its record stays.
    ///
    /// Errors: InvalidParams, StorageError, NotLoggedIn, Conflict, Forbidden, NotFound.
    fn actor_revoke(&mut self, params: &ActorRevokeParams) -> Result<ActorRevoked, Error> {
        self.call("actor.revoke", params)
    }
}

impl<C: Caller> Api for C {}
