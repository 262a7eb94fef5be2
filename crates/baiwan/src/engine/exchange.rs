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
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use baiwan_driver::Token;
use baiwan_http1::{
    BodyEncoder, BodyLength, BodyLengthError, ResponseContext, ResponseError, ResponseFraming, ResponsePlan,
    encode_response_head,
};
use bytes::{Buf, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, response};
use http_body::Body as HttpBody;

use super::feed::{Feed, keeps_alive};
use super::has_budget;
use super::terms::Board;
use crate::BoxError;
use crate::app::Call;
use crate::clock::Date;
use crate::say::say;
use crate::status::add;

/// A task stops asking its body for more while this many bytes wait to be sent.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Data up to this size is copied behind its head; larger data is sent from where it is.
pub(super) const COPY_BYTES_MAX: usize = 16 * 1024;
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
}

#[derive(Debug)]
struct Shared {
    output: VecDeque<Bytes>,
    /// Bytes given to the engine or about to be, and not sent yet.
    owed: usize,
    /// The task waits until less is owed.
    waker: Option<Waker>,
    progress: Progress,
    feed: Option<Feed>,
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
    /// There will be no (more) answer.
    Failed { head_sent: bool },
}

/// What the head of an answer says of the end of its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// It has an announced length.
    Known,
    /// It ends at some time.
    Open,
    /// It is a stream of events, which ends with its connection.
    Endless,
}

impl Extent {
    pub(super) fn of(framing: ResponseFraming, headers: &HeaderMap) -> Self {
        let is_of_events = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
        match framing {
            ResponseFraming::NoBody | ResponseFraming::Length(_) => Self::Known,
            _ if headers.get(CONTENT_TYPE).is_some_and(is_of_events) => Self::Endless,
            ResponseFraming::Chunked | ResponseFraming::UntilClose => Self::Open,
        }
    }
}

impl Pipe {
    /// `owed` bytes of the answer are on their way already.
    pub(super) fn new(token: Token, board: Rc<Board>, progress: Progress, feed: Option<Feed>, owed: usize) -> Rc<Self> {
        let shared = Shared { output: VecDeque::new(), owed, waker: None, progress, feed };
        Rc::new(Self { token, board, shared: RefCell::new(shared), posted: Cell::new(false) })
    }

    fn post(&self) {
        if !self.posted.replace(true) {
            self.board.inbox().push(self.token);
        }
    }

    /// The engine takes what is there to be sent; says how far the task has come.
    pub(super) fn take_output(&self, output: &mut VecDeque<Bytes>) -> Progress {
        self.posted.set(false);
        let mut shared = self.shared.borrow_mut();
        match output.is_empty() {
            true => std::mem::swap(output, &mut shared.output),
            false => output.append(&mut shared.output),
        }
        shared.progress
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
        self.shared.borrow().output.iter().map(Bytes::len).sum()
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
        shared.owed += front.len() + queue.iter().map(Bytes::len).sum::<usize>();
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
        match self {
            Self::Waiting => false,
            Self::Responding { .. } | Self::Finished { .. } => true,
            Self::Failed { head_sent } => head_sent,
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
            progress => self.0.advance(Progress::Failed { head_sent: progress.head_sent() }),
        }
    }
}

/// The task of an exchange whose handler was not ready.
pub(super) async fn run<B>(call: Call<B>, pipe: Rc<Pipe>, context: ResponseContext)
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    let unfinished = Unfinished::new(pipe);
    let pipe = &unfinished.0;
    let response = match call.await {
        Ok(response) => response,
        Err(error) => return say_unsendable(&*error),
    };
    let context = pipe.board.context(context, pipe.with_feed(|feed| keeps_alive(feed.as_ref())));
    let (mut front, mut queue) = (Vec::with_capacity(FRONT_BYTES_TYPICAL), VecDeque::new());
    let Some(answer) = encode(response, context, &pipe.board.date(), &mut front, &mut queue) else { return };
    let Answer { keep_alive, extent, rest } = answer;
    pipe.send(front, queue);
    pipe.advance(Progress::Responding { extent });
    pump(rest, pipe, keep_alive).await;
}

/// The task of an exchange whose handler was ready, but whose body was not.
pub(super) async fn run_body<B>(rest: Rest<B>, pipe: Rc<Pipe>, keep_alive: bool)
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    let unfinished = Unfinished::new(pipe);
    pump(Some(rest), &unfinished.0, keep_alive).await;
}

async fn pump<B>(mut rest: Option<Rest<B>>, pipe: &Pipe, keep_alive: bool)
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    while let Some(Rest { body, writer }) = rest.as_mut().filter(|rest| !rest.writer.is_complete()) {
        poll_fn(|cx| pipe.poll_credit(cx)).await;
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let (mut front, mut queue) = (Vec::new(), VecDeque::new());
        let written = writer.write(frame, body.is_end_stream(), &mut front, &mut queue);
        pipe.send(front, queue);
        if written.is_err() {
            return;
        }
    }
    pipe.advance(Progress::Finished { keep_alive });
}

