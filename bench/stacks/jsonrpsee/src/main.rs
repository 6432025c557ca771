//! jsonrpsee with redis-rs: `jsonrpsee-peer SOCKET UPSERT.LUA` prints its port, then serves until it is terminated.
//!
//! One thread, like its peers. Messages of a WebSocket are worked on together and answered as they are ready. All share
//! one multiplexed connection, which pipelines what gathers. jsonrpsee itself takes the calls of a batch one after the
//! other, each with a round trip to the store, so a batch is a pipeline here, in a middleware.

use std::collections::HashMap;
use std::{env, fs};

use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceBuilder, RpcServiceT};
use jsonrpsee::server::{BatchResponseBuilder, MethodResponse, ResponsePayload, RpcModule, Server, ServerConfig};
use jsonrpsee::types::{ErrorObjectOwned, Id, Params, Request};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};

const BACKLOG: u32 = 2048;
const MAX_CONNECTIONS: u32 = 10_000;
const MAX_RESPONSE_BYTES: usize = 10 << 20;

/// Members of a stored job, in the order in which they are answered.
const NAMES: [&str; 14] = [
    "id",
    "caller_id",
    "context_id",
    "script",
    "script_type",
    "timeout",
    "retries",
    "env_vars",
    "prerequisites",
    "depends",
    "created_at",
    "updated_at",
    "result",
    "status",
];

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Copy, Deserialize, Serialize)]
enum ScriptType {
    Osis,
    Sal,
    V,
    Python,
}

impl ScriptType {
    fn name(self) -> &'static str {
        match self {
            Self::Osis => "Osis",
            Self::Sal => "Sal",
            Self::V => "V",
            Self::Python => "Python",
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        [Self::Osis, Self::Sal, Self::V, Self::Python].into_iter().find(|one| one.name().as_bytes() == name)
    }
}

/// A job as it is given.
#[derive(Deserialize)]
struct GivenJob {
    id: u32,
    caller_id: u32,
    context_id: u32,
    script: String,
    script_type: ScriptType,
    timeout: u32,
    retries: u8,
    env_vars: HashMap<String, String>,
    prerequisites: Vec<String>,
    depends: Vec<u32>,
    result: Option<HashMap<String, String>>,
}

/// A job as it is answered.
#[derive(Clone, Serialize)]
struct Job {
    id: u32,
    caller_id: u32,
    context_id: u32,
    script: String,
    script_type: ScriptType,
    timeout: u32,
    retries: u8,
    env_vars: HashMap<String, String>,
    prerequisites: Vec<String>,
    depends: Vec<u32>,
    created_at: u64,
    updated_at: u64,
    result: HashMap<String, String>,
    status: String,
}

#[derive(Deserialize)]
struct LoadParams {
    context_id: u32,
    caller_id: u32,
    id: u32,
}

#[derive(Deserialize)]
struct CreateParams {
    context_id: u32,
    job: GivenJob,
}

fn failed(error: impl ToString) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32603, error.to_string(), None::<()>)
}

fn not_found() -> ErrorObjectOwned {
    ErrorObjectOwned::owned(-32001, "Not Found", None::<()>)
}

/// The job that the fields of a hash are.
fn job_of(found: Value) -> Result<Job, ErrorObjectOwned> {
    let fields = match found {
        Value::Array(items) => items,
        other => return Err(failed(format!("the store answered {other:?}"))),
    };
    if fields.is_empty() {
        return Err(not_found());
    }
    let mut members: [&[u8]; NAMES.len()] = [&[]; NAMES.len()];
    for pair in fields.chunks_exact(2) {
        if let [Value::BulkString(name), Value::BulkString(value)] = pair {
            if let Some(at) = NAMES.iter().position(|known| known.as_bytes() == name) {
                members[at] = value;
            }
        }
    }
    Ok(Job {
        id: read(members[0])?,
        caller_id: read(members[1])?,
        context_id: read(members[2])?,
        script: String::from_utf8(members[3].to_vec()).map_err(failed)?,
        script_type: ScriptType::named(members[4]).ok_or_else(|| failed("an unknown script_type is stored"))?,
        timeout: read(members[5])?,
        retries: read(members[6])?,
        env_vars: read(members[7])?,
        prerequisites: read(members[8])?,
        depends: read(members[9])?,
        created_at: read(members[10])?,
        updated_at: read(members[11])?,
        result: read(members[12])?,
        status: String::from_utf8(members[13].to_vec()).map_err(failed)?,
    })
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, ErrorObjectOwned> {
    serde_json::from_slice(value).map_err(failed)
}

fn written<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("members of a job can be written as JSON")
}

/// Where jobs are, as hashes.
#[derive(Clone)]
struct Jobs {
    connection: MultiplexedConnection,
    upsert: String,
}

impl Jobs {
    async fn open(socket: &str, script: &str) -> Result<Self, Failure> {
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = Client::open(format!("redis+unix://{socket}"))?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let upsert = redis::cmd("SCRIPT").arg("LOAD").arg(script).query_async(&mut connection).await?;
        Ok(Self { connection, upsert })
    }

