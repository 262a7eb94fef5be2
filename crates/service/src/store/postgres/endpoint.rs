//! Where the database is, how a connection to it is made, and how one is driven.
//!
//! A connection here is a state machine without a task of its own: it moves while [`drive`] polls it. Invariant: an attempt to
//! connect has a limit, whatever the URL says, and so has the silence of a server that is gone.

use std::collections::hash_map::RandomState;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, Hasher};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::warn;

use super::failure::reason;
use super::tls::{NoAuthorities, Tls, failure};
use crate::store::PostgresUrl;

/// The half that speaks with the server.
pub(super) type Driver = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Time for a socket to be connected, unless the URL says otherwise.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Time for what follows on it: authentication, and whether the server takes writes.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// A server that is gone without a word is noticed this time after something was sent to it, unless the URL says otherwise.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(5);
/// Something is sent to a server that says nothing, so often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// What a configuration says that says nothing.
const KEEPALIVE_IDLE_UNSET: Duration = Duration::from_hours(2);

/// Where and how to connect.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// One for each host: one that accepts and says nothing must not take the time of the others. At least one.
    hosts: Vec<Config>,
    /// The host that was connected to last: the next attempt begins there, unless the URL wants it to be at random.
    begin: AtomicUsize,
    at_random: bool,
    /// For one attempt at one host.
    attempt_max: Duration,
    tls: Tls,
    /// It was said that TLS does not succeed, and is done without.
    said_plain: AtomicBool,
    /// A session was not what was prepared in it: the next one shows first that it is its connection's own.
    suspects_pooler: AtomicBool,
}

