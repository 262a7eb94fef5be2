//! A complete head becomes an answer at once, or an exchange that is waited for.
//!
//! The handler is polled once, here, without a waker. Most are ready: then the answer is encoded into the core's transmit area
//! and nothing was allocated for the connection. What is not ready moves into a task as it is.
//!
//! The invariant: a handler runs at most once per request, only for a head that broke no rule, and whatever it does (return,
//! fail, panic) ends in exactly one answer or a cut connection.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use baiwan_driver::{Driver, Token};
use baiwan_http1::{BodyDecoder, BodyFraming, Refusal, RequestHead, ResponseContext};
use bytes::{Buf, Bytes};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;

use super::answer::{Answer, encode, say_unsendable};
use super::close::{
    cut_answer, end_after_flush, end_exchange, end_record, enter, fail, flush, note_upload, take_exchange,
};
use super::exchange::{self, Pipe, Progress};
use super::feed::{Feed, FeedInlet, decode_body, keeps_alive};
use super::lifetime::{self, reason_after_answer};
use super::ports::Ports;
use super::refuse::refuse;
use super::route::obey_route;
use super::table::{Flags, Pending, State, Table};
use super::terms::Terms;
use crate::app::{App, Call, add_peer, call_when_ready, is_for_server, limit_buffered_body};
use crate::body::Inlet;
use crate::client::recorded;
use crate::clock::Tick;
use crate::ending::OfConnection;
use crate::observe::{Draft, RouteCell};
use crate::pace::Pace;
use crate::rate_limit::{Left, Warning};
use crate::route_limits::{self, RouteLimits, Told};
use crate::status::{CloseReason, add};
use crate::{Body, BodyError, BoxError};

/// What became of a request.
pub(super) enum Step {
    /// It is answered; `body_bytes` of what follows its head were its body.
    Answered { body_bytes: usize },
    /// It is in progress.
    Pending { body_bytes: usize },
    /// The connection takes no further request, or not yet.
    Over,
}

/// What the app made of a request.
enum Called<B> {
    /// Nothing yet; and what layers of its route have said.
    Pending(Call<B>, Option<Told>),
    /// An answer that is encoded, but for the rest of its body; of that what is sent from where it is; and what layers of its route have said.
    Answered(Answer<B>, VecDeque<Bytes>, Option<Told>),
    /// The server answers instead: the body is beyond the limit of its route.
    TooLarge,
    /// Nothing that can be sent.
    Failed,
}

/// What is left of a request whose answer has begun.
struct Underway {
    /// Its body, if more of that is to come.
    feed: Option<Feed>,
    /// What was received of its body with its head.
    body_bytes: usize,
    /// What its handler may wait for.
    ending: Option<OfConnection>,
    /// What layers of its route have said.
    told: Option<Told>,
}

/// What was received of a request.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    /// How long its head was.
    pub(super) head_bytes: usize,
    /// What came behind it.
    pub(super) rest: &'a [u8],
    /// What is left of its client's limit, if the answer should say so.
    pub(super) left: Option<Left>,
}

