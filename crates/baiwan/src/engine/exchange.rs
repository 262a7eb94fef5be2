//! An exchange that could not be finished at once: its handler, then the rest of its answer's body.
//!
//! The connection owns it, as it owns the rest of its state: there is no task. Whatever the handler or the body waits for wakes the
//! [`ExchangeWaker`], and the engine polls the exchange in its next turn, as far as the connection's output credit allows.
//!
//! The invariant: an exchange ends in `Finished` or `Failed`, whatever becomes of its polls, and is not polled after that. Whatever it
//! holds of the app's may panic when it is polled or dropped: that costs this exchange alone.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::StatusCode;

use super::answer::Extent;
use super::chunks::Chunks;
use super::feed::Feed;
use super::terms::Board;
use super::waker::ExchangeWaker;
use crate::call_scope::Told;
use crate::ending::OfConnection;
use crate::recorder::Draft;
use crate::route_table::RouteNumber;
use crate::status::add;

/// A body is not asked for more while this many bytes wait to be sent.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// What a connection holds of a handler or response body that is waited for.
pub(super) type Pending = Box<Exchange<dyn Work>>;

/// An exchange: what the engine asks about it, and the app's part of it.
pub(super) struct Exchange<W: Work + ?Sized> {
    pub(super) course: Course,
    board: Rc<Board>,
    waker: Arc<ExchangeWaker>,
    /// The request's body, for as long as the exchange lasts.
    pub(super) feed: Option<Box<Feed>>,
    /// What the handler may wait for, until it has happened; none where no setting asks for an age.
    pub(super) ending: Option<OfConnection>,
    work: W,
}

/// How far an exchange has come.
#[derive(Debug)]
pub(super) struct Course {
    /// Bytes of the answer that the engine has taken.
    made: u64,
    /// Those of them that are not sent yet.
    pub(super) owed: usize,
    /// The status of the answer, if its head was made here.
    pub(super) status: Option<StatusCode>,
    pub(super) progress: Progress,
    /// The route of its request, as soon as that is known, where records are made.
    pub(super) route: Cell<RouteNumber>,
    /// Its answer is the last of its connection, if its head is not made yet.
    pub(super) is_last: bool,
    /// Its answer is a stream: `observe::Exchange::is_stream`.
    pub(super) is_stream: bool,
    /// It is taken for one because of the frame that is waited for now.
    is_stream_by_wait: bool,
    /// It was polled last when its time was over.
    pub(super) was_polled_late: bool,
    /// It goes on when less is owed.
    pub(super) waits_for_credit: bool,
}

/// How far an exchange's answer has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// The handler has not answered.
    Waiting,
    /// The head is on its way.
    Responding { extent: Extent },
    /// All of the answer is on its way.
    Finished { keep_alive: bool },
    /// There will be no (more) answer; `begun` is what its head said, if that is on its way.
    Failed { begun: Option<Extent> },
}

impl Progress {
    /// Whether the head of an answer is on its way or gone.
    pub(super) fn head_sent(self) -> bool {
        matches!(self, Self::Finished { .. }) || self.begun().is_some()
    }

    /// What the head of an answer said that is not whole.
    pub(super) fn begun(self) -> Option<Extent> {
        match self {
            Self::Waiting | Self::Finished { .. } => None,
            Self::Responding { extent } => Some(extent),
            Self::Failed { begun } => begun,
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed { .. })
    }
}

/// The app's part of an exchange.
pub(super) trait Work {
    /// Goes on as far as possible. What it makes of the answer is appended to `made`; returns what layers of its route say.
    fn poll(&mut self, own: &mut Own<'_>, cx: &mut Context<'_>) -> Option<Told>;

    /// Lets go of everything.
    fn clear(&mut self);
}

/// What the app's part sees of its exchange.
pub(super) struct Own<'a> {
    pub(super) course: &'a mut Course,
    pub(super) board: &'a Board,
    pub(super) feed: Option<&'a Feed>,
    made: &'a mut Chunks,
}

impl<W: Work + 'static> Exchange<W> {
    /// One that is polled when `waker` is woken.
    pub(super) fn begin(waker: Arc<ExchangeWaker>, board: Rc<Board>, begun: Begun, work: W) -> Pending {
        add(&board.status().exchanges, 1);
        let Begun { feed, ending, route, progress, owed } = begun;
        let course = Course {
            made: owed as u64,
            owed,
            status: None,
            progress,
            route: Cell::new(route),
            is_last: false,
            is_stream: false,
            is_stream_by_wait: false,
            was_polled_late: false,
            waits_for_credit: false,
        };
        Box::new(Self { course, board, waker, feed: feed.map(Box::new), ending, work })
    }
}