impl Endpoint {
    /// Reads the certificates that servers are checked by, if any.
    pub(super) fn new(url: &PostgresUrl) -> Result<Self, NoAuthorities> {
        let tls = Tls::new(url.tls_mode())?;
        let mut config = url.config().clone();
        if config.get_application_name().is_none() {
            config.application_name("baiwan");
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED_MAX);
        }
        if config.get_keepalives_idle() == KEEPALIVE_IDLE_UNSET {
            config.keepalives_idle(KEEPALIVE_IDLE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVE_INTERVAL);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        let connect_max = config.get_connect_timeout().copied().unwrap_or(CONNECT_MAX);
        config.connect_timeout(connect_max);
        // Of several hosts it takes the one that is not a standby; of one it is known before a read comes from the past.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let at_random = config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        // This is about the addresses that a host's name has: one that is silent must not always be the first.
        config.load_balance_hosts(LoadBalanceHosts::Random);
        let hosts = (0..url.hosts()).map(|host| only(&config, host)).collect();
        let attempt_max = connect_max.saturating_add(ANSWER_MAX);
        let (said_plain, suspects_pooler) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { hosts, begin: AtomicUsize::new(0), at_random, attempt_max, tls, said_plain, suspects_pooler })
    }

    /// A connection as the first host makes it that does; all are asked in turn. All together have `limit`, or each the time that
    /// one attempt takes, whichever is longer. `None`: no one answered in time.
    pub(super) async fn connect(&self, limit: Duration) -> Option<Result<(Client, Driver), Error>> {
        let count = self.hosts.len();
        let each = limit.div_f64(count as f64).max(self.attempt_max);
        let begin = match self.at_random {
            true => (RandomState::new().build_hasher().finish() % count as u64) as usize,
            false => self.begin.load(Ordering::Relaxed),
        };
        let mut failed: Option<Error> = None;
        for host in (begin..begin + count).map(|host| host % count) {
            match timeout(each, self.attempt(&self.hosts[host])).await {
                Ok(Ok(connected)) => {
                    self.begin.store(host, Ordering::Relaxed);
                    return Some(Ok(connected));
                }
                // What a server says tells more than that another is not there.
                Ok(Err(error)) if failed.as_ref().is_none_or(|failed| failed.as_db_error().is_none()) => {
                    failed = Some(error);
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        failed.map(Err)
    }

    async fn attempt(&self, config: &Config) -> Result<(Client, Driver), Error> {
        let failed = match config.connect(self.tls()).await {
            Ok(connected) => return Ok(connected),
            Err(failed) => failed,
        };
        let without_tls = failure(&failed).is_some();
        // The second is invalid_authorization_specification: the server lets this user in without TLS only, or not at all.
        let may_succeed = without_tls || failed.code().is_some_and(|state| state.code() == "28000");
        if config.get_ssl_mode() != SslMode::Prefer || !may_succeed {
            return Err(failed);
        }
        let mut plain = config.clone();
        plain.ssl_mode(SslMode::Disable);
        let connected = plain.connect(self.tls()).await;
        if connected.is_ok() && without_tls && !self.said_plain.swap(true, Ordering::Relaxed) {
            let reason = reason(&failed);
            warn!(%reason, "connections to PostgreSQL go without TLS, which does not succeed (sslmode=prefer in DATABASE_URL)");
        }
        connected.map_err(|_| failed)
    }

    /// What TLS sessions are made with.
    pub(super) fn tls(&self) -> MakeRustlsConnect {
        self.tls.connector()
    }

    /// From now on a session shows first that it is its connection's own.
    pub(super) fn suspect_pooler(&self) {
        self.suspects_pooler.store(true, Ordering::Relaxed);
    }

    pub(super) fn suspects_pooler(&self) -> bool {
        self.suspects_pooler.load(Ordering::Relaxed)
    }

    /// A session was its connection's own: no other need show it.
    pub(super) fn trust_sessions(&self) {
        self.suspects_pooler.store(false, Ordering::Relaxed);
    }

    /// What answered must not be used: the next attempt begins at the next host.
    pub(super) fn pass_over(&self) {
        let next = |host| Some((host + 1) % self.hosts.len());
        self.begin.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok();
    }
}

/// The configuration with one of its hosts.
fn only(config: &Config, host: usize) -> Config {
    let mut only = Config::new();
    only.ssl_mode(config.get_ssl_mode());
    match config.get_hosts().get(host) {
        Some(Host::Tcp(name)) => _ = only.host(name),
        #[cfg(unix)]
        // As in libpq: what does not leave the machine is not encrypted, and the server would not do it.
        Some(Host::Unix(directory)) => _ = only.host_path(directory).ssl_mode(SslMode::Disable),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(host) {
        only.hostaddr(*address);
        if config.get_hosts().is_empty() {
            // The name that a certificate is for.
            only.host(address.to_string());
        }
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(host).or(ports.first()) {
        only.port(*port);
    }
    config.get_user().map(|user| only.user(user));
    config.get_password().map(|password| only.password(password));
    config.get_dbname().map(|database| only.dbname(database));
    config.get_options().map(|options| only.options(options));
    config.get_application_name().map(|name| only.application_name(name));
    config.get_connect_timeout().map(|timeout| only.connect_timeout(*timeout));
    config.get_tcp_user_timeout().map(|timeout| only.tcp_user_timeout(*timeout));
    config.get_keepalives_interval().map(|interval| only.keepalives_interval(interval));
    config.get_keepalives_retries().map(|retries| only.keepalives_retries(retries));
    only.keepalives(config.get_keepalives()).keepalives_idle(config.get_keepalives_idle());
    only.ssl_negotiation(config.get_ssl_negotiation());
    only.channel_binding(config.get_channel_binding()).target_session_attrs(config.get_target_session_attrs());
    only.load_balance_hosts(config.get_load_balance_hosts());
    only
}

/// Waits for `work` while the connection does its part. The error says why the connection ended before.
pub(super) async fn drive<T>(connection: &mut Driver, work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) else { return Poll::Pending };
        // It may have brought an answer before it ended, which says more.
        Poll::Ready(match work.as_mut().poll(cx) {
            Poll::Ready(done) => Ok(done),
            Poll::Pending => {
                Err(ended.map_or_else(|error| reason(&error), |()| "the connection was closed".to_owned()))
            }
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(&url.parse().unwrap()).unwrap()
    }

    #[test]
    fn row_102_a_server_that_is_gone_is_noticed_whatever_the_url_leaves_out() {
        let Endpoint { hosts, attempt_max, .. } = endpoint("postgres://ada@a,b/x");
        let config = &hosts[1];
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_MAX));
        assert_eq!(config.get_tcp_user_timeout(), Some(&UNACKNOWLEDGED_MAX));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!((hosts.len(), attempt_max), (2, CONNECT_MAX + ANSWER_MAX), "each host has its own time");
    }

    #[test]
    fn what_the_url_says_of_a_connection_holds() {
        let url = "postgres://ada@a/x?connect_timeout=3&tcp_user_timeout=9&keepalives_idle=60&application_name=x";
        let Endpoint { hosts, attempt_max, .. } = endpoint(url);
        let config = &hosts[0];
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(attempt_max, Duration::from_secs(3) + ANSWER_MAX);
        let endless = endpoint("postgres://ada@a,b/x?connect_timeout=9223372036854775807");
        assert!(endless.attempt_max > Duration::from_hours(24), "no overflow");
    }

    #[test]
    fn a_configuration_with_one_of_its_hosts_is_otherwise_the_same() {
        let parameters = "options=-c%20x&application_name=x&sslnegotiation=postgres&connect_timeout=3&tcp_user_timeout=9&keepalives=0\
            &keepalives_idle=60&keepalives_interval=7&keepalives_retries=5&target_session_attrs=read-write\
            &channel_binding=disable&load_balance_hosts=random";
        let parsed = |place: &str| -> Config { format!("postgres://ada:secret@{place}&{parameters}").parse().unwrap() };
        let several = parsed("a:1,%2Frun:2,[::1]:3/x?sslmode=disable");
        for (host, place) in
            ["a:1/x?sslmode=disable", "%2Frun:2/x?sslmode=disable", "[::1]:3/x?sslmode=disable"].iter().enumerate()
        {
            assert!(only(&several, host) == parsed(place), "{place}");
        }
        let addresses = parsed("/x?hostaddr=127.0.0.1,::1&port=7");
        assert!(only(&addresses, 1) == parsed("/x?host=::1&hostaddr=::1&port=7"), "the address is the name as well");
    }

    #[test]
    fn a_connection_that_does_not_leave_the_machine_has_no_tls() {
        let Endpoint { hosts, .. } = endpoint("postgres://ada@a,%2Frun/x?sslmode=require");
        assert_eq!([SslMode::Require, SslMode::Disable], [hosts[0].get_ssl_mode(), hosts[1].get_ssl_mode()]);
    }
}
