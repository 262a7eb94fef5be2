//! A socket in hyper's hands: connections that may leave HTTP for another protocol, and those of the portable event loop.
//!
//! hyper and, after a 101, the app do what they like with a [`Transport`]: read, write, move it to another thread, drop it.
//! What concerns the server stays here: what was received before is replayed, a peer that takes nothing is given up, the
//! connection is counted until its socket is closed, and then exactly one reason is. It is *not* a protocol: whether the
//! connection has switched is for `connection` to say, which calls the app.
//!
//! A core keeps a [`Transports`], through which its stop reaches them: those that have switched and are silent see the end of
//! the stream, so that their handlers end in order; what is open when the time is over ends with the core's runtime.
//!
//! With an fd table for each core, a descriptor means something else on other threads. There a transport does nothing but fail,
//! and go home when it is dropped.
//!
//! The invariant: what is received or sent, and why it ends, is recorded here, whoever holds the transport.

use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use baiwan_driver::Peer;
use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

use super::record::{Counted, Record, Transports};
use crate::fd_tables::Table;
use crate::gate::Entry;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
use crate::recorder::Draft;
use crate::status::CloseReason;

const ABROAD: &str =
    "the connection is in the fd table of the core that accepted it: use it there (FD_TABLES=per-core)";
/// Bytes discarded in one go while the peer's end of stream is waited for.
const DISCARD_BYTES: usize = 4096;

/// A TCP or Unix connection.
#[derive(Debug)]
pub(crate) enum SocketStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl SocketStream {
    /// One that came from a driver, and so does not block. Call it within the runtime that will wait for it.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn from_fd(fd: std::os::fd::OwnedFd, is_unix: bool) -> io::Result<Self> {
        match is_unix {
            true => UnixStream::from_std(fd.into()).map(Self::Unix),
            false => TcpStream::from_std(fd.into()).map(Self::Tcp),
        }
    }

    /// Sends without asking whether there is room: the system says so only when there is much.
    fn send_nowait(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?).write(bytes),
            Self::Unix(stream) => {
                std::os::unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?).write(bytes)
            }
        }
    }
}

