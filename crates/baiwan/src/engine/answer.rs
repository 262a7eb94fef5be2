//! The one way from a response to bytes, whether its handler was ready at once or not.
//!
//! What the fields of a head say, and how a body is framed, is `http1`'s; here is decided what is copied behind a head and what is
//! sent from where it is.
//!
//! The invariant: what is encoded keeps to what its head announced, or is a failure.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use baiwan_http1::{BodyEncoder, BodyLength, BodyLengthError, ResponseContext, ResponseFraming, encode_response_head};
use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, StatusCode};
use http_body::Body as HttpBody;

use super::has_budget;
use super::place::{Kept, Place};
use crate::app::is_of_events;
use crate::clock::Date;
use crate::rate_limit::Warning;
use crate::request_id::{RequestId, within};
use crate::say::say;

/// Data up to this size is copied behind its head; larger data is sent from where it is.
pub(super) const COPY_BYTES_MAX: usize = 16 * 1024;

/// Room for more fields than this is not kept: the next request holds it for as long as its handler waits.
const FIELDS_KEPT_MAX: usize = 16;

/// What came of a poll of a call. A response is large, so it stays where it was put until its body is taken.
pub(super) type Polled<B, E> = Poll<Result<Response<B>, E>>;

/// An answer whose head is encoded.
pub(super) struct Answer<B> {
    pub(super) status: StatusCode,
    pub(super) keep_alive: bool,
    pub(super) extent: Extent,
    /// What is not encoded yet of its body.
    pub(super) rest: Option<Rest<B>>,
}

/// What is left of an answer that is encoded, for those that follow. All of it is empty.
pub(super) struct Spare<B> {
    /// Where the body was polled.
    body: Kept<B>,
    /// Its fields: the room for those of the next request.
    pub(super) headers: HeaderMap,
}

impl<B> Default for Spare<B> {
    fn default() -> Self {
        Self { body: None, headers: HeaderMap::new() }
    }
}

impl<B> Spare<B> {
    /// Takes the room of fields that are not needed any more, if there is any, and not too much.
    #[inline]
    fn keep_room(&mut self, headers: &mut HeaderMap) {
        // The capacity says nothing of the room for names that came again.
        if (1..=FIELDS_KEPT_MAX).contains(&headers.capacity()) && headers.len() == headers.keys_len() {
            headers.clear();
            std::mem::swap(headers, &mut self.headers);
        }
    }
}

/// What the head of an answer says beside what the app says.
#[derive(Clone, Copy)]
pub(super) struct Heading<'a> {
    pub(super) context: ResponseContext,
    pub(super) date: &'a Date,
    /// What its request is called.
    pub(super) id: Option<&'a RequestId>,
}

/// What is left of an answer's body, and how it is written.
pub(super) struct Rest<B> {
    pub(super) body: Pin<Box<Place<B>>>,
    pub(super) writer: BodyWriter,
    /// A frame of it is written.
    pub(super) has_begun: bool,
}

/// The one way from a response, if one was `polled`, to bytes: its head, with what is said of its client's limit and what its request is called, and of its body
/// what is there at once. Small data follows the head in `front`, large data is put into `queue`, which comes after it. None if it cannot be
/// sent; `front` and `queue` may hold a part of it then.
#[inline]
pub(super) fn encode<B, E>(
    polled: &mut Polled<B, E>,
    spare: &mut Spare<B>,
    warning: Option<&Warning>,
    Heading { context, date, id }: Heading<'_>,
    front: &mut Vec<u8>,
    queue: &mut VecDeque<Bytes>,
) -> Option<Answer<B>>
where
    B: HttpBody<Data: Buf>,
{
    let Poll::Ready(Ok(response)) = polled else { return None };
    if let Some(warning) = warning {
        warning.apply(response.headers_mut());
    }
    let (status, headers) = (response.status(), response.headers());
    let length = response.body().size_hint().exact().map_or(BodyLength::Unknown, BodyLength::Exact);
    let plan = encode_response_head(front, status, headers, length, context, date, id.map(RequestId::as_bytes))
        .inspect_err(|error| say_unsendable(error))
        .ok()?;
    let extent = Extent::of(plan.framing, headers);
    spare.keep_room(response.headers_mut());
    let mut writer = BodyWriter::new(plan.framing);
    let mut rest = None;
    if !writer.is_complete() {
        let mut body = Place::fill(&mut spare.body, || match std::mem::replace(polled, Poll::Pending) {
            Poll::Ready(Ok(response)) => response.into_body(),
            Poll::Ready(Err(_)) | Poll::Pending => unreachable!("its head was encoded"),
        });
        let mut has_begun = false;
        if has_budget()
            && let Poll::Ready(frame) =
                within(id, || body.as_mut().content().poll_frame(&mut Context::from_waker(Waker::noop())))
        {
            let last = body.is_end_stream();
            writer.write(frame, last, front, queue).ok()?;
            has_begun = true;
        }
        match writer.is_complete() {
            true => body.clear(&mut spare.body),
            false => rest = Some(Rest { body, writer, has_begun }),
        }
    }
    Some(Answer { status, keep_alive: plan.keep_alive, extent, rest })
}

/// Says that the app has no answer, or none that can be sent.
pub(super) fn say_unsendable(error: &dyn std::error::Error) {
    say(|| tracing::error!(%error, "the app's answer cannot be sent"));
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

    #[inline(always)]
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

/// What the head of an answer says of the end of its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// It has an announced length.
    Known,
    /// It ends at some time.
    Open,
    /// It ends at some time, and only the end of the connection says so: after a part of it that must be a reset.
    UntilClose,
    /// It is a stream of events, which ends with its connection.
    Endless,
}

impl Extent {
    pub(super) fn of(framing: ResponseFraming, headers: &HeaderMap) -> Self {
        match framing {
            ResponseFraming::NoBody | ResponseFraming::Length(_) => Self::Known,
            _ if is_of_events(headers) => Self::Endless,
            ResponseFraming::Chunked => Self::Open,
            ResponseFraming::UntilClose => Self::UntilClose,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{CONTENT_TYPE, SET_COOKIE};

    use super::*;

    #[test]
    fn the_room_of_fields_is_kept_if_it_is_small() {
        let (mut spare, value) = (Spare::<crate::Body>::default(), HeaderValue::from_static("a"));
        let mut cookies = HeaderMap::new();
        for _ in 0..1_000 {
            cookies.append(SET_COOKIE, value.clone());
        }
        spare.keep_room(&mut cookies);
        spare.keep_room(&mut HeaderMap::with_capacity(100));
        assert_eq!(spare.headers.capacity(), 0);
        spare.keep_room(&mut HeaderMap::from_iter([(CONTENT_TYPE, value)]));
        assert!(spare.headers.is_empty() && (1..=FIELDS_KEPT_MAX).contains(&spare.headers.capacity()));
    }
}
