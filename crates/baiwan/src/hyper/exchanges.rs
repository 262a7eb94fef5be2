//! The records of a connection's exchanges, in hyper's hands, for whoever wants records.
//!
//! `connection` knows when an exchange begins and what is answered; the transport, what was received and sent. An exchange has
//! ended when hyper has all of its answer and then says that everything it was given is written: it flushes the transport. It
//! is *not* a decision about any of that. Where nobody wants records there is none of this.
//!
//! The invariant: one exchange is open at the most, and one that was begun has its record, at the latest when its connection is
//! counted out.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use crate::app::is_of_events;
use crate::own_answer::StandsFor;
use crate::recorder::{Draft, Recorder, now};
use crate::request_id::{RequestId, within};
use crate::route_table::RouteNumber;
use crate::status::CloseReason;

/// What hyper sends before it receives the body of a request that expects it. It is no answer.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Where a status line has its code.
const CODE: std::ops::Range<usize> = 9..12;

/// The exchanges of one connection.
#[derive(Debug)]
pub(super) struct Exchanges {
    recorder: Arc<Recorder>,
    client: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Open>,
    /// Received since an exchange ended.
    bytes_in: u64,
    /// No exchange follows: the app has answered 101, or hyper has refused what came.
    over: bool,
    /// The route and the moment of the 101, which is not sent yet while an exchange is open.
    switched: Option<(RouteNumber, Instant)>,
}

/// The exchange that is going on.
#[derive(Debug)]
struct Open {
    draft: Box<Draft>,
    /// hyper has said that its head is there. The engine begins a record before that.
    asked: bool,
    /// hyper has all of the answer.
    whole: bool,
    /// Why the connection ends after the answer, if that is the server's own.
    last: Option<CloseReason>,
}

impl Open {
    fn new(draft: Box<Draft>, asked: bool) -> Self {
        Self { draft, asked, whole: false, last: None }
    }
}

impl Exchanges {
    pub(super) fn new(recorder: Arc<Recorder>, client: SocketAddr) -> Arc<Self> {
        Arc::new(Self { recorder, client, state: Mutex::default() })
    }