/// Runs the handler for a request. An answer that is there goes to `out`.
#[inline]
pub(super) fn begin_exchange<S, A: App>(
    terms: &Terms,
    out: &mut Vec<u8>,
    table: &mut Table<S>,
    app: &mut A,
    index: u32,
    head: RequestHead,
    received: Received<'_>,
) -> Step {
    add(&terms.status().requests, 1);
    let RequestHead { request, framing, keep_alive, expects_continue, .. } = head;
    let head_request = request.method() == Method::HEAD;
    // What may switch protocols has left the engine.
    let context = ResponseContext { head_request, version: request.version(), keep_alive, may_switch: false };
    let is_observed = terms.settings.observer.is_some();
    let route = is_observed.then(|| begin_record(table, index, &request, received.head_bytes));
    let token = || table.token(index);
    let (body, mut feed, body_bytes) = match begin_body(terms, token, framing, expects_continue, received.rest) {
        Ok(begun) => begun,
        Err(refusal) => {
            refuse(terms, table, index, refusal, received.rest);
            return Step::Over;
        }
    };
    let by_itself = is_for_server(&request) && !terms.settings.options_asterisk;
    let mut request = request.map(|()| body);
    if framing != BodyFraming::None {
        limit_buffered_body(&mut request, terms.settings.buffered_body_bytes_max);
    }
    add_peer(&mut request, table[index].peer.expand());
    if let Some(route) = route {
        request.extensions_mut().insert(route);
    }
    let ending = lifetime::ending(terms, table, index);
    if let Some(ending) = &ending {
        request.extensions_mut().insert(ending.clone());
    }
    let begin = out.len();
    // Whatever the app does in here, it costs this request alone: calling it, polling it, and dropping what is its own.
    let called = catch_unwind(AssertUnwindSafe(|| match by_itself {
        true => answer_without_app(terms, out, feed.as_ref(), context),
        false => call(terms, out, app, request, feed.as_mut(), context, received.left),
    }));
    if is_observed {
        note_called(table, index, body_bytes, out.len() - begin, called.as_ref().ok());
    }
    match called {
        Ok(Called::Pending(call, told)) => {
            let pipe = Pipe::new(table.token(index), Rc::clone(&terms.board), Progress::Waiting, feed, 0);
            let warning = warning(terms, received.left);
            let task = tokio::task::spawn_local(exchange::run(call, Rc::clone(&pipe), context, warning));
            let Told { limits, for_events, .. } = told.unwrap_or_default();
            let due = terms.deadline(limits.request_timeout.unwrap_or(terms.settings.request_timeout));
            enter_exchange(terms, table, index, Pending { pipe, task: task.abort_handle(), ending }, due, &limits);
            if for_events {
                table.activate(index).asked.note_events();
            }
            Step::Pending { body_bytes }
        }
        Ok(Called::Answered(answer, queue, told)) => {
            send_answer(terms, table, index, answer, queue, Underway { feed, body_bytes, ending, told })
        }
        Ok(Called::TooLarge) => {
            refuse(terms, table, index, Refusal::BodyTooLarge, &[]);
            Step::Over
        }
        failed => {
            if failed.is_err() {
                add(&terms.status().handler_panics, 1);
            }
            // Nothing has left yet, so there can be a proper answer instead.
            out.truncate(begin);
            note_upload(table, index, feed.as_ref());
            fail(terms, table, index);
            Step::Over
        }
    }
}

/// Begins the record of a request. Its route is written into what this returns.
pub(super) fn begin_record<S>(table: &mut Table<S>, index: u32, request: &Request<()>, head_bytes: usize) -> RouteCell {
    let client = recorded(table[index].peer.peer(), request);
    let mut draft = Draft::begin(Some(request.method().clone()), client);
    draft.bytes_in = head_bytes as u64;
    let route = draft.route.clone();
    table.activate(index).draft = Some(draft);
    route
}

/// Notes in the record what came of the call: of the request's body `body_bytes`, of the answer `bytes` that are in the area.
fn note_called<S, B>(table: &mut Table<S>, index: u32, body_bytes: usize, bytes: usize, called: Option<&Called<B>>) {
    let Some(draft) = table.busy_mut(index).and_then(|busy| busy.draft.as_mut()) else { return };
    draft.bytes_in += body_bytes as u64;
    if let Some(Called::Answered(answer, queue, _)) = called {
        draft.handle_head(answer.status);
        draft.bytes_out = bytes as u64;
        if answer.rest.is_none() {
            draft.bytes_out += queue.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        }
    }
}

