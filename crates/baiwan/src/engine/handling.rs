//! The app's part of an exchange: its handler, then the rest of its answer's body, as far as the connection's credit allows.
//!
//! It is polled by the [`Exchange`] that it is a part of, which catches what panics here. It is *not* told why it ends: then it is dropped.
//!
//! The invariant: what is sent of an answer is what its head announced, or the exchange has failed.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll};

use baiwan_driver::Token;
use baiwan_http1::ResponseContext;
use bytes::Buf;
use http::Response;
use http_body::Body as HttpBody;

use super::answer::{Answer, Extent, Heading, Rest, Spare, encode, say_unsendable};
use super::call::Waiting;
use super::exchange::{Begun, Exchange, OUTPUT_BYTES_MAX, Own, Pending, Progress, Work};
use super::feed::keeps_alive;
use super::terms::Board;
use super::waker::ExchangeWaker;
use crate::BoxError;
use crate::app::Call;
use crate::call_scope::{Told, Whose, listen};
use crate::rate_limit::Warning;
use crate::recorder::Recorder;
use crate::request_id::{RequestId, within};

/// An exchange whose handler was not ready.
pub(super) fn wait_for_call<B>(
    board: &Rc<Board>,
    begun: Begun,
    Waiting { call, waker }: Waiting<B>,
    context: ResponseContext,
    warning: Option<Warning>,
    id: Option<RequestId>,
) -> Pending
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>> + 'static,
{
    let given = (warning.is_some() || id.is_some()).then(|| Box::new(Given { warning, id }));
    Exchange::begin(waker, Rc::clone(board), begun, Handling { given, stage: Stage::Calling { call, context } })
}

/// An exchange whose handler was ready, but whose body was not.
pub(super) fn wait_for_body<B>(
    token: Token,
    board: &Rc<Board>,
    begun: Begun,
    rest: Rest<B>,
    keep_alive: bool,
    id: Option<RequestId>,
) -> Pending
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>> + 'static,
{
    let given = id.map(|id| Box::new(Given { warning: None, id: Some(id) }));
    // Its first frame may be there, and what follows was not asked for yet.
    let waker = ExchangeWaker::new(board.inbox(), token);
    waker.request_poll();
    Exchange::begin(waker, Rc::clone(board), begun, Handling { given, stage: Stage::Sending { rest, keep_alive } })
}

/// What an answer needs beside its exchange, if it does.
struct Given {
    warning: Option<Warning>,
    id: Option<RequestId>,
}

/// The app's part of an exchange, for one app.
struct Handling<B> {
    given: Option<Box<Given>>,
    stage: Stage<B>,
}

enum Stage<B> {
    /// The handler has not answered.
    Calling {
        call: Call<B>,
        context: ResponseContext,
    },
    /// Its answer has a body that is not written yet.
    Sending {
        rest: Rest<B>,
        keep_alive: bool,
    },
    Over,
}

impl<B> Work for Handling<B>
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    fn poll(&mut self, own: &mut Own<'_>, cx: &mut Context<'_>) -> Option<Told> {
        let (id, warning) = match self.given.as_deref() {
            Some(given) => (given.id.as_ref(), given.warning.as_ref()),
            None => (None, None),
        };
        let mut told = None;
        if let Stage::Calling { call, context } = &mut self.stage {
            let polled;
            (polled, told) = poll_call(call, own, id, cx);
            let context = *context;
            match polled {
                // The engine ends it.
                _ if told.as_ref().is_some_and(|told| told.is_too_large) => {
                    if polled.is_ready() {
                        // It must not be polled again by those who let it hear that its body will not come.
                        self.stage = Stage::Over;
                        own.course.fail();
                    }
                    return told;
                }
                Poll::Pending => return told,
                Poll::Ready(response) => {
                    // The call is dropped before there is something of its answer, which a panic in that would cut.
                    self.stage = Stage::Over;
                    self.stage = begin_answer(response, own, context, warning, id);
                }
            }
        }
        if let Stage::Sending { rest, keep_alive } = &mut self.stage {
            let keep_alive = *keep_alive;
            match poll_body(rest, own, id, cx) {
                Poll::Pending => return told,
                Poll::Ready(Ok(())) => own.course.progress = Progress::Finished { keep_alive },
                Poll::Ready(Err(())) => own.course.fail(),
            }
            self.stage = Stage::Over;
        }
        told
    }

    fn clear(&mut self) {
        self.stage = Stage::Over;
    }
}

