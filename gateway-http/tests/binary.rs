//! The program itself, against a server that is not there: it starts, answers, and stops when asked.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rateguard-gateway");

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn token_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("the file takes a token");
    file
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

fn program(listen: SocketAddr, token_file: &tempfile::NamedTempFile) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["--listen", &listen.to_string(), "--server", "http://127.0.0.1:9", "--token-file"]);
    command.arg(token_file.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program's stream, once it listens.
fn connect(address: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::yield_now();
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("the program reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the program answers");
    answer
}

fn terminate(child: Child) -> Output {
    let killed =
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().expect("there is a kill");
    assert!(killed.success());
    child.wait_with_output().expect("the program ends")
}

#[test]
fn it_answers_and_stops_when_asked() {
    let (listen, token) = (free_address(), token_file("the-token\n"));
    let child = program(listen, &token).spawn().unwrap();
    let answer = ask(listen, "GET /proxy/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let answer =
        ask(listen, "GET /proxy/x HTTP/1.1\r\nhost: x\r\nx-api-key: rg_live_1\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let output = terminate(child);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        log.contains("gateway stopped") && !log.contains("the-token") && !log.contains("rg_live_1"),
        "{log}"
    );
}

#[test]
fn it_has_to_be_told_its_server() {
    let output = Command::new(PROGRAM).args(["--token-file", "token"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--server"));
}

#[test]
fn it_says_what_is_wrong_with_its_token() {
    let output = program(free_address(), &token_file("  \n")).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--token-file") && said.contains("holds no token"), "{said}");
    assert!(said.contains("server.gateway_token_file"), "{said}");
}
