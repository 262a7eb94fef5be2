//! A complete head becomes an answer at once, or an exchange that is waited for.
//!
//! The handler is polled once, here. Most are ready: then the answer is encoded into the core's transmit area
//! and nothing was allocated for the connection. What is not ready becomes an exchange as it is.
//!
//! The invariant: a handler runs at most once per request, only for a head that broke no rule, and whatever it does (return,
//! fail, panic) ends in exactly one answer or a cut connection.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use baiwan_http1::{BodyDecoder, BodyFraming, Refusal, RequestHead, ResponseContext};
use bytes::{Buf, Bytes};
use http::{Method, Request};
use http_body::Body as HttpBody;

use super::answer::{Answer, Extent};
use super::apps::Callee;
use super::call::{Called, Underway, Waiting, answer_without_app, call, warning};
use super::close::{end_after_flush, enter, fail, flush, note_upload};
use super::exchange::{Begun, Pending, Progress};
use super::feed::{Feed, FeedInlet, decode_body};
use super::handling::{wait_for_body, wait_for_call};
use super::lifetime::{self, reason_after_answer};
use super::refuse::refuse;
use super::table::{CompactPeer, Flags, State, Table};
use super::terms::Terms;
use crate::app::{App, add_peer, is_for_server, limit_buffered_body};
use crate::body::Inlet;
use crate::call_scope::Told;
use crate::client::recorded;
use crate::clock::Tick;
use crate::ending::OfConnection;
use crate::rate_limit::Left;
use crate::recorder::{Draft, Recorder};
use crate::request_id::RequestId;
use crate::route_limits::RouteLimits;
use crate::route_table::RouteNumber;
use crate::status::add;
use crate::{Body, BoxError};

/// What came of bytes that should begin with a head: one and its length, or nothing yet.
pub(super) type DecodedHead = Result<Option<(RequestHead, usize)>, Refusal>;

/// What became of a request.
pub(super) enum Step {
    /// It is answered; `body_bytes` of what follows its head were its body.
    Answered { body_bytes: usize },
    /// It is in progress.
    Pending { body_bytes: usize },
    /// The connection takes no further request, or not yet.
    Over,
}

/// What was received of a request.
pub(super) struct Received<'a> {
    /// How long its head was.
    pub(super) head_bytes: usize,
    /// What came behind it.
    pub(super) rest: &'a [u8],
    /// What is left of its client's limit, if the answer should say so.
    pub(super) left: Option<Left>,
    /// What it is called, where the server gives ids.
    pub(super) id: Option<RequestId>,
    /// Its route, if that is known before the app is called.
    pub(super) route: Option<RouteNumber>,
}

/// Runs the handler for the request whose head was `decoded`, which is taken. An answer that is there goes to `out`.
///
/// # Panics
/// If no head was decoded.
#[inline]
pub(super) fn begin_exchange<S, A: App>(
    terms: &Terms,
    out: &mut Vec<u8>,
    table: &mut Table<S>,
    mut callee: Callee<'_, A>,
    index: u32,
    decoded: &mut DecodedHead,
    received: Received<'_>,
) -> Step {
    add(&terms.status().requests, 1);
    let Ok(Some((head, _))) = decoded else { unreachable!("a head was decoded") };
    let Received { head_bytes, rest, left, id, route } = received;
    let mut underway = Underway {
        token: table.token(index),
        context: ResponseContext {
            head_request: head.request.method() == Method::HEAD,
            version: head.request.version(),
            keep_alive: head.keep_alive,
            // What may switch protocols has left the engine.
            may_switch: false,
        },
        left,
        draft: begin_record(terms, table, index, &head.request, head_bytes, id.as_ref()),
        id,
        feed: None,
        body_bytes: 0,
        ending: None,
        route: Cell::new(route.unwrap_or_default()),
        told: None,
        begin: out.len(),
        // Whoever was answered before in this batch has had time since it was received.
        called_at: terms.recent_time(),
    };
    let mut body = Body::empty();
    if head.framing != BodyFraming::None {
        match begin_body(terms, head, rest, &mut underway) {
            Ok(begun) => body = begun,
            Err(refusal) => return refuse_underway(terms, table, index, refusal, rest, underway),
        }
    }
    let by_itself = is_for_server(&head.request) && !terms.settings.options_asterisk;
    underway.ending = prepare_for_app(terms, table, index, head);
    // It is large, so it is moved from where it was decoded to where it is handled.
    let request = || match std::mem::replace(decoded, Ok(None)) {
        Ok(Some((head, _))) => head.request.map(|()| A::request_body(body)),
        Ok(None) | Err(_) => unreachable!("a head was decoded"),
    };
    // Whatever the app does in here, it costs this request alone: calling it, polling it, and dropping what is its own.
    let called = catch_unwind(AssertUnwindSafe(|| match by_itself {
        true => answer_without_app(terms, out, &underway),
        false => call(terms, out, &mut callee, request, &mut underway),
    }));
    let queue = &mut callee.reused.queue;
    // Most answers: they are in the area as a whole.
    if let Ok(Called::Answered(Answer { keep_alive: true, rest: None, .. })) = &called
        && underway.feed.is_none()
        && queue.is_empty()
    {
        if underway.draft.is_some() {
            finish_record(terms, &mut underway, out.len(), called.as_ref().ok());
        }
        // There is nothing in it to be dropped, and to find that out takes a while.
        std::mem::forget(called);
        return Step::Answered { body_bytes: underway.body_bytes };
    }
    conclude(terms, out, table, index, called.ok(), queue, underway)
}

