//! Addresses that are bound before the server starts: whoever connects meanwhile waits in the backlog.

use std::os::fd::{AsFd, BorrowedFd};

use baiwan_driver::Address;

use super::Builder;
use super::listen::{self, Source};
use crate::Error;

impl Builder {
    /// Binds one more source now, for the cores that there are then: their number is fixed with it.
    pub(crate) fn bind_now(mut self, source: Source) -> Result<Self, Error> {
        let workers = self.settings.worker_count();
        self.settings.workers = Some(workers);
        let options = self.listen_options()?;
        self.sources.push(Source::Bound(listen::bind(vec![source], workers, options)?));
        Ok(self)
    }

    /// Where it listens already, first of all, and a socket of that.
    pub(crate) fn bound(&self) -> Option<(&Address, BorrowedFd<'_>)> {
        let Some(Source::Bound(bound)) = self.sources.first() else { return None };
        Some((bound.addresses.first()?, bound.cores.iter().flatten().next()?.as_fd()))
    }

    /// As [`tcp_nodelay`](Self::tcp_nodelay), from here on also for what is bound already.
    pub(crate) fn tcp_nodelay_now(self, on: bool) -> Result<Self, Error> {
        for source in &self.sources {
            if let Source::Bound(bound) = source {
                bound.set_tcp_nodelay(on).map_err(Error::Start)?;
            }
        }
        Ok(self.tcp_nodelay(on))
    }
}
