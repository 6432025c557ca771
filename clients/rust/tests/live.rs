//! Against the coordinator that tests/clients/test_rust.py starts; without one they do nothing.

#![allow(clippy::needless_update)] // there may be more members with the next document

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use herocoordinator::*;

struct Where {
    http: String,
    ws: String,
    id: u32,
}

fn coordinator() -> Option<Where> {
    let (http, ws) = (env::var("HEROCOORDINATOR_HTTP").ok()?, env::var("HEROCOORDINATOR_WS").ok()?);
    let id = env::var("HEROCOORDINATOR_CONTEXT").ok()?.parse().expect("a number");
    println!("LIVE");
    Some(Where { http, ws, id })
}

fn job(context_id: u32, id: u32) -> JobCreate {
    JobCreate {
        id,
        caller_id: 7,
        context_id,
        script_type: ScriptType::Sal,
        lost_retries: Some(2),
        ..Default::default()
    }
}

fn context(id: u32) -> ContextCreateParams {
    ContextCreateParams { context: ContextCreate { id, admins: vec![7], ..Default::default() } }
}

fn calls(client: &mut impl Api, id: u32) {
    let made = client.context_create(&context(id)).unwrap();
    assert_eq!((made.id, made.admins), (id, vec![7]));
    for size in [0, 100, 40_000, 300_000] {
        let script = "é".repeat(size);
        let own = JobCreate { script: script.clone(), ..job(id, 1) };
        let stored = client.job_create(&JobCreateParams { context_id: id, job: own }).unwrap();
        assert_eq!((stored.script, stored.status, stored.lost_retries), (script, JobStatus::Dispatched, Some(2)));
    }
    let missing = client.job_load(&JobLoadParams { context_id: id, caller_id: 7, id: 404 }).unwrap_err();
    let Error::Rpc(missing) = missing else { panic!("{missing}") };
    let ErrorKind::NotFound(Some(data)) = &missing.kind else { panic!("{missing:?}") };
    assert_eq!((missing.code, data.ids["id"]), (-32001, 404));
    let wrong = client
        .flow_events(&FlowEventsParams { context_id: id, id: 1, limit: Some(0), ..Default::default() })
        .unwrap_err();
    let Error::Rpc(wrong) = wrong else { panic!("{wrong}") };
    let ErrorKind::InvalidParams(Some(faults)) = &wrong.kind else { panic!("{wrong:?}") };
    assert_eq!(faults[0].loc[0], "limit");
    assert!(wrong.to_string().contains("limit: "), "{wrong}");
}

#[test]
fn calls_over_http() {
    let Some(Where { http, id, .. }) = coordinator() else { return };
    let mut client = HttpClient::new(&http).unwrap();
    calls(&mut client, id);
    let refused = client.flow_subscribe(&FlowSubscribeParams { context_id: id, id: 1, ..Default::default() });
    assert!(matches!(refused, Err(Error::Rpc(error)) if matches!(error.kind, ErrorKind::WebSocketRequired(_))));
    let elsewhere = HttpClient::new(&format!("{http}/nowhere")).unwrap().call::<_, serde_json::Value>("job.load", &());
    assert!(elsewhere.is_err());
}

#[test]
fn calls_over_a_websocket() {
    let Some(Where { ws, id, .. }) = coordinator() else { return };
    let mut client = WebSocketClient::connect(&ws, None).unwrap().with_timeout(Duration::MAX);
    calls(&mut client, id + 1);
    assert!(client.next_notification(Duration::from_millis(20)).unwrap().is_none());
    client.close().unwrap();
}

#[test]
fn a_runner_and_a_follower() {
    let Some(Where { ws, id, .. }) = coordinator() else { return };
    let id = id + 2;
    let mut client = WebSocketClient::connect(&ws, None).unwrap();
    client.context_create(&context(id)).unwrap();
    let (pubkey, address, topic) = ("k".to_owned(), "::1".to_owned(), "runner3".to_owned());
    let runner = RunnerCreate { id: 3, pubkey, address, topic, local: true, ..Default::default() };
    client.runner_create(&RunnerCreateParams { context_id: id, runner }).unwrap();
    let flow = FlowCreate { id: 1, caller_id: 7, context_id: id, jobs: vec![1], ..Default::default() };
    client
        .flow_submit(&FlowSubmitParams { context_id: id, flow, jobs: vec![job(id, 1)], ..Default::default() })
        .unwrap();
    client
        .flow_subscribe(&FlowSubscribeParams { context_id: id, id: 1, batch: Some(true), ..Default::default() })
        .unwrap();
    let subscribe = RunnerSubscribeParams {
        context_id: id,
        runner_id: 3,
        script_types: vec![ScriptType::Sal],
        capacity: 1,
        ..Default::default()
    };
    client.runner_subscribe(&subscribe).unwrap();

    let mut seen = vec![];
    while seen.last().map(String::as_str) != Some("Flow Finished") {
        match client.next_notification(Duration::MAX).unwrap().expect("an event in time") {
            Notification::RunnerJob(notice) => {
                let result = Some(BTreeMap::from([("answer".to_owned(), "42".to_owned())]));
                let (id, token, context_id) = (notice.job.id, notice.token, id);
                let finish = JobFinishParams { context_id, caller_id: 7, id, token, result, ..Default::default() };
                client.job_finish(&finish).unwrap();
            }
            Notification::FlowEvent(event) => seen.push(format!("{:?} {}", event.kind, event.status.unwrap())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, ["Flow Started", "Job Started", "Job Finished", "Flow Finished"]);
    let report = client.flow_status(&FlowParams { context_id: id, id: 1 }).unwrap();
    assert_eq!(report.counts[&JobStatus::Finished], 1);
    assert_eq!(report.flow.result["1"], r#"{"answer":"42"}"#);
}

#[test]
fn what_is_no_coordinator_is_refused() {
    let Some(Where { http, .. }) = coordinator() else { return };
    let nowhere = format!("{}/nowhere", http.replacen("http", "ws", 1));
    for (url, why) in [("http://h", "begin with ws://"), ("ws://a:b@h", "credentials"), (&nowhere, "answered 4")] {
        let error = WebSocketClient::connect(url, None).err().expect(url).to_string();
        assert!(error.contains(why), "{error}");
    }
}
