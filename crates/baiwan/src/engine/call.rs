//! One call of the app: polled once, and what is there of its answer encoded.
//!
//! What becomes of the connection is *not* decided here (`respond`).
//!
//! The invariant: the app is called within a scope in which layers of its route are heard, and its request is the one that is handled.

use std::cell::Cell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use baiwan_http1::ResponseContext;
use bytes::Bytes;
use http::{Request, Response, StatusCode};

use super::answer::{Answer, encode, say_unsendable};
use super::feed::{Feed, keeps_alive};
use super::terms::Terms;
use crate::Body;
use crate::app::{App, Call, call_when_ready};
use crate::call_scope::{Told, Whose, listen};
use crate::rate_limit::{Left, Warning};
use crate::recorder::Recorder;
use crate::request_id::{RequestId, within};
use crate::route_table::RouteNumber;

/// What the app made of a request.
pub(super) enum Called<B> {
    /// Nothing yet; and what layers of its route have said.
    Pending(Call<B>, Option<Told>),
    /// An answer that is encoded, but for the rest of its body; of that what is sent from where it is; and what layers of its route have said.
    Answered(Answer<B>, VecDeque<Bytes>, Option<Told>),
    /// The server answers instead: the body is beyond the limit of its route.
    TooLarge,
    /// Nothing that can be sent.
    Failed,
}

/// How an answer is given.
pub(super) struct Answering<'a> {
    pub(super) context: ResponseContext,
    /// What is left of its client's limit, if it should say so.
    pub(super) left: Option<Left>,
    /// What its request is called.
    pub(super) id: Option<&'a RequestId>,
}

/// Calls the app, polls the call once, and encodes what is there. Its `route` is written as soon as it is known.
pub(super) fn call<A: App>(
    terms: &Terms,
    out: &mut Vec<u8>,
    app: &mut A,
    request: Request<Body>,
    mut feed: Option<&mut Feed>,
    route: &Cell<RouteNumber>,
    Answering { context, left, id }: Answering<'_>,
) -> Called<A::ResponseBody> {
    let cx = &mut Context::from_waker(Waker::noop());
    let is_ready = match app.poll_ready(cx) {
        Poll::Ready(Ok(())) => true,
        Poll::Ready(Err(error)) => {
            say_unsendable(&*error);
            return Called::Failed;
        }
        Poll::Pending => false,
    };
    let call_and_poll = || {
        let mut call = match is_ready {
            true => app.call(request),
            // What was polled has its place in whatever it waits for, so it is this one that must wait on.
            false => {
                let fresh = app.clone();
                call_when_ready(std::mem::replace(app, fresh), request)
            }
        };
        let polled = call.as_mut().poll(cx);
        (call, polled)
    };
    // An app may do its work when it is called, and layers may tell then.
    let ((call, polled), told) = listen(terms.recorder(), route, Whose::Asked, || within(id, call_and_poll));
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
    let encode = || encode(response, warning.as_ref(), context, terms.clock.date(), id, out, &mut queue);
    // The first frame of its body is polled.
    match Recorder::posted(terms.recorder(), route.get(), encode) {
        Some(answer) => Called::Answered(answer, queue, told),
        None => Called::Failed,
    }
}

/// What an answer says of a limit of which little is left.
#[inline]
pub(super) fn warning(terms: &Terms, left: Option<Left>) -> Option<Warning> {
    Some(terms.settings.rate_limit_in_force.as_ref()?.warning(left?))
}

/// Answers what is asked about the server as a whole: it is there.
pub(super) fn answer_without_app<B>(
    terms: &Terms,
    out: &mut Vec<u8>,
    feed: Option<&Feed>,
    context: ResponseContext,
    id: Option<&RequestId>,
) -> Called<B> {
    let context = terms.board.context(context, keeps_alive(feed));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    match encode(response, None, context, terms.clock.date(), id, out, &mut VecDeque::new()) {
        Some(Answer { status, keep_alive, extent, .. }) => {
            Called::Answered(Answer { status, keep_alive, extent, rest: None }, VecDeque::new(), None)
        }
        None => Called::Failed,
    }
}
