//! What `baiwan load` reports is what happened: against servers that are made to stall, lie, break off and count.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A server that answers each request with what a function says, given its number from 0 on. None closes the connection.
pub(crate) struct Answers {
    address: SocketAddr,
    asked: Arc<AtomicU64>,
}

type Answer = dyn Fn(u64) -> Option<String> + Send + Sync;

impl Answers {
    pub(crate) fn start(answer: impl Fn(u64) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicU64::new(0));
        let (counter, answer): (_, Arc<Answer>) = (Arc::clone(&asked), Arc::new(answer));
        // It ends with the test's process: nobody waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (counter, answer) = (Arc::clone(&counter), Arc::clone(&answer));
                std::thread::spawn(move || serve(&stream, &counter, &*answer));
            }
        });
        Self { address, asked }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn load(&self, flags: &str) -> Value {
        load(self.address, flags)
    }
}

/// Runs `baiwan load` with these flags; its report.
pub(crate) fn load(address: SocketAddr, flags: &str) -> Value {
    let url = format!("http://{address}/");
    let words = [&url, "--quiet", "--json", "-"].into_iter().chain(flags.split_whitespace());
    let output = Command::new(env!("CARGO_BIN_EXE_baiwan")).arg("load").args(words).env_clear().output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn serve(stream: &TcpStream, asked: &AtomicU64, answer: &Answer) {
    let mut writer = stream;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while lines.any(|line| line.is_empty()) {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let Some(text) = answer(number) else { return };
        if writer.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

pub(crate) fn ok(body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

pub(crate) fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer} in {report}"))
}

#[expect(clippy::disallowed_methods, reason = "the stall is one of real time")]
pub(crate) fn stall_until(begin: Instant, end: Duration) {
    std::thread::sleep(end.saturating_sub(begin.elapsed()));
}

/// A stall of 1.5 s in a run of 3 s hits half of all requests, with 0.75 s on average: whatever the machine does meanwhile can
/// only make it worse. In the closed loop beside it the same stall hits one request for each connection.
#[test]
fn a_server_that_stalls_shows_in_the_percentiles_of_an_open_loop() {
    #[expect(clippy::disallowed_methods, reason = "the stall is one of real time")]
    let stalling = || {
        let begin: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        Answers::start(move |_| {
            let begin = *begin.get_or_init(Instant::now);
            if begin.elapsed() > Duration::from_millis(1000) {
                stall_until(begin, Duration::from_millis(2500));
            }
            ok("hello")
        })
    };
    let open = stalling().load("--connections 4 --rate 200 --duration 3s --timeout 10s");
    assert_eq!(number(&open, "/requests/answered"), 600.0);
    assert!(number(&open, "/latency/p90") > 1.0, "{}", open["latency"]);
    assert!(number(&open, "/latency/mean") > 0.3, "{}", open["latency"]);
    assert!(
        number(&open, "/send_delay/p90") > 1.0,
        "requests could not be sent when they were due: {}",
        open["send_delay"]
    );
    let closed = stalling().load("--connections 4 --duration 3s --timeout 10s");
    let hit = 4.0;
    assert!(number(&closed, "/requests/answered") > 100.0 * hit, "{}", closed["requests"]);
    assert!(number(&closed, "/latency/p90") < number(&open, "/latency/p90"), "a closed loop does not show it");
    assert!(number(&closed, "/latency/max") > 1.4, "but for those that met it: {}", closed["latency"]);
}

#[test]
fn every_request_that_the_server_has_seen_is_in_the_report_and_no_other() {
    for flags in [
        "--connections 7 --requests 1000",
        "--connections 7 --requests 1000 --pipeline 8",
        "--connections 7 --requests 1000 --workers 3",
        "--connections 5 --rate 400 --requests 200",
        "--connections 5 --requests 200 --close",
    ] {
        let server = Answers::start(|_| ok("hello"));
        let report = server.load(flags);
        // Whoever looks whether anybody listens asks nothing.
        assert_eq!(number(&report, "/requests/sent"), server.asked() as f64, "{flags}");
        assert_eq!(number(&report, "/requests/answered"), server.asked() as f64, "{flags}");
        assert_eq!(number(&report, "/latency/count"), server.asked() as f64, "{flags}");
        assert_eq!(number(&report, "/errors/total"), 0.0, "{flags}: {report}");
        let bytes = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".len() as f64;
        assert_eq!(number(&report, "/bytes/received"), bytes * server.asked() as f64, "{flags}");
    }
}

#[test]
fn wrong_answers_are_errors_and_not_answers() {
    let server = Answers::start(|number| match number % 10 {
        3 => ok("hellO"),
        5 => Some("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_owned()),
        7 => ok("hello, world"),
        _ => ok("hello"),
    });
    let report = server.load("--connections 5 --requests 500 --expect-body hello");
    assert_eq!(number(&report, "/requests/answered"), 350.0);
    assert_eq!((number(&report, "/errors/body"), number(&report, "/errors/status")), (100.0, 50.0));
    assert_eq!((number(&report, "/statuses/200"), number(&report, "/statuses/503")), (450.0, 50.0));
    assert_eq!(number(&report, "/latency/count"), 350.0, "a wrong answer is no latency of a right one");
}

#[test]
fn a_connection_that_breaks_off_is_an_error_and_is_opened_again() {
    let server = Answers::start(|number| if number % 50 == 49 { None } else { ok("hello") });
    let report = server.load("--connections 4 --requests 1000");
    assert_eq!(server.asked(), 1000);
    assert_eq!((number(&report, "/requests/answered"), number(&report, "/errors/total")), (980.0, 20.0), "{report}");
    assert_eq!(number(&report, "/connections/lost"), 20.0);
    assert!(number(&report, "/connections/reopened") >= 16.0, "those after which there was more to ask: {report}");
}

#[test]
fn what_is_not_http_is_an_error_that_says_so() {
    let server = Answers::start(|number| match number {
        10 => Some("SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        20 => Some(ok("hello").unwrap() + "and more that nobody asked for"),
        _ => ok("hello"),
    });
    let report = server.load("--connections 1 --requests 100");
    assert!(number(&report, "/errors/malformed") >= 1.0, "{report}");
    let words = report["error_details"].to_string();
    assert!(words.contains("status-line-malformed"), "{words}");
}

#[test]
fn an_answer_that_never_comes_is_an_error_and_counts_with_its_age() {
    let server = Answers::start(|number| {
        if number == 5 {
            stall_forever();
        }
        ok("hello")
    });
    let report = server.load("--connections 2 --requests 40 --timeout 500ms");
    assert_eq!((number(&report, "/requests/answered"), number(&report, "/errors/timeout")), (39.0, 1.0), "{report}");
    assert!(number(&report, "/latency/max") >= 0.5, "{}", report["latency"]);
    assert_eq!(number(&report, "/latency/count"), 40.0);
}

fn stall_forever() {
    loop {
        std::thread::park();
    }
}

#[test]
fn connections_that_end_while_they_are_held_are_lost_and_the_others_alive() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Answers { address: listener.local_addr().unwrap(), asked: Arc::default() };
    std::thread::spawn(move || {
        // Every third connection is dropped at once; the others are kept.
        let mut kept = Vec::new();
        for (index, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            if index % 3 != 0 {
                kept.push(stream);
            }
        }
    });
    let report = server.load("--connections 30 --hold 1s");
    // The first to come is the one that looks whether anybody listens.
    assert_eq!(
        (number(&report, "/connections/opened"), number(&report, "/connections/lost")),
        (30.0, 10.0),
        "{report}"
    );
    assert_eq!(number(&report, "/connections/alive"), 20.0);
}

#[test]
fn events_are_counted_with_those_that_are_missing() {
    let server = Answers::start(|_| {
        let mut answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n".to_owned();
        for id in [1, 2, 3, 5, 6, 9] {
            answer.push_str(&format!("id: {id}\ndata: 1.5 tick\n\n"));
        }
        Some(answer)
    });
    let report = server.load("--connections 10 --sse --duration 1s");
    assert_eq!(
        (number(&report, "/connections/opened"), number(&report, "/connections/alive")),
        (10.0, 10.0),
        "{report}"
    );
    let phases = report["phases"].to_string();
    assert_eq!(number(&report, "/errors/total"), 0.0, "{phases}");
    assert_eq!((number(&report, "/events/received"), number(&report, "/events/missing")), (60.0, 30.0), "{phases}");
    assert!(number(&report, "/events/delay/p50") > 1000.0, "the events carry a time of long ago");
}
