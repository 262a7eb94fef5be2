//! Listening sockets from the service manager (sd_listen_fds(3)): which of them is whose, and what is said of them.
//!
//! The one that is called `admin` is the admin side's, all others are the server's. The service manager keeps them while the service
//! restarts, so whoever connects meanwhile waits for the next process.

use std::os::fd::OwnedFd;

use anyhow::bail;
use baiwan::ActivatedSocket;
use tracing::warn;

/// What the socket of the admin side is called.
const ADMIN: &str = "admin";

/// The sockets that this process was given.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Those that are served, in the service manager's order.
    pub servers: Vec<OwnedFd>,
    /// That of the admin side.
    pub admin: Option<OwnedFd>,
    /// The process that others are for, as `LISTEN_PID` says it.
    others: Option<String>,
}

impl Sockets {
    /// Takes them. To be called before anything else opens files.
    ///
    /// # Errors
    ///
    /// One cannot be served, or cannot be the admin side's; or there are some and the service `hands_over`.
    pub fn take(has_admin: bool, hands_over: bool) -> anyhow::Result<Self> {
        let given = baiwan::activated_sockets()?;
        let others = match (given.is_empty(), std::env::var("LISTEN_FDS"), std::env::var("LISTEN_PID")) {
            (true, Ok(_), Ok(pid)) if pid != std::process::id().to_string() => Some(pid),
            _ => None,
        };
        let names = given.iter().map(|socket| socket.name().to_owned()).collect::<Vec<_>>();
        check(&names, has_admin, hands_over)?;
        let (admin, servers): (Vec<ActivatedSocket>, Vec<_>) =
            given.into_iter().partition(|socket| socket.name() == ADMIN);
        let servers = servers.into_iter().map(OwnedFd::from).collect();
        Ok(Self { servers, admin: admin.into_iter().next().map(OwnedFd::from), others })
    }

    /// Says what is wrong and no reason not to start.
    pub fn say(&self) {
        if let Some(pid) = &self.others {
            warn!(
                LISTEN_PID = pid,
                "the service manager has opened sockets for another process, so they are not served: a shell in between must `exec` this one"
            );
        }
    }

    /// Whose sockets they are.
    pub fn given(&self) -> Given {
        Given { server: !self.servers.is_empty(), admin: self.admin.is_some() }
    }
}

/// Who has sockets from the service manager.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Given {
    /// The server.
    pub server: bool,
    /// The admin side.
    pub admin: bool,
}

impl Given {
    /// What the start says of it.
    pub fn notes(self) -> Vec<&'static str> {
        let server = "sockets of the service manager (LISTEN_FDS), so HOST, PORT and BIND are not used";
        let admin = "the admin side's socket, too, so ADMIN_HOST and ADMIN_PORT are not used";
        let admin_alone =
            "the admin side's socket is the service manager's (LISTEN_FDS), so ADMIN_HOST and ADMIN_PORT are not used";
        match (self.server, self.admin) {
            (true, true) => vec![server, admin],
            (true, false) => vec![server],
            (false, true) => vec![admin_alone],
            (false, false) => Vec::new(),
        }
    }
}

/// Whether the admin side can have the socket that is meant for it, and nobody else needs it.
fn check(names: &[String], has_admin: bool, hands_over: bool) -> anyhow::Result<()> {
    if hands_over && !names.is_empty() {
        bail!(
            "TAKEOVER is set, and the service manager has opened sockets (LISTEN_FDS), which it does not give to a process that takes over: \
             leave one of the two out. Where a service manager keeps the sockets, a restart refuses nobody"
        );
    }
    match names.iter().filter(|name| *name == ADMIN).count() {
        0 => Ok(()),
        _ if !has_admin => bail!(
            "the service manager has opened a socket called admin, and ADMIN_HOST is off: leave one of the two out"
        ),
        1 => Ok(()),
        count => bail!(
            "the service manager has opened {count} sockets called admin, and the admin side takes one (FileDescriptorName=)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_socket_is_the_admin_sides_and_none_is_handed_over() {
        let said_of = |names: &[&str], has_admin, hands_over| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            check(&names, has_admin, hands_over).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let said = |names: &[&str], has_admin| said_of(names, has_admin, false);
        assert_eq!(said(&["baiwan.socket", "baiwan.socket"], false), "");
        assert_eq!(said(&["http", "admin"], true), "");
        assert!(said(&["admin"], false).contains("ADMIN_HOST is off"));
        assert!(said(&["admin", "admin"], true).contains("2 sockets called admin"));
        assert!(said_of(&["http"], true, true).starts_with("TAKEOVER is set"));
        assert_eq!(said_of(&[], true, true), "");
    }
}
