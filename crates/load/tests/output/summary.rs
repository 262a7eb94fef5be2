//! The summary, letter by letter.

use baiwan_load::{page, summary};

use crate::sample;

const OPEN_LOOP: &str = "\
http://127.0.0.1:8080/
  phases        open 5 s, open loop 60 s, close 20 ms
  connections   1,000 of 1,000 opened in 5 s, 2 lost, 2 reopened, 1,000 alive at the end
  requests      599,997 answered, 10,000/s; 600,000 sent
  errors        3: reset 2, timeout 1
                        2  connection reset by peer
                        1  no whole answer in 10s
  bytes         23.5 MiB sent, 77.8 MiB received
  server        CPU 4.5 s, 7.5 µs for a request
                user memory 8 MiB before, 9 MiB at most
                memory for a connection: 61 B (user), 7.24 KiB (kernel, both ends)
  generator     2 workers, CPU 5.46 s, 9.1 µs for a request, memory 12 MiB

                     mean      p50      p90      p99    p99.9   p99.99      max
  latency          622 µs   401 µs   962 µs  1.76 ms   103 ms   135 ms   201 ms
  send delay      31.1 µs  20.1 µs  48.1 µs  88.2 µs   128 µs  6.73 ms  10.1 ms
  connect          139 µs  90.2 µs   216 µs   393 µs   545 µs  25.2 ms  25.2 ms

  expected      p99<50ms                met      1.76 ms
                errors=0                NOT MET  3
";

const CLOSED_LOOP: &str = "\
http://127.0.0.1:8080/
  phases        open 12 ms, closed loop 10 s
  connections   1,000 of 1,000 opened in 12 ms, 0 lost, 1,000 alive at the end
  requests      400,000 answered, 40,000/s
  errors        0
  bytes         23.5 MiB sent, 77.8 MiB received
  generator     1 worker, CPU 4.2 s, 10.5 µs for a request, memory 6 MiB

                     mean      p50      p90      p99    p99.9   p99.99      max
  latency         1.86 ms   1.2 ms  2.89 ms  5.29 ms  7.69 ms   403 ms   587 ms
  connect          139 µs  90.2 µs   216 µs   393 µs   545 µs  25.2 ms  25.2 ms
";

const STREAMS: &str = "\
http://127.0.0.1:8080/
  phases        open 5 s, hold 5 min
  connections   1,000 of 1,000 opened in 5 s, 2 lost, 2 reopened, 1,000 alive at the end
  errors        0
  events        300,000 received, 1,000/s; 4 missing
  bytes         23.5 MiB sent, 77.8 MiB received
  server        CPU 4.5 s
                user memory 8 MiB before, 9 MiB at most
                memory for a connection: 61 B (user), 7.24 KiB (kernel, both ends)
  generator     2 workers, CPU 5.46 s, memory 12 MiB

                     mean      p50      p90      p99    p99.9   p99.99      max
  connect          139 µs  90.2 µs   216 µs   393 µs   545 µs  25.2 ms  25.2 ms
  event delay     1.09 ms   702 µs  1.68 ms  3.08 ms  4.46 ms   226 ms   253 ms
  event interval   776 ms   501 ms    1.2 s    2.2 s   3.19 s    161 s    180 s
";

#[test]
fn a_run_at_a_rate_is_told() {
    let mut report = sample::open_loop();
    report.expectations = "p99<50ms,errors=0".parse::<baiwan_load::Expectations>().unwrap().judge(&report);
    assert_eq!(summary(&report), OPEN_LOOP);
}

#[test]
fn a_closed_loop_is_told_without_what_it_does_not_have() {
    assert_eq!(summary(&sample::closed_loop()), CLOSED_LOOP);
}

#[test]
fn attempts_to_connect_are_told_apart_from_the_errors_of_requests() {
    let mut report = sample::open_loop();
    report.connections.attempts_failed = 1289;
    report.connections.failures = [("connect: Connection refused (os error 111)".to_owned(), 1289)].into();
    let (told, html) = (summary(&report), page(&report));
    let rows = "\n                1,289 attempts to connect failed\n                    1,289  connect: Connection refused (os error 111)\n";
    assert!(told.contains(rows) && told.contains("  errors        3: reset 2, timeout 1\n"), "{told}");
    assert!(html.contains("Failed connections in words") && html.contains("Connection refused"));
}