/// Polls the app's call, and hears what layers of its route say.
fn poll_call<B>(
    call: &mut Call<B>,
    own: &mut Own<'_>,
    id: Option<&RequestId>,
    cx: &mut Context<'_>,
) -> (Poll<Result<Response<B>, BoxError>>, Option<Told>) {
    // In a panic, too, its route is known.
    let (recorder, route) = (own.board.recorder.as_ref(), &own.course.route);
    let poll = || listen(recorder, route, Whose::Other, || within(id, || call.as_mut().poll(cx)));
    Recorder::timed(recorder, route, poll)
}

/// Encodes what is there of an answer.
fn begin_answer<B>(
    response: Result<Response<B>, BoxError>,
    own: &mut Own<'_>,
    context: ResponseContext,
    warning: Option<&Warning>,
    id: Option<&RequestId>,
) -> Stage<B>
where
    B: HttpBody<Data: Buf>,
{
    let response = match response {
        Ok(response) => response,
        Err(error) => {
            say_unsendable(&*error);
            own.course.fail();
            return Stage::Over;
        }
    };
    let context = own.board.context(context, !own.course.is_last && keeps_alive(own.feed));
    let (mut front, mut queue) = (own.board.take_scratch(), VecDeque::new());
    let date = own.board.date();
    let heading = Heading { context, date: &date, id };
    let mut response = Poll::Ready(Ok::<_, BoxError>(response));
    let encode = || encode(&mut response, &mut Spare::default(), warning, heading, &mut front, &mut queue);
    // The first frame of its body is polled.
    let encoded = Recorder::posted_and_timed(own.board.recorder.as_ref(), own.course.route.get(), encode);
    let Some(Answer { status, keep_alive, extent, rest }) = encoded else {
        own.course.fail();
        return Stage::Over;
    };
    own.course.status = Some(status);
    own.course.is_stream = extent == Extent::Endless;
    own.course.progress = Progress::Responding { extent };
    own.send(&front, queue);
    own.board.put_scratch(front);
    match rest {
        Some(rest) => Stage::Sending { rest, keep_alive },
        None => {
            own.course.progress = Progress::Finished { keep_alive };
            Stage::Over
        }
    }
}

/// Writes of a body what is there, as far as the credit allows.
fn poll_body<B>(
    rest: &mut Rest<B>,
    own: &mut Own<'_>,
    id: Option<&RequestId>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), ()>>
where
    B: HttpBody<Data: Buf, Error: Into<BoxError>>,
{
    let Rest { body, writer, has_begun } = rest;
    while !writer.is_complete() {
        if own.course.owed >= OUTPUT_BYTES_MAX {
            own.course.waits_for_credit = true;
            return Poll::Pending;
        }
        let recorder = own.board.recorder.as_ref();
        let poll = || within(id, || body.as_mut().poll_frame(cx));
        let frame = match Recorder::posted_and_timed(recorder, own.course.route.get(), poll) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                own.course.note_waiting(*has_begun);
                return Poll::Pending;
            }
        };
        *has_begun = true;
        own.course.note_frame(frame.is_none());
        let (mut front, mut queue) = (own.board.take_scratch(), VecDeque::new());
        let written = writer.write(frame, body.is_end_stream(), &mut front, &mut queue);
        own.send(&front, queue);
        own.board.put_scratch(front);
        if written.is_err() {
            return Poll::Ready(Err(()));
        }
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_small() {
        const { assert!(size_of::<Exchange<Handling<crate::Body>>>() <= 120) };
    }
}