    /// Who is told of them.
    pub(super) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// The engine has begun the record of what hyper will read.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(super) fn continue_from(&self, draft: Box<Draft>) {
        self.recorder.begin_handling();
        self.state().open = Some(Open::new(draft, false));
    }

    /// A request of `client` has come, whose head was read, and which is called `id`.
    pub(super) fn begin<B>(&self, request: &Request<B>, client: SocketAddr, id: Option<&RequestId>) {
        self.begin_with(|| Draft::of_request(&self.recorder, request, client, id, now(), 0));
        // The engine may have begun the record, with an id of its own.
        if let Some(open) = &mut self.state().open {
            open.draft.request_id = id.cloned();
        }
    }

    /// Something has come of which no head is read, or that is refused as if none had been.
    pub(super) fn begin_unread(&self, client: Option<SocketAddr>) {
        self.begin_with(|| Draft::begin(None, client.unwrap_or(self.client), now()));
    }

    fn begin_with(&self, draft: impl FnOnce() -> Draft) {
        let mut state = self.state();
        match &mut state.open {
            Some(open) if !open.asked => open.asked = true,
            _ => {
                // hyper may go on to the next request with an answer in its buffer: that one has ended as far as anybody knows.
                let before = self.take(&mut state);
                self.recorder.begin_handling();
                state.open = Some(Open::new(draft().into_kept(&self.recorder), true));
                drop(state);
                self.finish(before, None);
            }
        }
    }

    /// The route of the request is known.
    pub(super) fn handle_route(&self, route: RouteNumber) {
        if let Some(open) = &mut self.state().open {
            open.draft.route = route;
        }
    }

    /// Whether the answer is a stream: `Exchange::is_stream`.
    fn handle_stream(&self, is_stream: bool) {
        if let Some(open) = &mut self.state().open {
            open.draft.is_stream = is_stream;
        }
    }

    /// The answer is one of the server's own, after which the connection ends.
    /// `denied` is the name of what did not let the request through, if something did not.
    pub(super) fn handle_refusal(&self, reason: CloseReason, denied: Option<&'static str>) {
        if let Some(open) = &mut self.state().open {
            open.last = Some(reason);
            if let Some(name) = denied {
                open.draft.handle_denied(name);
            }
        }
    }

    /// The answer is one of the server's own, because of what has this name, and the connection goes on.
    pub(super) fn handle_denied(&self, name: &'static str) {
        if let Some(open) = &mut self.state().open {
            open.draft.handle_denied(name);
            open.draft.handle_goes_on();
        }
    }

    /// The answer has a head. Returns the route of its request.
    pub(super) fn handle_head(&self, status: StatusCode) -> RouteNumber {
        let mut state = self.state();
        let now = now();
        let mut route = None;
        if let Some(open) = &mut state.open {
            open.draft.handle_head(status, now);
            route = Some(open.draft.route);
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            state.over = true;
            state.switched = route.map(|route| (route, now));
        }
        route.unwrap_or_default()
    }

    /// hyper has all of the answer.
    fn handle_whole(&self) {
        if let Some(open) = &mut self.state().open {
            open.whole = true;
        }
    }

    pub(super) fn handle_received(&self, count: usize) {
        self.state().bytes_in += count as u64;
    }

    /// `count` bytes were sent; `bytes` are the first of those that were to be.
    pub(super) fn handle_sent(&self, bytes: &[u8], count: usize) {
        let mut state = self.state();
        if state.over && state.open.is_none() {
            return;
        }
        let unread = || {
            self.recorder.begin_handling();
            Open::new(Box::new(Draft::begin(None, self.client, now())), false)
        };
        let open = state.open.get_or_insert_with(unread);
        if !open.asked {
            // Nobody was asked, so hyper refuses the head by itself.
            let code = bytes.get(CODE).and_then(|code| StatusCode::from_bytes(code).ok());
            open.draft.handle_head(code.unwrap_or(StatusCode::BAD_REQUEST), now());
            (open.asked, open.whole, open.last) = (true, true, Some(CloseReason::Refused));
        }
        let interim = match open.draft.bytes_out == 0 && bytes.starts_with(CONTINUE) {
            true => CONTINUE.len(),
            false => 0,
        };
        open.draft.bytes_out += count.saturating_sub(interim) as u64;
        state.over |= state.open.as_ref().is_some_and(|open| open.last == Some(CloseReason::Refused));
    }

    /// Everything that hyper had to send is sent.
    pub(super) fn handle_flushed(&self) {
        let mut state = self.state();
        // An answer whose head hyper did not take is none.
        if let Some(open) = &state.open
            && open.whole
            && open.draft.bytes_out > 0
        {
            let last = open.last;
            let ended = self.take(&mut state);
            drop(state);
            self.finish(ended, last);
        }
    }

    /// Nothing was answered to a head that was refused or did not come in time.
    pub(super) fn handle_unanswered(&self, reason: CloseReason) {
        let mut state = self.state();
        if !state.over && state.open.is_none() {
            state.over = true;
            drop(state);
            self.finish(Some(Box::new(Draft::begin(None, self.client, now()))), Some(reason));
        }
    }

    /// The connection ends, and with it what is going on.
    pub(super) fn end(&self, reason: CloseReason) {
        let mut state = self.state();
        let is_whole = state.open.as_ref().is_some_and(|open| open.whole);
        // A 101 that was not sent has switched nothing.
        let is_sent = state.open.is_none();
        let ended = self.take(&mut state);
        let switched = state.switched.take().filter(|_| is_sent);
        drop(state);
        if let Some((route, at)) = switched {
            self.recorder.tell_upgrade(route, now().saturating_duration_since(at));
        }
        // Nobody has ended it, and yet its answer is not whole: it went down with its core.
        let lost = matches!(reason, CloseReason::Complete | CloseReason::Age) && !is_whole;
        self.finish(ended, Some(if lost { CloseReason::CoreFailed } else { reason }));
    }

    /// Takes out the record of the exchange that is going on, with all that was received.
    fn take(&self, state: &mut State) -> Option<Box<Draft>> {
        let mut draft = state.open.take()?.draft;
        self.recorder.end_handling();
        let received = std::mem::take(&mut state.bytes_in);
        // The engine knows better how long its head was; what was refused is not counted.
        if draft.has_method() && draft.bytes_in == 0 {
            draft.bytes_in = received;
        }
        Some(draft)
    }

    fn finish(&self, draft: Option<Box<Draft>>, last: Option<CloseReason>) {
        if let Some(draft) = draft {
            draft.finish(&self.recorder, last, now());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held: the observer is told without it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer's body that says when hyper has all of it.
pub(super) struct Told<B> {
    body: B,
    /// Those of the connection, if somebody wants them.
    exchanges: Option<Arc<Exchanges>>,
    route: RouteNumber,
    failed: bool,
    /// hyper has a frame of it.
    has_begun: bool,
    /// It is known to be a stream, or taken to be one because what follows is waited for.
    is_stream: bool,
    /// What follows is waited for, and it was no stream before.
    waits: bool,
    /// What its request is called.
    id: Option<RequestId>,
}

impl<B: Body> Told<B> {
    /// An answer that is about to be given to hyper.
    pub(super) fn answer(
        exchanges: Option<&Arc<Exchanges>>,
        response: Response<B>,
        id: Option<RequestId>,
    ) -> Response<Self> {
        let route = exchanges.map_or_else(RouteNumber::default, |exchanges| {
            let stands_for = response.extensions().get::<StandsFor>();
            exchanges.handle_head(stands_for.map_or(response.status(), |own| own.0))
        });
        let is_stream = is_of_events(response.headers()) && response.body().size_hint().exact().is_none();
        if let Some(exchanges) = exchanges.filter(|_| is_stream) {
            exchanges.handle_stream(true);
        }
        let (exchanges, failed, has_begun, waits) = (exchanges.cloned(), false, false, false);
        response.map(|body| Self { body, exchanges, route, failed, has_begun, is_stream, waits, id })
    }
}

impl<B: Body + Unpin> Body for Told<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let recorder = this.exchanges.as_ref().map(|exchanges| exchanges.recorder());
        let poll = || within(this.id.as_ref(), || Pin::new(&mut this.body).poll_frame(cx));
        let polled = Recorder::posted_and_timed(recorder, this.route, poll);
        if polled.is_pending()
            && self.has_begun
            && !self.is_stream
            && let Some(exchanges) = &self.exchanges
        {
            exchanges.handle_stream(true);
            (self.is_stream, self.waits) = (true, true);
        }
        let frame = ready!(polled);
        self.has_begun = true;
        if std::mem::take(&mut self.waits)
            && frame.is_none()
            && let Some(exchanges) = &self.exchanges
        {
            // It was only the end that was waited for, as with files.
            exchanges.handle_stream(false);
        }
        self.failed = matches!(frame, Some(Err(_)));
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl<B> Drop for Told<B> {
    fn drop(&mut self) {
        // hyper drops a body at its end, where none may be sent, and when it fails. When the connection is gone, so is the
        // exchange.
        if let Some(exchanges) = &self.exchanges
            && !self.failed
            && !std::thread::panicking()
        {
            exchanges.handle_whole();
        }
    }
}

#[cfg(test)]
mod tests;
