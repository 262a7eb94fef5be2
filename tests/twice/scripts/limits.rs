//! Timeouts and maxima, which axum has none of. Those of Baiwan are made short here, so it is started with its builder.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::{any, get, post};
use baiwan::Builder;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::comparison::compare;
use crate::differences::{
    BODY_RATE, ENDING, HEADER_TIMEOUT, JOBS, KEEP_ALIVE_TIMEOUT, MAX_CONNECTIONS, STREAMS_AT_STOP, WEB_SOCKET_AT_STOP,
    WRITE_TIMEOUT,
};
use crate::stage::{Server, Stage, Stop, eventually};

/// Long enough for a client on a busy machine to send what it has to send.
const SHORT: Duration = Duration::from_millis(250);
const LARGE: usize = 32 << 20;

/// What a script and the handlers tell each other.
#[derive(Clone, Default)]
struct Signs {
    /// Releases one more piece of the stream.
    next: Arc<Notify>,
    /// The large answer has been dropped, sent or not.
    is_dropped: Arc<AtomicBool>,
    /// `serve` has returned.
    has_returned: Arc<AtomicBool>,
}

struct SetWhenDropped(Arc<AtomicBool>);

impl Drop for SetWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn app(signs: &Signs) -> Router {
    let (next, is_dropped) = (Arc::clone(&signs.next), Arc::clone(&signs.is_dropped));
    let gated = move || async move {
        Body::from_stream(stream::unfold(next, |next| async move {
            next.notified().await;
            Some((Ok::<_, Infallible>("piece"), next))
        }))
    };
    let told_next = Arc::clone(&signs.next);
    let ending = move |ending: baiwan::Ending| async move {
        Body::from_stream(stream::unfold((told_next, ending, true), |(next, mut ending, go_on)| async move {
            if !go_on {
                return None;
            }
            let (piece, go_on) = tokio::select! {
                () = &mut ending => ("bye", false),
                () = next.notified() => ("and", true),
            };
            Some((Ok::<_, Infallible>(piece), (next, ending, go_on)))
        }))
    };
    let large = move || async move {
        let guard = SetWhenDropped(is_dropped);
        let piece = Bytes::from(vec![b'x'; 64 << 10]);
        let pieces = (0..LARGE / piece.len()).map(move |_| {
            let _ = &guard;
            Ok::<_, Infallible>(piece.clone())
        });
        Body::from_stream(stream::iter(pieces))
    };
    let echo = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
        })
    };
    let job_dropped = Arc::clone(&signs.is_dropped);
    let job = move || async move {
        let guard = SetWhenDropped(job_dropped);
        tokio::spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
    };
    Router::new()
        .route("/job", post(job))
        .route("/", get(|| async { "hello" }))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/gated", get(gated))
        .route("/ending", get(ending))
        .route("/large", get(large))
        .route("/socket", any(echo))
}

/// Plays a script on axum, and on Baiwan with a setting.
#[track_caller]
fn compare_with(setting: impl FnOnce(Builder) -> Builder + Send + 'static, script: impl Fn(&mut Stage, &Signs)) {
    let signs = Signs::default();
    let (of_axum, of_baiwan) = (signs.clone(), signs.clone());
    let axum = move |listener: TcpListener, stop: Stop| async move {
        axum::serve(listener, app(&of_axum)).with_graceful_shutdown(stop).await?;
        of_axum.has_returned.store(true, SeqCst);
        pending::<io::Result<()>>().await
    };
    let baiwan = move |listener: TcpListener, stop: Stop| async move {
        let builder = setting(baiwan::Server::builder().listener(listener.into_std()?));
        builder.shutdown(stop).serve(app(&of_baiwan)).await?;
        of_baiwan.has_returned.store(true, SeqCst);
        pending::<io::Result<()>>().await
    };
    compare(axum, baiwan, |stage| {
        signs.has_returned.store(false, SeqCst);
        signs.is_dropped.store(false, SeqCst);
        script(stage, &signs);
    });
}

#[test]
fn a_head_that_does_not_come() {
    compare_with(
        |builder| builder.header_timeout(Some(SHORT)),
        |stage, _| {
            let mut client = stage.connect();
            client.send("GET / HTTP/1.1\r\nHost:");
            if stage.server == Server::Axum {
                client.send(" test\r\n\r\n");
            }
            stage.differs(HEADER_TIMEOUT, client.read_answer("GET").status(), 200, 408);
        },
    );
}

#[test]
fn an_idle_connection() {
    compare_with(
        |builder| builder.keep_alive_timeout(Some(SHORT)),
        |stage, _| {
            let mut client = stage.connect();
            client.get("/").expect(200);
            if stage.server == Server::Axum {
                client.send_request("GET", "/", "", b"");
            }
            stage.differs(KEEP_ALIVE_TIMEOUT, client.is_answered(), true, false);
        },
    );
}

