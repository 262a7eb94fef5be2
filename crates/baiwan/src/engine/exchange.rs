//! An exchange that could not be finished at once: its task, and what the task shares with the engine.
//!
//! The task waits for the handler, then pumps the response body, frame by frame, as far as the connection's output credit
//! allows. It never touches the socket: bytes go through the [`Pipe`] to the engine, which sends them when their turn comes.
//!
//! The invariant: a pipe that was handed out ends in `Finished` or `Failed`, whatever becomes of the task: returned,
//! panicked or aborted.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use baiwan_driver::Token;
use baiwan_http1::ResponseContext;
use bytes::{Buf, Bytes};
use http::{Response, StatusCode};
use http_body::Body as HttpBody;

use super::answer::{Answer, Extent, Heading, Rest, Spare, encode, say_unsendable};
use super::chunks::Chunks;
use super::feed::{Feed, keeps_alive};
use super::terms::Board;
use crate::BoxError;
use crate::app::Call;
use crate::call_scope::{Told, Whose, listen};
use crate::rate_limit::Warning;
use crate::recorder::{Draft, Recorder};
use crate::request_id::{RequestId, within};
use crate::route_table::RouteNumber;
use crate::status::add;

/// A task stops asking its body for more while this many bytes wait to be sent.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Room for a head, and a small body behind it.
const FRONT_BYTES_TYPICAL: usize = 512;

/// What an exchange's task and the engine share.
#[derive(Debug)]
pub(super) struct Pipe {
    token: Token,
    board: Rc<Board>,
    shared: RefCell<Shared>,
    /// The token is in the inbox, and the engine has not looked yet.
    posted: Cell<bool>,
    /// Its answer is the last of its connection.
    last: Cell<bool>,
    /// The route of its request, as soon as that is known, where records are made.
    route: Cell<RouteNumber>,
    /// Its answer is a stream: `Exchange::is_stream`.
    is_stream: Cell<bool>,
}

#[derive(Debug)]
struct Shared {
    output: Chunks,
    /// Bytes given to the engine or about to be, in all.
    made: u64,
    /// Those of them that are not sent yet.
    owed: usize,
    /// The status of the answer, once its head is made.
    status: Option<StatusCode>,
    /// The task waits until less is owed.
    waker: Option<Waker>,
    progress: Progress,
    feed: Option<Feed>,
    /// What layers of its route have said, and the engine has not heard.
    told: Option<Box<Told>>,
}

/// How far an exchange's task has come.
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

impl Pipe {
    /// `owed` bytes of the answer are on their way already.
    pub(super) fn new(token: Token, board: Rc<Board>, progress: Progress, feed: Option<Feed>, owed: usize) -> Rc<Self> {
        let (output, made) = (Chunks::None, owed as u64);
        let shared = Shared { output, made, owed, status: None, waker: None, progress, feed, told: None };
        let (shared, posted, last) = (RefCell::new(shared), Cell::new(false), Cell::new(false));
        Rc::new(Self { token, board, shared, posted, last, route: Cell::default(), is_stream: Cell::new(false) })
    }

    /// The route of its request is known already, or will be told to the task.
    pub(super) fn begin_route(&self, route: RouteNumber) {
        self.route.set(route);
    }

    /// Writes into a record what the task has learned.
    pub(super) fn note_in(&self, draft: &mut Draft) {
        draft.route = self.route.get();
        draft.is_stream |= self.is_stream.get();
    }

    fn post(&self) {
        if !self.posted.replace(true) {
            self.board.inbox().push(self.token);
        }
    }

    /// The answer is the last of its connection, if its head is not made yet.
    pub(super) fn make_last(&self) {
        self.last.set(true);
    }

    /// A layer of the route was reached.
    fn tell(&self, told: &Told) {
        self.shared.borrow_mut().told.get_or_insert_default().add(told);
        self.post();
    }

    /// What layers of the route have said since this was last asked.
    pub(super) fn take_told(&self) -> Option<Box<Told>> {
        self.shared.borrow_mut().told.take()
    }

    /// The engine takes what is there to be sent; says how far the task has come.
    pub(super) fn take_output(&self, output: &mut Chunks) -> Progress {
        self.posted.set(false);
        let mut shared = self.shared.borrow_mut();
        output.append(&mut shared.output);
        shared.progress
    }

    /// The status of the answer, if the task has made its head.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.shared.borrow().status
    }

    /// Bytes of the answer that the engine has taken.
    pub(super) fn taken_bytes(&self) -> u64 {
        let shared = self.shared.borrow();
        shared.made - shared.output.byte_count() as u64
    }

    /// How far the task has come.
    pub(super) fn progress(&self) -> Progress {
        self.shared.borrow().progress
    }

    /// The engine has sent `count` bytes.
    pub(super) fn handle_sent(&self, count: usize) {
        let mut shared = self.shared.borrow_mut();
        shared.owed = shared.owed.saturating_sub(count);
        if shared.owed < OUTPUT_BYTES_MAX
            && let Some(waker) = shared.waker.take()
        {
            drop(shared);
            waker.wake();
        }
    }

    /// The request's body, for as long as the exchange lasts.
    pub(super) fn with_feed<R>(&self, visit: impl FnOnce(&mut Option<Feed>) -> R) -> R {
        visit(&mut self.shared.borrow_mut().feed)
    }

    /// Bytes that the engine has not taken yet.
    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.shared.borrow().output.byte_count()
    }

    fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.borrow_mut();
        if shared.owed < OUTPUT_BYTES_MAX {
            return Poll::Ready(());
        }
        shared.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn advance(&self, progress: Progress) {
        self.shared.borrow_mut().progress = progress;
        self.post();
    }

    fn send(&self, front: Vec<u8>, queue: VecDeque<Bytes>) {
        let mut shared = self.shared.borrow_mut();
        let bytes = front.len() + queue.iter().map(Bytes::len).sum::<usize>();
        shared.owed += bytes;
        shared.made += bytes as u64;
        if !front.is_empty() {
            shared.output.push_back(Bytes::from(front));
        }
        shared.output.extend(queue);
        drop(shared);
        self.post();
    }
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
}

