//! How a connection is made, set up and driven.
//!
//! A connection here is a state machine without a task of its own: it moves while [`drive`] polls it. Invariant: whatever is
//! waited for from a server is waited for with a limit, and what is said about a failure is one line without a password.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{LoadBalanceHosts, TargetSessionAttrs};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, Error, NoTls, Socket};

use super::session::Session;
use super::statements::Statements;
use crate::store::{PATIENCE, PostgresUrl};

/// The half that speaks with the server.
pub(super) type Driver = Connection<Socket, NoTlsStream>;

/// The server gives a statement up after so long: before the caller does, so that the session is free for the next.
const STATEMENT_TIMEOUT: Duration = Duration::from_millis(1400);
const _: () = assert!(STATEMENT_TIMEOUT.as_millis() < PATIENCE.as_millis());

/// A change that waits for a row holds up those behind it on its connection, so it waits less long than they may.
const LOCK_TIMEOUT: Duration = Duration::from_millis(250);
const _: () = assert!(LOCK_TIMEOUT.as_millis() < STATEMENT_TIMEOUT.as_millis());

/// Time for a socket to be connected, unless the URL says otherwise.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Time for what follows on it: authentication, and whether the server takes writes.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Time for the set-up: a dozen questions, one after the other.
const SET_UP_MAX: Duration = Duration::from_secs(5);

/// A server that is gone without a word is noticed so long after something was sent to it, unless the URL says otherwise.
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
    config: Config,
    /// For one attempt, which tries all hosts.
    attempt_max: Duration,
}

impl Endpoint {
    pub(super) fn new(url: &PostgresUrl) -> Self {
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
        // A host that accepts and says nothing takes the time of a whole attempt: the next one begins elsewhere.
        config.load_balance_hosts(LoadBalanceHosts::Random);
        let hosts = u32::try_from(url.hosts()).unwrap_or(u32::MAX);
        let attempt_max = connect_max.saturating_add(ANSWER_MAX).saturating_mul(hosts);
        Self { config, attempt_max }
    }

    /// A connection as the server makes it, within `limit` or the time that one attempt takes, whichever is longer. `None`: there
    /// was no answer in time.
    pub(super) async fn connect(&self, limit: Duration) -> Option<Result<(Client, Driver), Error>> {
        timeout(limit.max(self.attempt_max), self.config.connect(NoTls)).await.ok()
    }

    /// A connection that is ready for work. The error says why there is none.
    pub(super) async fn session(&self) -> Result<(Session, Driver), String> {
        let connected = self.connect(Duration::ZERO).await.ok_or_else(no_answer)?;
        let (client, mut connection) = connected.map_err(|error| reason(&error))?;
        let setting_up = async {
            client.batch_execute(&set_up()).await?;
            Statements::prepare(&client).await
        };
        let prepared = timeout(SET_UP_MAX, drive(&mut connection, setting_up)).await.map_err(|_| no_answer())?;
        let statements = prepared?.map_err(|error| reason(&error))?;
        Ok((Session::new(client, statements), connection))
    }
}

/// What a session needs, whatever is set for the user or the database.
fn set_up() -> String {
    // A commit that does not wait for the disk could be lost after it was acknowledged. What `statements` says of changes that
    // meet holds at the level "read committed".
    format!(
        "SET client_min_messages TO warning;
         SET search_path TO pg_catalog;
         SET default_transaction_isolation TO 'read committed';
         SET statement_timeout TO {};
         SET lock_timeout TO {};
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';",
        STATEMENT_TIMEOUT.as_millis(),
        LOCK_TIMEOUT.as_millis()
    )
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

/// What went wrong, in one line.
pub(super) fn reason(error: &Error) -> String {
    let text = match error.as_db_error() {
        Some(error) => format!("{}, SQLSTATE {}", error.message(), error.code().code()),
        None => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            text
        }
    };
    // It may be a server's text, and goes into a log.
    text.replace(char::is_control, " ")
}

pub(super) fn no_answer() -> String {
    "there was no answer in time".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Endpoint {
        Endpoint::new(&url.parse().unwrap())
    }

    #[test]
    fn row_102_a_server_that_is_gone_is_noticed_whatever_the_url_leaves_out() {
        let Endpoint { config, attempt_max } = endpoint("postgres://ada@a,b/x");
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT_MAX));
        assert_eq!(config.get_tcp_user_timeout(), Some(&UNACKNOWLEDGED_MAX));
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert_eq!(attempt_max, (CONNECT_MAX + ANSWER_MAX) * 2, "one attempt reaches the second host");
    }

    #[test]
    fn what_the_url_says_of_a_connection_holds() {
        let url = "postgres://ada@a/x?connect_timeout=3&tcp_user_timeout=9&keepalives_idle=60&application_name=x";
        let Endpoint { config, attempt_max } = endpoint(url);
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(attempt_max, Duration::from_secs(3) + ANSWER_MAX);
        let endless = endpoint("postgres://ada@a,b/x?connect_timeout=9223372036854775807");
        assert!(endless.attempt_max > Duration::from_hours(24), "no overflow");
    }
}
