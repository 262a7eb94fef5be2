//! The figures of `baiwan load` add up, and a run ends, also where a server closes, refuses, comes back late or is gone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::honest::{Answers, load, number, ok, stall_until};

fn sum(report: &Value, list: &str, key: &str) -> f64 {
    report[list].as_array().unwrap().iter().map(|row| row[key].as_f64().unwrap()).sum()
}

/// Each request of a phase ended as an answer or as an error.
fn assert_all_ended(report: &Value) {
    for phase in report["phases"].as_array().unwrap() {
        let figure = |key: &str| phase[key].as_f64().unwrap();
        assert_eq!(figure("sent"), figure("answered") + figure("errors"), "{phase}");
    }
}

#[test]
fn errors_of_a_warm_up_are_told_with_it_and_not_with_the_run() {
    let server = Answers::start(|number| if number == 0 { None } else { ok("hello") });
    let report = server.load("--connections 1 --warm-up 500ms --requests 20");
    assert_eq!((number(&report, "/requests/answered"), number(&report, "/errors/total")), (20.0, 0.0), "{report}");
    assert_eq!(report["phases"][1]["errors"], 1, "{report}");
}

fn closing() -> Option<String> {
    Some("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello".to_owned())
}

/// All connections are gone when the second phase begins, as announced.
#[test]
fn a_server_that_closes_after_each_answer_is_asked_in_every_phase() {
    let server = Answers::start(|_| closing());
    for flags in ["--connections 4 --requests 100", "--connections 4 --rate 200 --requests 100"] {
        let report = server.load(&format!("{flags} --warm-up 300ms"));
        assert_eq!(number(&report, "/requests/answered"), 100.0, "{flags}: {report}");
        assert_all_ended(&report);
    }
}

/// A place whose connection failed at the end of the warm-up is used once, not twice at a time.
#[test]
fn a_connection_for_each_request_has_no_other_request_on_it() {
    let server = Answers::start(|number| if number % 2 == 1 { None } else { closing() });
    let report = server.load("--connections 20 --close --warm-up 500ms --requests 300");
    assert_all_ended(&report);
    let words = report["error_details"].to_string();
    assert!(!words.contains("the answer before was the last"), "nobody sent a second request: {words}");
}

#[test]
fn workers_without_a_connection_to_ask_on_leave_their_part_to_the_others() {
    let server = Answers::start(|_| ok("hello"));
    for (flags, requests) in [
        ("--connections 1 --workers 2 --requests 10", 10.0),
        ("--connections 3 --active 1 --workers 3 --requests 9", 9.0),
        ("--connections 4 --active 1 --workers 2 --rate 100 --duration 500ms", 50.0),
    ] {
        let report = server.load(flags);
        assert_eq!(number(&report, "/requests/answered"), requests, "{flags}: {report}");
    }
}

#[test]
fn an_open_loop_lasts_as_long_as_it_was_asked_to_and_its_rate_is_that_of_the_loop() {
    let server = Answers::start(|_| ok("hello"));
    for flags in ["--rate 2 --duration 1s", "--hold 1s --rate 0.1", "--rate 20 --duration 1s --hold 2s"] {
        let report = server.load(&format!("--connections 2 {flags}"));
        let phase = &report["phases"][1];
        assert!(phase["seconds"].as_f64().unwrap() >= 1.0, "{flags}: {phase}");
        let rate = phase["answered"].as_f64().unwrap() / phase["seconds"].as_f64().unwrap();
        assert!((number(&report, "/requests/per_second") - rate).abs() < 1e-6, "{flags}: {report}");
    }
}

#[test]
fn requests_that_waited_for_a_connection_that_was_lost_are_errors() {
    #[expect(clippy::disallowed_methods, reason = "the stall is one of real time")]
    let server = Answers::start(|_| {
        stall_until(Instant::now(), Duration::from_millis(500));
        None
    });
    let report = server.load("--connections 1 --rate 100 --duration 3s --reconnect off");
    assert_eq!((number(&report, "/requests/sent"), number(&report, "/errors/closed")), (1.0, 1.0), "{report}");
    assert!(number(&report, "/errors/unsent") >= 49.0, "those that were due in the half second: {report}");
}