/// Ends a pipe as failed unless it was finished before.
struct Unfinished(Rc<Pipe>);

impl Unfinished {
    fn new(pipe: Rc<Pipe>) -> Self {
        let counter = &pipe.board.status().exchanges;
        add(counter, 1);
        Self(pipe)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let counter = &self.0.board.status().exchanges;
        add(counter, u64::MAX);
        if std::thread::panicking() {
            add(&self.0.board.status().handler_panics, 1);
        }
        match self.0.progress() {
            Progress::Finished { .. } => {}
            progress => self.0.advance(Progress::Failed { begun: progress.begun() }),
        }
    }
}

/// The task of an exchange whose handler was not ready.
pub(super) async fn run<B>(
    call: Call<B>,
    pipe: Rc<Pipe>,
    context: ResponseContext,
    warning: Option<Warning>,
    id: Option<RequestId>,
) where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    let unfinished = Unfinished::new(pipe);
    let pipe = &unfinished.0;
    let response = match answered(call, pipe, id.as_ref()).await {
        Ok(response) => response,
        Err(error) => return say_unsendable(&*error),
    };
    let kept = !pipe.last.get() && pipe.with_feed(|feed| keeps_alive(feed.as_ref()));
    let context = pipe.board.context(context, kept);
    let (mut front, mut queue) = (Vec::with_capacity(FRONT_BYTES_TYPICAL), VecDeque::new());
    let date = pipe.board.date();
    let heading = Heading { context, date: &date, id: id.as_ref() };
    let mut response = Poll::Ready(Ok::<_, BoxError>(response));
    let encode = || encode(&mut response, &mut Spare::default(), warning.as_ref(), heading, &mut front, &mut queue);
    // The first frame of its body is polled.
    let encoded = Recorder::posted_and_timed(pipe.board.recorder.as_ref(), pipe.route.get(), encode);
    let Some(answer) = encoded else { return };
    let Answer { status, keep_alive, extent, rest } = answer;
    pipe.shared.borrow_mut().status = Some(status);
    pipe.is_stream.set(extent == Extent::Endless);
    pipe.send(front, queue);
    pipe.advance(Progress::Responding { extent });
    pump(rest, pipe, keep_alive, id).await;
}

/// Waits for the app's answer, and tells the engine what layers of its route say.
async fn answered<B>(mut call: Call<B>, pipe: &Pipe, id: Option<&RequestId>) -> Result<Response<B>, BoxError> {
    let mut is_refused = false;
    poll_fn(|cx| {
        pipe.board.note_task();
        // The engine ends the task.
        if is_refused {
            return Poll::Pending;
        }
        let recorder = pipe.board.recorder.as_ref();
        let poll = || listen(recorder, &pipe.route, Whose::Other, || within(id, || call.as_mut().poll(cx)));
        let (polled, told) = Recorder::timed(recorder, &pipe.route, poll);
        if let Some(told) = told {
            pipe.tell(&told);
            is_refused = told.is_too_large;
        }
        if is_refused { Poll::Pending } else { polled }
    })
    .await
}

/// The task of an exchange whose handler was ready, but whose body was not.
pub(super) async fn run_body<B>(rest: Rest<B>, pipe: Rc<Pipe>, keep_alive: bool, id: Option<RequestId>)
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    let unfinished = Unfinished::new(pipe);
    pump(Some(rest), &unfinished.0, keep_alive, id).await;
}

async fn pump<B>(mut rest: Option<Rest<B>>, pipe: &Pipe, keep_alive: bool, id: Option<RequestId>)
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    while let Some(Rest { body, writer, has_begun }) = rest.as_mut().filter(|rest| !rest.writer.is_complete()) {
        poll_fn(|cx| pipe.poll_credit(cx)).await;
        let was_stream = pipe.is_stream.get();
        let frame = poll_fn(|cx| {
            pipe.board.note_task();
            let recorder = pipe.board.recorder.as_ref();
            let poll = || within(id.as_ref(), || body.as_mut().poll_frame(cx));
            let polled = Recorder::posted_and_timed(recorder, pipe.route.get(), poll);
            if polled.is_pending() && *has_begun {
                pipe.is_stream.set(true);
            }
            polled
        })
        .await;
        *has_begun = true;
        if frame.is_none() {
            // It was only the end that was waited for, as with files.
            pipe.is_stream.set(was_stream);
        }
        let (mut front, mut queue) = (Vec::new(), VecDeque::new());
        let written = writer.write(frame, body.is_end_stream(), &mut front, &mut queue);
        pipe.send(front, queue);
        if written.is_err() {
            return;
        }
    }
    pipe.advance(Progress::Finished { keep_alive });
}