/// Finishes the record of an answer that is in the area as a whole. That leaves with those of other connections, and is the kernel's as far
/// as the record says.
#[inline(never)]
fn finish_record<B>(terms: &Terms, underway: &mut Underway, area_end: usize, called: Option<&Called<B>>) {
    note_called(terms, underway, area_end, called, &VecDeque::new());
    if let (Some(draft), Some(recorder)) = (&underway.draft, terms.recorder()) {
        draft.finish(recorder, None, terms.recent_time().into_std());
    }
}

/// Goes on with what came of a call; `None` is a panic.
#[inline(never)]
fn conclude<S, B>(
    terms: &Terms,
    out: &mut Vec<u8>,
    table: &mut Table<S>,
    index: u32,
    called: Option<Called<B>>,
    queue: &mut VecDeque<Bytes>,
    mut underway: Underway,
) -> Step
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>> + 'static,
{
    note_called(terms, &mut underway, out.len(), called.as_ref(), queue);
    match called {
        Some(Called::Answered(answer)) => send_answer(terms, table, index, answer, queue, underway),
        Some(Called::Pending(waiting)) => wait_for_answer(terms, table, index, waiting, underway),
        Some(Called::TooLarge) => refuse_underway(terms, table, index, Refusal::BodyTooLarge, &[], underway),
        failed => {
            if failed.is_none() {
                add(&terms.status().handler_panics, 1);
            }
            // Nothing has left yet, so there can be a proper answer instead.
            out.truncate(underway.begin);
            queue.clear();
            keep_record(terms, table, index, &mut underway.draft, underway.id);
            note_upload(table, index, underway.feed.as_ref());
            fail(terms, table, index);
            Step::Over
        }
    }
}

/// Refuses a request because of its body, of which `rest` was received.
fn refuse_underway<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    refusal: Refusal,
    rest: &[u8],
    Underway { mut draft, id, .. }: Underway,
) -> Step {
    keep_record(terms, table, index, &mut draft, id);
    refuse(terms, table, index, refusal, rest);
    Step::Over
}

/// Waits for the answer to a call.
fn wait_for_answer<S, B>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    waiting: Waiting<B>,
    underway: Underway,
) -> Step
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>> + 'static,
{
    let Underway { context, left, id, mut draft, feed, body_bytes, ending, route, told, .. } = underway;
    keep_record(terms, table, index, &mut draft, id.clone());
    let begun = Begun { feed, ending, route: route.get(), progress: Progress::Waiting, owed: 0 };
    let exchange = wait_for_call(&terms.board, begun, waiting, context, warning(terms, left), id);
    let Told { limits, for_events, .. } = told.unwrap_or_default();
    let due = terms.deadline(limits.request_timeout.unwrap_or(terms.settings.request_timeout));
    enter_exchange(terms, table, index, exchange, due, &limits);
    if for_events {
        table.activate(index).asked_mut().note_events();
    }
    Step::Pending { body_bytes }
}

/// Adds to a request what the app may ask of it; and returns what its handler may wait for.
#[inline]
fn prepare_for_app<S>(terms: &Terms, table: &mut Table<S>, index: u32, head: &mut RequestHead) -> Option<OfConnection> {
    let request = &mut head.request;
    if head.framing != BodyFraming::None {
        limit_buffered_body(request, terms.settings.buffered_body_bytes_max);
    }
    add_peer(request, table[index].peer.expand());
    let ending = lifetime::ending(terms, table, index);
    if let Some(ending) = &ending {
        request.extensions_mut().insert(ending.clone());
    }
    ending
}

/// Begins the record of a request, if somebody wants one.
#[inline(always)]
pub(super) fn begin_record<S>(
    terms: &Terms,
    table: &Table<S>,
    index: u32,
    request: &Request<()>,
    head_bytes: usize,
    id: Option<&RequestId>,
) -> Option<Draft> {
    terms.recorder().map(|recorder| draft_of(recorder, terms, table[index].peer, request, head_bytes, id))
}

fn draft_of(
    recorder: &Recorder,
    terms: &Terms,
    peer: CompactPeer,
    request: &Request<()>,
    head_bytes: usize,
    id: Option<&RequestId>,
) -> Draft {
    let client = match terms.settings.proxies.is_empty() {
        true => peer.expand(),
        false => recorded(peer.peer(), request),
    };
    Draft::of_request(recorder, request, client, id, terms.arrival().into_std(), head_bytes as u64)
}

