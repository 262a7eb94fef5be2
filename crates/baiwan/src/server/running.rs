//! A server that serves, until it is told to stop and has.

use std::future::Future;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use baiwan_driver::Address;
use tokio::sync::{oneshot, watch};

use super::parting::Home;
use super::shutdown::StopRequests;
use super::signals::Listening;
use crate::Error;
use crate::capacity::Capacity;
use crate::settings::{EventLoop, Settings};
use crate::status::{Phase, Status};

/// How long blocking calls may hold up a server that ends at once.
const BLOCKING_CALLS_MAX: Duration = Duration::from_millis(250);

/// A server that serves. Dropping it cuts every connection and ends its cores.
#[derive(Debug)]
pub struct Running {
    pub(super) status: Arc<Status>,
    pub(super) settings: Arc<Settings>,
    pub(super) cores: Vec<oneshot::Receiver<io::Result<()>>>,
    pub(super) addresses: Vec<Address>,
    pub(super) event_loop: EventLoop,
    /// Where it must be waited for, if that matters.
    pub(super) home: Option<Home>,
    pub(super) capacity: Capacity,
    pub(super) stops: StopRequests,
    /// Held by the cores; nobody holds it where signals do not stop the server.
    pub(super) listening: Weak<Listening>,
    /// Becomes true when nothing of any core but blocking calls can go on.
    pub(super) crossed: watch::Receiver<bool>,
}

impl Running {
    /// Where the server listens, in the order of the calls of [`Builder::bind`](crate::Builder::bind) and [`Builder::listener`](crate::Builder::listener), as text: with the
    /// ports that the system chose.
    pub fn addresses(&self) -> Vec<String> {
        self.addresses.iter().map(ToString::to_string).collect()
    }

    /// The event loop that was chosen.
    pub fn event_loop(&self) -> EventLoop {
        self.event_loop
    }

    /// The number of cores.
    pub fn workers(&self) -> usize {
        self.cores.len()
    }

    /// The maximum of connections in force, and what was lowered and why.
    pub fn limits(&self) -> &Capacity {
        &self.capacity
    }

    /// Waits until the server is told to stop, and until it has.
    ///
    /// Signals are listened for since the start: one that came in between is obeyed now. Where nobody waits, a server that stops on
    /// signals goes through its stop all the same.
    ///
    /// # Errors
    /// When a core fails; the other cores are stopped then. And with [`FdTables::PerCore`](crate::FdTables::PerCore) on another
    /// runtime than the one on which the server was started.
    pub async fn wait(mut self) -> Result<(), Error> {
        self.home.map_or(Ok(()), Home::check)?;
        if let Some(listening) = self.listening.upgrade() {
            listening.handle_wait();
        }
        let ended = all_ended(std::mem::take(&mut self.cores));
        tokio::pin!(ended);
        tokio::select! {
            // Without a stop, cores end only by failing.
            outcome = &mut ended => return outcome,
            () = self.stops.next() => {}
        }
        tokio::select! {
            outcome = &mut ended => return outcome,
            () = self.stops.lead(&self.status, &self.settings) => {}
        }
        tokio::select! {
            outcome = &mut ended => outcome,
            () = blocking_calls_are_over(self.crossed.clone()) => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.status.advance(Phase::Stopping);
        if let Some(listening) = self.listening.upgrade() {
            listening.end();
        }
    }
}

/// Waits until blocking calls have had their time in a server that ends at once: nobody can end them.
async fn blocking_calls_are_over(mut crossed: watch::Receiver<bool>) {
    // A sender that is gone says the same.
    let _ = crossed.wait_for(|crossed| *crossed).await;
    tokio::time::sleep(BLOCKING_CALLS_MAX).await;
}

/// Waits for all cores in order, or for the first that failed.
async fn all_ended(mut cores: Vec<oneshot::Receiver<io::Result<()>>>) -> Result<(), Error> {
    use std::task::Poll;

    let mut ended = vec![false; cores.len()];
    std::future::poll_fn(|cx| {
        for (index, core) in cores.iter_mut().enumerate() {
            if ended[index] {
                continue;
            }
            match std::pin::Pin::new(core).poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(Ok(()))) => ended[index] = true,
                Poll::Ready(Ok(Err(error))) => return Poll::Ready(Err(Error::Core(error))),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Error::CorePanicked(index))),
            }
        }
        match ended.iter().all(|ended| *ended) {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await
}
