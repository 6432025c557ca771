//! Calls over HTTP without TLS, on one connection that is made again when it is closed. With TLS use a WebSocket over a
//! stream of your own, or a proxy.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::rpc::{connected, header, outcome, request, Caller, Error, Target};

const MAX_REPLY_BYTES: u64 = 256 << 20;
const MAX_LINE_BYTES: u64 = 16 << 10;

/// A client of the HTTP API. A call is sent once: after an error of the connection it may have been applied.
pub struct HttpClient {
    target: Target,
    token: Option<String>,
    timeout: Option<Duration>,
    connection: Option<BufReader<TcpStream>>,
}

impl HttpClient {
    /// url: `http://HOST:PORT`.
    pub fn new(url: &str) -> Result<HttpClient, Error> {
        let target = Target::parse(url, "http", 9652)?;
        Ok(HttpClient { target, token: None, timeout: Some(Duration::from_secs(60)), connection: None })
    }

    /// Show this token, where callers log in.
    pub fn with_token(mut self, token: &str) -> HttpClient {
        self.token = Some(token.to_owned());
        self
    }

    /// How long nothing may come; 60 s.
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> HttpClient {
        self.timeout = timeout;
        self.connection = None;
        self
    }

    fn exchange(&mut self, body: &str) -> Result<Vec<u8>, Error> {
        let mut connection = match self.connection.take() {
            // One on which there is something to be read now has been closed, or answers what nobody has asked.
            Some(connection) if connection.buffer().is_empty() && is_idle(connection.get_ref()) => connection,
            _ => BufReader::new(connected(&self.target, self.timeout)?),
        };
        let stream = connection.get_mut();
        let mut head = format!("POST {} HTTP/1.1\r\n", self.target.path);
        head += &header("Host", &self.target.authority)?;
        head += "Content-Type: application/json\r\n";
        head += &header("Content-Length", &body.len().to_string())?;
        if let Some(token) = &self.token {
            head += &header("Authorization", &format!("Bearer {token}"))?;
        }
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let (content, is_kept) = read_response(&mut connection)?;
        if is_kept {
            self.connection = Some(connection);
        }
        Ok(content)
    }
}

impl Caller for HttpClient {
    fn call<P: Serialize + ?Sized, R: DeserializeOwned>(&mut self, method: &str, params: &P) -> Result<R, Error> {
        let content = self.exchange(&request(1, method, params)?)?;
        match serde_json::from_slice(&content) {
            Ok(reply) => outcome(reply),
            Err(_) => Err(Error::Protocol(format!("{} answered no JSON-RPC", self.target.authority))),
        }
    }
}

fn is_idle(stream: &TcpStream) -> bool {
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let is_idle = matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    is_idle && stream.set_nonblocking(false).is_ok()
}

fn read_response(connection: &mut BufReader<TcpStream>) -> Result<(Vec<u8>, bool), Error> {
    let status = line(connection)?;
    if !status.starts_with("HTTP/1.") {
        return Err(Error::Protocol("what listens there is no HTTP server".to_owned()));
    }
    let (mut length, mut is_chunked, mut is_kept) = (None, false, status.starts_with("HTTP/1.1"));
    loop {
        let field = line(connection)?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').unwrap_or((&field, ""));
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse::<u64>().ok(),
            ("transfer-encoding", value) => is_chunked = value.eq_ignore_ascii_case("chunked"),
            ("connection", value) if value.eq_ignore_ascii_case("close") => is_kept = false,
            _ => (),
        }
    }
    let mut content = Vec::new();
    if is_chunked {
        loop {
            let size = line(connection)?;
            let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| Error::Protocol("a chunk without a size".to_owned()))?;
            read_exactly(connection, size, &mut content)?;
            if line(connection)?.is_empty() && size == 0 {
                break;
            }
        }
    } else if let Some(length) = length {
        read_exactly(connection, length, &mut content)?;
    } else {
        connection.by_ref().take(MAX_REPLY_BYTES).read_to_end(&mut content)?;
        is_kept = false;
    }
    Ok((content, is_kept))
}

fn read_exactly(connection: &mut BufReader<TcpStream>, size: u64, content: &mut Vec<u8>) -> Result<(), Error> {
    if content.len() as u64 + size > MAX_REPLY_BYTES {
        return Err(Error::Protocol("a reply that is too long".to_owned()));
    }
    let read = connection.by_ref().take(size).read_to_end(content)?;
    if (read as u64) < size {
        return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

fn line(connection: &mut BufReader<TcpStream>) -> Result<String, Error> {
    let mut text = Vec::new();
    connection.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut text)?;
    if text.pop() != Some(b'\n') {
        return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
    }
    if text.last() == Some(&b'\r') {
        text.pop();
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
