//! Calls and notifications over a WebSocket (RFC 6455), on whatever stream there is.

use std::collections::hash_map::RandomState;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::Serialize;
use serde_json::Value;

use crate::api::Notification;
use crate::rpc::{connected, header, outcome, request, Caller, Error, Target};
use crate::sha1::{base64, sha1};

const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const TIMEOUT: Duration = Duration::from_secs(60);
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_MESSAGE_BYTES: u64 = 256 << 20;
const MAX_CONTROL_BYTES: u64 = 125;
const MAX_NOTIFICATIONS: usize = 10_000;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A connection: TCP, or what speaks TLS over it.
pub trait Stream: Read + Write {
    /// How long a read may take; None for ever. A read that takes longer fails with WouldBlock or TimedOut.
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        TcpStream::set_read_timeout(self, timeout)
    }
}

/// A client over one WebSocket, for one thread. It is not connected again when the connection is lost.
///
/// Notifications that come while a call waits for its reply are kept for `next_notification`, at most 10,000: then the
/// call fails. The coordinator pings who is silent, and is answered while this reads; who neither calls nor waits for
/// notifications for 40 s is disconnected.
pub struct WebSocketClient<S: Stream = TcpStream> {
    stream: BufReader<S>,
    timeout: Duration,
    last_id: u64,
    waiting: VecDeque<Value>,
    frame: Vec<u8>,   // of which a part has come
    message: Vec<u8>, // of which some frames have come
    is_in_message: bool,
    masks: RandomState,
    sent: u64,
}

impl WebSocketClient<TcpStream> {
    /// Connect to `ws://HOST:PORT`. token: where callers log in.
    pub fn connect(url: &str, token: Option<&str>) -> Result<WebSocketClient<TcpStream>, Error> {
        let target = Target::parse(url, "ws", 9653)?;
        WebSocketClient::shake_hands(connected(&target, Some(TIMEOUT))?, &target, token)
    }
}

impl<S: Stream> WebSocketClient<S> {
    /// Speak over a stream that is connected: one of TLS, for a `wss://` URL.
    pub fn over(stream: S, url: &str, token: Option<&str>) -> Result<WebSocketClient<S>, Error> {
        let target = Target::parse(url, "wss", 9653).or_else(|_| Target::parse(url, "ws", 9653))?;
        WebSocketClient::shake_hands(stream, &target, token)
    }

    fn shake_hands(mut stream: S, target: &Target, token: Option<&str>) -> Result<WebSocketClient<S>, Error> {
        let masks = RandomState::new();
        let nonce = [random(&masks, u64::MAX).to_be_bytes(), random(&masks, u64::MAX - 1).to_be_bytes()].concat();
        let key = base64(&nonce);
        let mut head = format!("GET {} HTTP/1.1\r\n", target.path);
        head += &header("Host", &target.authority)?;
        head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
        head += &header("Sec-WebSocket-Key", &key)?;
        head += "Sec-WebSocket-Protocol: herocoordinator.v1\r\n";
        if let Some(token) = token {
            head += &header("Authorization", &format!("Bearer {token}"))?;
        }
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        let mut stream = BufReader::new(stream);
        check_answer(&mut stream, &base64(&sha1(format!("{key}{ACCEPT_SUFFIX}").as_bytes())))?;
        Ok(WebSocketClient {
            stream,
            timeout: TIMEOUT,
            last_id: 0,
            waiting: VecDeque::new(),
            frame: Vec::new(),
            message: Vec::new(),
            is_in_message: false,
            masks,
            sent: 0,
        })
    }

    /// How long a call waits for its reply; 60 s. After that its connection is of no use.
    pub fn with_timeout(mut self, timeout: Duration) -> WebSocketClient<S> {
        self.timeout = timeout;
        self
    }

    /// The next notification; None if none came in so long.
    pub fn next_notification(&mut self, within: Duration) -> Result<Option<Notification>, Error> {
        let deadline = after(within);
        loop {
            if let Some(mut notice) = self.waiting.pop_front() {
                let params = notice.get_mut("params").map(Value::take).unwrap_or_default();
                return Ok(Some(Notification::of(notice["method"].as_str().unwrap_or_default(), params)?));
            }
            match self.next_message(deadline)? {
                Some(message) => {
                    self.sort(message, None)?;
                }
                None => return Ok(None),
            }
        }
    }

    /// Say goodbye.
    pub fn close(mut self) -> Result<(), Error> {
        self.write(CLOSE, &1000u16.to_be_bytes())
    }

    /// Keep what is a notification; the reply to `id` if it is among the rest.
    fn sort(&mut self, message: Value, id: Option<u64>) -> Result<Option<Value>, Error> {
        let items = match message {
            Value::Array(items) => items,
            item => vec![item],
        };
        let mut found = None;
        for item in items {
            if item["method"].is_string() {
                if self.waiting.len() == MAX_NOTIFICATIONS {
                    return Err(Error::Protocol("there are more notifications than may wait".to_owned()));
                }
                self.waiting.push_back(item);
            } else if item["id"].is_null() || (id.is_some() && item["id"].as_u64() == id) {
                found = Some(item);
            }
        }
        Ok(found)
    }

