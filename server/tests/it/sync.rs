//! The order of the system calls behind one report: request, sync, answer.

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

/// The lines of the trace at which the request comes, the log is synced, and the answer leaves. Both
/// messages carry the event's id in clear.
fn order(trace: &Path) -> Option<(usize, usize, usize)> {
    let text = std::fs::read_to_string(trace).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let is_socket = |line: &str| line.contains("TCP");
    let carries = |place: &usize| lines[*place].contains("traced-event-id") && is_socket(lines[*place]);
    let mut messages = (0..lines.len()).filter(carries);
    let (request, answer) = (messages.next()?, messages.next()?);
    let synced = |place: &usize| {
        let line = lines[*place];
        (line.contains("fdatasync(") || line.contains("fsync(")) && line.contains("events.db")
    };
    let sync = (request..answer).find(synced)?;
    Some((request, sync, answer))
}
