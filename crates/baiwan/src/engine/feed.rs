//! A request's body on its way from the area to its handler.
//!
//! What a receive brought is decoded at once, and its data is copied out of the area in one piece: that copy is the one chunk that
//! the handler asked for. Nothing here receives; when to is decided in `receive`.

use std::ops::Deref;
use std::sync::Arc;

use baiwan_http1::{BodyDecoder, BodyEvent, Limits, Refusal};
use bytes::Bytes;

use crate::BodyError;
use crate::body::Inlet;
use crate::route_limits::RouteLimits;
use crate::settings::Linger;

/// The request's body on its way to the handler.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) decoder: BodyDecoder,
    pub(super) inlet: FeedInlet,
    /// The peer waits for `100 Continue` before it sends the body.
    pub(super) continue_due: bool,
    /// Bytes a second that it must bring; 0 is any.
    pub(super) rate_min: u32,
    /// Bytes that it may have.
    pub(super) bytes_max: u64,
}

impl Feed {
    /// Has it obey what its route says, too. Returns whether what is known of the body is within that.
    pub(super) fn obey(&mut self, limits: &RouteLimits) -> bool {
        self.rate_min = limits.body_rate_min.unwrap_or(self.rate_min);
        self.bytes_max = self.bytes_max.min(limits.body_bytes_max.unwrap_or(u64::MAX));
        self.decoder.length_min() <= self.bytes_max
    }
}

/// The engine's end of a streamed body. When it is dropped, whoever holds the other end hears that no more will come.
#[derive(Debug)]
pub(super) struct FeedInlet(Arc<Inlet>);

impl FeedInlet {
    pub(super) fn new(inlet: Arc<Inlet>) -> Self {
        Self(inlet)
    }

    /// Another handle, to hand over data without holding what the feed is part of.
    pub(super) fn share(&self) -> Arc<Inlet> {
        Arc::clone(&self.0)
    }

    /// Whether the body still exists.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Deref for FeedInlet {
    type Target = Inlet;

    fn deref(&self) -> &Inlet {
        &self.0
    }
}

impl Drop for FeedInlet {
    fn drop(&mut self) {
        self.0.handle_failure(BodyError::Over);
    }
}

/// Whether what is left of a request's body lets the connection go on after the answer.
pub(super) fn keeps_alive(feed: Option<&Feed>) -> bool {
    match feed {
        None => true,
        // Somebody holds the body and may read it yet, as an answer that is made of it does.
        Some(feed) if feed.inlet.is_held() && !feed.continue_due => true,
        Some(feed) => rest_keeps_alive(&feed.decoder, feed.continue_due),
    }
}

/// As [`keeps_alive`], for a body that nobody will read. With `continue_due` the peer waits for a `100 Continue` that will not come: whether
/// it sends the body anyway cannot be known.
pub(super) fn rest_keeps_alive(decoder: &BodyDecoder, continue_due: bool) -> bool {
    match continue_due {
        true => decoder.is_complete(),
        false => decoder.remaining_hint().is_none_or(|left| left <= u64::from(Linger::SHORT.bytes_max)),
    }
}

/// A piece of a request's body.
pub(super) struct Decoded {
    pub(super) data: Bytes,
    /// Bytes of the input that belong to the body.
    pub(super) consumed: usize,
    /// The body has ended, with these trailers.
    pub(super) complete: Option<Option<Box<http::HeaderMap>>>,
}

/// Decodes all that `input` holds of a body; its data comes in one piece.
pub(super) fn decode_body(decoder: &mut BodyDecoder, input: &[u8], limits: &Limits) -> Result<Decoded, Refusal> {
    let mut first = 0..0;
    let mut gathered = Vec::new();
    let mut consumed = 0;
    let complete = loop {
        let step = decoder.decode(&input[consumed..], limits)?;
        if let BodyEvent::Data(range) = &step.event {
            let range = consumed + range.start..consumed + range.end;
            if first.is_empty() {
                first = range;
            } else {
                if gathered.is_empty() {
                    gathered.reserve(input.len() - first.start);
                    gathered.extend_from_slice(&input[first.clone()]);
                }
                gathered.extend_from_slice(&input[range]);
            }
        }
        consumed += step.consumed;
        match step.event {
            BodyEvent::Data(_) => {}
            BodyEvent::More => break None,
            BodyEvent::Complete(trailers) => break Some(trailers),
        }
    };
    let data = match gathered.is_empty() {
        true => Bytes::copy_from_slice(&input[first]),
        false => Bytes::from(gathered),
    };
    Ok(Decoded { data, consumed, complete })
}
