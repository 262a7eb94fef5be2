//! Handlers that take their leave when the server stops: `Ending`, as an extractor and as a future.

use std::convert::Infallible;
use std::net::TcpStream;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::get;
use baiwan::{CloseReason, Ending, EventLoop};
use futures_util::{Stream, StreamExt, stream};
use tokio_tungstenite::tungstenite;

use crate::rig::{Rig, eventually, server};

/// Longer than a test has.
const LONG: Duration = Duration::from_secs(3600);

async fn talk(upgrade: WebSocketUpgrade, mut ending: Ending) -> Response {
    upgrade.on_upgrade(move |mut socket: WebSocket| async move {
        loop {
            tokio::select! {
                message = socket.recv() => {
                    let Some(Ok(message)) = message else { return };
                    if socket.send(message).await.is_err() {
                        return;
                    }
                }
                () = &mut ending => break,
            }
        }
        let away = CloseFrame { code: close_code::AWAY, reason: "".into() };
        socket.send(Message::Close(Some(away))).await.unwrap();
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

async fn events(ending: Ending) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let news = stream::once(async { Event::default().data("news") }).chain(stream::pending());
    let last = stream::once(async { Event::default().retry(Duration::from_millis(1234)) });
    Sse::new(news.take_until(ending).chain(last).map(Ok))
}

/// A long poll whose waiting is a task's.
async fn poll(ending: Ending) -> &'static str {
    let waiting = tokio::spawn(ending);
    waiting.await.unwrap();
    "nothing new"
}

fn app() -> Router {
    Router::new().route("/talk", get(talk)).route("/events", get(events)).route("/poll", get(poll))
}

pub(crate) fn a_web_socket_says_that_it_goes_away_when_its_server_stops(event_loop: EventLoop) {
    let builder = server(event_loop).workers(2).shutdown_idle(LONG).shutdown_timeout(LONG);
    let rig = Rig::start(builder, app());
    let url = format!("ws://{}/talk", rig.address());
    let mut open: Vec<_> = std::iter::repeat_with(|| {
        let (mut socket, _) = tungstenite::client(&url, TcpStream::connect(rig.address()).unwrap()).unwrap();
        socket.send(tungstenite::Message::text("hello")).unwrap();
        assert_eq!(socket.read().unwrap(), tungstenite::Message::text("hello"));
        socket
    })
    .take(5)
    .collect();
    let health = rig.health.clone();
    let stopping = rig.begin_stop();
    for socket in &mut open {
        let tungstenite::Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("not its leave") };
        assert_eq!(frame.code, tungstenite::protocol::frame::coding::CloseCode::Away);
        while socket.read().is_ok() {}
    }
    drop(open);
    stopping.join().unwrap().unwrap();
    assert_eq!(health.counts().closed_by(CloseReason::DrainTimeout), 0);
}

pub(crate) fn a_stream_of_events_tells_when_to_come_back(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop).shutdown_timeout(LONG), app());
    let mut client = rig.connect();
    client.send("GET /events HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().unwrap(), b"data: news\n\n");
    let stopping = rig.begin_stop();
    assert_eq!(client.chunk().unwrap(), b"retry: 1234\n\n");
    assert_eq!(client.chunk(), None, "the answer is complete");
    client.expect_end();
    drop(client);
    stopping.join().unwrap().unwrap();
}

pub(crate) fn a_long_poll_is_answered_when_its_server_stops(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop).shutdown_timeout(LONG), app());
    let mut client = rig.connect();
    client.send("GET /poll HTTP/1.1\r\nHost: test\r\n\r\n");
    let health = rig.health.clone();
    eventually("it is taken in", || health.counts().requests == 1);
    let stopping = rig.begin_stop();
    let answer = client.answer(false);
    assert_eq!((answer.text(), answer.field("connection")), ("nothing new", Some("close")));
    client.expect_end();
    drop(client);
    stopping.join().unwrap().unwrap();
}