/// What an exchange begins with.
pub(super) struct Begun {
    pub(super) feed: Option<Feed>,
    pub(super) ending: Option<OfConnection>,
    /// Its route, if that is known.
    pub(super) route: RouteNumber,
    pub(super) progress: Progress,
    /// Bytes of the answer that are on their way already.
    pub(super) owed: usize,
}

impl<W: Work + ?Sized> Exchange<W> {
    /// Whether something that it waits for has happened since it was polled last.
    #[inline]
    pub(super) fn is_woken(&self) -> bool {
        self.waker.is_woken()
    }

    /// Goes on as far as possible. What it makes of the answer is appended to `made`; returns what layers of its route say.
    pub(super) fn poll(&mut self, made: &mut Chunks) -> Option<Told> {
        self.waker.begin_poll();
        let waker = Waker::from(Arc::clone(&self.waker));
        self.poll_with(&mut Context::from_waker(&waker), made)
    }

    /// The same, for somebody else than the engine, and nothing of its answer is sent. Ready when it is over.
    pub(super) fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_with(cx, &mut Chunks::None);
        if self.course.progress.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_with(&mut self, cx: &mut Context<'_>, made: &mut Chunks) -> Option<Told> {
        let Self { course, board, feed, work, .. } = self;
        if course.progress.is_over() {
            return None;
        }
        board.note_poll();
        let mut own = Own { course, board, feed: feed.as_deref(), made };
        let polled = catch_unwind(AssertUnwindSafe(|| work.poll(&mut own, cx)));
        polled.unwrap_or_else(|_| {
            add(&board.status().handler_panics, 1);
            course.fail();
            None
        })
    }

    /// The engine has taken `count` bytes of what was made.
    pub(super) fn handle_taken(&mut self, count: usize) {
        self.course.made += count as u64;
    }

    /// The connection keeps `count` bytes that were to leave before anything that this makes.
    pub(super) fn handle_kept(&mut self, count: usize) {
        self.course.owed += count;
    }

    /// The engine has sent `count` bytes.
    pub(super) fn handle_sent(&mut self, count: usize) {
        let course = &mut self.course;
        course.owed = course.owed.saturating_sub(count);
        if course.waits_for_credit && course.owed < OUTPUT_BYTES_MAX {
            course.waits_for_credit = false;
            self.waker.request_poll();
        }
    }

    /// Whether somebody may still read the request's body.
    pub(super) fn awaits_body(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| feed.inlet.is_held())
    }

    /// Whether no more of the request's body is received: it is there as a whole, there is none, or nobody has it any more.
    pub(super) fn is_done_with_body(&self) -> bool {
        self.feed.as_ref().is_none_or(|feed| feed.decoder.is_complete() || !feed.inlet.is_held())
    }

    /// Whether the handler waits for more of the request's body.
    pub(super) fn wants_body(&self) -> bool {
        self.feed.as_ref().is_some_and(|feed| !feed.decoder.is_complete() && feed.inlet.is_wanted())
    }

    /// Writes into a record what is known.
    pub(super) fn note_in(&self, draft: &mut Draft) {
        draft.bytes_out += self.course.made;
        draft.route = self.course.route.get();
        draft.is_stream |= self.course.is_stream;
    }
}

impl<W: Work + ?Sized> Drop for Exchange<W> {
    fn drop(&mut self) {
        add(&self.board.status().exchanges, u64::MAX);
        let work = &mut self.work;
        if catch_unwind(AssertUnwindSafe(|| work.clear())).is_err() {
            add(&self.board.status().handler_panics, 1);
        }
    }
}

impl<W: Work + ?Sized> fmt::Debug for Exchange<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("course", &self.course).finish_non_exhaustive()
    }
}

impl Course {
    /// A frame is waited for that is not the first.
    pub(super) fn note_waiting(&mut self, has_begun: bool) {
        self.is_stream_by_wait |= has_begun && !self.is_stream;
        self.is_stream |= has_begun;
    }

    /// It has come, or the end instead: then only that was waited for, as with files.
    pub(super) fn note_frame(&mut self, is_end: bool) {
        self.is_stream &= !(is_end && self.is_stream_by_wait);
        self.is_stream_by_wait = false;
    }

    /// There is no more of the answer. One that is complete stays as it is, whatever fails after it.
    pub(super) fn fail(&mut self) {
        if !matches!(self.progress, Progress::Finished { .. }) {
            self.progress = Progress::Failed { begun: self.progress.begun() };
        }
    }
}

impl Own<'_> {
    /// Has it send what is in `front`, then `queue`.
    pub(super) fn send(&mut self, front: &[u8], queue: VecDeque<Bytes>) {
        let bytes = front.len() + queue.iter().map(Bytes::len).sum::<usize>();
        self.course.owed += bytes;
        if !front.is_empty() {
            self.made.push_back(Bytes::copy_from_slice(front));
        }
        self.made.extend(queue);
    }
}
