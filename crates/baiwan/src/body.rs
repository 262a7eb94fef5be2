//! The body of a request, as handlers see it.
//!
//! A body that came together with its head is there at once. Any other is a stream: the engine receives the next bytes only
//! when the handler asks for them, so a handler that does not read stops its sender, and one chunk at the most is in memory.
//! A body may be moved to and read on any thread.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use baiwan_driver::Token;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::inbox::Inbox;

/// The body of a request: an [`http_body::Body`] of [`Bytes`].
///
/// axum's extractors (`Bytes`, `String`, `Json`, `Form`, `Body`) read it for you.
#[derive(Debug, Default)]
pub struct Body(Repr);

#[derive(Debug, Default)]
enum Repr {
    #[default]
    Empty,
    Full(Bytes),
    Inlet(Arc<Inlet>),
    Received(Pin<Box<dyn ReceivedElsewhere>>),
}

/// A body that comes by another way than the engine.
pub(crate) trait ReceivedElsewhere:
    http_body::Body<Data = Bytes, Error = BodyError> + std::fmt::Debug + Send + Sync
{
}

/// Why the rest of a request's body cannot be had.
///
/// A handler that waits for its body when the client leaves, or breaks a rule, gets one of these and may go on for 5 seconds, to undo what
/// it has begun; what it answers is not sent. A handler that waits for anything else at that moment is dropped at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The peer went away before it had sent everything.
    #[error("the peer closed the connection before the end of the request body")]
    Disconnected,
    /// The peer broke the framing; the rule is named.
    #[error("the request body is malformed: {0}")]
    Malformed(&'static str),
    /// The peer stopped sending for longer than is allowed.
    #[error("the peer stopped sending the request body")]
    TimedOut,
    /// The connection has moved on to the next request, or was closed by the server.
    #[error("the exchange that this request body belongs to is over")]
    Over,
    /// Reported by hyper, under [`EventLoop::Portable`](crate::EventLoop::Portable).
    #[error("the request body could not be received")]
    Portable,
}

impl Body {
    /// A body without bytes.
    pub fn empty() -> Self {
        Self(Repr::Empty)
    }

    /// Whether nothing is or will be in it. A body of unknown length is not empty, whatever comes.
    #[cfg(feature = "axum")]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.0, Repr::Empty)
    }

    pub(crate) fn from_inlet(inlet: Arc<Inlet>) -> Self {
        Self(Repr::Inlet(inlet))
    }

    /// One that another HTTP implementation than the engine receives.
    pub(crate) fn received_elsewhere(body: impl ReceivedElsewhere + 'static) -> Self {
        Self(Repr::Received(Box::pin(body)))
    }
}

impl From<Bytes> for Body {
    /// A body that is there as a whole; for tests of handlers.
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Repr::Full(bytes)) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Repr::Empty => Poll::Ready(None),
            Repr::Full(_) => match std::mem::take(&mut self.0) {
                Repr::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => unreachable!("matched one line above"),
            },
            Repr::Inlet(inlet) => inlet.poll_frame(cx),
            Repr::Received(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Repr::Empty => true,
            Repr::Full(_) => false,
            Repr::Inlet(inlet) => inlet.lock().is_at_end(),
            Repr::Received(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::Empty => SizeHint::with_exact(0),
            Repr::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Repr::Inlet(inlet) => inlet.lock().size_hint(),
            Repr::Received(body) => body.size_hint(),
        }
    }
}

/// Where the bytes of a streamed body come in: what the body and the engine share.
#[derive(Debug)]
pub(crate) struct Inlet {
    state: Mutex<State>,
    token: Token,
    inbox: Arc<Inbox>,
}

#[derive(Debug)]
struct State {
    /// Received and not yet taken by the handler.
    chunk: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
    end: End,
    /// The handler waits for bytes and the engine knows.
    wanted: bool,
    waker: Option<Waker>,
    /// Bytes that the handler has not taken yet; `None` if chunked.
    bytes_left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Complete,
    Failed(BodyError),
    /// As before, and the handler has heard of it.
    FailureTold,
}

impl State {
    fn is_at_end(&self) -> bool {
        self.chunk.is_none() && self.trailers.is_none() && matches!(self.end, End::Complete | End::FailureTold)
    }

