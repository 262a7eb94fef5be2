//! How a connection leaves HTTP for another protocol, in hyper's hands.
//!
//! hyper by itself gives a connection away after any last answer to a request with an `Upgrade` field. Here only a 101 does, and
//! only where it was offered. What the other protocol is, and who speaks it, is the app's business.
//!
//! The invariant: an answer of 101 leaves only after its connection was prepared for what follows.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::record::Record;
use super::transport::Transport;
use crate::BoxError;
use crate::own_answer::Asked;

/// What a connection's requests and its task share: an answer of 101 waits until the connection is prepared for it.
pub(super) struct Switch {
    pub(super) record: Arc<Record>,
    /// What the last request asked for, if one has come.
    pub(super) asked: RefCell<Option<Asked>>,
    /// Requests that have come.
    requests: Cell<u32>,
    allowed: Cell<bool>,
}

impl Switch {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { record, asked: RefCell::new(None), requests: Cell::new(0), allowed: Cell::new(false) }
    }

    /// Counts a request. Returns how many have come.
    pub(super) fn count_request(&self) -> u32 {
        self.requests.set(self.requests.get().saturating_add(1));
        self.requests.get()
    }

    /// Whoever allows it polls next.
    pub(super) async fn allowed(&self) {
        let polled = |_: &mut Context<'_>| if self.allowed.get() { Poll::Ready(()) } else { Poll::Pending };
        std::future::poll_fn(polled).await;
    }
}

/// Whether the app may answer 101: something else than `h2c` is offered (RFC 9113, section 3.1), and no body comes before it.
pub(super) fn may_switch(request: &Request<Incoming>) -> bool {
    let mut offers = request.headers().get_all(header::UPGRADE).iter();
    request.extensions().get::<OnUpgrade>().is_some()
        && offers.any(|offer| !offer.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && hyper::body::Body::is_end_stream(request.body())
}

/// Drives a connection until it ends; `None` if the app has answered 101, which is not sent yet.
pub(super) async fn until_switched<S>(
    connection: &mut http1::Connection<TokioIo<Transport>, S>,
    switch: &Switch,
) -> Option<hyper::Result<()>>
where
    S: HttpService<Incoming, ResBody: 'static, Error: Into<BoxError>>,
    <S::ResBody as hyper::body::Body>::Error: Into<BoxError>,
{
    std::future::poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if switch.record.has_switched() => {
            switch.allowed.set(true);
            Poll::Ready(None)
        }
        Poll::Pending => Poll::Pending,
    })
    .await
}
