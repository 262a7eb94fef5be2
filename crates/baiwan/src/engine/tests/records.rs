//! The record of every exchange, for whoever observes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get as route_get, post};
use futures_util::stream;

use super::overloaded::burn;
use super::rig::{Rig, get, statuses};
use crate::observe::{Exchange, Observer, Outcome};
use crate::settings::{Overload, Settings};
use crate::status::CloseReason;

/// What a record says that does not depend on the time.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    method: String,
    route: String,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
    outcome: Outcome,
    client: SocketAddr,
    times: [Duration; 2],
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

impl Lines {
    fn observer(&self) -> Observer {
        let lines = self.clone();
        Observer::new(move |exchange: &Exchange<'_>| {
            let answered = exchange.answered.unwrap_or(exchange.ended);
            lines.0.lock().unwrap().push(Line {
                method: exchange.method.map_or_else(|| "-".to_owned(), ToString::to_string),
                route: exchange.route.to_owned(),
                status: exchange.status.map_or(0, |status| status.as_u16()),
                bytes_in: exchange.bytes_in,
                bytes_out: exchange.bytes_out,
                outcome: exchange.outcome,
                client: exchange.client,
                times: [answered - exchange.begun, exchange.ended - exchange.begun],
            });
        })
    }

    /// The records since the last call: method, route, status, outcome.
    fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The one record since the last call.
    fn one(&self) -> Line {
        let lines = self.take();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].clone()
    }
}

fn app() -> Router {
    let frames = || {
        let frame = |bytes: &'static str| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(bytes.as_bytes()))
        };
        Body::from_stream(stream::unfold(0, move |count| async move {
            if count < 3 { Some((frame("frame").await, count + 1)) } else { None }
        }))
    };
    let users = Router::new().route("/{id}", route_get(|| async { "a user" })).route(
        "/{id}/later",
        route_get(|| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            "later"
        }),
    );
    Router::new()
        .nest("/users", users)
        .route(
            "/panic",
            route_get(|| async {
                if true {
                    std::panic::resume_unwind(Box::new("on purpose"))
                }
            }),
        )
        .route("/work", route_get(|| burn(Duration::from_millis(5))))
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/large", route_get(|| async { "x".repeat(200_000) }))
        .route("/frames", route_get(move || async move { frames() }))
        .route("/echo", post(|body: Bytes| async { body }))
}

