//! A complete head becomes an answer at once, or an exchange that is waited for.
//!
//! The handler is polled once, here, without a waker. Most are ready: then the answer is encoded into the core's transmit area
//! and nothing was allocated for the connection. What is not ready moves into a task as it is.
//!
//! The invariant: a handler runs at most once per request, only for a head that broke no rule, and whatever it does (return,
//! fail, panic) ends in exactly one answer or a cut connection.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use baiwan_driver::Driver;
use baiwan_http1::{
    BodyDecoder, BodyFraming, BodyLength, Refusal, RequestHead, ResponseContext, ResponsePlan, encode_response_head,
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;

use super::exchange::{self, BodyWriter, Extent, Link, Phase, encode_head};
use super::feed::{Feed, FeedStream, decode_body, keeps_alive};
use super::table::{Exchange, Flags, State};
use super::{Engine, has_budget};
use crate::app::{App, Call, add_peer, call_when_ready, is_for_server, limit_buffered_body};
use crate::body::Stream;
use crate::clock::Tick;
use crate::pace::Pace;
use crate::say::say;
use crate::status::{CloseReason, add};
use crate::{Body, BodyError};

/// What became of a request.
pub(super) enum Step {
    /// It is answered; so many bytes of what follows its head were its body.
    Answered { body_bytes: usize },
    /// It is in progress.
    Pending { body_bytes: usize },
    /// The connection takes no further request, or not yet.
    Over,
}

/// What the app made of a request.
enum Called<A: App> {
    /// Nothing yet.
    Pending(Call<A::ResponseBody>),
    /// An answer, whose head is encoded; and its body, if that is not all written.
    Answered { plan: ResponsePlan, queue: VecDeque<Bytes>, rest: Option<Rest<A>> },
    /// Nothing that can be sent.
    Failed,
}

/// What is left of an answer's body, and how it is written.
struct Rest<A: App> {
    body: Pin<Box<A::ResponseBody>>,
    writer: BodyWriter,
    extent: Extent,
}

impl<A: App> Called<A> {
    fn failed(error: &dyn std::error::Error) -> Self {
        say(|| tracing::error!(%error, "the app's answer cannot be sent"));
        Self::Failed
    }
}

impl<D: Driver, A: App> Engine<D, A> {
    /// Runs the handler for a request. `rest` is what was received behind its head.
    #[inline]
    pub(super) fn begin_exchange(&mut self, index: u32, head: RequestHead, rest: &[u8]) -> Step {
        add(&self.core.status().requests, 1);
        let RequestHead { request, framing, keep_alive, expects_continue, .. } = head;
        let head_request = request.method() == Method::HEAD;
        // What may switch protocols has left the engine.
        let context = ResponseContext { head_request, version: request.version(), keep_alive, may_switch: false };
        if head_request {
            self.table[index].flags.set(Flags::HEAD_REQUEST);
        }
        let (body, feed, body_bytes) = match self.begin_body(index, framing, expects_continue, rest) {
            Ok(begun) => begun,
            Err(refusal) => {
                self.refuse(index, refusal, rest);
                return Step::Over;
            }
        };
        let by_itself = is_for_server(&request) && !self.settings.options_asterisk;
        let mut request = request.map(|()| body);
        if framing != BodyFraming::None {
            limit_buffered_body(&mut request, self.settings.buffered_body_bytes_max);
        }
        add_peer(&mut request, self.table[index].peer.expand());
        let begin = self.out.len();
        // Whatever the app does in here, it costs this request alone: calling it, polling it, and dropping what is its own.
        let called = catch_unwind(AssertUnwindSafe(|| match by_itself {
            true => self.answer_without_app(feed.as_ref(), context),
            false => self.call(request, feed.as_ref(), context),
        }));
        match called {
            Ok(Called::Pending(call)) => {
                let token = self.table.token(index);
                let link = Link::new(token, Rc::clone(&self.core), Phase::Waiting, feed, 0);
                let task = tokio::task::spawn_local(exchange::run(call, Rc::clone(&link), context));
                let due = self.clock.deadline(self.settings.request_timeout);
                self.wait_for_exchange(index, Exchange { link, task: task.abort_handle() }, due);
                Step::Pending { body_bytes }
            }
            Ok(Called::Answered { plan, queue, rest }) => {
                let owed = queue.iter().map(Bytes::len).sum();
                if owed > 0 {
                    self.table[index].activate().output.extend(queue);
                }
                let Some(Rest { body, writer, extent }) = rest else {
                    return self.complete(index, feed, plan, body_bytes);
                };
                let token = self.table.token(index);
                let link = Link::new(token, Rc::clone(&self.core), Phase::Responding { extent }, feed, owed);
                let pump = exchange::run_body(body, writer, Rc::clone(&link), plan.keep_alive);
                let task = tokio::task::spawn_local(pump);
                self.wait_for_exchange(index, Exchange { link, task: task.abort_handle() }, Tick::NEVER);
                Step::Pending { body_bytes }
            }
            failed => {
                if failed.is_err() {
                    add(&self.core.status().handler_panics, 1);
                }
                // Nothing has left yet, so there can be a proper answer instead.
                self.out.truncate(begin);
                self.note_upload(index, feed.as_ref());
                self.fail(index)
            }
        }
    }

    /// Makes the request's body: whole, if all of it is in `rest`, otherwise a stream that begins with what is there.
    fn begin_body(
        &mut self,
        index: u32,
        framing: BodyFraming,
        expects_continue: bool,
        rest: &[u8],
    ) -> Result<(Body, Option<Feed>, usize), Refusal> {
        if framing == BodyFraming::None {
            return Ok((Body::empty(), None, 0));
        }
        let mut decoder = BodyDecoder::new(framing);
        let bytes_left = decoder.remaining_hint();
        let decoded = decode_body(&mut decoder, rest, &self.settings.http)?;
        if let Some(None) = decoded.complete {
            return Ok((Body::from(decoded.data), None, decoded.consumed));
        }
        let inbox = Arc::clone(self.core.inbox());
        let stream = Stream::new(self.table.token(index), inbox, bytes_left, decoded.data);
        if let Some(trailers) = decoded.complete {
            stream.handle_complete(trailers);
        }
        // A peer that has begun to send the body does not wait.
        let continue_due = expects_continue && decoded.consumed == 0;
        let stream = FeedStream::new(stream);
        let body = Body::from_stream(stream.share());
        Ok((body, Some(Feed { decoder, stream, continue_due }), decoded.consumed))
    }

    /// Calls the app, polls the call once, and encodes what is there.
    fn call(&mut self, request: Request<Body>, feed: Option<&Feed>, context: ResponseContext) -> Called<A> {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut call: Call<A::ResponseBody> = match self.app.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.app.call(request),
            Poll::Ready(Err(error)) => return Called::failed(&*error),
            // What was polled has its place in whatever it waits for, so it is this one that must wait on.
            Poll::Pending => {
                let fresh = self.app.clone();
                call_when_ready(std::mem::replace(&mut self.app, fresh), request)
            }
        };
        match call.as_mut().poll(cx) {
            Poll::Pending => Called::Pending(call),
            Poll::Ready(Err(error)) => Called::failed(&*error),
            Poll::Ready(Ok(response)) => self.encode(response, feed, context),
        }
    }

    /// Answers what is asked about the server as a whole: it is there.
    fn answer_without_app(&mut self, feed: Option<&Feed>, context: ResponseContext) -> Called<A> {
        let context = self.core.context(context, keeps_alive(feed));
        let (status, fields, length) = (StatusCode::NO_CONTENT, HeaderMap::new(), BodyLength::Exact(0));
        match encode_response_head(&mut self.out, status, &fields, length, context, self.clock.date()) {
            Ok(plan) => Called::Answered { plan, queue: VecDeque::new(), rest: None },
            Err(error) => Called::failed(&error),
        }
    }

    /// Encodes an answer that is there: its head, and its body if that is there too.
    fn encode(
        &mut self,
        response: Response<A::ResponseBody>,
        feed: Option<&Feed>,
        context: ResponseContext,
    ) -> Called<A> {
        let context = self.core.context(context, keeps_alive(feed));
        let (head, body) = response.into_parts();
        let (plan, mut body) = match encode_head(&mut self.out, &head, body, context, self.clock.date()) {
            Ok(encoded) => encoded,
            Err(error) => return Called::failed(&error),
        };
        let mut writer = BodyWriter::new(plan.framing);
        let mut queue = VecDeque::new();
        if !writer.is_complete()
            && has_budget()
            && let Poll::Ready(frame) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()))
        {
            let last = body.is_end_stream();
            if writer.write(frame, last, &mut self.out, &mut queue).is_err() {
                return Called::Failed;
            }
        }
        let rest =
            (!writer.is_complete()).then(|| Rest { body, extent: Extent::of(plan.framing, &head.headers), writer });
        Called::Answered { plan, queue, rest }
    }

    /// The whole answer is encoded.
    fn complete(&mut self, index: u32, feed: Option<Feed>, plan: ResponsePlan, body_bytes: usize) -> Step {
        if !plan.keep_alive {
            self.note_upload(index, feed.as_ref());
            self.end_after_flush(index, CloseReason::Complete);
            return Step::Over;
        }
        match feed.filter(|feed| !feed.decoder.is_complete()) {
            None => Step::Answered { body_bytes },
            Some(feed) => {
                self.table[index].activate().unread = Some(feed.decoder);
                self.flush(index);
                Step::Over
            }
        }
    }

    fn wait_for_exchange(&mut self, index: u32, exchange: Exchange, request_due: Tick) {
        let slot = &mut self.table[index];
        // A peer that has hung up already, or a body that is wanted already, is seen to at the next visit.
        let hangup = slot.flags.has(Flags::HANGUP);
        let ends = self.clock.deadline(self.settings.body_timeout);
        let active = slot.activate();
        active.pace = Pace::begin(ends);
        active.exchange = Some(exchange);
        active.request_due = request_due;
        self.enter(index, State::Exchange);
        if hangup {
            self.table.enqueue(index);
        }
    }

    /// The app has no answer: ours instead, and the end.
    pub(super) fn fail(&mut self, index: u32) -> Step {
        self.answer_and_close(
            index,
            StatusCode::INTERNAL_SERVER_ERROR,
            "the-request-could-not-be-handled",
            CloseReason::HandlerFailed,
        );
        Step::Over
    }

    /// Takes what an exchange's task has made, and goes on as far as that allows.
    pub(super) fn take_output(&mut self, index: u32) {
        let slot = &mut self.table[index];
        let Some(active) = &mut slot.active else { return };
        let Some(exchange) = &active.exchange else { return };
        let phase = exchange.link.take_output(&mut active.output);
        if phase != Phase::Waiting {
            active.request_due = Tick::NEVER;
        }
        match phase {
            Phase::Waiting | Phase::Responding { .. } => {
                self.set_exchange_deadline(index);
                self.table.enqueue(index);
            }
            Phase::Finished { keep_alive } => self.finish_exchange(index, keep_alive),
            Phase::Failed { head_sent: true } => self.close(index, CloseReason::HandlerFailed),
            Phase::Failed { head_sent: false } => {
                self.end_exchange(index, BodyError::Over);
                self.fail(index);
            }
        }
    }

    /// All of the answer is there; what is left is to send it.
    fn finish_exchange(&mut self, index: u32, keep_alive: bool) {
        let active = self.table[index].activate();
        let exchange = active.exchange.take().expect("an exchange has finished");
        active.request_due = Tick::NEVER;
        active.pace.stop();
        let feed = exchange.link.with_feed(Option::take).filter(|feed| !feed.decoder.is_complete());
        if !keep_alive {
            self.note_upload(index, feed.as_ref());
            return self.end_after_flush(index, CloseReason::Complete);
        }
        active.unread = feed.map(|feed| feed.decoder);
        self.flush(index);
    }

    /// Notes whether the peer is in the middle of a body that nobody will read: then its last answer is to be read all the same.
    fn note_upload(&mut self, index: u32, feed: Option<&Feed>) {
        if feed.is_some_and(|feed| !feed.decoder.is_complete()) {
            self.table[index].flags.set(Flags::UPLOADING);
        }
    }

    /// Ends an exchange before its time. Returns whether the head of its answer is on its way or gone.
    pub(super) fn end_exchange(&mut self, index: u32, failure: BodyError) -> bool {
        let active = self.table[index].activate();
        let Some(exchange) = active.exchange.take() else { return false };
        active.request_due = Tick::NEVER;
        active.pace.stop();
        exchange.task.abort();
        if let Some(feed) = exchange.link.with_feed(Option::take) {
            self.note_upload(index, Some(&feed));
            feed.stream.handle_failure(failure);
        }
        exchange.link.phase().head_sent()
    }
}
