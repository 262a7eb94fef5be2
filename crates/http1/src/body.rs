//! Decoding a body, of a request or of an answer, in pieces of any size.
//!
//! ```text
//!   Length ──────────────────────────────────────────────────────────► End
//!
//!   UntilClose ───────── the peer has ended its direction ───────────► End
//!
//!   Size ──► Extension ──► SizeEnd ──► Data ──► DataEnd ──► DataLineFeed ──► (Size)
//!                             │
//!                             └─ size 0 ──► Trailers ────────────────► End
//! ```
//!
//! Only numbers are kept between pieces; trailer lines alone need memory, within `trailer_bytes_max`. Invariant: no
//! byte after the body is consumed, and any doubt about where it ends is a refusal.

use std::ops::Range;

use http::HeaderMap;

use crate::chunk::{ChunkExtension, ChunkSize};
use crate::trailers::TrailerDecoder;
use crate::{BodyFraming, Limits, Refusal, ResponseFraming};

/// What one call of [`BodyDecoder::decode`] made of its input.
#[derive(Debug)]
pub struct BodyStep {
    /// Bytes of the input that are done with, framing and data.
    pub consumed: usize,
    /// What was found.
    pub event: BodyEvent,
}

/// Part of a body.
#[derive(Debug)]
pub enum BodyEvent {
    /// Where data stands in the input; never empty. What is before it is framing.
    Data(Range<usize>),
    /// The body is complete. With the trailer fields, if there are any; only once.
    Complete(Option<Box<HeaderMap>>),
    /// All of the input was consumed, and the body is not complete.
    More,
}

/// The resumable state of a body.
///
/// Command: [`decode`](BodyDecoder::decode). What happened: [`end_of_stream`](BodyDecoder::end_of_stream). Getters:
/// [`is_complete`](BodyDecoder::is_complete), [`remaining_hint`](BodyDecoder::remaining_hint), [`length_min`](BodyDecoder::length_min).
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    counts: Counts,
}

/// Where in the body the next byte stands. What each state does and which follows is in [`BodyDecoder::advance`].
#[derive(Debug)]
enum State {
    /// In a body of known length. The number of bytes to come, at least one.
    Length(u64),
    /// In a body that the end of the stream ends.
    UntilClose,
    /// In the digits of a chunk size.
    Size(ChunkSize),
    /// In the extensions after a chunk size.
    Extension(ChunkExtension, u64),
    /// At the LF of a size line.
    SizeEnd(u64),
    /// In the data of a chunk. The number of bytes to come, at least one.
    Data(u64),
    /// At the CR after the data of a chunk.
    DataEnd,
    /// At the LF after the data of a chunk.
    DataLineFeed,
    /// In the trailer section.
    Trailers(Box<TrailerDecoder>),
    /// After the last byte, with trailers that have not been handed over.
    End(Option<Box<HeaderMap>>),
    /// After a wrong byte.
    Refused(Refusal),
}

/// What a body has cost so far, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    data: u64,
    framing: u64,
    extensions: u64,
}

impl BodyDecoder {
    /// A decoder for the body that follows the head of a request.
    pub fn new(framing: BodyFraming) -> Self {
        let state = match framing {
            BodyFraming::None | BodyFraming::Length(0) => State::End(None),
            BodyFraming::Length(length) => State::Length(length),
            BodyFraming::Chunked => State::Size(ChunkSize::default()),
        };
        BodyDecoder { state, counts: Counts::default() }
    }

    /// A decoder for the body that follows the head of an answer.
    pub fn for_response(framing: ResponseFraming) -> Self {
        let state = match framing {
            ResponseFraming::NoBody | ResponseFraming::Length(0) => State::End(None),
            ResponseFraming::Length(length) => State::Length(length),
            ResponseFraming::Chunked => State::Size(ChunkSize::default()),
            ResponseFraming::UntilClose => State::UntilClose,
        };
        BodyDecoder { state, counts: Counts::default() }
    }

    /// Takes note that the peer has ended its direction, after all that it sent was decoded. Whether the body is whole now:
    /// one of known length or in chunks must be complete already, and one that ends with the connection is
    /// [`Complete`](BodyEvent::Complete) from here on (RFC 9112 6.3, 8).
    pub fn end_of_stream(&mut self) -> bool {
        if matches!(self.state, State::UntilClose) {
            self.state = State::End(None);
        }
        self.is_complete()
    }

    /// Decodes the next piece of the body: `input` is what follows the bytes consumed so far. Call again with
    /// `input[step.consumed..]` until the event is [`More`](BodyEvent::More) or [`Complete`](BodyEvent::Complete).
    /// After completion it consumes nothing.
    ///
    /// # Errors
    ///
    /// The rule that the bytes break, and the same one at every call after that.
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<BodyStep, Refusal> {
        let mut consumed = 0;
        loop {
            match &mut self.state {
                State::End(trailers) => return Ok(BodyStep { consumed, event: BodyEvent::Complete(trailers.take()) }),
                State::Refused(refusal) => return Err(*refusal),
                _ => {}
            }
            let Some(&byte) = input.get(consumed) else {
                return Ok(BodyStep { consumed, event: BodyEvent::More });
            };
            if let Some(remaining) = self.data_to_come(limits)? {
                let length = remaining.min((input.len() - consumed) as u64);
                self.take_data(remaining, length);
                let start = consumed;
                consumed += length as usize;
                return Ok(BodyStep { consumed, event: BodyEvent::Data(start..consumed) });
            }
            self.take_framing(byte, limits)?;
            consumed += 1;
        }
    }