/// Has a connection hold the record of an exchange that has not ended, and what its request is called, which an answer of the server's own
/// would say.
#[inline(always)]
pub(super) fn keep_record<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    draft: &mut Option<Draft>,
    id: Option<RequestId>,
) {
    if let Some(recorder) = terms.recorder()
        && let Some(draft) = draft.take()
    {
        table.activate(index).draft = Some(draft.into_kept(recorder));
    }
    if id.is_some() {
        table.activate(index).asked_mut().id = id;
    }
}

/// Notes in the record what came of the call; the area ends with what was encoded.
fn note_called<B>(
    terms: &Terms,
    underway: &mut Underway,
    area_end: usize,
    called: Option<&Called<B>>,
    queue: &VecDeque<Bytes>,
) {
    let Some(draft) = &mut underway.draft else { return };
    let (route, now) = (underway.route.get(), terms.precise_time().into_std());
    draft.route = route;
    if let Some(recorder) = terms.recorder() {
        recorder.handle_polled(route, underway.called_at.into_std(), now);
    }
    draft.bytes_in += underway.body_bytes as u64;
    if let Some(Called::Answered(answer)) = called {
        draft.handle_head(answer.status, now);
        draft.is_stream |= answer.extent == Extent::Endless;
        draft.bytes_out = (area_end - underway.begin) as u64;
        if answer.rest.is_none() {
            draft.bytes_out += queue.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        }
    }
}

/// Sends what is encoded of an answer, and has an exchange go on with the rest.
fn send_answer<S, B>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    answer: Answer<B>,
    queue: &mut VecDeque<Bytes>,
    underway: Underway,
) -> Step
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>> + 'static,
{
    let Answer { keep_alive, extent, rest, .. } = answer;
    let Underway { token, feed, body_bytes, ending, told, mut draft, id, .. } = underway;
    let owed = queue.iter().map(Bytes::len).sum();
    if owed > 0 {
        table.activate(index).output.extend(queue.drain(..));
    }
    let feed = feed.filter(|feed| rest.is_some() || !feed.decoder.is_complete());
    let Some(rest) = rest else {
        match (&draft, terms.recorder()) {
            // As above.
            (Some(draft), Some(recorder)) if keep_alive && feed.is_none() && owed == 0 => {
                draft.finish(recorder, None, terms.recent_time().into_std());
            }
            _ => keep_record(terms, table, index, &mut draft, None),
        }
        return complete(terms, table, index, feed, keep_alive, body_bytes);
    };
    let route = draft.as_ref().map_or_else(RouteNumber::default, |draft| draft.route);
    keep_record(terms, table, index, &mut draft, None);
    let begun = Begun { feed, ending, route, progress: Progress::Responding { extent }, owed };
    let exchange = wait_for_body(token, &terms.board, begun, rest, keep_alive, id);
    enter_exchange(terms, table, index, exchange, Tick::NEVER, &told.unwrap_or_default().limits);
    Step::Pending { body_bytes }
}

/// Makes the request's body: whole, if all of it is in `rest`, otherwise a stream that begins with what is there.
fn begin_body(terms: &Terms, head: &RequestHead, rest: &[u8], underway: &mut Underway) -> Result<Body, Refusal> {
    let mut decoder = BodyDecoder::new(head.framing);
    let bytes_left = decoder.remaining_hint();
    let decoded = decode_body(&mut decoder, rest, &terms.settings.http)?;
    underway.body_bytes = decoded.consumed;
    if let Some(None) = decoded.complete {
        return Ok(Body::from(decoded.data));
    }
    let inlet = Inlet::new(underway.token, Arc::clone(terms.board.inbox()), bytes_left, decoded.data);
    if let Some(trailers) = decoded.complete {
        inlet.handle_complete(trailers);
    }
    // A peer that has begun to send the body does not wait.
    let continue_due = head.expects_continue && decoded.consumed == 0;
    let inlet = FeedInlet::new(inlet);
    let body = Body::from_inlet(inlet.share());
    let (rate_min, bytes_max) = (terms.settings.body_rate_min, terms.settings.http.body_bytes_max);
    underway.feed = Some(Feed { decoder, inlet, continue_due, rate_min, bytes_max });
    Ok(body)
}

/// The whole answer is encoded; `feed` is there if the request's body is not.
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
    match feed {
        None => Step::Answered { body_bytes },
        Some(feed) => {
            table.activate(index).unread = Some(Box::new(feed.decoder));
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
    busy.pace = None;
    busy.body_ends = terms.deadline(route.body_timeout.unwrap_or(terms.settings.body_timeout));
    busy.exchange = Some(exchange);
    (busy.request_due, busy.age_due) = (request_due, age_due);
    enter(terms, table, index, State::Exchange);
    // A peer that has hung up already, or a body that is wanted already, is seen to at the next visit.
    if table[index].flags.has(Flags::HANGUP) {
        table.enqueue(index);
    }
}