impl AsFd for SocketStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Calls a method of whichever stream it is.
macro_rules! on_stream {
    ($stream:expr, $method:ident($($argument:expr),*)) => {
        match $stream {
            SocketStream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            SocketStream::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

/// A connection that hyper or the app holds.
#[derive(Debug)]
pub(crate) struct Transport {
    // Closed before it is counted out: fields are dropped in their order.
    stream: Homing,
    /// Received before, and not read yet.
    replay: Bytes,
    /// Runs while the peer takes nothing, or while its end of stream is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    ending: Ending,
    counted: Counted,
}

/// A stream that is closed in the fd table that it is in, or not at all.
#[derive(Debug)]
struct Homing {
    stream: Option<SocketStream>,
    table: Table,
}

impl Homing {
    /// # Errors
    /// On a thread with another table.
    fn stream(&mut self) -> io::Result<&mut SocketStream> {
        let here = self.table.is_here();
        self.stream.as_mut().filter(|_| here).ok_or_else(|| io::Error::other(ABROAD))
    }
}

impl Drop for Homing {
    fn drop(&mut self) {
        if !self.table.is_here() {
            // Closing would hit whatever has its number here; its core's end will close it.
            std::mem::forget(self.stream.take());
        }
    }
}

/// How far the orderly end of a connection that has not switched is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    NotYet,
    /// Our direction is ended; the number is that of the bytes discarded since.
    Lingering {
        discarded_bytes: usize,
    },
    Over,
}

impl Transport {
    /// Takes over the connection of `peer` that the gate has counted in as `entry`, and what was received from it and not
    /// looked at. Its age is reached when it `ends`, if it has one.
    pub(crate) fn open(
        transports: &Arc<Transports>,
        stream: SocketStream,
        replay: Bytes,
        entry: Entry,
        peer: Peer,
        ends: Option<Instant>,
    ) -> Self {
        let counted = transports.take_over(entry, peer, ends);
        let stream = Homing { stream: Some(stream), table: counted.record().table() };
        Self { stream, replay, timer: None, ending: Ending::NotYet, counted }
    }

    /// Goes on with the record that the engine has begun at the head which is replayed.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn continue_exchange(&self, draft: Option<Box<Draft>>) {
        if let (Some(draft), Some(exchanges)) = (draft, self.counted.record().exchanges()) {
            exchanges.continue_from(draft);
        }
    }

    /// What is known of it, for whoever calls the app.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(self.counted.record())
    }

    /// Its socket; `None` on a thread with another fd table, where the descriptor means something else.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.stream.stream.as_ref().filter(|_| self.stream.table.is_here()).map(AsFd::as_fd)
    }

    /// Ends it in order.
    pub(crate) async fn linger(mut self) {
        // Who is gone needs no orderly end.
        let _ = std::future::poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await;
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, timeout: Duration) -> Poll<()> {
        let runtime = self.counted.record().runtime();
        let timer = self.timer.get_or_insert_with(|| {
            let _within = runtime.enter();
            Box::pin(tokio::time::sleep(timeout))
        });
        timer.as_mut().poll(cx)
    }

    /// Judges an attempt to send `bytes`.
    fn handle_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let record = Arc::clone(self.counted.record());
        let outcome = match polled {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                let Some(timeout) = record.write_timeout() else { return Poll::Pending };
                // The timers of a core that has ended must not be asked.
                if record.is_cut() {
                    return Poll::Pending;
                }
                ready!(self.poll_timer(cx, timeout));
                match self.stream.stream()?.send_nowait(bytes) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        record.note(CloseReason::WriteTimeout);
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    outcome => outcome,
                }
            }
        };
        self.timer = None;
        match &outcome {
            Ok(count) => {
                record.touch();
                if let Some(exchanges) = record.exchanges() {
                    exchanges.handle_sent(bytes, *count);
                }
            }
            Err(_) => record.note(CloseReason::Reset),
        }
        Poll::Ready(outcome)
    }

    /// Ends our direction, then discards what still comes in, so that the peer can read the last answer (RFC 9112, section
    /// 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ending == Ending::NotYet {
            let outcome = ready!(on_stream!(self.stream.stream()?, poll_shutdown(cx)));
            // Who is gone needs no time.
            let gone = outcome.is_err() || self.counted.record().is_peer_gone();
            self.ending = if gone { Ending::Over } else { Ending::Lingering { discarded_bytes: 0 } };
            self.timer = None;
        }
        let bounds = self.counted.record().linger();
        while let Ending::Lingering { discarded_bytes } = self.ending {
            let mut space = [0; DISCARD_BYTES];
            let mut space = ReadBuf::new(&mut space);
            match on_stream!(self.stream.stream()?, poll_read(cx, &mut space)) {
                Poll::Ready(Ok(())) if !space.filled().is_empty() => {
                    let discarded_bytes = discarded_bytes + space.filled().len();
                    self.ending = match discarded_bytes > bounds.bytes_max as usize {
                        true => Ending::Over,
                        false => Ending::Lingering { discarded_bytes },
                    };
                }
                Poll::Ready(_) => self.ending = Ending::Over,
                Poll::Pending => {
                    ready!(self.poll_timer(cx, bounds.timeout));
                    self.ending = Ending::Over;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let record = this.counted.record();
        if !this.replay.is_empty() {
            let count = this.replay.len().min(buffer.remaining());
            buffer.put_slice(&this.replay[..count]);
            this.replay.advance(count);
            if this.replay.is_empty() {
                // What is read holds on to nothing.
                this.replay = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if record.has_ended() {
            return Poll::Ready(Ok(()));
        }
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let outcome = match on_stream!(this.stream.stream()?, poll_read(cx, buffer)) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => {
                return if record.wait_for_end(cx.waker()) { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
        };
        match &outcome {
            Ok(()) if buffer.filled().len() > before => {
                record.handle_received();
                if let Some(exchanges) = record.exchanges() {
                    exchanges.handle_received(buffer.filled().len() - before);
                }
            }
            Ok(()) if room > 0 => record.note(CloseReason::PeerClosed),
            Ok(()) => {}
            Err(_) => record.note(CloseReason::Reset),
        }
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.counted.record().may_write()?;
        let polled = on_stream!(self.stream.stream()?, poll_write(cx, bytes));
        self.handle_write(cx, bytes, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.counted.record().may_write()?;
        let polled = on_stream!(self.stream.stream()?, poll_write_vectored(cx, slices));
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.handle_write(cx, first, polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(on_stream!(self.stream.stream()?, poll_flush(cx)))?;
        if let Some(exchanges) = self.counted.record().exchanges() {
            exchanges.handle_flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.counted.record().has_switched() {
            // The other protocol may have half-closed streams of its own.
            true => on_stream!(self.stream.stream()?, poll_shutdown(cx)),
            false => self.poll_linger(cx),
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        let record = self.counted.record();
        let reset = record.handle_drop();
        match self.stream.stream() {
            Ok(SocketStream::Tcp(stream)) if reset && self.ending == Ending::NotYet => drop(stream.set_zero_linger()),
            Ok(_) => {}
            Err(_) => {
                let home = Homing { stream: self.stream.stream.take(), table: self.stream.table };
                record.runtime().spawn(async move { drop(home) });
            }
        }
    }
}