    /// The next message; None if it is not there by then.
    fn next_message(&mut self, deadline: Instant) -> Result<Option<Value>, Error> {
        loop {
            let Some((kind, is_final, payload)) = self.next_frame(deadline)? else { return Ok(None) };
            match kind {
                PING => self.write(PONG, &payload)?,
                PONG => (),
                CLOSE => {
                    let _ = self.write(CLOSE, &payload[..payload.len().min(2)]);
                    return Err(closing(&payload));
                }
                TEXT | BINARY | CONTINUATION => {
                    if self.is_in_message != (kind == CONTINUATION) {
                        return Err(Error::Protocol("frames in a wrong order".to_owned()));
                    }
                    self.message.extend(payload);
                    self.is_in_message = !is_final;
                    if is_final {
                        return Ok(Some(serde_json::from_slice(&std::mem::take(&mut self.message))?));
                    }
                }
                _ => return Err(Error::Protocol("a frame of an unknown kind".to_owned())),
            }
        }
    }

    fn next_frame(&mut self, deadline: Instant) -> Result<Option<(u8, bool, Vec<u8>)>, Error> {
        if !self.gather(2, deadline)? {
            return Ok(None);
        }
        let (first, second) = (self.frame[0], self.frame[1]);
        let head = match second & 0x7f {
            127 => 10,
            126 => 4,
            _ => 2,
        };
        if first & 0x70 != 0 || second & 0x80 != 0 {
            return Err(Error::Protocol("a frame with bits no server may set".to_owned()));
        }
        if !self.gather(head, deadline)? {
            return Ok(None);
        }
        let size = match second & 0x7f {
            short @ 0..=125 => u64::from(short),
            _ => self.frame[2..head].iter().fold(0, |size, byte| size << 8 | u64::from(*byte)),
        };
        let (kind, is_final) = (first & 0x0f, first & 0x80 != 0);
        let is_too_long = size.saturating_add(self.message.len() as u64) > MAX_MESSAGE_BYTES;
        if is_too_long || (kind >= CLOSE && (size > MAX_CONTROL_BYTES || !is_final)) {
            return Err(Error::Protocol("a frame that is too long".to_owned()));
        }
        if !self.gather(head + size as usize, deadline)? {
            return Ok(None);
        }
        let payload = self.frame.split_off(head);
        self.frame.clear();
        Ok(Some((kind, is_final, payload)))
    }

    /// Have this many bytes of the frame; whether they came in time. What has come stays.
    fn gather(&mut self, size: usize, deadline: Instant) -> Result<bool, Error> {
        while self.frame.len() < size {
            if self.stream.buffer().is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(false);
                }
                self.stream.get_mut().set_read_timeout(Some(left))?;
            }
            let missing = (size - self.frame.len()) as u64;
            let before = self.frame.len();
            let mut chunk = vec![0; missing.min(256 << 10) as usize];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Error::Io(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.frame.extend(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => (),
                Err(error) => return Err(error.into()),
            }
            debug_assert!(self.frame.len() >= before);
        }
        Ok(true)
    }

    fn write(&mut self, kind: u8, payload: &[u8]) -> Result<(), Error> {
        self.sent += 1;
        let mask = (random(&self.masks, self.sent) as u32).to_be_bytes();
        let mut frame = vec![0x80 | kind];
        match payload.len() {
            size @ 0..=125 => frame.push(0x80 | size as u8),
            size @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((size as u16).to_be_bytes());
            }
            size => {
                frame.push(0x80 | 127);
                frame.extend((size as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let stream = self.stream.get_mut();
        stream.write_all(&frame)?;
        Ok(stream.flush()?)
    }
}

impl<S: Stream> Caller for WebSocketClient<S> {
    fn call<P: Serialize + ?Sized, R: DeserializeOwned>(&mut self, method: &str, params: &P) -> Result<R, Error> {
        self.last_id += 1;
        let id = self.last_id;
        self.write(TEXT, request(id, method, params)?.as_bytes())?;
        let deadline = after(self.timeout);
        loop {
            let message = self.next_message(deadline)?.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
            if let Some(reply) = self.sort(message, Some(id))? {
                return outcome(reply);
            }
        }
    }
}

/// So long from now; ten years for what is beyond the clock, as `Duration::MAX` is.
fn after(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(10 * 365 * 24 * 3600))
}

fn random(state: &RandomState, number: u64) -> u64 {
    let mut hasher = state.build_hasher();
    hasher.write_u64(number);
    hasher.finish()
}

fn check_answer<S: Stream>(stream: &mut BufReader<S>, accept: &str) -> Result<(), Error> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
        if head.len() > MAX_HEAD_BYTES || !(head.starts_with(b"HTTP/") || b"HTTP/".starts_with(&head)) {
            return Err(Error::Protocol("what listens there is no HTTP server".to_owned()));
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101") {
        return Err(Error::Protocol(format!("it answered {}", status.get(9..).unwrap_or_default())));
    }
    let is_it = |line: &str| {
        line.split_once(':')
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == accept)
    };
    if !lines.any(is_it) {
        return Err(Error::Protocol("what answered is no WebSocket server".to_owned()));
    }
    Ok(())
}

fn closing(payload: &[u8]) -> Error {
    let words = match payload {
        [high, low, reason @ ..] => {
            format!("closed with {} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "closed".to_owned(),
    };
    Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, words))
}