    /// Whether the last byte of the body has been consumed.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::End(_))
    }

    /// The bytes that are still to come, where that is known: not in a chunked body before its end.
    pub fn remaining_hint(&self) -> Option<u64> {
        match self.state {
            State::Length(remaining) => Some(remaining),
            State::End(_) => Some(0),
            _ => None,
        }
    }

    /// The bytes of data that the body has at least, as far as is known: those that have come, and those that were announced.
    pub fn length_min(&self) -> u64 {
        let announced = match &self.state {
            State::Length(remaining) | State::Data(remaining) => *remaining,
            State::Size(size) => size.value(),
            State::Extension(_, size) | State::SizeEnd(size) => *size,
            _ => 0,
        };
        self.counts.data.saturating_add(announced)
    }

    /// How much of what comes next is data, at least one byte; None where it is framing. A body whose length nobody has
    /// announced is refused at the first byte beyond its limit, however the bytes before it came.
    fn data_to_come(&mut self, limits: &Limits) -> Result<Option<u64>, Refusal> {
        match self.state {
            State::Length(remaining) | State::Data(remaining) => Ok(Some(remaining)),
            State::UntilClose => {
                let remaining = limits.body_bytes_max.saturating_sub(self.counts.data);
                if remaining > 0 {
                    return Ok(Some(remaining));
                }
                self.state = State::Refused(Refusal::BodyTooLarge);
                Err(Refusal::BodyTooLarge)
            }
            _ => Ok(None),
        }
    }

    fn take_framing(&mut self, byte: u8, limits: &Limits) -> Result<(), Refusal> {
        let state = std::mem::replace(&mut self.state, State::End(None));
        let next = self.count(&state, byte, limits).and_then(|()| self.advance(state, byte, limits));
        match next {
            Ok(state) => {
                self.state = state;
                Ok(())
            }
            Err(refusal) => {
                self.state = State::Refused(refusal);
                Err(refusal)
            }
        }
    }

    /// What one byte of framing leads to. The states that hold data are not left here but in
    /// [`take_data`](BodyDecoder::take_data).
    fn advance(&self, state: State, byte: u8, limits: &Limits) -> Result<State, Refusal> {
        Ok(match (state, byte) {
            (State::Size(size), b'\r') => State::SizeEnd(size.end()?),
            (State::Size(size), b';') => State::Extension(ChunkExtension::Start, size.end()?),
            (State::Size(size), b' ' | b'\t') => State::Extension(ChunkExtension::Space, size.end()?),
            (State::Size(size), byte) => {
                let size = size.push(byte)?;
                if size.value() > limits.body_bytes_max.saturating_sub(self.counts.data) {
                    return Err(Refusal::BodyTooLarge);
                }
                State::Size(size)
            }
            (State::Extension(extension, size), b'\r') if extension.may_end() => State::SizeEnd(size),
            (State::Extension(extension, size), byte) => State::Extension(extension.push(byte)?, size),
            (State::SizeEnd(0), b'\n') => State::Trailers(Box::default()),
            (State::SizeEnd(size), b'\n') => State::Data(size),
            (State::SizeEnd(_), _) => return Err(Refusal::BareCarriageReturn),
            (State::DataEnd, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size(ChunkSize::default()),
            (State::DataEnd | State::DataLineFeed, _) => return Err(Refusal::ChunkEndMissing),
            (State::Trailers(mut trailers), byte) => match trailers.push(byte, limits)? {
                true => State::End(trailers.into_fields()),
                false => State::Trailers(trailers),
            },
            // These take no framing.
            (
                state @ (State::Length(_) | State::UntilClose | State::Data(_) | State::End(_) | State::Refused(_)),
                _,
            ) => state,
        })
    }

    /// Leaves or shortens a state that holds data, by `length` of its `remaining` bytes.
    fn take_data(&mut self, remaining: u64, length: u64) {
        let left = remaining - length;
        self.counts.data += length;
        self.state = match self.state {
            State::Length(_) if left > 0 => State::Length(left),
            State::Length(_) => State::End(None),
            State::UntilClose => State::UntilClose,
            _ if left > 0 => State::Data(left),
            _ => State::DataEnd,
        };
    }

    /// Counts a byte of chunk framing. Trailers have limits of their own.
    fn count(&mut self, state: &State, byte: u8, limits: &Limits) -> Result<(), Refusal> {
        match state {
            State::Trailers(_) => return Ok(()),
            State::Extension(..) => self.counts.extensions += 1,
            State::Size(_) if matches!(byte, b';' | b' ' | b'\t') => self.counts.extensions += 1,
            _ => {}
        }
        self.counts.framing += 1;
        if self.counts.extensions > limits.chunk_extension_bytes_max as u64 {
            return Err(Refusal::ChunkExtensionsTooLarge);
        }
        let framing_max = self
            .counts
            .data
            .saturating_mul(limits.chunk_overhead_ratio_max)
            .saturating_add(limits.chunk_overhead_bytes_max);
        if self.counts.framing > framing_max { Err(Refusal::ChunkOverhead) } else { Ok(()) }
    }
}
