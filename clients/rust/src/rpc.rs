//! Calls, replies and what a call fails with.

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::api::ErrorKind;

/// What makes calls.
pub trait Caller {
    /// Call any method, and decode its result.
    fn call<P: Serialize + ?Sized, R: DeserializeOwned>(&mut self, method: &str, params: &P) -> Result<R, Error>;
}

/// What a call fails with.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// It was answered with an error.
    Rpc(Box<RpcError>),
    /// The connection is gone, or took too long. The call may have been applied.
    Io(io::Error),
    /// What was sent or came is not what the types say.
    Json(serde_json::Error),
    /// What answered is no coordinator, or the URL is none.
    Protocol(String),
}

/// An error that a call was answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Value,
    /// The same by code, with typed data.
    pub kind: ErrorKind,
}

impl RpcError {
    /// `data` in words; empty if it has none.
    pub fn detail(&self) -> String {
        match &self.data {
            Value::Array(faults) => faults.iter().map(fault).collect::<Vec<_>>().join("; "),
            data => data["detail"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

fn fault(fault: &Value) -> String {
    let place = fault["loc"].as_array().map(|steps| {
        let words: Vec<String> =
            steps.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned)).collect();
        words.join(".")
    });
    let words = fault["msg"].as_str().unwrap_or_default();
    match place {
        Some(place) if !place.is_empty() => format!("{place}: {words}"),
        _ => words.to_owned(),
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)?;
        match self.detail() {
            detail if detail.is_empty() => Ok(()),
            detail => write!(f, ": {detail}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rpc(error) => error.fmt(f),
            Error::Io(error) => error.fmt(f),
            Error::Json(error) => error.fmt(f),
            Error::Protocol(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Error::Io(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Json(error)
    }
}

#[derive(Serialize)]
struct Request<'a, P: ?Sized> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a P,
}

/// A number as JSON has one.
pub(crate) fn finite<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        Err(S::Error::custom(format!("JSON has no number for {value}")))
    }
}

/// The same of one that may be missing.
pub(crate) fn finite_if_any<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => finite(value, serializer),
        None => serializer.serialize_none(),
    }
}

pub(crate) fn request<P: Serialize + ?Sized>(id: u64, method: &str, params: &P) -> Result<String, Error> {
    Ok(serde_json::to_string(&Request { jsonrpc: "2.0", id, method, params })?)
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

/// The result in a reply.
pub(crate) fn outcome<R: DeserializeOwned>(mut reply: Value) -> Result<R, Error> {
    if let Some(error) = reply.get_mut("error").map(Value::take) {
        let ErrorObject { code, message, data } = serde_json::from_value(error)?;
        let kind = ErrorKind::of(code, &data);
        return Err(Error::Rpc(Box::new(RpcError { code, message, data, kind })));
    }
    match reply.get_mut("result").map(Value::take) {
        Some(result) => Ok(serde_json::from_value(result)?),
        None => Err(Error::Protocol("what answered speaks no JSON-RPC".to_owned())),
    }
}

/// A URL's parts, as far as a coordinator's has any.
pub(crate) struct Target {
    pub authority: String,
    pub host: String,
    pub port: u16,
    pub path: String,
}

impl Target {
    /// The part behind the scheme, which must be this one.
    pub fn parse(url: &str, scheme: &str, port: u16) -> Result<Target, Error> {
        let bad = |why: &str| Error::Protocol(format!("{url:?} is no URL of a coordinator: {why}"));
        let rest = url
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .ok_or_else(|| bad(&format!("it does not begin with {scheme}://")))?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Error::Protocol("there are credentials in the coordinator's URL; use with_token".to_owned()));
        }
        if rest.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(bad("there is a blank in it"));
        }
        let bracket = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, given) = match authority[bracket..].rfind(':') {
            Some(at) => (&authority[..bracket + at], &authority[bracket + at + 1..]),
            None => (authority, ""),
        };
        let port = match given {
            "" => port,
            digits => digits.parse().map_err(|_| bad("its port is no number"))?,
        };
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        Ok(Target {
            authority: format!("{host}:{port}"),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        })
    }
}

/// A connection to the first of its addresses that accepts one in time, and how long a read or write may take there.
pub(crate) fn connected(target: &Target, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let mut trouble = io::Error::from(io::ErrorKind::NotFound);
    for address in (target.host.as_str(), target.port).to_socket_addrs()? {
        let attempt = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        match attempt {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(timeout)?;
                stream.set_write_timeout(timeout)?;
                return Ok(stream);
            }
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

/// A line of a head, which nobody can end early.
pub(crate) fn header(name: &str, value: &str) -> Result<String, Error> {
    if value.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err(Error::Protocol(format!("{name} has a control character in it")));
    }
    Ok(format!("{name}: {value}\r\n"))
}
