//! The same service over hyper on plain Tokio, for systems without our engine and for comparing with it.
//!
//! Each connection is a task. Limits, timeouts, the stop and the counts are those of the engine as far as hyper has them; the
//! peer's end of stream is hyper's business. The engine has connections served here too, for one request each: those that may
//! switch to another protocol.
//!
//! The invariant: only an answer of 101 hands a connection to the app, and no byte of another protocol before it. hyper by
//! itself would do so after any last answer to a request with an `Upgrade` field.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use baiwan_driver::{Address, Peer};
use baiwan_task::{FailureKind, Group, Handle, TaskGroup};
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::app::{App, add_peer, call_when_ready, is_for_server, limit_buffered_body};
use crate::files::{ACCEPT_PAUSE, explain};
use crate::say::say;
use crate::settings::Settings;
use crate::status::{CloseReason, CoreStatus, Phase, Status, add};
use crate::transport::{Record, Stream, Transport, Transports};
use crate::{Body, BoxError};

/// One core's share of the server.
pub(crate) struct Portable<A> {
    app: A,
    settings: Arc<Settings>,
    status: Arc<Status>,
    index: usize,
    listeners: Vec<Listener>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl<A: App> Portable<A> {
    pub(crate) fn new(
        app: A,
        settings: Arc<Settings>,
        status: Arc<Status>,
        index: usize,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> io::Result<Self> {
        let listeners = sockets.into_iter().map(|(address, socket)| match address {
            Address::Tcp(_) => {
                let listener = StdTcpListener::from(socket);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }
            Address::Unix(_) | Address::Abstract(_) => {
                let listener = StdUnixListener::from(socket);
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Listener::Unix)
            }
        });
        let listeners = listeners.collect::<io::Result<_>>()?;
        Ok(Self { app, settings, status, index, listeners })
    }

    /// Serves until the server stops and every connection has ended, or the time for that is over.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let (drain, draining) = watch::channel(false);
        let transports = Transports::new(&self.settings, Arc::clone(&self.status), self.index);
        self.accept_until_draining(draining, &transports).await;
        let _ = drain.send(true);
        transports.begin_drain();
        let timeout = self.settings.shutdown_timeout.saturating_sub(self.settings.shutdown_delay);
        tokio::select! {
            () = tokio::time::sleep(timeout) => {}
            () = self.until(|| self.status.phase() >= Phase::Stopping || transports.all_closed()) => {}
        }
        transports.cut();
        self.status.cores[self.index].inbox.close();
        Ok(())
    }

    /// When this returns, nobody listens any more.
    async fn accept_until_draining(&mut self, draining: watch::Receiver<bool>, transports: &Arc<Transports>) {
        let listeners = std::mem::take(&mut self.listeners);
        let accepting = TaskGroup::new().name("acceptors").scope(async |group: Group<Infallible>| {
            let mut acceptors = Vec::new();
            for listener in listeners {
                let connection = Connection {
                    app: self.app.clone(),
                    settings: Arc::clone(&self.settings),
                    status: Arc::clone(&self.status),
                    index: self.index,
                    draining: Some(draining.clone()),
                };
                acceptors.push(group.spawn_local(accept(listener, connection, Arc::clone(transports))).await);
            }
            drop(draining);
            self.until(|| self.status.phase() >= Phase::Draining).await;
            acceptors.iter().for_each(Handle::cancel);
            Ok(())
        });
        let Err(failures) = accepting.await else { return };
        if let FailureKind::Panicked(panic) = failures.into_first().into_kind() {
            panic.resume();
        }
    }

