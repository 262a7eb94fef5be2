//! One call of the app: polled once, and what is there of its answer encoded.
//!
//! What becomes of the connection is *not* decided here (`respond`).
//!
//! The invariant: the app is called within a scope in which layers of its route are heard, and its request is the one that is handled.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::task::{Context, Poll, Waker};

use baiwan_http1::ResponseContext;
use http::{Request, Response, StatusCode};

use super::answer::{Answer, Heading, encode, say_unsendable};
use super::apps::Callee;
use super::feed::{Feed, keeps_alive};
use super::place::Place;
use super::terms::Terms;
use crate::app::{App, Call, call_when_ready};
use crate::call_scope::{Told, Whose, listen};
use crate::rate_limit::{Left, Warning};
use crate::recorder::Recorder;
use crate::request_id::{RequestId, within};
use crate::route_table::RouteNumber;
use crate::{Body, BoxError};

/// What the app made of a request.
pub(super) enum Called<B> {
    /// Nothing yet.
    Pending(Call<B>),
    /// An answer that is encoded, but for the rest of its body, and for what is sent from where it is.
    Answered(Answer<B>),
    /// The server answers instead: the body is beyond the limit of its route.
    TooLarge,
    /// Nothing that can be sent.
    Failed,
}

/// What the app is called with, and how its answer is given.
pub(super) struct Calling<'a> {
    pub(super) context: ResponseContext,
    /// What is left of its client's limit, if the answer should say so.
    pub(super) left: Option<Left>,
    /// What its request is called.
    pub(super) id: Option<&'a RequestId>,
    /// The request's body, if more of that is to come.
    pub(super) feed: Option<&'a mut Feed>,
    /// Its route, written as soon as it is known.
    pub(super) route: &'a Cell<RouteNumber>,
    /// What layers of its route have said, written when it was polled.
    pub(super) told: &'a mut Option<Told>,
}

/// What came of a poll.
enum Polled<B> {
    Answered(Response<B>),
    Pending(Call<B>),
    Failed,
}

/// Calls the app, polls the call once, and encodes what is there. What of the answer is sent from where it is comes into the queue that is
/// reused.
#[inline]
pub(super) fn call<A: App>(
    terms: &Terms,
    out: &mut Vec<u8>,
    callee: &mut Callee<'_, A>,
    request: Request<A::RequestBody>,
    Calling { context, left, id, mut feed, route, told }: Calling<'_>,
) -> Called<A::ResponseBody> {
    let Callee { app, reused } = callee;
    let (app, cx) = (&mut **app, &mut Context::from_waker(Waker::noop()));
    let is_ready = match app.poll_ready(cx) {
        Poll::Ready(Ok(())) => true,
        Poll::Ready(Err(error)) => {
            say_unsendable(&*error);
            return Called::Failed;
        }
        Poll::Pending => false,
    };
    let call_and_poll = || {
        if !is_ready {
            return poll_when_ready(app, request, cx);
        }
        let mut place = Place::fill(&mut reused.call, app.call(request));
        let polled = match place.as_mut().content().poll(cx) {
            Poll::Ready(Ok(response)) => Polled::Answered(response),
            Poll::Ready(Err(error)) => failed(error),
            Poll::Pending => return Polled::Pending(place),
        };
        place.clear(&mut reused.call);
        polled
    };
    // An app may do its work when it is called, and layers may tell then.
    let (polled, heard) = listen(terms.recorder(), route, Whose::Asked, || within(id, call_and_poll));
    if let Some(heard) = heard {
        *told = Some(heard);
        if !feed.as_mut().is_none_or(|feed| feed.obey(&heard.limits)) || heard.is_too_large {
            return Called::TooLarge;
        }
    }
    let response = match polled {
        Polled::Answered(response) => response,
        Polled::Pending(call) => return Called::Pending(call),
        Polled::Failed => return Called::Failed,
    };
    let context = terms.board.context(context, keeps_alive(feed.as_deref()));
    let heading = Heading { context, date: terms.clock.date(), id };
    let warning = warning(terms, left);
    let encode = || encode(response, &mut reused.body, warning.as_ref(), heading, out, &mut reused.queue);
    // The first frame of its body is polled.
    Recorder::posted(terms.recorder(), route.get(), encode).map_or(Called::Failed, Called::Answered)
}

/// Calls an app that is not ready yet.
#[cold]
fn poll_when_ready<A: App>(
    app: &mut A,
    request: Request<A::RequestBody>,
    cx: &mut Context<'_>,
) -> Polled<A::ResponseBody> {
    // What was polled has its place in whatever it waits for, so it is this one that must wait on.
    let fresh = app.clone();
    let mut call = call_when_ready(std::mem::replace(app, fresh), request);
    match call.as_mut().poll(cx) {
        Poll::Ready(Ok(response)) => Polled::Answered(response),
        Poll::Ready(Err(error)) => failed(error),
        Poll::Pending => Polled::Pending(call),
    }
}

#[cold]
fn failed<B>(error: impl Into<BoxError>) -> Polled<B> {
    say_unsendable(&*error.into());
    Polled::Failed
}

/// What an answer says of a limit of which little is left.
#[inline]
pub(super) fn warning(terms: &Terms, left: Option<Left>) -> Option<Warning> {
    Some(terms.settings.rate_limit_in_force.as_ref()?.warning(left?))
}

/// Answers what is asked about the server as a whole: it is there.
#[cold]
pub(super) fn answer_without_app<B>(
    terms: &Terms,
    out: &mut Vec<u8>,
    Calling { context, id, feed, .. }: Calling<'_>,
) -> Called<B> {
    let context = terms.board.context(context, keeps_alive(feed.as_deref()));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let heading = Heading { context, date: terms.clock.date(), id };
    match encode(response, &mut None, None, heading, out, &mut VecDeque::new()) {
        Some(Answer { status, keep_alive, extent, .. }) => {
            Called::Answered(Answer { status, keep_alive, extent, rest: None })
        }
        None => Called::Failed,
    }
}