#[test]
fn a_run_that_a_rate_limit_has_refused_says_how_to_turn_it_off() {
    let mut report = sample::closed_loop();
    report.statuses = [("200".to_owned(), 100), ("429".to_owned(), 100)].into();
    assert!(!summary(&report).contains("rate limit"), "half of them are not most");
    report.statuses.insert("429".to_owned(), 101);
    let text = summary(&report);
    assert!(
        text.contains("429: 101\n                most were refused by a rate limit; RATE_LIMIT=off serves all\n"),
        "{text}"
    );
}

#[test]
fn workers_that_died_are_told_with_what_is_missing() {
    let mut report = sample::open_loop();
    (report.client.workers_died, report.client.deaths) = (1, [("signal: 9 (SIGKILL)".to_owned(), 1)].into());
    let line = "1 of 2 workers died (signal: 9 (SIGKILL)): their counts from then on are lost";
    assert!(summary(&report).contains(&format!("\n                {line}\n")) && page(&report).contains(line));
}

#[test]
fn streams_are_told_with_their_events() {
    assert_eq!(summary(&sample::streams()), STREAMS);
}

#[test]
fn a_generator_that_was_saturated_or_late_says_so() {
    let mut report = sample::open_loop();
    assert!(!summary(&report).contains("Requests left late"), "all is well");
    report.send_delay.p99 = report.latency.p99 * 0.11;
    let late = "\
Requests left late, 1 % of them by 194 µs or more, of 1.76 ms of latency: either
all connections waited for answers, or the generator did not keep up; more
--connections tell which.
";
    assert!(summary(&report).contains(late), "{}", summary(&report));
    report.client.cpu_seconds = 60.0 * 2.0 * 0.95;
    assert!(summary(&report).contains("saturated: 95 % of its 2 workers' cores in use,"));
    let mut report = sample::closed_loop();
    report.send_delay.p99 = report.latency.p99;
    assert!(!summary(&report).contains("Requests left late"), "in a closed loop nothing is due before it is sent");
    report.client.cpu_seconds = 9.5;
    assert!(summary(&report).contains("saturated: 95 % of its one worker's core in use,"));
}

#[test]
fn connections_that_are_held_after_a_load_do_not_hide_that_the_generator_was_saturated() {
    let mut report = sample::closed_loop();
    assert!(!summary(&report).contains("saturated"), "all is well");
    let load = report.phases.iter_mut().find(|phase| phase.name == "closed loop").unwrap();
    load.client_cpu_seconds = load.seconds * 0.95;
    report.client.cpu_seconds = load.client_cpu_seconds;
    report.seconds = load.seconds * 6.0;
    assert!(summary(&report).contains("saturated: 95 % of its one worker's core in use,"), "{}", summary(&report));
}

#[test]
fn what_a_server_says_does_not_command_the_terminal() {
    let mut report = sample::open_loop();
    report.error_details.insert("bad\u{1b}[2J\u{9b}2J\nerrors 0".to_owned(), 5);
    let text = summary(&report);
    assert!(text.contains("5  bad [2J 2J errors 0\n"), "{text}");
}

#[test]
fn a_connection_for_each_request_is_not_one_of_those_asked_for() {
    let mut report = sample::closed_loop();
    report.connections.opened = 400_000;
    report.phases.remove(0);
    assert!(summary(&report).contains("400,000 opened, up to 1,000 at a time, 0 lost"), "{}", summary(&report));
}

#[test]
fn what_went_otherwise_is_told() {
    let mut report = sample::open_loop();
    report.interrupted = true;
    report.statuses.insert("503".to_owned(), 1200);
    let text = summary(&report);
    assert!(text.contains("stopped before its end") && text.contains("200: 599,997, 503: 1,200"), "{text}");
}