    fn load_command(&self, params: &LoadParams) -> Cmd {
        let mut command = redis::cmd("HGETALL");
        command.arg(format!("{}:job:{}:{}", params.context_id, params.caller_id, params.id));
        command
    }

    fn create_command(&self, params: &CreateParams) -> Cmd {
        let job = &params.job;
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.upsert).arg(1).arg(format!("{}:job:{}:{}", params.context_id, job.caller_id, job.id));
        command.arg("id").arg(job.id).arg("caller_id").arg(job.caller_id).arg("context_id").arg(job.context_id);
        command.arg("script").arg(&job.script).arg("script_type").arg(job.script_type.name());
        command.arg("timeout").arg(job.timeout).arg("retries").arg(job.retries);
        command.arg("env_vars").arg(written(&job.env_vars));
        command.arg("prerequisites").arg(written(&job.prerequisites));
        command.arg("depends").arg(written(&job.depends));
        if let Some(result) = &job.result {
            command.arg("result").arg(written(result));
        }
        command
    }

    fn command(&self, method: &str, params: Params<'_>) -> Result<Cmd, ErrorObjectOwned> {
        match method {
            "job.load" => Ok(self.load_command(&params.parse()?)),
            "job.create" => Ok(self.create_command(&params.parse()?)),
            _ => Err(ErrorObjectOwned::owned(-32601, "Method not found", None::<()>)),
        }
    }

    async fn call(&self, command: Cmd) -> Result<Job, ErrorObjectOwned> {
        let mut connection = self.connection.clone();
        job_of(command.query_async(&mut connection).await.map_err(failed)?)
    }

    /// The answers to a batch, whose commands are one pipeline.
    async fn answered(&self, batch: Batch<'_>) -> MethodResponse {
        let mut pipeline = Pipeline::new();
        let mut has_notifications = false;
        let mut calls: Vec<(Id<'_>, Option<ErrorObjectOwned>)> = Vec::with_capacity(batch.len());
        for entry in batch {
            match entry {
                Ok(BatchEntry::Call(request)) => {
                    let params = Params::new(request.params.as_deref().map(RawValue::get));
                    match self.command(&request.method, params) {
                        Ok(command) => {
                            pipeline.add_command(command);
                            calls.push((request.id, None));
                        }
                        Err(error) => calls.push((request.id, Some(error))),
                    }
                }
                Ok(BatchEntry::Notification(_)) => has_notifications = true,
                Err(error) => {
                    let (error, id) = error.into_parts();
                    calls.push((id, Some(error.into_owned())));
                }
            }
        }
        if calls.is_empty() && has_notifications {
            return MethodResponse::notification();
        }
        let mut found = if pipeline.is_empty() {
            Vec::new().into_iter()
        } else {
            let mut connection = self.connection.clone();
            match pipeline.query_async::<Vec<Value>>(&mut connection).await {
                Ok(values) => values.into_iter(),
                Err(error) => return MethodResponse::error(Id::Null, failed(error)),
            }
        };
        let mut replies = BatchResponseBuilder::new_with_limit(MAX_RESPONSE_BYTES);
        for (id, error) in calls {
            let job = match error {
                Some(error) => Err(error),
                None => found.next().ok_or_else(|| failed("the store left out an answer")).and_then(job_of),
            };
            let reply = match job {
                Ok(job) => MethodResponse::response(id, ResponsePayload::success(job), MAX_RESPONSE_BYTES),
                Err(error) => MethodResponse::error(id, error),
            };
            if let Err(too_large) = replies.append(reply) {
                return too_large;
            }
        }
        MethodResponse::from_batch(replies.finish())
    }
}

/// Answers batches itself and leaves the rest to the methods.
#[derive(Clone)]
struct Pipelined<S> {
    methods: S,
    jobs: Jobs,
}

impl<S> RpcServiceT for Pipelined<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            BatchResponse = MethodResponse,
            NotificationResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.methods.call(request)
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let jobs = self.jobs.clone();
        async move { jobs.answered(batch).await }
    }

    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.methods.notification(notification)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [socket, script] = arguments.as_slice() else {
        return Err("usage: jsonrpsee-peer SOCKET UPSERT.LUA".into());
    };
    let jobs = Jobs::open(socket, &fs::read_to_string(script)?).await?;
    let mut module = RpcModule::new(jobs.clone());
    for method in ["job.load", "job.create"] {
        module.register_async_method(method, move |params, jobs, _| async move {
            jobs.call(jobs.command(method, params)?).await
        })?;
    }
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let port = listener.local_addr()?.port();
    let middleware = RpcServiceBuilder::new().layer_fn(move |methods| Pipelined { methods, jobs: jobs.clone() });
    let server = Server::builder()
        .set_config(ServerConfig::builder().max_connections(MAX_CONNECTIONS).build())
        .set_rpc_middleware(middleware)
        .build_from_tcp(listener)?
        .start(module);
    println!("{port}");
    signal(SignalKind::terminate())?.recv().await;
    server.stop()?;
    Ok(())
}