    fn size_hint(&self) -> SizeHint {
        if let Some(bytes) = self.bytes_left {
            return SizeHint::with_exact(bytes);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(self.chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        hint
    }
}

impl Inlet {
    /// An inlet of `bytes_left` bytes (`None` if chunked) that begins with `chunk`.
    pub(crate) fn new(token: Token, inbox: Arc<Inbox>, bytes_left: Option<u64>, chunk: Bytes) -> Arc<Self> {
        let chunk = Some(chunk).filter(|chunk| !chunk.is_empty());
        let state = State { chunk, trailers: None, end: End::NotYet, wanted: false, waker: None, bytes_left };
        Arc::new(Self { state: Mutex::new(state), token, inbox })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and the state is valid at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.lock();
        if let Some(chunk) = state.chunk.take() {
            if let Some(left) = &mut state.bytes_left {
                *left -= chunk.len() as u64;
            }
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if let Some(trailers) = state.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
        }
        match state.end {
            End::Complete | End::FailureTold => return Poll::Ready(None),
            End::Failed(error) => {
                // An error is the last thing that a body says.
                state.end = End::FailureTold;
                return Poll::Ready(Some(Err(error)));
            }
            End::NotYet => {}
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        let news = !std::mem::replace(&mut state.wanted, true);
        drop(state);
        if news {
            self.inbox.push(self.token);
        }
        Poll::Pending
    }

    /// Whether the handler waits for bytes.
    pub(crate) fn is_wanted(&self) -> bool {
        self.lock().wanted
    }

    /// Hands bytes to the handler. Called only when they are wanted, so that one chunk at the most is held.
    pub(crate) fn handle_chunk(&self, chunk: Bytes) {
        self.update(|state| {
            debug_assert!(state.chunk.is_none(), "a chunk is handed over when it is wanted");
            state.chunk = Some(chunk);
        });
    }

    /// The body has come to its end.
    pub(crate) fn handle_complete(&self, trailers: Option<Box<HeaderMap>>) {
        self.update(|state| {
            state.trailers = trailers;
            state.end = End::Complete;
        });
    }

    /// The rest will not come.
    pub(crate) fn handle_failure(&self, error: BodyError) {
        self.update(|state| {
            if state.end == End::NotYet {
                state.end = End::Failed(error);
            }
        });
    }

    /// Whether the handler has heard that the rest will not come.
    pub(crate) fn has_told_failure(&self) -> bool {
        self.lock().end == End::FailureTold
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.wanted = false;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn poll(body: &mut Body) -> Poll<Option<Result<Bytes, BodyError>>> {
        let frame = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap_or_default())))
    }

    #[test]
    fn a_stream_asks_once_and_hands_over_in_order() {
        let inbox = Arc::new(Inbox::default());
        let inlet = Inlet::new(Token(7), Arc::clone(&inbox), Some(8), Bytes::from_static(b"abc"));
        let mut body = Body::from_inlet(Arc::clone(&inlet));
        assert_eq!(body.size_hint().exact(), Some(8));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"abc")))));
        assert_eq!(poll(&mut body), Poll::Pending);
        assert_eq!(poll(&mut body), Poll::Pending);
        let mut tokens = Vec::new();
        inbox.take(&mut tokens);
        assert_eq!(tokens, [Token(7)], "asked twice, told once");
        inlet.handle_chunk(Bytes::from_static(b"defgh"));
        inlet.handle_complete(None);
        assert!(!body.is_end_stream());
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"defgh")))));
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(poll(&mut body), Poll::Ready(None));
    }

    #[test]
    fn a_body_of_unknown_length_has_at_least_what_is_there() {
        let inlet = Inlet::new(Token(1), Arc::default(), None, Bytes::from_static(b"abc"));
        let mut body = Body::from_inlet(inlet);
        assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (3, None));
        assert!(poll(&mut body).is_ready());
        assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (0, None));
    }

    #[test]
    fn a_failure_is_said_once_after_what_was_received() {
        let inlet = Inlet::new(Token(1), Arc::default(), None, Bytes::from_static(b"x"));
        let mut body = Body::from_inlet(Arc::clone(&inlet));
        inlet.handle_failure(BodyError::Disconnected);
        assert_eq!(poll(&mut body), Poll::Ready(Some(Ok(Bytes::from_static(b"x")))));
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(BodyError::Disconnected))));
        assert_eq!(poll(&mut body), Poll::Ready(None));
    }

    #[test]
    fn a_body_can_move_to_another_thread() {
        fn is_send<T: Send + 'static>(_: &T) {}
        is_send(&Body::from(Bytes::from_static(b"x")));
    }
}