/// Sends what is encoded of an answer, and has a task go on with the rest.
fn send_answer<S, B>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    answer: Answer<B>,
    queue: VecDeque<Bytes>,
    request: Underway,
) -> Step
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>> + 'static,
{
    let Answer { keep_alive, extent, rest, .. } = answer;
    let Underway { feed, body_bytes, ending, told } = request;
    let owed = queue.iter().map(Bytes::len).sum();
    if owed > 0 {
        table.activate(index).output.extend(queue);
    }
    let Some(rest) = rest else {
        let step = complete(terms, table, index, feed, keep_alive, body_bytes);
        if terms.settings.observer.is_some()
            && let Step::Answered { .. } = step
            && let Some(busy) = table.busy_mut(index)
            && busy.output.is_empty()
        {
            end_record(terms, busy, None);
        }
        return step;
    };
    let progress = Progress::Responding { extent };
    let pipe = Pipe::new(table.token(index), Rc::clone(&terms.board), progress, feed, owed);
    let task = tokio::task::spawn_local(exchange::run_body(rest, Rc::clone(&pipe), keep_alive));
    let told = told.unwrap_or_default().limits;
    enter_exchange(terms, table, index, Pending { pipe, task: task.abort_handle(), ending }, Tick::NEVER, &told);
    Step::Pending { body_bytes }
}

/// Makes the request's body: whole, if all of it is in `rest`, otherwise a stream that begins with what is there.
fn begin_body(
    terms: &Terms,
    token: impl FnOnce() -> Token,
    framing: BodyFraming,
    expects_continue: bool,
    rest: &[u8],
) -> Result<(Body, Option<Feed>, usize), Refusal> {
    if framing == BodyFraming::None {
        return Ok((Body::empty(), None, 0));
    }
    let mut decoder = BodyDecoder::new(framing);
    let bytes_left = decoder.remaining_hint();
    let decoded = decode_body(&mut decoder, rest, &terms.settings.http)?;
    if let Some(None) = decoded.complete {
        return Ok((Body::from(decoded.data), None, decoded.consumed));
    }
    let inlet = Inlet::new(token(), Arc::clone(terms.board.inbox()), bytes_left, decoded.data);
    if let Some(trailers) = decoded.complete {
        inlet.handle_complete(trailers);
    }
    // A peer that has begun to send the body does not wait.
    let continue_due = expects_continue && decoded.consumed == 0;
    let inlet = FeedInlet::new(inlet);
    let body = Body::from_inlet(inlet.share());
    let (rate_min, bytes_max) = (terms.settings.body_rate_min, terms.settings.http.body_bytes_max);
    Ok((body, Some(Feed { decoder, inlet, continue_due, rate_min, bytes_max }), decoded.consumed))
}

/// Calls the app, polls the call once, and encodes what is there.
fn call<A: App>(
    terms: &Terms,
    out: &mut Vec<u8>,
    app: &mut A,
    request: Request<Body>,
    mut feed: Option<&mut Feed>,
    context: ResponseContext,
    left: Option<Left>,
) -> Called<A::ResponseBody> {
    let cx = &mut Context::from_waker(Waker::noop());
    let mut call = match app.poll_ready(cx) {
        Poll::Ready(Ok(())) => app.call(request),
        Poll::Ready(Err(error)) => {
            say_unsendable(&*error);
            return Called::Failed;
        }
        // What was polled has its place in whatever it waits for, so it is this one that must wait on.
        Poll::Pending => {
            let fresh = app.clone();
            call_when_ready(std::mem::replace(app, fresh), request)
        }
    };
    let (polled, told) = route_limits::listen(|| call.as_mut().poll(cx));
    if let Some(told) = &told
        && (!feed.as_mut().is_none_or(|feed| feed.obey(&told.limits)) || told.is_too_large)
    {
        return Called::TooLarge;
    }
    let response = match polled {
        Poll::Pending => return Called::Pending(call, told),
        Poll::Ready(Ok(response)) => response,
        Poll::Ready(Err(error)) => {
            say_unsendable(&*error);
            return Called::Failed;
        }
    };
    let context = terms.board.context(context, keeps_alive(feed.as_deref()));
    let mut queue = VecDeque::new();
    let warning = warning(terms, left);
    match encode(response, warning.as_ref(), context, terms.clock.date(), out, &mut queue) {
        Some(answer) => Called::Answered(answer, queue, told),
        None => Called::Failed,
    }
}

