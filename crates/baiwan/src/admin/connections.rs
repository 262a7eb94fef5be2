//! The connections of the admin side: at most a fixed number, and one more is served all the same.
//!
//! hyper reads and writes; here it is decided which connections there are. When there is one too many, the one ends that has asked for
//! nothing for the longest time, and those that are being answered end after all others. So whoever opens all of them, and sends nothing or
//! half a request, holds nobody up. It is no defence against one who goes on opening: then a connection has until the next
//! [`CONNECTIONS_MAX`] to send its request; nor against an operator who holds all of them with bodies that never come.
//!
//! When another process has taken over, those connections end at once on which nothing is asked, each other one with its next answer: whoever
//! asks goes on there. One that has asked for nothing yet is answered, because it may have come for that process in the same moment.
//!
//! The invariant: at most [`CONNECTIONS_MAX`] connections, and each has asked for something within [`QUIET_MAX`].

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local, yield_now};
use tokio::time::{Instant, sleep, sleep_until};

use super::routes::Site;
use crate::files::{ACCEPT_PAUSE, explain};
use crate::say::say;

/// Connections at once.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// A connection ends when it has not begun a request for this long: Prometheus asks once a minute at the least.
const QUIET_MAX: Duration = Duration::from_secs(75);
/// Bytes of a head, and of what hyper reads at once.
const BUFFER_BYTES_MAX: usize = 16 * 1024;
/// How much time passes, at least, until it is said again that connections cannot be accepted.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// One connection, as those see it who look for one to end.
struct Held {
    use_: Rc<Use>,
    task: AbortHandle,
}

/// When a connection was used last.
struct Use {
    /// When it was accepted, or its last request began or was answered.
    last: Cell<Instant>,
    is_answering: Cell<bool>,
    /// A request has begun.
    has_asked: Cell<bool>,
}

/// Accepts and serves until it is dropped. To be called on a local runtime, which drops the connections at its end.
pub(super) async fn serve(listener: &TcpListener, site: &Rc<Site>) -> Infallible {
    let mut all: Vec<Held> = Vec::new();
    let mut complained: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                make_room(&mut all);
                let _ = stream.set_nodelay(true);
                let use_ = Rc::new(Use::begin());
                let task = spawn_local(serve_one(stream, Rc::clone(site), Rc::clone(&use_))).abort_handle();
                all.push(Held { use_, task });
                // It may have asked already: then it is not one that is silent.
                yield_now().await;
            }
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
                    complained = Some(Instant::now());
                    let error = explain(&error);
                    say(|| tracing::warn!(error, "the admin side cannot accept connections for now"));
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Forgets connections that have ended, and ends one if there are as many as may be.
fn make_room(all: &mut Vec<Held>) {
    all.retain(|held| !held.task.is_finished());
    if all.len() < CONNECTIONS_MAX {
        return;
    }
    let longest_silent = (0..all.len()).min_by_key(|at| {
        let Use { last, is_answering, .. } = &*all[*at].use_;
        (is_answering.get(), last.get())
    });
    if let Some(at) = longest_silent {
        all.swap_remove(at).task.abort();
    }
}

async fn serve_one(stream: TcpStream, site: Rc<Site>, use_: Rc<Use>) {
    let service = service_fn(|request| {
        let (site, use_) = (Rc::clone(&site), Rc::clone(&use_));
        async move {
            use_.mark(true);
            let mut answer = site.answer(request).await;
            if site.condition.is_handed_over() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            use_.mark(false);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection =
        http1::Builder::new().max_buf_size(BUFFER_BYTES_MAX).serve_connection(TokioIo::new(stream), service);
    let (mut connection, mut quiet) = (pin!(connection), pin!(use_.quiet()));
    tokio::select! {
        // What a peer breaks off harms nobody.
        _ = connection.as_mut() => return,
        () = quiet.as_mut() => return,
        () = site.until_handed_over() => {}
    }
    if use_.has_asked.get() {
        connection.as_mut().graceful_shutdown();
    }
    tokio::select! {
        _ = connection => {}
        () = quiet => {}
    }
}

impl Use {
    fn begin() -> Self {
        Self { last: Cell::new(Instant::now()), is_answering: Cell::new(false), has_asked: Cell::new(false) }
    }

    fn mark(&self, is_answering: bool) {
        self.has_asked.set(true);
        self.last.set(Instant::now());
        self.is_answering.set(is_answering);
    }

    /// Waits until the connection was not used for [`QUIET_MAX`].
    async fn quiet(&self) {
        loop {
            let last = self.last.get();
            sleep_until(last + QUIET_MAX).await;
            if self.last.get() == last {
                return;
            }
        }
    }
}
