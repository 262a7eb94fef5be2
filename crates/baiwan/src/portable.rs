//! The same service over hyper on plain Tokio, for systems without our engine and for comparing with it.
//!
//! Each connection is a task. Limits, timeouts, the stop and the counts are those of the engine as far as hyper has them;
//! there is no write timeout, and the peer's end of stream is hyper's business.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use baiwan_driver::{Address, Peer};
use bytes::{Buf, Bytes};
use http::{Request, Response, StatusCode, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::app::{App, add_peer, call_when_ready, limit_buffered_body};
use crate::listen::{ACCEPT_PAUSE, BoundListener};
use crate::settings::Settings;
use crate::status::{CloseReason, Phase, Status, add};
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
            Address::Unix(_) => {
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
        let mut acceptors = JoinSet::new();
        for listener in std::mem::take(&mut self.listeners) {
            let connection = Connection {
                app: self.app.clone(),
                settings: Arc::clone(&self.settings),
                status: Arc::clone(&self.status),
                index: self.index,
                draining: draining.clone(),
            };
            acceptors.spawn_local(accept(listener, connection));
        }
        drop(draining);
        self.phase(Phase::Draining).await;
        acceptors.shutdown().await;
        // Receivers live as long as the connections do.
        let _ = drain.send(true);
        let timeout = self.settings.shutdown_timeout.saturating_sub(self.settings.shutdown_delay);
        tokio::select! {
            () = drain.closed() => {}
            () = tokio::time::sleep(timeout) => {}
            () = self.phase(Phase::Stopping) => {}
        }
        self.status.cores[self.index].inbox.close();
        Ok(())
    }

    /// Waits until the server has come so far.
    async fn phase(&self, phase: Phase) {
        let core = &self.status.cores[self.index];
        std::future::poll_fn(|cx| {
            loop {
                core.inbox.begin_turn();
                core.turned();
                if self.status.phase() >= phase {
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

/// What a connection needs.
#[derive(Clone)]
struct Connection<A> {
    app: A,
    settings: Arc<Settings>,
    status: Arc<Status>,
    index: usize,
    draining: watch::Receiver<bool>,
}

async fn accept<A: App>(listener: Listener, connection: Connection<A>) {
    loop {
        let outcome = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                let _ = stream.set_nodelay(true);
                start(stream, Peer::Ip(address), &connection);
            }),
            Listener::Unix(listener) => {
                listener.accept().await.map(|(stream, _)| start(stream, Peer::Unix, &connection))
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "cannot accept connections for now");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn start<A: App>(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer, connection: &Connection<A>) {
    let core = &connection.status.cores[connection.index];
    add(&core.accepted, 1);
    if !connection.status.try_open() {
        // A connection beyond the maximum is dropped; only the engine answers it.
        core.count_close(CloseReason::OverLimit);
        return;
    }
    tokio::task::spawn_local(connection.clone().serve(stream, peer));
}

impl<A: App> Connection<A> {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: Peer) {
        let _closed = Closed(Arc::clone(&self.status), self.index);
        let mut draining = self.draining.clone();
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new());
        http.header_read_timeout(self.settings.header_timeout);
        http.half_close(self.settings.half_close);
        let service = service_fn(|request| self.answer(request, peer));
        let connection = http.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        tokio::select! {
            // How it ended concerns the peer alone.
            _ = &mut connection => return,
            _ = draining.wait_for(|draining| *draining) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Result<Response<Answer<A::ResponseBody>>, BoxError> {
        add(&self.status.cores[self.index].requests, 1);
        let mut request = request.map(Body::from_hyper);
        limit_buffered_body(&mut request, self.settings.buffered_body_bytes_max);
        add_peer(&mut request, peer.socket_address());
        let call = self.call(request);
        let response = match self.settings.request_timeout {
            None => call.await?,
            Some(timeout) => match tokio::time::timeout(timeout, call).await {
                Ok(response) => response?,
                Err(_) => {
                    let response = Response::builder()
                        .status(StatusCode::SERVICE_UNAVAILABLE)
                        .header(header::RETRY_AFTER, "1")
                        .header(header::CONNECTION, "close");
                    return Ok(response.body(Answer::Empty)?);
                }
            },
        };
        let Some(response) = response else {
            let response = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(response.header(header::CONNECTION, "close").body(Answer::Empty)?);
        };
        Ok(response.map(|body| Answer::App(Box::pin(body))))
    }

    /// Calls the app. `None` if it panicked: that costs this request alone.
    async fn call(&self, request: Request<Body>) -> Result<Option<Response<A::ResponseBody>>, BoxError> {
        let mut call = call_when_ready(self.app.clone(), request);
        std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
            Ok(polled) => polled.map_ok(Some),
            Err(_) => {
                add(&self.status.cores[self.index].handler_panics, 1);
                Poll::Ready(Ok(None))
            }
        })
        .await
    }
}

/// Counts a connection out, however it ends.
struct Closed(Arc<Status>, usize);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.closed();
        self.0.cores[self.1].count_close(CloseReason::PeerClosed);
    }
}

/// The app's body, or none, with data as bytes.
enum Answer<B> {
    App(std::pin::Pin<Box<B>>),
    Empty,
}

impl<B> http_body::Body for Answer<B>
where
    B: http_body::Body<Data: Buf, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::App(body) => body.as_mut().poll_frame(cx).map(|frame| {
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
            Self::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::App(body) => body.size_hint(),
        }
    }
}
