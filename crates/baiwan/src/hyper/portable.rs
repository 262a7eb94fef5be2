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
use std::rc::Rc;
use std::sync::Arc;

use baiwan_driver::{Address, Peer};
use baiwan_http1::Limits;
use baiwan_task::{FailureKind, Group, Handle, TaskGroup};
use bytes::Bytes;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{Connection, turn_away};
use super::current::Current;
use super::record::Transports;
use super::transport::{SocketStream, Transport};
use crate::app::App;
use crate::files::{ACCEPT_PAUSE, COMPLAINT_PAUSE, explain};
use crate::gate::{Beyond, Entry, Newcomer, admit_connection};
use crate::recorder::Recorder;
use crate::reload::{InForce, Remake};
use crate::say::say;
use crate::settings::Settings;
use crate::status::{CloseReason, Phase, Status, add};

/// One core's share of the server.
pub(crate) struct Portable<A> {
    current: Rc<Current<A>>,
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
        remake: Option<Remake<A>>,
        in_force: &Arc<InForce>,
        status: Arc<Status>,
        index: usize,
        sockets: Vec<(Address, OwnedFd)>,
    ) -> io::Result<Self> {
        let (settings, follower) = in_force.follow();
        let recorder = settings.recorder(&status, index);
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
        let current = Current::following(app, remake, (settings, follower), recorder.is_some());
        Ok(Self { current, status, index, recorder, listeners })
    }

    /// Serves until the server stops and every connection has ended, or the time for that is over.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let (drain, draining) = watch::channel(false);
        let recorder = self.recorder.clone();
        let settings = Arc::clone(&self.current.now().settings);
        let transports = Transports::new(&settings, Arc::clone(&self.status), self.index, recorder);
        self.accept_until_draining(draining, &transports).await;
        let _ = drain.send(true);
        transports.begin_drain();
        let timeout = settings.shutdown_timeout.saturating_sub(settings.shutdown_delay);
        tokio::select! {
            () = tokio::time::sleep(timeout) => {}
            () = self.until(&transports, || self.status.phase() >= Phase::Stopping || transports.all_closed()) => {}
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
                    current: Rc::clone(&self.current),
                    own: None,
                    status: Arc::clone(&self.status),
                    index: self.index,
                    draining: Some(draining.clone()),
                    left: None,
                };
                acceptors.push(group.spawn_local(accept(listener, connection, Arc::clone(transports))).await);
            }
            drop(draining);
            self.until(transports, || self.status.phase() >= Phase::Draining).await;
            acceptors.iter().for_each(Handle::cancel);
            Ok(())
        });
        let Err(failures) = accepting.await else { return };
        if let FailureKind::Panicked(panic) = failures.into_first().into_kind() {
            panic.resume();
        }
    }

    /// Waits for a condition, looking whenever the core is woken, and takes new settings meanwhile.
    async fn until(&self, transports: &Transports, condition: impl Fn() -> bool) {
        let look = || {
            self.current.follow(transports);
            condition()
        };
        self.status.cores[self.index].until(look).await;
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
                let _ = stream.set_nodelay(connection.current.now().settings.tcp_nodelay);
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
    let settings = Arc::clone(&connection.current.now().settings);
    let beyond = Beyond { count: transports.beyond(), max: settings.turned_away_max };
    let now = Instant::now();
    let newcomer = Newcomer { peer, now, limits: settings.clients_in_force.as_deref() };
    let entry = admit_connection(&connection.status, connection.index, beyond, newcomer);
    if let Entry::Dropped(reason) = entry {
        if let SocketStream::Tcp(stream) = &stream
            && reason == CloseReason::ClientOverLimit
        {
            // Nothing is kept of it, nor answered to what it sends.
            let _ = stream.set_zero_linger();
        }
        return core.count_close(reason);
    }
    let ends = settings.draw_age().map(|age| now + age);
    let transport = Transport::open(transports, stream, Bytes::new(), entry, peer, ends);
    if let Entry::Refused(denial) = entry {
        drop(tokio::task::spawn_local(turn_away(transport, denial, settings)));
        return;
    }
    drop(tokio::task::spawn_local(connection.clone().serve(transport, peer)));
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