    /// Waits for a condition, looking whenever the core is woken.
    async fn until(&self, condition: impl Fn() -> bool) {
        let core = &self.status.cores[self.index];
        std::future::poll_fn(|cx| {
            loop {
                core.inbox.begin_turn();
                core.turned();
                if condition() {
                    return Poll::Ready(());
                }
                if core.inbox.end_turn(cx.waker()) {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }
}

/// What serves a connection.
#[derive(Clone)]
pub(crate) struct Connection<A> {
    app: A,
    settings: Arc<Settings>,
    status: Arc<Status>,
    index: usize,
    /// Becomes true when the server stops. None where one request is served, and then the connection ends.
    draining: Option<watch::Receiver<bool>>,
}

/// Goes on until it is dropped.
async fn accept<A: App>(
    listener: Listener,
    connection: Connection<A>,
    transports: Arc<Transports>,
) -> Result<(), Infallible> {
    loop {
        let outcome = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                let _ = stream.set_nodelay(true);
                start(Stream::Tcp(stream), Peer::Ip(address), &connection, &transports);
            }),
            Listener::Unix(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| start(Stream::Unix(stream), Peer::Unix, &connection, &transports))
            }
        };
        if let Err(error) = outcome {
            say(|| tracing::warn!(error = explain(&error), "cannot accept connections for now"));
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn start<A: App>(stream: Stream, peer: Peer, connection: &Connection<A>, transports: &Arc<Transports>) {
    let core = &connection.status.cores[connection.index];
    add(&core.accepted, 1);
    if !connection.status.try_open(connection.index) {
        // A connection beyond the maximum is dropped; only the engine answers it.
        core.count_close(CloseReason::OverLimit);
        return;
    }
    let transport = transports.open(stream, Bytes::new());
    match catch_unwind(AssertUnwindSafe(|| connection.clone())) {
        Ok(connection) => drop(tokio::task::spawn_local(connection.serve(transport, peer))),
        Err(_) => {
            add(&core.handler_panics, 1);
            transport.record().note(CloseReason::HandlerFailed);
        }
    }
}

impl<A: App> Connection<A> {
    /// One that ends after the answer to its first request, unless that is a 101.
    #[cfg(target_os = "linux")]
    pub(crate) fn for_one_request(app: A, settings: Arc<Settings>, status: Arc<Status>, index: usize) -> Self {
        Self { app, settings, status, index, draining: None }
    }

    /// Serves a connection until it ends, or until it is the app's.
    pub(crate) async fn serve(self, transport: Transport, peer: Peer) {
        let switch = Switch { record: transport.record(), allowed: Cell::new(false) };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new());
        http.half_close(self.settings.half_close);
        // Where one request is served, its head is there.
        http.header_read_timeout(self.draining.as_ref().and(self.settings.header_timeout));
        let service = service_fn(|request| self.answer(request, peer, &switch));
        let mut connection = http.serve_connection(TokioIo::new(transport), service);
        // Dropped before the connection, so that a panic is counted when the connection is counted out.
        let _panics = CountPanic(&self.status.cores[self.index]);
        let outcome = tokio::select! {
            outcome = until_switched(&mut connection, &switch) => outcome,
            () = self.drain() => {
                Pin::new(&mut connection).graceful_shutdown();
                until_switched(&mut connection, &switch).await
            }
        };
        match outcome {
            Some(outcome) => {
                note(&switch.record, outcome);
                // hyper leaves out the orderly end where an upgrade was possible.
                let _ = connection.into_parts().io.into_inner().linger().await;
            }
            None => note(&switch.record, connection.with_upgrades().await),
        }
    }

    /// Waits until the server stops.
    async fn drain(&self) {
        match self.draining.clone() {
            // A sender that is gone says the same.
            Some(mut draining) => drop(draining.wait_for(|draining| *draining).await),
            None => std::future::pending().await,
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        switch: &Switch,
    ) -> Result<Response<Answer<A::ResponseBody>>, BoxError> {
        add(&self.status.cores[self.index].requests, 1);
        if is_for_server(&request) && !self.settings.options_asterisk {
            return Ok(self.answer_without_app());
        }
        let may_switch = may_switch(&request);
        let (version, head_request) = (request.version(), request.method() == Method::HEAD);
        if !hyper::body::Body::is_end_stream(request.body()) {
            switch.record.begin_upload();
        }
        let mut request = request.map(Body::from_hyper);
        limit_buffered_body(&mut request, self.settings.buffered_body_bytes_max);
        if !may_switch {
            request.extensions_mut().remove::<OnUpgrade>();
        }
        add_peer(&mut request, peer.socket_address());
        let call = self.call(request);
        let outcome = match self.settings.request_timeout {
            None => Ok(call.await),
            Some(timeout) => tokio::time::timeout(timeout, call).await,
        };
        let mut response = match outcome {
            Ok(Ok(Some(response))) => response,
            Ok(Ok(None)) => return instead(&switch.record, CloseReason::HandlerFailed),
            Ok(Err(error)) => {
                say(|| tracing::error!(%error, "the app failed"));
                return instead(&switch.record, CloseReason::HandlerFailed);
            }
            Err(_) => return instead(&switch.record, CloseReason::RequestTimeout),
        };
        // The framing is the server's, and hyper believes what the app says of it.
        response.headers_mut().remove(header::TRANSFER_ENCODING);
        match response.status() {
            _ if !is_length_right(&response, head_request) => {
                say(|| tracing::error!("the Content-Length of the response is not the length of its body"));
                return instead(&switch.record, CloseReason::HandlerFailed);
            }
            StatusCode::SWITCHING_PROTOCOLS if may_switch => {
                switch.record.switch();
                switch.allowed().await;
            }
            StatusCode::SWITCHING_PROTOCOLS => {
                say(|| tracing::error!("the app switches to a protocol that was not offered"));
                return instead(&switch.record, CloseReason::HandlerFailed);
            }
            _ if self.draining.is_none() => {
                response.headers_mut().append(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        if response.status() == StatusCode::RESET_CONTENT {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            return Ok(response.map(|_| Answer::Empty));
        }
        // Only chunks can carry trailers.
        let has_trailers = response.headers().contains_key(header::TRAILER);
        let chunked = has_trailers && version == Version::HTTP_11 && may_have_body(response.status());
        if chunked {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        Ok(response.map(|body| Answer::App { body: Box::pin(body), chunked }))
    }

    /// What the server says of itself as a whole.
    fn answer_without_app(&self) -> Response<Answer<A::ResponseBody>> {
        let mut response = Response::new(Answer::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        if self.draining.is_none() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Calls the app. `None` if it panicked: that costs this request alone.
    async fn call(&self, request: Request<Body>) -> Result<Option<Response<A::ResponseBody>>, BoxError> {
        let panicked = || add(&self.status.cores[self.index].handler_panics, 1);
        let Ok(mut call) = catch_unwind(AssertUnwindSafe(|| call_when_ready(self.app.clone(), request))) else {
            panicked();
            return Ok(None);
        };
        std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(polled) => polled.map_ok(Some),
            Err(_) => {
                panicked();
                Poll::Ready(Ok(None))
            }
        })
        .await
    }
}

/// Counts a panic that ends the task of a connection: one of the app's body, which hyper asks.
struct CountPanic<'a>(&'a CoreStatus);

impl Drop for CountPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            add(&self.0.handler_panics, 1);
        }
    }
}

/// An answer of 101 waits until the connection is prepared for it.
struct Switch {
    record: Arc<Record>,
    allowed: Cell<bool>,
}

impl Switch {
    /// Whoever allows it polls next.
    async fn allowed(&self) {
        let polled = |_: &mut Context<'_>| if self.allowed.get() { Poll::Ready(()) } else { Poll::Pending };
        std::future::poll_fn(polled).await;
    }
}

/// The answer of a server whose app has none. It is the connection's last.
fn instead<B>(record: &Record, reason: CloseReason) -> Result<Response<Answer<B>>, BoxError> {
    record.note(reason);
    let response = match reason {
        CloseReason::RequestTimeout => {
            Response::builder().status(StatusCode::SERVICE_UNAVAILABLE).header(header::RETRY_AFTER, "1")
        }
        _ => Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR),
    };
    Ok(response.header(header::CONNECTION, "close").body(Answer::Empty)?)
}

/// Whether the app may answer 101: something else than `h2c` is offered (RFC 9113, section 3.1), and no body comes before it.
fn may_switch(request: &Request<Incoming>) -> bool {
    let mut offers = request.headers().get_all(header::UPGRADE).iter();
    request.extensions().get::<OnUpgrade>().is_some()
        && offers.any(|offer| !offer.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && hyper::body::Body::is_end_stream(request.body())
}

/// Whether a final answer with this status may have a body.
fn may_have_body(status: StatusCode) -> bool {
    ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

/// Whether a response that has a body says at most once how long that is, and does not lie where it is known.
fn is_length_right<B: http_body::Body>(response: &Response<B>, head_request: bool) -> bool {
    if head_request || !may_have_body(response.status()) {
        return true;
    }
    let length = response.body().size_hint().exact();
    let mut announced = response.headers().get_all(header::CONTENT_LENGTH).iter();
    let right = |value: &HeaderValue| {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let announced = digits.and_then(|digits| digits.parse::<u64>().ok());
        announced.is_some_and(|announced| length.is_none_or(|length| length == announced))
    };
    announced.next().is_none_or(right) && announced.next().is_none()
}

/// Drives a connection until it ends; `None` if the app has answered 101, which is not sent yet.
async fn until_switched<S>(
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

/// Notes what hyper says about the end of a connection, where that is not a matter of its socket.
fn note(record: &Record, outcome: hyper::Result<()>) {
    match outcome {
        Err(error) if error.is_parse() => record.note(CloseReason::Refused),
        Err(error) if error.is_timeout() => record.note(CloseReason::HeaderTimeout),
        Err(error) if error.is_user() => record.note(CloseReason::HandlerFailed),
        _ => {}
    }
}

/// The app's body, or none, with data as bytes.
enum Answer<B> {
    App {
        body: Pin<Box<B>>,
        /// It is sent in chunks, whatever is known of its length.
        chunked: bool,
    },
    Empty,
}

impl<B> http_body::Body for Answer<B>
where
    B: http_body::Body<Data: Buf, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::App { body, .. } => body.as_mut().poll_frame(cx).map(|frame| {
                frame.map(|frame| {
                    let frame = frame.map_err(Into::into)?;
                    Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
                })
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::App { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::App { chunked: true, .. } => SizeHint::default(),
            Self::App { body, .. } => body.size_hint(),
        }
    }
}