/// What an answer says of a limit of which little is left.
#[inline]
fn warning(terms: &Terms, left: Option<Left>) -> Option<Warning> {
    Some(terms.settings.rate_limit_in_force.as_ref()?.warning(left?))
}

/// Answers what is asked about the server as a whole: it is there.
fn answer_without_app<B>(terms: &Terms, out: &mut Vec<u8>, feed: Option<&Feed>, context: ResponseContext) -> Called<B> {
    let context = terms.board.context(context, keeps_alive(feed));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    match encode(response, None, context, terms.clock.date(), out, &mut VecDeque::new()) {
        Some(Answer { status, keep_alive, extent, .. }) => {
            Called::Answered(Answer { status, keep_alive, extent, rest: None }, VecDeque::new(), None)
        }
        None => Called::Failed,
    }
}

/// The whole answer is encoded.
fn complete<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    feed: Option<Feed>,
    keep_alive: bool,
    body_bytes: usize,
) -> Step {
    if !keep_alive {
        note_upload(table, index, feed.as_ref());
        end_after_flush(terms, table, index, reason_after_answer(terms, table, index));
        return Step::Over;
    }
    match feed.filter(|feed| !feed.decoder.is_complete()) {
        None => Step::Answered { body_bytes },
        Some(feed) => {
            table.activate(index).unread = Some(feed.decoder);
            flush(terms, table, index);
            Step::Over
        }
    }
}

fn enter_exchange<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    exchange: Pending,
    request_due: Tick,
    route: &RouteLimits,
) {
    let age_due = lifetime::exchange_due(table, index);
    let busy = table.activate(index);
    busy.pace = Pace::begin(terms.deadline(route.body_timeout.unwrap_or(terms.settings.body_timeout)));
    busy.exchange = Some(exchange);
    (busy.request_due, busy.age_due) = (request_due, age_due);
    enter(terms, table, index, State::Exchange);
    // A peer that has hung up already, or a body that is wanted already, is seen to at the next visit.
    if table[index].flags.has(Flags::HANGUP) {
        table.enqueue(index);
    }
}

/// Takes what an exchange's task has made, and goes on as far as that allows.
pub(super) fn take_output<D: Driver>(terms: &Terms, ports: &mut Ports<D>, table: &mut Table<D::Socket>, index: u32) {
    if !obey_route(terms, ports, table, index) {
        return;
    }
    let Some(busy) = table.busy_mut(index) else { return };
    let Some(exchange) = &busy.exchange else { return };
    let progress = exchange.pipe.take_output(&mut busy.output);
    if progress != Progress::Waiting {
        busy.request_due = Tick::NEVER;
    }
    if let Some(draft) = &mut busy.draft
        && !draft.has_head()
        && let Some(status) = exchange.pipe.status()
    {
        draft.handle_head(status);
    }
    match progress {
        Progress::Waiting | Progress::Responding { .. } => {
            table.update_deadline(index);
            table.enqueue(index);
        }
        Progress::Finished { keep_alive } => finish_exchange(terms, table, index, keep_alive),
        Progress::Failed { begun: Some(_) } => {
            end_exchange(table, index, BodyError::Over);
            cut_answer(terms, ports, table, index, CloseReason::HandlerFailed);
        }
        Progress::Failed { begun: None } => {
            end_exchange(table, index, BodyError::Over);
            fail(terms, table, index);
        }
    }
}

/// All of the answer is there; what is left is to send it.
fn finish_exchange<S>(terms: &Terms, table: &mut Table<S>, index: u32, keep_alive: bool) {
    let busy = table.activate(index);
    let exchange = take_exchange(busy).expect("an exchange has finished");
    let feed = exchange.pipe.with_feed(Option::take).filter(|feed| !feed.decoder.is_complete());
    if !keep_alive {
        note_upload(table, index, feed.as_ref());
        return end_after_flush(terms, table, index, reason_after_answer(terms, table, index));
    }
    busy.unread = feed.map(|feed| feed.decoder);
    flush(terms, table, index);
}
