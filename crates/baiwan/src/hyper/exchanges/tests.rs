//! Records of what hyper serves.

use http::Method;

use super::*;
use crate::observe::{Exchange, Observer, Outcome};

const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// Method and status, bytes, outcome.
type Line = (Option<Method>, Option<u16>, [u64; 2], Outcome);

/// What `run` makes of a connection, which then ends for `reason`.
fn records(run: impl FnOnce(&Exchanges), reason: CloseReason) -> Vec<Line> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let observer = Observer::new(move |exchange: &Exchange<'_>| {
        let status = exchange.status.map(|status| status.as_u16());
        let bytes = [exchange.bytes_in, exchange.bytes_out];
        seen.lock().unwrap().push((exchange.method.cloned(), status, bytes, exchange.outcome));
    });
    let exchanges = Exchanges::new(Recorder::of_observer(observer), CLIENT);
    run(&exchanges);
    exchanges.end(reason);
    std::mem::take(&mut *lines.lock().unwrap())
}

#[test]
fn a_body_is_seen_by_its_route_while_it_is_polled() {
    let exchanges = Exchanges::new(Recorder::of_observer(Observer::new(|_| {})), CLIENT);
    let recorder = Arc::clone(exchanges.recorder());
    let route = recorder.routes().intern("/body");
    exchanges.begin(&Request::new(()), CLIENT, None);
    exchanges.handle_route(route);
    let seen = Arc::clone(&recorder);
    let frames = futures_util::stream::once(async move {
        assert_eq!(seen.polling(), Some(route));
        Ok::<_, std::convert::Infallible>(Frame::data(bytes::Bytes::new()))
    });
    let body = http_body_util::StreamBody::new(Box::pin(frames));
    let mut body = Told::answer(Some(&exchanges), Response::new(body), None).into_body();
    let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(std::task::Waker::noop()));
    assert!(polled.is_ready());
    assert_eq!(recorder.polling(), None);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_of_which_a_later_piece_was_waited_for_is_a_stream() {
    for (waits, of_events, expected) in [
        ([false; 3], false, false),
        ([true, false, false], false, false),
        ([true, false, true], false, false),
        ([false, true, false], false, true),
        ([false, true, true], false, true),
        ([false; 3], true, true),
        ([false, false, true], true, true),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let streams = Arc::clone(&seen);
        let observer = Observer::new(move |exchange: &Exchange<'_>| streams.lock().unwrap().push(exchange.is_stream));
        let exchanges = Exchanges::new(Recorder::of_observer(observer), CLIENT);
        exchanges.begin(&Request::new(()), CLIENT, None);
        let frames = futures_util::stream::unfold(0, move |count: usize| async move {
            if waits[count] {
                tokio::task::yield_now().await;
            }
            let frame = Frame::data(bytes::Bytes::from_static(b"frame"));
            (count < 2).then_some((Ok::<_, std::convert::Infallible>(frame), count + 1))
        });
        let mut response = Response::new(http_body_util::StreamBody::new(Box::pin(frames)));
        if of_events {
            let kind = http::HeaderValue::from_static("text/event-stream;charset=utf-8");
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        }
        let body = Told::answer(Some(&exchanges), response, None).into_body();
        http_body_util::BodyExt::collect(body).await.unwrap();
        exchanges.end(CloseReason::Complete);
        assert_eq!(*seen.lock().unwrap(), [expected], "{waits:?} {of_events}");
    }
}

#[cfg(feature = "metrics")]
#[test]
fn an_answer_of_101_that_was_not_sent_has_switched_nothing() {
    for (is_sent, expected) in [(true, 1), (false, 0)] {
        let metrics = crate::metrics::Metrics::default();
        let settings =
            crate::settings::Settings { metrics: Some(metrics.clone()), ..crate::settings::Settings::default() };
        let status = crate::status::Status::new(1, 1, 1);
        let exchanges = Exchanges::new(settings.recorder(&status, 0).unwrap(), CLIENT);
        exchanges.begin(&Request::new(()), CLIENT, None);
        exchanges.handle_head(StatusCode::SWITCHING_PROTOCOLS);
        exchanges.handle_whole();
        if is_sent {
            exchanges.handle_sent(b"HTTP/1.1 101 Switching Protocols", 50);
            exchanges.handle_flushed();
        }
        exchanges.end(CloseReason::Reset);
        assert_eq!(metrics.snapshot().streams.count(), expected);
    }
}

fn ask_and_answer(exchanges: &Exchanges) {
    exchanges.handle_received(10);
    exchanges.begin(&Request::new(()), CLIENT, None);
    exchanges.handle_head(StatusCode::OK);
    exchanges.handle_whole();
}

#[test]
fn an_answer_has_ended_when_all_of_it_is_sent() {
    let answered = |bytes| (Some(Method::GET), Some(200), bytes, Outcome::Answered);
    let whole = |exchanges: &Exchanges| {
        ask_and_answer(exchanges);
        exchanges.handle_sent(b"HTTP/1.1 200 OK", 40);
        exchanges.handle_flushed();
    };
    assert_eq!(records(whole, CloseReason::PeerClosed), [answered([10, 40])]);
    let reset = (Some(Method::GET), Some(200), [10, 30], Outcome::Ended(CloseReason::Reset));
    let cut = |exchanges: &Exchanges| {
        ask_and_answer(exchanges);
        exchanges.handle_sent(b"HTTP/1.1 200 OK", 30);
    };
    assert_eq!(records(cut, CloseReason::Reset), [reset]);
    // The next request has come by then, and what it was received with is counted for the first.
    let second = |exchanges: &Exchanges| {
        cut(exchanges);
        whole(exchanges);
    };
    assert_eq!(records(second, CloseReason::PeerClosed), [answered([20, 30]), answered([0, 40])]);
}

#[test]
fn what_goes_down_with_its_core_is_not_called_answered() {
    let pending = |exchanges: &Exchanges| exchanges.begin(&Request::new(()), CLIENT, None);
    let lost = (Some(Method::GET), None, [0, 0], Outcome::Ended(CloseReason::CoreFailed));
    assert_eq!(records(pending, CloseReason::Complete), [lost]);
}

#[test]
fn a_head_that_hyper_refuses_has_one_record_and_what_follows_a_101_none() {
    let refused = |exchanges: &Exchanges| {
        exchanges.handle_received(10);
        exchanges.handle_sent(b"HTTP/1.1 431 Request Header Fields Too Large", 60);
        exchanges.handle_flushed();
        exchanges.handle_unanswered(CloseReason::Refused);
    };
    let line = (None, Some(431), [0, 60], Outcome::Ended(CloseReason::Refused));
    assert_eq!(records(refused, CloseReason::Refused), [line]);
    let switched = |exchanges: &Exchanges| {
        exchanges.begin(&Request::new(()), CLIENT, None);
        exchanges.handle_head(StatusCode::SWITCHING_PROTOCOLS);
        exchanges.handle_whole();
        exchanges.handle_sent(b"HTTP/1.1 101 Switching Protocols", 50);
        exchanges.handle_flushed();
        exchanges.handle_sent(b"HTTP/1.1 200 OK", 40);
        exchanges.handle_flushed();
    };
    let line = (Some(Method::GET), Some(101), [0, 50], Outcome::Answered);
    assert_eq!(records(switched, CloseReason::PeerClosed), [line]);
}
