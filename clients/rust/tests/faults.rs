//! Against peers that do not behave as a coordinator does.

#![allow(clippy::needless_update)] // there may be more members with the next document

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use herocoordinator::*;

const QUICK: Duration = Duration::from_millis(300);

/// Where each connection behaves so.
fn served(behave: impl Fn(BufReader<TcpStream>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            behave(BufReader::new(stream.unwrap()));
        }
    });
    format!("http://{address}")
}

fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(size) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = size.trim().parse().ok()?;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn response(result: &str) -> String {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_number_that_json_has_none_for_is_not_sent_as_null() {
    let mut client = HttpClient::new(&served(|mut stream| {
        request(&mut stream);
    }))
    .unwrap();
    for number in [f64::NAN, f64::INFINITY] {
        let params = JobTakeParams {
            context_id: 1,
            runner_id: 1,
            script_types: vec![],
            wait: Some(number),
            ..Default::default()
        };
        let refused = client.job_take(&params).unwrap_err();
        assert!(matches!(refused, Error::Json(_)), "{refused}");
        assert!(refused.to_string().contains("JSON has no number for"), "{refused}");
    }
}

#[test]
fn one_that_is_silent_is_waited_for_no_longer_than_was_said() {
    let url = served(|mut stream| while stream.read(&mut [0; 4096]).is_ok_and(|size| size > 0) {});
    let mut client = HttpClient::new(&url).unwrap().with_timeout(Some(QUICK));
    let begun = Instant::now();
    assert!(matches!(client.context_load(&ContextLoadParams { id: 1 }), Err(Error::Io(_))));
    assert!(begun.elapsed() >= QUICK);
}

#[test]
fn one_that_does_not_read_is_waited_for_no_longer_than_was_said() {
    let url = served(|stream| {
        thread::sleep(100 * QUICK);
        drop(stream);
    });
    let mut client = HttpClient::new(&url).unwrap().with_timeout(Some(QUICK));
    let sent: Result<Context, Error> = client.call("context.create", &"x".repeat(32 << 20));
    assert!(matches!(sent, Err(Error::Io(_))));
}

#[test]
fn what_comes_behind_a_response_answers_no_later_call() {
    let mut client = HttpClient::new(&served(|mut stream| {
        let mut first = true;
        while request(&mut stream).is_some() {
            let more = if first { response("13") } else { String::new() };
            stream.get_mut().write_all((response("7") + &more).as_bytes()).unwrap();
            first = false;
        }
    }))
    .unwrap();
    for _ in 0..3 {
        assert_eq!(client.call::<_, i64>("x", &()).unwrap(), 7);
    }
}

#[test]
fn a_response_that_is_cut_off_is_none() {
    let mut client = HttpClient::new(&served(|mut stream| {
        request(&mut stream);
        let whole = response("7");
        stream.get_mut().write_all(&whole.as_bytes()[..whole.len() - 1]).unwrap();
    }))
    .unwrap();
    assert!(matches!(client.call::<_, i64>("x", &()), Err(Error::Io(_))));
}
