//! Requests and answers: order, framing, back-pressure, panics.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get as route_get, post};
use http_body_util::BodyExt;

use super::rig::{Rig, get, statuses};
use crate::settings::Settings;
use crate::status::CloseReason;

pub(super) fn hello() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route(
            "/slow",
            route_get(|| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                "slow"
            }),
        )
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/ignore", post(|| async { "ignored" }))
        .route("/peer", route_get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_is_answered_and_an_idle_connection_holds_only_its_slot() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.settle().await;
    let answer = peer.receive();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("content-length: 5\r\n\r\nhello"), "{answer}");
    let counts = rig.counts();
    assert_eq!((counts.slots, counts.deadlines, counts.exchanges), (1, 1, 0));
    peer.send(get("/"));
    rig.settle().await;
    assert!(peer.receive().ends_with("hello"), "the connection persists");
    drop(peer);
    rig.settle().await;
    rig.assert_empty();
    assert_eq!(rig.closed(CloseReason::PeerClosed), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_may_come_byte_by_byte() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    for byte in (get("/") + &get("/nowhere")).bytes() {
        peer.send([byte]);
        rig.settle().await;
    }
    assert_eq!(statuses(&peer.receive()), [200, 404]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn pipelined_requests_are_answered_in_order_whether_ready_or_not() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    let body = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n";
    peer.send([get("/"), get("/slow"), body.into(), chunked.into(), get("/"), get("/slow")].concat());
    rig.pass(Duration::from_millis(300)).await;
    let answers = peer.receive();
    let bodies: Vec<_> = answers.split("\r\n\r\n").skip(1).map(|part| part.split("HTTP").next().unwrap()).collect();
    assert_eq!(bodies, ["hello", "slow", "abc", "def", "hello", "slow"]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn more_pipelined_requests_than_one_turn_takes_are_all_answered() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    peer.send(get("/").repeat(1000));
    let mut answers = String::new();
    for _ in 0..10 {
        rig.settle().await;
        answers += &peer.receive();
    }
    assert_eq!(statuses(&answers).len(), 1000);
    assert_eq!(rig.counts().requests, 1000);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_is_known_by_its_address() {
    let rig = Rig::new(hello());
    assert!(rig.exchange(&get("/peer")).await.contains("127.0.0.1:4"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn head_has_the_length_and_no_body_and_http_1_0_closes() {
    let rig = Rig::new(hello());
    let answer = rig.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let mut peer = rig.connect();
    peer.send("GET / HTTP/1.0\r\n\r\n");
    rig.settle().await;
    assert!(peer.receive().ends_with("connection: close\r\n\r\nhello"));
    assert!(peer.is_at_end());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_breaks_a_rule_is_refused_by_name_and_the_rest_is_not_looked_at() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    peer.send(get("/") + "GET / HTTP/1.1\r\n\r\n" + &get("/"));
    rig.settle().await;
    let answer = peer.receive();
    assert_eq!(statuses(&answer), [200, 400]);
    assert!(answer.ends_with("400 Bad Request: host-missing\n"), "{answer}");
    assert!(peer.is_at_end());
    assert_eq!(rig.counts().requests, 1);
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::Refused), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_97_a_panic_before_the_head_is_a_500_for_that_request_only() {
    let app = hello()
        .route(
            "/panic",
            route_get(|| async {
                if true {
                    panic!("on purpose")
                }
            }),
        )
        .route(
            "/panic-late",
            route_get(|| async {
                tokio::task::yield_now().await;
                if true {
                    panic!("on purpose, in a task")
                }
            }),
        );
    let rig = Rig::new(app);
    let mut other = rig.connect();
    other.send(get("/slow"));
    for path in ["/panic", "/panic-late"] {
        let answer = rig.exchange(&get(path)).await;
        assert_eq!(statuses(&answer), [500], "{answer}");
        assert!(answer.contains("connection: close\r\n"));
    }
    let answer = rig.exchange("HEAD /panic-late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(statuses(&answer) == [500] && answer.ends_with("\r\n\r\n"), "no body for HEAD: {answer}");
    rig.pass(Duration::from_millis(200)).await;
    assert!(other.receive().ends_with("slow"));
    assert_eq!(rig.counts().handler_panics, 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_fails_after_the_head_cuts_the_connection_without_a_last_chunk() {
    let app = Router::new()
        .route("/panic", route_get(|| async { Body::from_stream(failing(true)) }))
        .route("/error", route_get(|| async { Body::from_stream(failing(false)) }));
    let rig = Rig::new(app);
    for path in ["/panic", "/error"] {
        let mut peer = rig.connect();
        peer.send(get(path));
        rig.settle().await;
        assert!(peer.0.is_reset(), "{path}");
        let answer = peer.receive();
        assert!(!answer.contains("0\r\n\r\n"), "{answer}");
    }
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::HandlerFailed), 2);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_is_owed_arrives_although_the_body_of_the_next_fails() {
    let app = Router::new()
        .route("/", route_get(|| async { "x".repeat(2000) }))
        .route("/error", route_get(|| async { Body::from_stream(failing(false)) }));
    let rig = Rig::with(app, Settings::default(), 1000, 1000);
    let mut peer = rig.connect();
    peer.send(get("/") + &get("/error"));
    rig.settle().await;
    let mut answers = String::new();
    while !peer.is_at_end() {
        let received = peer.receive();
        assert!(!received.is_empty(), "{} {}", peer.0.is_reset(), peer.is_at_end());
        answers += &received;
        rig.settle().await;
    }
    assert_eq!(statuses(&answers), [200, 200]);
    assert!(answers.contains(&"x".repeat(2000)) && answers.ends_with("\r\n\r\n4\r\npart\r\n"), "{answers}");
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::HandlerFailed), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_fails_before_anything_left_is_a_500() {
    async fn answer(is_late: bool, panics: bool) -> Body {
        if is_late {
            tokio::task::yield_now().await;
        }
        let error = || std::task::Poll::Ready(Some(Err::<Bytes, _>(std::io::Error::from(std::io::ErrorKind::Other))));
        Body::from_stream(stream(move |_| if panics { panic!("on purpose, in a body") } else { error() }))
    }
    let cases = [
        ("/now/panic", false, true),
        ("/now/error", false, false),
        ("/late/panic", true, true),
        ("/late/error", true, false),
    ];
    let app = cases.into_iter().fold(Router::new(), |app, (path, is_late, panics)| {
        app.route(path, route_get(move || answer(is_late, panics)))
    });
    let rig = Rig::new(app);
    for (path, ..) in cases {
        let answer = rig.exchange(&get(path)).await;
        assert_eq!(statuses(&answer), [500], "{path}: {answer}");
    }
    rig.settle().await;
    assert_eq!((rig.closed(CloseReason::HandlerFailed), rig.counts().handler_panics), (4, 2));
    rig.assert_empty();
}

/// One chunk, a pause, then a panic or an error.
fn failing(panics: bool) -> impl futures_core::Stream<Item = Result<Bytes, std::io::Error>> {
    let mut step = 0;
    stream(move |cx| {
        step += 1;
        match step {
            1 => std::task::Poll::Ready(Some(Ok(Bytes::from_static(b"part")))),
            2 => {
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            _ if panics => panic!("on purpose, in a body"),
            _ => std::task::Poll::Ready(Some(Err(std::io::ErrorKind::Other.into()))),
        }
    })
}

/// A stream from a function.
fn stream<T, F>(next: F) -> impl futures_core::Stream<Item = T>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
{
    struct FromFn<F>(F);

    impl<T, F> futures_core::Stream for FromFn<F>
    where
        F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
    {
        type Item = T;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            (self.0)(cx)
        }
    }

    FromFn(next)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38_a_reader_that_stops_stops_the_producer() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let endless = move || {
        let counter = Arc::clone(&counter);
        async move {
            Body::from_stream(stream(move |_| {
                counter.fetch_add(1, Relaxed);
                std::task::Poll::Ready(Some(Ok::<_, Infallible>(Bytes::from(vec![b'x'; 1000]))))
            }))
        }
    };
    let rig = Rig::new(Router::new().route("/endless", route_get(endless)));
    let mut peer = rig.connect();
    peer.send(get("/endless"));
    rig.settle().await;
    let first = made.load(Relaxed);
    assert!((64..=140).contains(&first), "what the peer and the connection hold, and no more: {first}");
    rig.pass(Duration::from_secs(1)).await;
    assert_eq!(made.load(Relaxed), first, "nothing is made while nobody reads");
    assert!(peer.receive().len() > 60_000);
    rig.settle().await;
    assert!(made.load(Relaxed) > first, "and it goes on when somebody does");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_does_not_read_stops_the_sender() {
    let go = Arc::new(tokio::sync::Notify::new());
    let gate = Arc::clone(&go);
    let sum = move |mut body: Body| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            let mut count = 0;
            while let Some(frame) = body.frame().await {
                count += frame.map_or(0, |frame| frame.data_ref().map_or(0, Bytes::len));
            }
            count.to_string()
        }
    };
    let rig = Rig::new(Router::new().route("/sum", post(sum)));
    let mut peer = rig.connect();
    let total = 1 << 20;
    peer.send(format!("POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: {total}\r\n\r\n"));
    rig.settle().await;
    let bytes = vec![b'x'; total];
    let mut sent = peer.0.send(&bytes).unwrap();
    rig.pass(Duration::from_secs(1)).await;
    assert!(peer.0.send(&bytes[sent..]).is_err(), "nobody reads");
    go.notify_one();
    while sent < total {
        rig.settle().await;
        sent += peer.0.send(&bytes[sent..]).unwrap_or(0);
    }
    rig.settle().await;
    assert!(peer.receive().ends_with(&format!("\r\n\r\n{total}")));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_chunked_upload_in_pieces_arrives_whole_with_its_trailers() {
    let app = Router::new().route(
        "/",
        post(|body: Body| async {
            let collected = body.collect().await.unwrap();
            let trailer = collected.trailers().map(|trailers| trailers["x-sum"].clone());
            format!("{:?} {:?}", collected.to_bytes(), trailer)
        }),
    );
    let rig = Rig::new(app);
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                   3\r\nabc\r\n2;name=value\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n";
    assert!(rig.exchange(request).await.ends_with("b\"abcde\" Some(\"5\")"), "at once");
    let mut peer = rig.connect();
    for byte in request.bytes() {
        peer.send([byte]);
        rig.settle().await;
    }
    assert!(peer.receive().ends_with("b\"abcde\" Some(\"5\")"), "byte by byte");
    peer.send(request);
    rig.settle().await;
    assert!(peer.receive().ends_with("b\"abcde\" Some(\"5\")"), "and the connection persists");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_turns_out_wrong_is_refused_if_nothing_was_answered() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    peer.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    rig.settle().await;
    peer.send("zz\r\n");
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [400]);
    assert_eq!(rig.counts().exchanges, 0, "the handler is dropped");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_30_continue_is_said_when_the_handler_wants_the_body_and_not_before() {
    let rig = Rig::new(hello());
    let head =
        |path: &str| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    let mut peer = rig.connect();
    peer.send(head("/echo"));
    rig.settle().await;
    assert_eq!(peer.receive(), "HTTP/1.1 100 Continue\r\n\r\n");
    peer.send("abc");
    rig.settle().await;
    assert!(peer.receive().ends_with("\r\n\r\nabc"));
    // A handler that does not want the body: no 100, and the connection ends, as nobody knows whether the body comes.
    let answer = rig.exchange(&head("/ignore")).await;
    assert_eq!(statuses(&answer), [200]);
    assert!(answer.contains("connection: close"));
    // A body that comes along needs no invitation.
    let answer = rig.exchange(&(head("/echo") + "abc")).await;
    assert_eq!(statuses(&answer), [200]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_29_a_small_body_that_nobody_reads_is_drained_and_a_large_one_ends_the_connection() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    peer.send("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    peer.send([b'G'; 1000]);
    peer.send(get("/"));
    rig.settle().await;
    assert!(peer.receive().ends_with("hello"), "the body was not taken for a request");
    let mut peer = rig.connect();
    peer.send("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n");
    rig.settle().await;
    let answer = peer.receive();
    assert!(statuses(&answer) == [200] && answer.contains("connection: close"));
    assert!(peer.is_at_end());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn large_answers_arrive_whole_behind_small_ones_through_a_slow_reader() {
    let app = hello()
        .route("/large", route_get(|| async { vec![b'L'; 300_000] }))
        .route("/pieces", route_get(|| async { Body::from_stream(pieces()) }));
    let rig = Rig::with(app, Settings::default(), 10, 1000);
    let mut peer = rig.connect();
    peer.send(get("/") + &get("/large") + &get("/") + &get("/pieces") + &get("/"));
    let mut all = String::new();
    for _ in 0..2000 {
        rig.settle().await;
        all += &peer.receive();
    }
    assert_eq!(statuses(&all), [200, 200, 200, 200, 200]);
    assert_eq!(all.matches('L').count(), 300_000);
    assert_eq!(all.matches('Q').count(), 5 * 20_000);
    assert!(all.ends_with("hello"));
}

/// Five pieces that are too large to be copied.
fn pieces() -> impl futures_core::Stream<Item = Result<Bytes, Infallible>> {
    let mut left = 5;
    stream(move |_| {
        left -= 1;
        std::task::Poll::Ready((left >= 0).then(|| Ok(Bytes::from(vec![b'Q'; 20_000]))))
    })
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_110_a_connection_beyond_the_maximum_is_told_so_and_the_others_stay() {
    let rig = Rig::with(hello(), Settings::default(), 2, 64 * 1024);
    let mut held = [rig.connect(), rig.connect()];
    rig.settle().await;
    assert!(!rig.health.is_ready(), "no room for more");
    let mut third = rig.connect();
    third.send(get("/"));
    rig.settle().await;
    let answer = third.receive();
    assert_eq!(statuses(&answer), [503]);
    assert!(answer.contains("retry-after: 1\r\n") && third.is_at_end());
    drop(third);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::OverLimit), 1);
    held[1].send(get("/"));
    rig.settle().await;
    assert!(held[1].receive().ends_with("hello"));
    drop(held);
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn no_more_than_there_are_files_kept_for_are_told_at_the_same_time() {
    let settings = Settings { turned_away_max: 2, ..Settings::default() };
    let rig = Rig::with(hello(), settings, 1, 64 * 1024);
    let held = rig.connect();
    rig.settle().await;
    let mut others: Vec<_> = (0..5).map(|_| rig.connect()).collect();
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::OverLimit), 3, "the others were reset");
    // They do not leave, so their connections are still open, and they ask nothing.
    rig.pass(Duration::from_millis(1100)).await;
    let answers: Vec<_> = others.iter_mut().map(|other| statuses(&other.receive())).collect();
    assert_eq!(answers.iter().filter(|answer| **answer == [503]).count(), 2, "{answers:?}");
    drop((held, others));
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_lies_about_its_length_is_a_500() {
    let app = Router::new().route(
        "/",
        route_get(|| async {
            let mut headers = HeaderMap::new();
            headers.insert("content-length", "100".parse().unwrap());
            (StatusCode::OK, headers, "short")
        }),
    );
    let rig = Rig::new(app);
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [500]);
}