/// An answer whose head is encoded.
pub(super) struct Answer<B> {
    pub(super) keep_alive: bool,
    pub(super) extent: Extent,
    /// What is not encoded yet of its body.
    pub(super) rest: Option<Rest<B>>,
}

/// What is left of an answer's body, and how it is written.
pub(super) struct Rest<B> {
    body: Pin<Box<B>>,
    writer: BodyWriter,
}

/// The one way from a response to bytes: its head, and of its body what is there at once. Small data follows the head in `front`,
/// large data is put into `queue`, which comes after it. None if it cannot be sent; `front` may hold a part of it then.
#[inline]
pub(super) fn encode<B>(
    response: Response<B>,
    context: ResponseContext,
    date: &Date,
    front: &mut Vec<u8>,
    queue: &mut VecDeque<Bytes>,
) -> Option<Answer<B>>
where
    B: HttpBody<Data: Buf>,
{
    let (head, body) = response.into_parts();
    let (plan, mut body) = match encode_head(front, &head, body, context, date) {
        Ok(encoded) => encoded,
        Err(error) => {
            say_unsendable(&error);
            return None;
        }
    };
    let mut writer = BodyWriter::new(plan.framing);
    if !writer.is_complete()
        && has_budget()
        && let Poll::Ready(frame) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()))
    {
        let last = body.is_end_stream();
        writer.write(frame, last, front, queue).ok()?;
    }
    let extent = Extent::of(plan.framing, &head.headers);
    let rest = (!writer.is_complete()).then_some(Rest { body, writer });
    Some(Answer { keep_alive: plan.keep_alive, extent, rest })
}

/// Says that the app has no answer, or none that can be sent.
pub(super) fn say_unsendable(error: &dyn std::error::Error) {
    say(|| tracing::error!(%error, "the app's answer cannot be sent"));
}

/// Encodes the head of a response and says what is to be done with its body.
fn encode_head<B: HttpBody>(
    out: &mut Vec<u8>,
    head: &response::Parts,
    body: B,
    context: ResponseContext,
    date: &Date,
) -> Result<(ResponsePlan, Pin<Box<B>>), ResponseError> {
    let length = body.size_hint().exact().map_or(BodyLength::Unknown, BodyLength::Exact);
    let plan = encode_response_head(out, head.status, &head.headers, length, context, date)?;
    Ok((plan, Box::pin(body)))
}

/// Frames of a response body on their way to bytes: `http1` frames them, and their data is copied or queued here.
#[derive(Debug)]
pub(super) struct BodyWriter(BodyEncoder);

/// The body is not what its head announced, or it failed. The connection can only be cut.
#[derive(Debug)]
pub(super) struct BodyFailed;

impl From<BodyLengthError> for BodyFailed {
    fn from(_: BodyLengthError) -> Self {
        Self
    }
}

impl BodyWriter {
    pub(super) fn new(framing: ResponseFraming) -> Self {
        Self(BodyEncoder::new(framing))
    }

    /// Whether all of the body was written.
    pub(super) fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// Writes the next frame, or the end: small data behind what is in `front`, large data into `queue`, which comes after
    /// it. `last` says that the body has nothing after this frame.
    pub(super) fn write<D: Buf, E>(
        &mut self,
        frame: Option<Result<http_body::Frame<D>, E>>,
        last: bool,
        front: &mut Vec<u8>,
        queue: &mut VecDeque<Bytes>,
    ) -> Result<(), BodyFailed> {
        match frame {
            Some(Err(_)) => return Err(BodyFailed),
            None => return Ok(self.0.encode_end(front, None)?),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.write_data(data, front, queue)?,
                Err(frame) => return Ok(self.0.encode_end(front, frame.trailers_ref())?),
            },
        }
        match last && !self.is_complete() {
            true if queue.is_empty() => Ok(self.0.encode_end(front, None)?),
            // What ends the body must come after the queue: that is for the next call.
            _ => Ok(()),
        }
    }

    fn write_data<D: Buf>(
        &mut self,
        mut data: D,
        front: &mut Vec<u8>,
        queue: &mut VecDeque<Bytes>,
    ) -> Result<(), BodyFailed> {
        let count = data.remaining();
        let end = self.0.encode_data_head(front, count as u64)?;
        if count > COPY_BYTES_MAX {
            queue.push_back(data.copy_to_bytes(count));
            if !end.is_empty() {
                queue.push_back(Bytes::from_static(end));
            }
            return Ok(());
        }
        while data.has_remaining() {
            let piece = data.chunk();
            front.extend_from_slice(piece);
            let taken = piece.len();
            data.advance(taken);
        }
        front.extend_from_slice(end);
        Ok(())
    }
}
