//! The order of the system calls behind one report: request, sync, answer.

use std::collections::HashMap;
use std::path::Path;

use crate::clients::{eventually, record};
use crate::process::{Installation, PROGRAM, command};
use rateguard_proto::v1;

/// The calls that tell: what comes from and goes to sockets, and what waits for the disk.
const TRACED: &str = "trace=read,readv,recvfrom,recvmsg,write,writev,sendto,sendmsg,fdatasync,fsync";

#[tokio::test]
async fn the_log_is_synced_between_a_report_and_its_answer() {
    let installation = Installation::make().await;
    let trace = installation.path().join("trace.txt");
    let mut strace = command("strace");
    strace.args([
        "--daemonize",
        "--follow-forks",
        "--decode-fds=all",
        "--string-limit=256",
        "-e",
        TRACED,
        "-o",
    ]);
    strace.arg(&trace).arg(PROGRAM);
    let server = installation.serve_under(strace).await;
    let first = installation.administer(&server).await;
    let key = first.make_key(&[v1::KeyScope::Usage]).await;
    let client = server.connect(&key).await;

    let result = client.report_one(record("traced-event-id", "", 1)).await;
    assert_eq!(result.status(), v1::RecordStatus::Accepted);
    eventually("the answer is traced", || async { order(&trace).is_some() }).await;

    let (request, sync, answer) = order(&trace).unwrap();
    assert!(request < sync && sync < answer, "request at {request}, sync at {sync}, answer at {answer}");
}

/// The lines of the trace at which the request has come, the log has been synced, and the answer begins to
/// leave. Both messages carry the event's id in clear.
fn order(trace: &Path) -> Option<(usize, usize, usize)> {
    let calls = calls(&std::fs::read_to_string(trace).ok()?);
    let mut messages =
        calls.iter().filter(|call| call.text.contains("traced-event-id") && call.text.contains("TCP"));
    let (request, answer) = (messages.next()?, messages.next()?);
    let is_sync = |call: &&Call| call.text.contains("sync(") && call.text.contains("events.db");
    let sync =
        calls.iter().filter(is_sync).find(|call| (request.ended..answer.began).contains(&call.ended))?;
    Some((request.ended, sync.ended, answer.began))
}

/// One system call of the trace, with the lines at which it began and ended.
struct Call {
    began: usize,
    ended: usize,
    text: String,
}

/// The calls in the order of their ends. When another thread calls in between, a call has two lines: what a
/// read has brought stands in the second, the descriptor that it read from in the first.
fn calls(trace: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, Call> = HashMap::new();
    let mut calls = Vec::new();
    for (place, line) in trace.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        if let Some(beginning) = text.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, Call { began: place, ended: place, text: beginning.to_owned() });
        } else if let Some((_, rest)) = text.split_once(" resumed>") {
            let Some(begun) = unfinished.remove(thread) else { continue };
            calls.push(Call { ended: place, text: begun.text + rest, ..begun });
        } else {
            calls.push(Call { began: place, ended: place, text: text.to_owned() });
        }
    }
    calls
}
