//! When the connection of a request should end: what a handler may wait for, so that it ends in the words of its own protocol.
//!
//! An ordinary exchange asks its core, through the thread that serves; so it costs nothing where nobody asks. A request that offers
//! another protocol carries an event of its own, because connections that have switched are told one after the other. It is *not*
//! decided here when that is: `hyper/record.rs` and the loops tell.
//!
//! The invariant: an event happens once, and whoever waits for it or comes later hears of it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};

use http::Extensions;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

thread_local! {
    /// The begin of the stop, on the thread of a core.
    static CORE: RefCell<Option<Event>> = const { RefCell::new(None) };
}

/// Something that happens once. Clones are handles on the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    happened: Arc<AtomicBool>,
    waiting: Arc<Notify>,
}

impl Event {
    /// That of the core which the calling thread serves from here on.
    pub(crate) fn of_core() -> Self {
        let event = Self::default();
        CORE.set(Some(event.clone()));
        event
    }

    /// Makes it happen.
    pub(crate) fn fire(&self) {
        self.happened.store(true, SeqCst);
        self.waiting.notify_waiters();
    }

    pub(crate) fn has_happened(&self) -> bool {
        self.happened.load(SeqCst)
    }
}

/// Completes when the connection of a request should end, because the server stops, or because the connection has reached its
/// [maximum age](crate::Builder::max_connection_age): a handler that lives long can take its leave.
///
/// It is a future and, with the feature `axum`, an extractor that refuses nothing. Clones complete together; one that is polled again
/// after that is ready again.
///
/// - In an ordinary exchange, such as a stream of events or a long poll, it completes when the stop begins to end connections.
/// - On a connection that has switched protocols, such as a WebSocket, it completes at the connection's place in a window: 5 seconds, or
///   one for each 20,000 such connections if that is longer, but at most half of the stop's time. So the clients do not all come back in
///   the same moment. A handler that goes on is told by an end of stream when its peer has been silent for
///   [`shutdown_idle`](crate::Builder::shutdown_idle) after that, and cut when the
///   [`shutdown_timeout`](crate::Builder::shutdown_timeout) is over.
/// - At the maximum age, if there is one, it completes for this connection alone, however it is used. What goes on 30 seconds later is cut.
///
/// It is told by the core that serves: take it in the handler, then move it where you like. On another thread, or under another
/// server, such as `axum::serve`, it never completes.
///
/// # Example
/// A WebSocket that says "going away" (RFC 6455, section 7.4.1):
/// ```
/// # use axum::{Router, routing::get};
/// use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
/// use axum::response::Response;
/// use baiwan::Ending;
///
/// async fn echo(upgrade: WebSocketUpgrade, mut ending: Ending) -> Response {
///     upgrade.on_upgrade(move |mut socket: WebSocket| async move {
///         loop {
///             tokio::select! {
///                 message = socket.recv() => {
///                     let Some(Ok(message)) = message else { return };
///                     if socket.send(message).await.is_err() {
///                         return;
///                     }
///                 }
///                 () = &mut ending => break,
///             }
///         }
///         let away = CloseFrame { code: close_code::AWAY, reason: "the server restarts".into() };
///         if socket.send(Message::Close(Some(away))).await.is_ok() {
///             // Until the peer has said the same; one that says nothing is ended by the server.
///             while let Some(Ok(_)) = socket.recv().await {}
///         }
///     })
/// }
/// # let app: Router = Router::new().route("/", get(echo));
/// ```
///
/// A stream of events that tells each client to come back at a moment of its own:
/// ```
/// # use axum::{Router, routing::get};
/// use std::convert::Infallible;
/// use std::hash::{BuildHasher, RandomState};
/// use std::time::Duration;
///
/// use axum::response::sse::{Event, Sse};
/// use baiwan::Ending;
/// use futures_util::{Stream, StreamExt, stream};
///
/// async fn events(ending: Ending) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
///     let news = stream::pending(); // what there is to tell
///     let last = stream::once(async {
///         let jitter_ms = RandomState::new().hash_one("retry") % 5000;
///         Event::default().retry(Duration::from_millis(1000 + jitter_ms))
///     });
///     Sse::new(news.take_until(ending).chain(last).map(Ok))
/// }
/// # let app: Router = Router::new().route("/", get(events));
/// ```
#[derive(Clone, Debug)]
pub struct Ending {
    /// That of the core, or all there is for the request. None where nobody will tell.
    first: Wait,
    /// That of the connection beside it.
    second: Wait,
}

