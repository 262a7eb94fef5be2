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
use std::os::unix::net::UnixListener as StdUnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use baiwan_driver::{Address, Peer};
use baiwan_http1::{BodyEncoder, BodyLength, Refusal, ResponseContext, check_response};
use baiwan_task::{FailureKind, Group, Handle, TaskGroup};
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::app::{App, add_peer, call_when_ready, is_for_server, limit_buffered_body};
use crate::files::explain;
use crate::listen::{ACCEPT_PAUSE, BoundListener};
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
        bound: Vec<BoundListener>,
    ) -> io::Result<Self> {
        let listeners = bound.into_iter().map(|bound| match bound.address().clone() {
            Address::Tcp(_) => {
                let listener = StdTcpListener::from(bound.into_fd());
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }
            Address::Unix(_) | Address::Abstract(_) => {
                let listener = StdUnixListener::from(bound.into_fd());
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
        if request.method() == Method::CONNECT {
            let refusal = Refusal::ConnectUnsupported;
            self.status.cores[self.index].count_refusal(refusal);
            return instead(&switch.record, CloseReason::Refused, refusal.status());
        }
        let may_switch = may_switch(&request);
        let context = ResponseContext {
            head_request: request.method() == Method::HEAD,
            version: request.version(),
            // hyper adds what the request says of it.
            keep_alive: self.draining.is_some(),
            may_switch,
        };
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
            Ok(Ok(None)) => return failed(&switch.record),
            Ok(Err(error)) => {
                say(|| tracing::error!(%error, "the app failed"));
                return failed(&switch.record);
            }
            Err(_) => {
                return instead(&switch.record, CloseReason::RequestTimeout, StatusCode::SERVICE_UNAVAILABLE);
            }
        };
        let length = http_body::Body::size_hint(response.body()).exact().map_or(BodyLength::Unknown, BodyLength::Exact);
        let checked = match check_response(response.status(), response.headers(), length, context) {
            Ok(checked) => checked,
            Err(error) => {
                say(|| tracing::error!(%error, "the app's answer cannot be sent"));
                return failed(&switch.record);
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            switch.record.switch();
            switch.allowed().await;
        }
        // hyper believes what the fields say.
        checked.apply(response.status(), response.headers_mut());
        Ok(response.map(|body| Answer::App { body: Box::pin(body), encoder: BodyEncoder::new(checked.plan.framing) }))
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

/// The answer of a server whose app has none, or failed.
fn failed<B>(record: &Record) -> Result<Response<Answer<B>>, BoxError> {
    instead(record, CloseReason::HandlerFailed, StatusCode::INTERNAL_SERVER_ERROR)
}

/// An answer that is not the app's. It is the connection's last.
fn instead<B>(record: &Record, reason: CloseReason, status: StatusCode) -> Result<Response<Answer<B>>, BoxError> {
    record.note(reason);
    let mut response = Response::builder().status(status).header(header::CONNECTION, "close");
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response = response.header(header::RETRY_AFTER, "1");
    }
    Ok(response.body(Answer::Empty)?)
}

/// Whether the app may answer 101: something else than `h2c` is offered (RFC 9113, section 3.1), and no body comes before it.
fn may_switch(request: &Request<Incoming>) -> bool {
    let mut offers = request.headers().get_all(header::UPGRADE).iter();
    request.extensions().get::<OnUpgrade>().is_some()
        && offers.any(|offer| !offer.as_bytes().eq_ignore_ascii_case(b"h2c"))
        && hyper::body::Body::is_end_stream(request.body())
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

/// The app's body, or none, with data as bytes. hyper frames it, by the fields of its head.
enum Answer<B> {
    App {
        body: Pin<Box<B>>,
        /// Says whether the body keeps to its head: hyper would cut what is too long, and go on.
        encoder: BodyEncoder,
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
        let Self::App { body, encoder } = &mut *self else { return Poll::Ready(None) };
        if encoder.is_complete() {
            return Poll::Ready(None);
        }
        let frame = ready!(body.as_mut().poll_frame(cx)).transpose().map_err(Into::into)?;
        let data = match frame.map(Frame::into_data) {
            Some(Ok(mut data)) => data.copy_to_bytes(data.remaining()),
            Some(Err(rest)) => {
                encoder.handle_end()?;
                let trailers = rest.into_trailers().ok().map(|trailers| Ok(Frame::trailers(trailers)));
                return Poll::Ready(trailers);
            }
            None => {
                encoder.handle_end()?;
                return Poll::Ready(None);
            }
        };
        encoder.handle_data(data.len() as u64)?;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            // Only chunks need to know before the end is asked for, so as to leave with it.
            Self::App { body, encoder } => encoder.is_chunked() && body.is_end_stream(),
        }
    }
}
