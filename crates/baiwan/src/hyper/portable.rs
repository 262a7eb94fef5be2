//! The portable event loop: one core's listeners, and a task for each of its connections.
//!
//! For systems without our engine, and for comparing with it. The gate, the timeouts, the stop and the counts are those of the
//! engine, as far as hyper has them; the peer's end of stream is hyper's business. It is *not* what serves a connection: that is
//! `connection`'s, for the engine too.
//!
//! The invariant: when `run` returns, nobody listens any more, and what is still open ends with the core's runtime.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use baiwan_driver::{Address, Peer};
use baiwan_http1::Limits;
use baiwan_task::{FailureKind, Group, Handle, TaskGroup};
use bytes::Bytes;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{Connection, turn_away};
use super::record::Transports;
use super::transport::{SocketStream, Transport};
use crate::app::App;
use crate::files::{ACCEPT_PAUSE, COMPLAINT_PAUSE, explain};
use crate::gate::{Beyond, Entry, admit_connection};
use crate::recorder::Recorder;
use crate::say::say;
use crate::settings::Settings;
use crate::status::{CloseReason, Phase, Status, add};

/// One core's share of the server.
pub(crate) struct Portable<A> {
    app: A,
    settings: Arc<Settings>,
    status: Arc<Status>,
    index: usize,
    /// Who is told of exchanges, if anybody wants to know.
    recorder: Option<Arc<Recorder>>,
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
        let recorder = settings.recorder(&status, index);
        #[cfg(feature = "matched-path")]
        let app = match &recorder {
            Some(_) => crate::routes::with_routes(app.clone()).unwrap_or(app),
            None => app,
        };
        #[cfg(feature = "axum")]
        let app = crate::axum_app::make_ready(app);
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
        if index == 0 {
            say(|| tracing::info!("{}", without_effect(&settings)));
        }
        Ok(Self { app, settings, status, index, recorder, listeners })
    }

    /// Serves until the server stops and every connection has ended, or the time for that is over.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let (drain, draining) = watch::channel(false);
        let recorder = self.recorder.clone();
        let transports = Transports::new(&self.settings, Arc::clone(&self.status), self.index, recorder);
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
                    left: None,
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
        self.status.cores[self.index].until(condition).await;
    }
}

/// What the start says of settings that only the engine obeys.
fn without_effect(settings: &Settings) -> String {
    let mut line =
        "on the portable event loop KEEP_ALIVE_TIMEOUT has no effect: HEADER_TIMEOUT counts from the answer before"
            .to_owned();
    line += "; nor has WRITE_MIN_RATE";
    if settings.http.body_bytes_max != Limits::default().body_bytes_max {
        line += "; nor has the limit for every body (Builder::body_limit)";
    }
    line
}

/// Goes on until it is dropped.
async fn accept<A: App>(
    listener: Listener,
    connection: Connection<A>,
    transports: Arc<Transports>,
) -> Result<(), Infallible> {
    // When it was last said that the system refuses connections.
    let mut complained: Option<Instant> = None;
    loop {
        let outcome = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, address)| {
                let _ = stream.set_nodelay(connection.settings.tcp_nodelay);
                start(SocketStream::Tcp(stream), Peer::Ip(address), &connection, &transports);
            }),
            Listener::Unix(listener) => {
                let accepted = listener.accept().await;
                accepted.map(|(stream, _)| start(SocketStream::Unix(stream), Peer::Unix, &connection, &transports))
            }
        };
        if let Err(error) = outcome {
            add(&connection.core().accept_failures, 1);
            let now = Instant::now();
            if complained.is_none_or(|at| now.duration_since(at) >= COMPLAINT_PAUSE) {
                complained = Some(now);
                let error = explain(&error);
                say(|| tracing::warn!(error, core = connection.index, "cannot accept connections for now"));
            }
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn start<A: App>(stream: SocketStream, peer: Peer, connection: &Connection<A>, transports: &Arc<Transports>) {
    let core = connection.core();
    add(&core.accepted, 1);
    let beyond = Beyond { count: transports.beyond(), max: connection.settings.turned_away_max };
    let now = Instant::now();
    let entry = admit_connection(&connection.status, connection.index, beyond, peer, now);
    if let Entry::Dropped(reason) = entry {
        if let SocketStream::Tcp(stream) = &stream
            && reason == CloseReason::ClientOverLimit
        {
            // Nothing is kept of it, nor answered to what it sends.
            let _ = stream.set_zero_linger();
        }
        return core.count_close(reason);
    }
    let ends = connection.status.draw_age().map(|age| now + age);
    let transport = Transport::open(transports, stream, Bytes::new(), entry, peer, ends);
    if let Entry::Refused(denial) = entry {
        drop(tokio::task::spawn_local(turn_away(transport, denial, Arc::clone(&connection.settings))));
        return;
    }
    match catch_unwind(AssertUnwindSafe(|| connection.clone())) {
        Ok(connection) => drop(tokio::task::spawn_local(connection.serve(transport, peer))),
        Err(_) => {
            add(&core.handler_panics, 1);
            transport.record().note(CloseReason::HandlerFailed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_names_what_has_no_effect() {
        let mut settings = Settings::default();
        let line = without_effect(&settings);
        assert!(line.contains("KEEP_ALIVE_TIMEOUT") && !line.contains("body_limit"), "{line}");
        settings.http.body_bytes_max = 10;
        let line = without_effect(&settings);
        assert!(line.contains("KEEP_ALIVE_TIMEOUT") && line.contains("body_limit"), "{line}");
    }
}
