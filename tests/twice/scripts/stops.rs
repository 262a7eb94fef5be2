//! How programs end: in order, in the middle of a handler, and cut.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::client::Client;
use crate::comparison::twice;
use crate::differences::{DROPPED, IDLE_AT_STOP, SIGNALS};
use crate::stage::{PATIENCE, Server, Stage, assert_differs, eventually};

twice! {
    by_signal;
    idle_connections_at_a_stop of by_signal;
    restarted;
    by_notify;
    spawned;
    public_and_admin;
    first_of_two;
    jobs;
    events;
}

fn by_signal(stage: &mut Stage) {
    stage.get("/").expect(200);
    stage.begin_stop();
    stage.wait();
}

fn idle_connections_at_a_stop(stage: &mut Stage) {
    let mut client = stage.connect();
    client.get("/").expect(200);
    stage.begin_stop();
    let address = stage.address;
    eventually("nobody is accepted any more", || TcpStream::connect(address).is_err());
    if stage.server == Server::Baiwan {
        client.send_request("GET", "/", "", b"");
    }
    let is_answered = client.is_answered();
    stage.differs(IDLE_AT_STOP, is_answered, false, true);
    if is_answered {
        assert!(client.read_answer("GET").closes());
    }
    client.shut();
    drop(client);
    stage.wait();
}

/// Sends a request but for the last four bytes of its body, and waits until its handler is at work.
fn begin(client: &mut Client<'_>, path: &str) {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"));
    // Whoever asks for the body is the handler.
    client.answer_to("POST").expect(100);
    client.send("first");
}

fn restarted(stage: &mut Stage) {
    let mut client = stage.connect();
    client.get("/").expect(200).says("first");
    begin(&mut client, "/echo");
    stage.begin_stop();
    let second = stage.second;
    stage.connect_to(second).get("/").expect(200).says("second");
    if stage.server == Server::Axum {
        client.send("last");
    }
    stage.differs(DROPPED, client.is_answered(), true, false);
}

fn by_notify(stage: &mut Stage) {
    let mut slow = stage.connect();
    begin(&mut slow, "/slow");
    stage.connect().ask_unrecorded("POST", "/stop", "", b"").expect(200).says("stopping");
    let address = stage.address;
    eventually("nobody is accepted any more", || TcpStream::connect(address).is_err());
    assert!(stage.is_running());
    slow.send("last");
    slow.read_answer("POST").expect(200).says("finished all the same: firstlast");
    slow.expect_end();
    stage.wait();
}

fn spawned(stage: &mut Stage) {
    stage.get("/").expect(200).says("served in a task");
    stage.post("/double", "", "ab").expect(200).says("abab");
    stage.begin_stop();
    stage.wait();
}

fn public_and_admin(stage: &mut Stage) {
    let admin = stage.second;
    stage.get("/").expect(200);
    stage.connect_to(admin).ask("PUT", "/closed", "", "").expect(200);
    stage.get("/").expect(503);
    stage.connect_to(admin).ask("PUT", "/open", "", "").expect(200);
    stage.get("/").expect(200);
    stage.connect_to(admin).get("/").expect(404);
    stage.begin_stop();
    stage.wait();
}

fn first_of_two(stage: &mut Stage) {
    let other = stage.second;
    stage.get("/").expect(200).says("one");
    stage.connect_to(other).get("/").expect(200).says("other");
    stage.begin_stop();
    stage.wait();
}

fn jobs(stage: &mut Stage) {
    stage.post("/jobs", "", "").expect(202);
    stage.post("/jobs", "", "").expect(202);
    stage.get("/done").expect(200).says("0");
    stage.post("/release", "", "").expect(200);
    stage.begin_stop();
    stage.wait();
}

fn events(stage: &mut Stage) {
    stage.get("/finite").expect(200);
    let mut client = stage.connect();
    client.send_request("GET", "/events", "", b"");
    client.head().expect(200);
    for number in 0..4 {
        let text = format!("event: tick\nid: {number}\ndata: number {number}\n\n");
        assert_eq!(client.text_of_chunks(text.len()), text);
        stage.post("/next", "", "").expect(200);
    }
}

/// Which server a child process is to run.
const CHILD: &str = "BAIWAN_TWICE_CHILD";

/// Runs a program that knows of no signals, in a process of its own; without the variable, nothing.
#[test]
fn a_child_process() {
    let Ok(server) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let line = format!("\nlistens on {}\n", listener.local_addr().unwrap());
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        match server.as_str() {
            "Axum" => crate::on_axum::apps::echo::main(listener).await.unwrap(),
            _ => crate::on_baiwan::apps::echo::main(listener).await.unwrap(),
        }
    });
}

/// A test that failed leaves no process behind.
struct KilledWhenDropped(std::process::Child);

impl Drop for KilledWhenDropped {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

#[test]
fn sigterm_stops_a_program_that_knows_of_no_signals_in_order() {
    for server in [Server::Axum, Server::Baiwan] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "scripts::stops::a_child_process", "--nocapture"])
            .env(CHILD, format!("{server:?}"))
            .stdout(Stdio::piped())
            .spawn()
            .map(KilledWhenDropped)
            .unwrap();
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let address = lines.by_ref().find_map(|line| Some(line.unwrap().strip_prefix("listens on ")?.to_owned()));
        let address: SocketAddr = address.unwrap().parse().unwrap();
        let mut waiting = TcpStream::connect(address).unwrap();
        waiting.set_read_timeout(Some(PATIENCE)).unwrap();
        let fields = "Host: test\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 9";
        waiting.write_all(format!("POST /text HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).unwrap();
        // The handler asks for the body, so whoever handles signals does so by now.
        waiting.read_exact(&mut [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
        waiting.write_all(b"first").unwrap();
        assert!(Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status().unwrap().success());
        eventually("nobody is accepted any more", || TcpStream::connect(address).is_err());
        let _ = waiting.write_all(b"last");
        let mut answer = String::new();
        let _ = waiting.read_to_string(&mut answer);
        let status = child.0.wait().unwrap();
        let found = (answer.ends_with("firstlast"), status.signal(), status.code());
        assert_differs(server, SIGNALS, found, (false, Some(15), None), (true, None, Some(0)));
    }
}
