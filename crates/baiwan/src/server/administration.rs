//! The admin side of a server: what a program says of it, and when it starts to listen.
//!
//! With an fd table for each core, its listener is on its way like those of the cores until all tables have parted: see `parting`.
//!
//! The invariant: its thread is there before the first core's.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};

use baiwan_driver::Address;

use super::Builder;
use super::listen::{BoundListener, taken_by};
use super::parting::Listeners;
use super::takeover::Inheritance;
use crate::Error;
use crate::admin::{Admin, AdminSide, Told};
use crate::fd_tables::FdTables;

/// The admin side of a server that starts or runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Administration {
    side: AdminSide,
    /// Its listener, until every core has the table that it will have.
    on_its_way: Option<Listeners>,
}

impl Administration {
    /// Listens on the address and starts the thread. None where the address is in use and nobody has asked for it. The
    /// server itself listens on `servers`; what the process before had, and what the next one gets, is in `inheritance`.
    pub(super) fn begin(
        admin: Admin,
        told: Told,
        fd_tables: FdTables,
        servers: &[Address],
        mut inheritance: Option<&mut Inheritance>,
    ) -> Result<Option<Self>, Error> {
        let before = inheritance.as_mut().and_then(|inheritance| inheritance.take_admin());
        let before = before.map(|listener| TcpListener::from(listener.into_fd()));
        let Some(listening) = admin.listen(before, |address| taken_by(address, servers))? else { return Ok(None) };
        inheritance.map_or(Ok(()), |inheritance| inheritance.keep_admin(&listening.listener))?;
        let (mut side, listener) = listening.start(told)?;
        if fd_tables == FdTables::Shared {
            side.listen(listener);
            return Ok(Some(Self { side, on_its_way: None }));
        }
        let listener = BoundListener::from_fd(listener.into()).map_err(Error::Start)?;
        let sent = Listeners::send(vec![vec![listener]], fd_tables).map_err(Error::Start)?;
        Ok(Some(Self { side, on_its_way: sent.into_iter().next() }))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.side.address()
    }

    /// Waits until it has ended.
    pub(super) async fn end(&mut self) {
        self.side.end().await;
    }

    /// Every core has the table that it will have.
    pub(super) fn handle_parted(&mut self) -> Result<(), Error> {
        for listener in self.on_its_way.take().map(Listeners::take).transpose()?.into_iter().flatten() {
            self.side.listen(TcpListener::from(listener.into_fd()));
        }
        Ok(())
    }
}

/// The ports of TCP among the addresses.
pub(super) fn ports(addresses: &[Address]) -> BTreeSet<u16> {
    let port = |address: &Address| match address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) | Address::Abstract(_) => None,
    };
    addresses.iter().filter_map(port).collect()
}

impl Builder {
    /// Gives the server an [admin side](Admin): metrics, health, and what an operator asks, on an address of its own. Default: none.
    ///
    /// It is also what watches the cores: one that a handler blocks is named in the log after 2 seconds, with the route.
    pub fn admin(mut self, admin: Admin) -> Self {
        // It shows them.
        let _ = self.metrics();
        self.admin = Some(admin);
        self
    }
}
