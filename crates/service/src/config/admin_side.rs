//! What the settings say of the admin side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use baiwan::settings::{is_off, parse_host, parse_port, store};
use baiwan::{Admin, Secret};

/// The port that Prometheus itself listens on: whoever runs both on one machine sets another one.
const PORT: u16 = 9090;

/// The settings of the admin side.
#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// Where it listens; None is no admin side.
    pub host: Option<IpAddr>,
    /// Its TCP port; 0 takes a free one.
    pub port: u16,
    /// Demanded for all but metrics and health.
    pub token: Option<Secret>,
    /// The file that the token was read from, if one was named.
    pub token_file: Option<PathBuf>,
    /// Somebody has set where it listens, and so wants it.
    is_asked_for: bool,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { host: Some(Ipv4Addr::LOCALHOST.into()), port: PORT, token: None, token_file: None, is_asked_for: false }
    }
}

impl AdminSettings {
    /// Sets the address, or that there is no admin side. The error says what is allowed.
    pub(super) fn set_host(&mut self, text: &str) -> Result<(), String> {
        self.is_asked_for = true;
        // An address that is the number 0 is meant as `off`, as elsewhere.
        let host = if is_off(text) { Ok(None) } else { parse_host(text).map(Some) };
        store(&mut self.host, host.map_err(|allowed| format!("{allowed}; or off")))
    }

    /// Sets the port. The error says what is allowed.
    pub(super) fn set_port(&mut self, text: &str) -> Result<(), String> {
        self.is_asked_for = true;
        store(&mut self.port, parse_port(text))
    }

    /// Whether it is refused at the start if its port is in use.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.is_asked_for
    }

    /// The admin side that is wanted, on `socket` if there is one.
    pub(crate) fn admin(&self, socket: Option<OwnedFd>) -> Option<Admin> {
        let address = SocketAddr::new(self.host?, self.port);
        let admin = match socket {
            Some(socket) => Admin::listener(socket),
            None if self.is_asked_for => Admin::bind(address),
            None => Admin::bind(address).optional("ADMIN_PORT"),
        };
        Some(match &self.token {
            Some(token) => admin.secret(token.clone()),
            None => admin,
        })
    }
}
