//! Every wait has a deadline, each with its own answer and reason.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::routing::{get as route_get, post};
use http_body_util::BodyExt;

use super::rig::{Rig, get, statuses};
use crate::settings::Settings;
use crate::status::CloseReason;

/// Deadlines are kept to the tick.
const TICK: Duration = crate::clock::TICK;

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/large", route_get(|| async { vec![b'x'; 100_000] }))
}

async fn assert_due(rig: &Rig, after: Duration, is_over: impl Fn() -> bool) {
    rig.pass(after - 2 * TICK).await;
    assert!(!is_over(), "not before its time");
    rig.pass(4 * TICK).await;
    assert!(is_over(), "and no later than a tick after it");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_49_a_silent_connection_is_closed_after_the_keep_alive_timeout() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    rig.settle().await;
    rig.pass(Duration::from_secs(50)).await;
    peer.send(get("/"));
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    assert_due(&rig, Duration::from_secs(75), || peer.is_at_end()).await;
    assert_eq!(rig.closed(CloseReason::KeepAliveTimeout), 1);
    drop(peer);
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_36_a_head_has_its_time_from_its_first_byte_however_often_a_byte_comes() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    let head = get("/");
    let mut bytes = head.bytes();
    for _ in 0..9 {
        peer.send([bytes.next().unwrap()]);
        rig.pass(Duration::from_secs(1)).await;
    }
    assert!(!peer.is_at_end());
    rig.pass(Duration::from_millis(1200)).await;
    assert_eq!(statuses(&peer.receive()), [408]);
    assert!(peer.is_at_end());
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::HeaderTimeout), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38c_an_empty_line_after_a_body_starts_no_deadline_and_earns_no_408() {
    for lines in ["\r\n", "\r\n\r\n", "\r"] {
        for together in [true, false] {
            let rig = Rig::new(app());
            let mut peer = rig.connect();
            let request = upload(2) + "hi";
            match together {
                true => peer.send(request + lines),
                false => {
                    peer.send(request);
                    rig.pass(Duration::from_secs(5)).await;
                    peer.send(lines);
                }
            }
            rig.pass(Duration::from_secs(60)).await;
            assert_eq!(statuses(&peer.receive()), [200]);
            assert!(!peer.is_at_end(), "it is idle");
            // The rest of the line, and a request: it has all of its own time, and its own answer.
            let (head, rest) = ("\nGET / HT", "TP/1.1\r\nHost: a\r\n\r\n");
            peer.send(if lines == "\r" { head } else { &head[1..] });
            rig.pass(Duration::from_secs(9)).await;
            assert_eq!(peer.receive(), "");
            peer.send(rest);
            rig.settle().await;
            assert!(peer.receive().ends_with("hello"));
            peer.send(lines);
            rig.pass(Duration::from_secs(74)).await;
            assert!(!peer.is_at_end());
            rig.pass(Duration::from_secs(2)).await;
            assert_eq!(peer.receive(), "", "nothing is sent that nobody asked for");
            assert!(peer.is_at_end());
            assert_eq!(rig.closed(CloseReason::KeepAliveTimeout), 1);
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_27_empty_lines_that_come_one_by_one_are_counted() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    for _ in 0..3 {
        peer.send("\r\n");
        rig.settle().await;
    }
    assert_eq!(statuses(&peer.receive()), [400]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_takes_too_long_is_dropped_and_its_peer_told_to_come_back() {
    let settings = Settings { request_timeout: Some(Duration::from_secs(30)), ..Settings::default() };
    let rig = Rig::with_settings(app(), settings);
    let mut peer = rig.connect();
    peer.send(get("/never"));
    rig.pass(Duration::from_secs(29)).await;
    assert_eq!(peer.receive(), "");
    assert_eq!(rig.counts().exchanges, 1);
    rig.pass(Duration::from_millis(1200)).await;
    let answer = peer.receive();
    assert!(statuses(&answer) == [503] && answer.contains("retry-after: 1"), "{answer}");
    assert_eq!(rig.counts().exchanges, 0);
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::RequestTimeout), 1);
    rig.assert_empty();
}

/// The head of an upload of that many bytes.
fn upload(bytes: usize) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n")
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_37_a_body_that_does_not_come_is_given_up_after_its_grace() {
    for begun in ["", "abc"] {
        let rig = Rig::new(app());
        let mut peer = rig.connect();
        peer.send(upload(10) + begun);
        rig.settle().await;
        let grace = Duration::from_millis(5_000 + 2 * begun.len() as u64);
        assert_due(&rig, grace, || rig.counts().exchanges == 0).await;
        let answer = peer.receive();
        assert_eq!(statuses(&answer), [408]);
        assert!(answer.ends_with(": body-too-slow\n"), "{answer}");
        drop(peer);
        rig.settle().await;
        assert_eq!(rig.closed(CloseReason::BodyTooSlow), 1);
        rig.assert_empty();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_37_a_body_below_the_minimum_rate_is_given_up_and_one_above_it_is_not() {
    // Bytes a second, and whether the body is given up. The clock is coarse, so not at the rate itself.
    for (rate, given_up) in [(10, true), (400, true), (600, false), (5_000, false)] {
        let rig = Rig::new(app());
        let mut peer = rig.connect();
        peer.send(upload(rate * 60));
        let mut answer = String::new();
        for _ in 0..60 * 4 {
            if answer.is_empty() {
                peer.send("x".repeat(rate / 4));
            }
            rig.pass(Duration::from_millis(250)).await;
            answer += &peer.receive();
        }
        assert_eq!(statuses(&answer), [if given_up { 408 } else { 200 }], "{rate} bytes a second");
        drop(peer);
        rig.settle().await;
        assert_eq!(rig.closed(CloseReason::BodyTooSlow), u64::from(given_up));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_37_a_fast_body_may_rest_for_half_a_minute_and_no_longer() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    peer.send(upload(100_000));
    for _ in 0..10 {
        peer.send("x".repeat(5_000));
        rig.settle().await;
    }
    rig.pass(Duration::from_secs(29)).await;
    assert_eq!(peer.receive(), "");
    rig.pass(Duration::from_millis(1200)).await;
    assert_eq!(statuses(&peer.receive()), [408]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_37_bytes_that_come_just_before_each_tick_do_not_hold_a_handler() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    peer.send(upload(1_000_000));
    tokio::time::advance(TICK - Duration::from_millis(2)).await;
    // 31 bytes a second, for 20 seconds.
    for _ in 0..312 {
        let _ = peer.0.send(b"xx");
        rig.settle().await;
        tokio::time::advance(Duration::from_millis(3)).await;
        rig.settle().await;
        tokio::time::advance(TICK - Duration::from_millis(3)).await;
    }
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [408]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_37_a_body_that_came_while_the_core_was_busy_is_not_late() {
    // More than one turn serves.
    let rig = Rig::new(app());
    let mut peers: Vec<_> = (0..900).map(|_| rig.connect()).collect();
    for peer in &mut peers {
        peer.send(upload(10));
    }
    rig.settle().await;
    for peer in &mut peers {
        peer.send("0123456789");
    }
    tokio::time::advance(Duration::from_secs(6)).await;
    rig.settle().await;
    let late = peers.iter_mut().filter_map(|peer| Some(peer.receive()).filter(|answer| statuses(answer) != [200]));
    assert_eq!(late.count(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_108_requests_that_came_while_the_process_was_stopped_are_answered() {
    // More than one turn serves.
    let rig = Rig::new(app());
    let mut peers: Vec<_> = (0..900).map(|_| rig.connect()).collect();
    rig.settle().await;
    rig.pass(Duration::from_secs(20)).await;
    for peer in &mut peers {
        peer.send(get("/"));
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    rig.settle().await;
    let lost = peers.iter_mut().filter_map(|peer| Some(peer.receive()).filter(|answer| statuses(answer) != [200]));
    assert_eq!(lost.count(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_108_heads_whose_rest_came_while_the_process_was_stopped_are_answered() {
    // More than one turn serves.
    let rig = Rig::new(app());
    let mut peers: Vec<_> = (0..900).map(|_| rig.connect()).collect();
    let request = get("/");
    for peer in &mut peers {
        peer.send(&request[..10]);
    }
    rig.settle().await;
    for (place, peer) in peers.iter_mut().enumerate() {
        // The last one goes on, and is not done.
        peer.send(if place == 899 { &request[10..12] } else { &request[10..] });
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    rig.settle().await;
    let answers: Vec<_> = peers.iter_mut().map(|peer| statuses(&peer.receive())).collect();
    assert!(answers[..899].iter().all(|answer| *answer == [200]));
    assert_eq!(answers[899], [408]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_37_a_body_has_an_end_however_fast_it_comes() {
    let settings = Settings { body_timeout: Some(Duration::from_secs(60)), ..Settings::default() };
    let rig = Rig::with_settings(app(), settings);
    let mut peer = rig.connect();
    peer.send(upload(1_000_000));
    for _ in 0..59 {
        peer.send("x".repeat(5_000));
        rig.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(peer.receive(), "");
    rig.pass(Duration::from_millis(1200)).await;
    let answer = peer.receive();
    assert_eq!(statuses(&answer), [408]);
    assert!(answer.ends_with(": body-timeout\n"), "{answer}");
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::BodyTimeout), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn only_a_body_that_somebody_waits_for_can_be_late() {
    // One handler does not ask, the other has stopped to.
    let not_asking = |request: Request| async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        drop(request);
        "late"
    };
    let giving_up = |request: Request| async {
        let asked = tokio::time::timeout(Duration::from_secs(1), request.into_body().collect()).await;
        assert!(asked.is_err());
        tokio::time::sleep(Duration::from_secs(99)).await;
        "late"
    };
    let rig = Rig::new(Router::new().route("/not-asking", post(not_asking)).route("/giving-up", post(giving_up)));
    for path in ["/not-asking", "/giving-up"] {
        let mut peer = rig.connect();
        peer.send(upload(10).replace("/echo", path));
        rig.pass(Duration::from_secs(99)).await;
        assert_eq!(peer.receive(), "");
        rig.pass(Duration::from_secs(2)).await;
        assert_eq!(statuses(&peer.receive()), [200], "{path}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38_a_peer_that_stops_reading_is_reset_and_one_that_goes_on_is_not() {
    let rig = Rig::with(app(), Settings { write_rate_min: 0, ..Settings::default() }, 10, 10_000);
    let mut peer = rig.connect();
    peer.send(get("/large"));
    for _ in 0..5 {
        rig.pass(Duration::from_secs(25)).await;
        assert!(!peer.0.is_reset(), "there was progress");
        assert!(!peer.receive().is_empty());
    }
    rig.settle().await;
    assert_due(&rig, Duration::from_secs(30), || peer.0.is_reset()).await;
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::WriteTimeout), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_does_not_hang_up_after_the_last_answer_is_left_after_a_second() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    // More than the request that says so: who sends this may send yet more.
    peer.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n\r\n");
    rig.settle().await;
    assert!(peer.receive().ends_with("hello") && peer.is_at_end());
    assert_eq!(rig.counts().slots, 1);
    rig.pass(Duration::from_millis(1200)).await;
    assert_eq!(rig.counts().slots, 0);
    assert_eq!(rig.closed(CloseReason::Complete), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_timeouts_nothing_is_cut() {
    let settings = Settings {
        header_timeout: None,
        keep_alive_timeout: None,
        request_timeout: None,
        write_timeout: None,
        ..Settings::default()
    };
    let rig = Rig::with_settings(app(), settings);
    let mut peers = [rig.connect(), rig.connect(), rig.connect()];
    peers[1].send("GET / HT");
    peers[2].send(get("/never"));
    rig.settle().await;
    tokio::time::advance(Duration::from_secs(1_000_000)).await;
    rig.settle().await;
    assert_eq!(rig.counts().slots, 3);
    assert_eq!(rig.counts().deadlines, 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_100_after_a_long_sleep_of_the_machine_each_deadline_is_acted_on_once() {
    let settings = Settings { request_timeout: Some(Duration::from_secs(30)), ..Settings::default() };
    let rig = Rig::with_settings(app(), settings);
    let mut peers: Vec<_> = (0..30).map(|_| rig.connect()).collect();
    for group in peers.chunks_mut(10).zip(["", "GET / HT", "GET /never HTTP/1.1\r\nHost: a\r\n\r\n"]) {
        group.0.iter_mut().for_each(|peer| peer.send(group.1));
    }
    rig.settle().await;
    tokio::time::advance(Duration::from_hours(1)).await;
    rig.settle().await;
    for (place, peer) in peers.iter_mut().enumerate() {
        assert_eq!(statuses(&peer.receive()), [&[][..], &[408], &[503]][place / 10]);
        assert!(peer.is_at_end());
    }
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [200]);
    drop(peers);
    rig.settle().await;
    let closed = [CloseReason::KeepAliveTimeout, CloseReason::HeaderTimeout, CloseReason::RequestTimeout];
    assert_eq!(closed.map(|reason| rig.closed(reason)), [10, 10, 10]);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_ready_when_its_time_is_over_is_answered_however_many_are() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let waits = move || {
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|is_open| *is_open).await;
            "open"
        }
    };
    // Wakes itself whenever it is polled.
    let restless = || {
        std::future::poll_fn(|cx: &mut Context<'_>| -> Poll<&str> {
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    };
    let app = Router::new().route("/", route_get(waits)).route("/restless", route_get(restless));
    let rig =
        Rig::with_settings(app, Settings { request_timeout: Some(Duration::from_secs(5)), ..Settings::default() });
    let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(300).collect();
    peers.iter_mut().for_each(|peer| peer.send(get("/")));
    let mut never_ready = rig.connect();
    never_ready.send(get("/restless"));
    rig.settle().await;
    // The core looks only when all of this has happened.
    open.send(true).unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    rig.settle().await;
    let answered = peers.iter_mut().map(|peer| statuses(&peer.receive())).filter(|answer| *answer == [200]).count();
    assert_eq!((answered, rig.closed(CloseReason::RequestTimeout)), (300, 0));
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(statuses(&never_ready.receive()), [503], "it has its last look, and no more");
}

/// Uses the core for a millisecond when it is dropped, and notes in which turn that is.
struct Slow(Arc<AtomicUsize>, Arc<Mutex<Vec<usize>>>);

impl Drop for Slow {
    fn drop(&mut self) {
        // It moves the clock when it is polled, and only then waits.
        let _ = pin!(tokio::time::advance(Duration::from_millis(1))).poll(&mut Context::from_waker(Waker::noop()));
        self.1.lock().unwrap().push(self.0.load(Relaxed));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn handlers_that_take_long_to_be_dropped_do_not_all_end_in_one_turn() {
    let (turns, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (noted, counted) = (Arc::clone(&dropped), Arc::clone(&turns));
    let never = move || {
        let slow = Slow(Arc::clone(&counted), Arc::clone(&noted));
        async move {
            std::future::pending::<()>().await;
            drop(slow);
        }
    };
    let settings = Settings { request_timeout: Some(Duration::from_secs(5)), ..Settings::default() };
    let rig = Rig::with_settings(Router::new().route("/", route_get(never)), settings);
    let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(300).collect();
    peers.iter_mut().for_each(|peer| peer.send(get("/")));
    rig.settle().await;
    // A task that is always ready has its turns between those of the engine.
    tokio::task::spawn_local(std::future::poll_fn(move |cx| -> Poll<()> {
        turns.fetch_add(1, Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    tokio::time::advance(Duration::from_secs(6)).await;
    rig.settle().await;
    let dropped = dropped.lock().unwrap();
    assert_eq!((dropped.len(), rig.closed(CloseReason::RequestTimeout)), (300, 0));
    let most = dropped.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert_eq!(most, Some(64));
}