#[test]
fn all_seconds_together_are_the_whole() {
    let server = Answers::start(|number| if number % 10 == 9 { None } else { ok("hello") });
    let report = server.load("--connections 3 --warm-up 300ms --requests 200");
    assert_eq!(sum(&report, "series", "answered"), sum(&report, "phases", "answered"), "{report}");
    assert_eq!(sum(&report, "series", "errors"), sum(&report, "phases", "errors"), "{report}");
    for (index, phase) in report["phases"].as_array().unwrap().iter().enumerate() {
        let own = report["series"].as_array().unwrap().iter().filter(|second| second["phase"] == index);
        let answered: f64 = own.map(|second| second["answered"].as_f64().unwrap()).sum();
        assert_eq!(answered, phase["answered"].as_f64().unwrap(), "{phase}");
    }
}

/// It looks like nobody is there until two seconds after the first look.
#[test]
fn a_connection_that_was_refused_first_is_opened_and_not_reopened() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        drop(listener.accept());
        drop(listener);
        #[expect(clippy::disallowed_methods, reason = "the absence is one of real time")]
        stall_until(Instant::now(), Duration::from_secs(2));
        let listener = TcpListener::bind(address).unwrap();
        (0..5).map(|_| listener.accept().unwrap().0).collect::<Vec<_>>()
    });
    let report = load(address, "--connections 5 --hold 100ms");
    let _kept = server.join();
    let figures = ["opened", "reopened", "lost", "alive"].map(|key| number(&report["connections"], &format!("/{key}")));
    assert_eq!(figures, [5.0, 0.0, 0.0, 5.0], "{report}");
    assert!(number(&report, "/connections/attempts_failed") >= 1.0);
    assert_eq!(number(&report, "/errors/total"), 0.0, "nobody had asked: {report}");
}

fn answer_with_an_event(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: x\n\n");
}

#[test]
fn a_stream_that_was_lost_is_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for (index, mut stream) in listener.incoming().map_while(Result::ok).enumerate() {
            // The first to come is the one that looks whether anybody listens.
            if index > 0 {
                answer_with_an_event(&mut stream);
            }
            if index > 2 {
                kept.push(stream);
            }
        }
    });
    let report = load(address, "--connections 2 --sse --duration 1s --reconnect on");
    assert_eq!(number(&report, "/connections/reopened"), 2.0, "{report}");
    assert_eq!(number(&report, "/events/received"), 4.0, "{report}");
}

#[test]
fn a_number_of_requests_of_a_server_that_is_gone_for_good_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        // Whoever looks whether anybody listens, and one that is dropped with its request.
        drop(listener.accept());
        drop(listener.accept());
    });
    let report = load(address, "--connections 1 --requests 10 --timeout 500ms");
    assert_eq!((number(&report, "/requests/answered"), number(&report, "/errors/total")), (0.0, 10.0), "{report}");
    assert!(number(&report, "/connections/attempts_failed") >= 1.0, "{report}");
}

/// CPU time, not time: what the machine does beside has no part in it.
#[test]
fn a_generator_that_waits_for_late_answers_does_nothing_meanwhile() {
    #[expect(clippy::disallowed_methods, reason = "the stall is one of real time")]
    let stalling = || {
        Answers::start(|_| {
            stall_until(Instant::now(), Duration::from_secs(3));
            ok("hello")
        })
    };
    for flags in ["--duration 100ms", "--rate 10 --duration 100ms --timeout 2s"] {
        let report = stalling().load(&format!("--connections 2 {flags}"));
        let phase = &report["phases"][1];
        assert!(phase["seconds"].as_f64().unwrap() > 1.9, "{flags}: {phase}");
        assert!(phase["client_cpu_seconds"].as_f64().unwrap() < 0.5, "{flags}: {phase}");
    }
}
