//! A typed client of HeroCoordinator. [`HttpClient`] and [`WebSocketClient`] have every method of [`Api`].
//!
//! ```no_run
//! use herocoordinator::{Api, ErrorKind, FlowLoadParams, Error, HttpClient};
//!
//! let mut client = HttpClient::new("http://127.0.0.1:9652")?;
//! match client.flow_load(&FlowLoadParams { context_id: 1, id: 10 }) {
//!     Ok(flow) => println!("{:?} {:?}", flow.status, flow.result),
//!     Err(Error::Rpc(error)) if matches!(error.kind, ErrorKind::NotFound(_)) => println!("{error}"),
//!     Err(error) => return Err(error),
//! }
//! # Ok::<(), Error>(())
//! ```

#[rustfmt::skip]
mod api;
mod http;
mod rpc;
mod sha1;
mod websocket;

pub use api::*;
pub use http::HttpClient;
pub use rpc::{Caller, Error, RpcError};
pub use websocket::{Stream, WebSocketClient};