/// What happens to one connection beside what happens to its core: an extension of its requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfConnection(pub(crate) Event);

impl Ending {
    /// That of a request, by its extensions: for services without axum. To be called on the thread that serves the request.
    pub fn of(extensions: &Extensions) -> Self {
        let event = extensions.get::<Event>().cloned();
        let beside = extensions.get::<OfConnection>().map(|OfConnection(event)| event.clone());
        Self { first: Wait::on(event.or_else(|| CORE.with_borrow(Clone::clone))), second: Wait::on(beside) }
    }
}

impl Future for Ending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.first.poll(cx).is_ready() || self.second.poll(cx).is_ready() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// Somebody who waits for an event, if there is one.
#[derive(Debug)]
struct Wait {
    event: Option<Event>,
    waiting: Option<Pin<Box<OwnedNotified>>>,
}

impl Wait {
    fn on(event: Option<Event>) -> Self {
        Self { event, waiting: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { event, waiting } = self;
        let Some(event) = event else { return Poll::Pending };
        if event.has_happened() {
            *waiting = None;
            return Poll::Ready(());
        }
        let notified = waiting.get_or_insert_with(|| Box::pin(Arc::clone(&event.waiting).notified_owned()));
        // It may have happened before this one was among those who wait.
        match notified.as_mut().poll(cx).is_ready() || event.has_happened() {
            true => {
                *waiting = None;
                Poll::Ready(())
            }
            false => Poll::Pending,
        }
    }
}

impl Clone for Wait {
    fn clone(&self) -> Self {
        Self::on(self.event.clone())
    }
}

#[cfg(feature = "axum")]
impl<S: Sync> axum::extract::FromRequestParts<S> for Ending {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(&parts.extensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_complete(ending: &mut Ending) -> bool {
        Pin::new(ending).poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn clones_complete_together_and_stay_complete() {
        let event = Event::of_core();
        let mut first = Ending::of(&Extensions::new());
        let mut second = first.clone();
        assert!(!is_complete(&mut first) && !is_complete(&mut second));
        event.fire();
        assert!(is_complete(&mut first) && is_complete(&mut second) && is_complete(&mut first.clone()));
        assert!(is_complete(&mut first), "again");
    }

    #[test]
    fn an_event_of_the_request_counts_more_than_that_of_the_core() {
        let core = Event::of_core();
        let mut extensions = Extensions::new();
        let own = Event::default();
        extensions.insert(own.clone());
        core.fire();
        let mut ending = Ending::of(&extensions);
        assert!(!is_complete(&mut ending));
        own.fire();
        assert!(is_complete(&mut ending));
    }

    #[test]
    fn an_event_of_the_connection_counts_beside_that_of_the_core() {
        for of_core in [true, false] {
            let core = Event::of_core();
            let mut extensions = Extensions::new();
            let own = OfConnection::default();
            extensions.insert(own.clone());
            let mut ending = Ending::of(&extensions);
            assert!(!is_complete(&mut ending));
            if of_core {
                core.fire()
            } else {
                own.0.fire()
            }
            assert!(is_complete(&mut ending) && is_complete(&mut ending.clone()));
        }
    }

    #[test]
    fn where_no_core_is_it_never_completes() {
        drop(std::thread::spawn(|| Event::of_core().fire()).join());
        assert!(!is_complete(&mut Ending::of(&Extensions::new())));
    }
}