#[test]
fn a_body_that_does_not_come() {
    compare_with(
        |builder| builder.body_timeout(Some(SHORT)),
        |stage, _| {
            let mut client = stage.connect();
            client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe");
            if stage.server == Server::Axum {
                client.send("llo");
            }
            stage.differs(BODY_RATE, client.read_answer("POST").status(), 200, 408);
        },
    );
}

#[test]
fn a_peer_that_takes_nothing() {
    compare_with(
        |builder| builder.write_timeout(Some(SHORT)),
        |stage, signs| {
            let mut client = stage.connect();
            client.send_request("GET", "/large", "", b"");
            client.head().expect(200);
            if stage.server == Server::Baiwan {
                eventually("the server gives up", || signs.is_dropped.load(SeqCst));
            }
            let mut taken = 0;
            while let Ok(Some(chunk)) = client.try_chunk() {
                taken += chunk.len();
            }
            stage.differs(WRITE_TIMEOUT, taken == LARGE, true, false);
        },
    );
}

#[test]
fn one_connection_too_many() {
    compare_with(
        |builder| builder.max_connections(1),
        |stage, _| {
            let mut first = stage.connect();
            first.get("/").expect(200);
            let mut second = stage.connect();
            second.send_request("GET", "/", "", b"");
            stage.differs(MAX_CONNECTIONS, second.read_answer("GET").status(), 200, 503);
        },
    );
}

#[test]
fn a_stream_at_a_stop() {
    compare_with(
        |builder| builder.shutdown_timeout(SHORT),
        |stage, signs| {
            let mut client = stage.connect();
            client.send_request("GET", "/gated", "", b"");
            client.head().expect(200);
            signs.next.notify_one();
            client.text_of_chunks(5);
            stage.begin_stop();
            let address = stage.address;
            eventually("nobody is accepted any more", || std::net::TcpStream::connect(address).is_err());
            if stage.server == Server::Axum {
                signs.next.notify_one();
            }
            stage.differs(STREAMS_AT_STOP, client.try_chunk().is_ok(), true, false);
        },
    );
}

#[test]
fn a_job_at_a_stop() {
    compare_with(
        |builder| builder.shutdown_grace(Some(SHORT)),
        |stage, signs| {
            stage.post("/job", "", "").expect(200);
            stage.begin_stop();
            eventually("the server has stopped", || signs.has_returned.load(SeqCst));
            stage.differs(JOBS, signs.is_dropped.load(SeqCst), false, true);
        },
    );
}

#[test]
fn a_stream_that_waits_for_the_ending() {
    compare_with(
        |builder| builder,
        |stage, signs| {
            let mut client = stage.connect();
            client.send_request("GET", "/ending", "", b"");
            client.head().expect(200);
            signs.next.notify_one();
            client.text_of_chunks(3);
            stage.begin_stop();
            if stage.server == Server::Axum {
                signs.next.notify_one();
            }
            let last = client.chunk().unwrap();
            stage.differs(ENDING, last, b"and".to_vec(), b"bye".to_vec());
        },
    );
}

#[test]
fn a_web_socket_at_a_stop() {
    compare_with(
        |builder| builder.shutdown_idle(SHORT),
        |stage, signs| {
            let mut client = stage.connect();
            client.send(
                "GET /socket HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            );
            client.head().expect(101);
            // A frame of text, masked with zeros.
            let frame = b"\x81\x82\0\0\0\0hi";
            client.send(frame);
            assert_eq!(client.bytes(4), b"\x81\x02hi");
            stage.begin_stop();
            eventually("the server has stopped", || signs.has_returned.load(SeqCst));
            let _ = client.try_send(frame);
            stage.differs(WEB_SOCKET_AT_STOP, client.is_answered(), true, false);
        },
    );
}

#[test]
fn the_documented_numbers_are_those_of_the_settings() {
    let defaults = baiwan::settings::Settings::default();
    let shown = |name: &str| {
        let setting = baiwan::settings::TABLE.iter().find(|setting| setting.row.name == name).unwrap();
        (setting.show)(&defaults)
    };
    let numbers = ["HEADER_TIMEOUT", "KEEP_ALIVE_TIMEOUT", "BODY_TIMEOUT", "BODY_MIN_RATE", "WRITE_TIMEOUT"].map(shown);
    assert_eq!(numbers, ["10s", "75s", "1h", "500", "30s"]);
    assert_eq!(["SHUTDOWN_IDLE", "SHUTDOWN_TIMEOUT"].map(shown), ["5s", "25s"]);
}