fn rig(settings: Settings, inbox_bytes_max: usize) -> (Rig, Lines) {
    let lines = Lines::default();
    let settings = Settings { observer: Some(lines.observer()), ..settings };
    (Rig::with(app(), settings, 1000, inbox_bytes_max), lines)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_has_one_record_whether_it_was_there_at_once_or_not() {
    let (rig, lines) = rig(Settings::default(), 1 << 20);
    let mut peer = rig.connect();
    for (path, route, seconds) in [
        ("/users/7", "/users/{id}", [0, 0]),
        ("/users/7/later", "/users/{id}/later", [1, 1]),
        ("/large", "/large", [0, 0]),
        ("/frames", "/frames", [0, 3]),
        ("/nowhere", "unmatched", [0, 0]),
    ] {
        peer.send(get(path));
        rig.pass(Duration::from_secs(4)).await;
        let answer = peer.receive();
        let line = lines.one();
        assert_eq!((&line.method[..], &line.route[..], line.outcome), ("GET", route, Outcome::Answered), "{path}");
        assert_eq!((line.bytes_in, line.bytes_out), (get(path).len() as u64, answer.len() as u64), "{path}");
        assert_eq!(vec![line.status], statuses(&answer));
        let near = |time: Duration, seconds: u64| time >= Duration::from_secs(seconds) && time.as_secs() <= seconds;
        assert!(near(line.times[0], seconds[0]) && near(line.times[1], seconds[1]), "{path}: {:?}", line.times);
        assert!(line.client.to_string().starts_with("127.0.0.1:4"));
    }
    peer.send(get("/users/1").repeat(3));
    rig.settle().await;
    assert_eq!(lines.take().len(), 3, "pipelined requests have one each");
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n";
    peer.send(head.to_owned() + "abcd");
    rig.settle().await;
    assert_eq!(lines.take(), [], "the exchange goes on");
    peer.send("efgh");
    rig.settle().await;
    assert_eq!(lines.one().bytes_in, head.len() as u64 + 8);
    assert_eq!(rig.counts().requests, 9);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_lasts_from_when_it_had_come_whoever_is_answered_before_it() {
    for overload in [Overload::Off, Overload::Auto] {
        let (rig, lines) = rig(Settings { overload, ..Settings::default() }, 1 << 20);
        let lasted = || lines.take().into_iter().map(|line| line.times[1].as_millis()).collect::<Vec<_>>();
        let mut peers = [(); 3].map(|()| rig.connect());
        peers.iter_mut().for_each(|peer| peer.send(get("/work")));
        rig.settle().await;
        assert_eq!(lasted(), [5, 10, 15], "{overload:?}: one batch");
        peers[0].send(get("/work").repeat(3));
        rig.settle().await;
        assert_eq!(lasted(), [5, 10, 15], "{overload:?}: one behind the other");
        peers[0].send(get("/work").split_at(5).0);
        rig.pass(Duration::from_secs(1)).await;
        peers[0].send(get("/work").split_at(5).1);
        rig.settle().await;
        assert_eq!(lasted(), [5], "{overload:?}: its head was late");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_refused_late_or_failed_has_a_record_too() {
    let settings = Settings { request_timeout: Some(Duration::from_secs(5)), ..Settings::default() };
    let (rig, lines) = rig(settings, 1 << 20);
    let ended = Outcome::Ended;
    for (request, method, route, status, outcome) in [
        ("GET / HTTP/1.1\r\n\r\n", "-", "unmatched", 400, ended(CloseReason::Refused)),
        ("GET / HTTP/1.1\r\nHost:", "-", "unmatched", 408, ended(CloseReason::HeaderTimeout)),
        ("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/panic", 500, ended(CloseReason::HandlerFailed)),
        ("GET /never HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/never", 503, ended(CloseReason::RequestTimeout)),
        (
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "POST",
            "unmatched",
            400,
            ended(CloseReason::Refused),
        ),
    ] {
        let mut peer = rig.connect();
        peer.send(request);
        rig.pass(Duration::from_secs(12)).await;
        let answer = peer.receive();
        let line = lines.one();
        assert_eq!((&line.method[..], &line.route[..], line.status), (method, route, status), "{request}");
        assert_eq!((line.outcome, line.bytes_out), (outcome, answer.len() as u64), "{request}");
        assert_eq!(statuses(&answer), [status]);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_exchange_that_is_cut_says_why_and_what_was_sent() {
    let (rig, lines) = rig(Settings { write_rate_min: 0, ..Settings::default() }, 10_000);
    let mut peer = rig.connect();
    peer.send(get("/never"));
    rig.settle().await;
    drop(peer);
    rig.settle().await;
    let line = lines.one();
    assert_eq!((line.status, line.bytes_out, line.outcome), (0, 0, Outcome::Ended(CloseReason::PeerClosed)));
    // It takes what there is room for, and no more.
    let mut deaf = rig.connect();
    deaf.send(get("/large"));
    rig.pass(Duration::from_secs(29)).await;
    assert_eq!(lines.take(), [], "the answer is on its way");
    rig.pass(Duration::from_secs(2)).await;
    let line = lines.one();
    assert_eq!((line.status, line.bytes_out), (200, 10_000));
    assert_eq!(line.outcome, Outcome::Ended(CloseReason::WriteTimeout));
    drop(deaf);
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_beyond_the_maximum_has_a_record_of_what_it_was_told() {
    let lines = Lines::default();
    let settings = Settings { observer: Some(lines.observer()), turned_away_max: 20, ..Settings::default() };
    let rig = Rig::with(app(), settings, 1, 1 << 20);
    let _held = rig.connect();
    rig.settle().await;
    let peers: Vec<_> = (0..21).map(|_| rig.connect()).collect();
    rig.pass(Duration::from_secs(2)).await;
    let told: Vec<_> = peers.into_iter().map(|mut peer| peer.receive()).filter(|answer| !answer.is_empty()).collect();
    assert_eq!(told.len(), 20, "one is dropped without a word");
    let lines = lines.take();
    assert_eq!(lines.len(), told.len());
    for (line, answer) in lines.iter().zip(told) {
        assert_eq!((&line.method[..], &line.route[..], line.status), ("-", "unmatched", 503));
        assert_eq!((line.bytes_in, line.bytes_out), (0, answer.len() as u64));
        assert_eq!(line.outcome, Outcome::Ended(CloseReason::OverLimit));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_observer_that_panics_costs_its_record_and_nothing_else() {
    let observer = Observer::new(|_: &Exchange<'_>| std::panic::resume_unwind(Box::new("on purpose")));
    let settings = Settings { observer: Some(observer), ..Settings::default() };
    let rig = Rig::with(app(), settings, 1000, 1 << 20);
    let mut peer = rig.connect();
    peer.send(get("/users/1") + &get("/users/2/later"));
    rig.pass(Duration::from_secs(2)).await;
    assert_eq!(statuses(&peer.receive()), [200, 200]);
    assert_eq!((rig.counts().core_panics, rig.counts().handler_panics), (0, 0));
}
