//! What may differ, by name. Each has a sentence in `docs/library.md`, under "What is different", and a test that
//! shows both sides of
//! it; a name that no test uses is a warning of the compiler's.

/// How its sentence begins, in the words of the document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Difference(pub(crate) &'static str);

macro_rules! differences {
    ($($name:ident $sentence:literal)*) => {
        $(pub(crate) const $name: Difference = Difference($sentence);)*
        const ALL: &[Difference] = &[$($name),*];
    };
}

differences! {
    // Runtimes.
    RUNTIMES "Each core has its own thread, Tokio runtime and clone of the app."
    BLOCK_IN_PLACE "`tokio::task::block_in_place` panics in a handler"
    DROPPED "Dropping the future of `serve` cuts its connections"
    LISTENERS "A listener of your own (`axum::serve::Listener`), and `tap_io`, do not compile"
    NODELAY "`TCP_NODELAY` is set on connections"
    // Stops.
    ENDING "`baiwan::Ending`, an extractor and a future"
    SIGNALS "SIGTERM and SIGINT stop a server in order from its start on"
    IDLE_AT_STOP "An idle connection is still served for `SHUTDOWN_IDLE`"
    STREAMS_AT_STOP "What is not finished at `SHUTDOWN_TIMEOUT`"
    JOBS "Then the app is dropped, and tasks that handlers have spawned may go on"
    // Limits.
    SIZES "A head may have 16 KiB and its target 8 KiB"
    HEADER_TIMEOUT "A head must be there within 10 s"
    KEEP_ALIVE_TIMEOUT "A connection may be idle for 75 s"
    MAX_CONNECTIONS "A connection beyond `MAX_CONNECTIONS`"
    BODY_RATE "A body that is read must bring 500 bytes a second"
    WRITE_TIMEOUT "A peer that takes nothing of an answer for 30 s"
    // Requests.
    REFUSALS "Malformed requests that hyper repairs are refused"
    REFUSAL_TEXT "A refusal has a line of text"
    UNSEEN "The app sees no refused request"
    BROKEN_BODY "A body whose chunks are malformed"
    HTTP_2 "HTTP/1.1 and HTTP/1.0 only"
    VERSIONS "A request of HTTP/1.2 and later is served"
    CONNECT "CONNECT is answered 501"
    OPTIONS_ASTERISK "`OPTIONS *` is answered 204"
    EXPECTATIONS "An expectation other than `100-continue`"
    CONTINUE "`100 Continue` is not sent"
    CODINGS "A transfer coding other than `chunked`"
    CONNECT_INFO "`ConnectInfo<SocketAddr>` is there"
    UNREAD_BODY "A body that nobody has read"
    UNDOING "A handler that waits for its body when the client leaves"
    LATE_READER "A task that a handler has spawned may still be reading"
    // Answers.
    PANICS "A handler that panics costs its request"
    LENGTHS "An answer whose `Content-Length` is not true"
    TRANSFER_ENCODING "`Transfer-Encoding` in your answer"
    SWITCHES "A status of 1xx that nobody has asked for"
    NO_CONTENT "Answers without a body"
    HTTP_1_0 "An HTTP/1.0 client is answered"
    TRAILERS "Trailers are sent to HTTP/1.1 clients"
    REASON "The reason in the status line"
    CONNECTION_OPTIONS "`Connection: keep-alive` in your answer"
    // Other protocols.
    UPGRADE_DECLINED "An answer other than 101"
    WEB_SOCKET_WITH_BODY "A WebSocket handshake with a body"
    WEB_SOCKET_AT_STOP "When the server stops, "
}

/// Lines of the section that are advice, and differ from nothing.
const ADVICE: [&str; 6] = [
    "A core on which nothing runs but the server",
    "A core whose thread a handler blocks",
    "No core ends before the others",
    "A pool made in `main` lives on `main`'s runtime.",
    "A WebSocket has no idle timeout",
    "Lines of your own log can panic where standard error is gone.",
];

/// The points of the section, each without its line breaks.
fn points() -> Vec<String> {
    let text = include_str!("../../docs/library.md");
    let section = text.split("\n## What is different\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let points = section.split("\n- ").skip(1).map(|point| point.split("\n\n").next().unwrap());
    points.map(|point| point.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn every_difference_stands_in_the_document() {
    let points = points();
    for Difference(sentence) in ALL {
        let found = points.iter().filter(|point| point.starts_with(sentence)).count();
        assert_eq!(found, 1, "docs/library.md has {found} points that begin with: {sentence}");
    }
}

#[test]
fn every_point_of_the_document_has_a_test() {
    let known: Vec<&str> = ALL.iter().map(|Difference(sentence)| *sentence).chain(ADVICE).collect();
    for point in points() {
        assert!(known.iter().any(|sentence| point.starts_with(sentence)), "no test shows: {point}");
    }
}
