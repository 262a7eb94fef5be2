//! A request's body that hyper receives, on its way to its handler, within the time and the pace that the server allows.
//!
//! Its deadlines run while the handler waits for bytes, and only then (`pace`). A body that is late is an error to its handler,
//! and its connection ends; that the peer is told 408, if nothing was answered yet, is for `connection` to say. It is *not* a
//! buffer: hyper receives when it is asked.
//!
//! The invariant: who waits here is woken by bytes, by the end, or by a deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use baiwan_http1::Refusal;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::record::Record;
use crate::BodyError;
use crate::body::ReceivedElsewhere;
use crate::call_scope::heard;
use crate::clock::{Clock, Tick};
use crate::pace::Pace;
use crate::route_limits::RouteLimits;
use crate::settings::Settings;
use crate::status::CloseReason;

/// A request's body, and what is left of its peer's time.
#[derive(Debug)]
pub(super) struct Upload {
    incoming: Incoming,
    record: Arc<Record>,
    clock: Clock,
    pace: Pace,
    /// Bytes a second that it must bring; 0 is any.
    rate_min: u32,
    /// What its route has said, as far as it is obeyed.
    route: RouteLimits,
    /// Bytes that have come.
    bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// One whose head has just come.
    pub(super) fn new(incoming: Incoming, record: Arc<Record>, settings: &Settings) -> Self {
        let clock = Clock::start();
        let pace = Pace::begin(clock.deadline(settings.body_timeout));
        let (rate_min, route) = (settings.body_rate_min, RouteLimits::default());
        Self { incoming, record, clock, pace, rate_min, route, bytes: 0, timer: None }
    }

    /// Obeys what layers of its route have said since: those that this very poll has reached, and those before it.
    fn obey_route(&mut self) {
        let mut route = *self.record.route();
        if let Some(told) = heard() {
            route.add(&told.limits);
        }
        if route == self.route {
            return;
        }
        let ends = match route.body_timeout {
            Some(timeout) if self.route.body_timeout != Some(timeout) => self.clock.deadline(timeout),
            _ => self.pace.ends(),
        };
        self.rate_min = route.body_rate_min.unwrap_or(self.rate_min);
        self.pace.change(ends, &self.clock, self.rate_min);
        self.route = route;
    }

    /// Ready when the peer is given up.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.pace.start(&self.clock, self.rate_min);
        // The timers of a core that has ended must not be asked.
        if self.pace.due() == Tick::NEVER || self.record.is_cut() {
            return Poll::Pending;
        }
        let due = self.clock.instant(self.pace.due());
        let timer = self.timer.get_or_insert_with(|| {
            // The handler may read on another thread, whatever runs there.
            let _within = self.record.runtime().enter();
            Box::pin(tokio::time::sleep_until(due))
        });
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(cx));
        self.clock.read();
        let ended = self.pace.has_ended(self.clock.tick());
        Poll::Ready(if ended { CloseReason::BodyTimeout } else { CloseReason::BodyTooSlow })
    }
}

/// What the handler is told of a body that is beyond the limit of its route, as by the engine.
fn too_large() -> BodyError {
    BodyError::Malformed(Refusal::BodyTooLarge.name())
}

impl ReceivedElsewhere for Upload {}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.record.late_body().is_some() {
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        }
        if this.record.has_refused_body() {
            return Poll::Ready(Some(Err(too_large())));
        }
        this.clock.read();
        this.obey_route();
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            let reason = ready!(this.poll_late(cx));
            this.record.note(reason);
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        };
        let bytes =
            frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref).map_or(0, Bytes::len);
        this.pace.handle_bytes(bytes, &this.clock, this.rate_min);
        this.bytes += bytes as u64;
        if this.route.body_bytes_max.is_some_and(|max| this.bytes > max) {
            this.record.refuse_body();
            return Poll::Ready(Some(Err(too_large())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Portable)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
