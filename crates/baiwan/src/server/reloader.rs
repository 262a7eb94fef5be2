//! Settings that change while the server runs: what a program says, checked as at the start, then posted for the cores.
//!
//! The invariant: all of what is asked for comes into force, or nothing.

use std::sync::Arc;

use super::Builder;
use super::check::check;
use crate::Error;
#[cfg(feature = "admin")]
use crate::dashboard::Rows;
use crate::reload::InForce;
use crate::settings::Settings;
#[cfg(feature = "admin")]
use crate::settings::TABLE;
use crate::status::Status;

/// Changes settings of a server while it runs; from [`Running::reloader`](crate::Running::reloader). Clones are handles on the same server.
///
/// What can change are limits, timeouts, and who is believed: the methods of [`Builder`] for heads, targets and fields, for the header,
/// keep-alive, body, request and write timeouts, for the least rates, for [`rate_limit`](Builder::rate_limit) and its kin (but not
/// `rate_limit_ipv6_prefix`), for the connections of one client, for the age and the requests of a connection, for proxies,
/// `half_close`, `refusal_cors`, `buffered_body_limit`, `options_asterisk`, `live_timeout` and `slow_poll`.
///
/// Each core takes the new settings before its next turn, all of them at once, and serves whole turns by them. Nothing is cut:
/// - A deadline that a connection has stays; the next that it gets is one of the new settings. So a shorter keep-alive timeout counts for
///   each connection after its next answer, and the age of a connection is the one with which it began.
/// - What clients owe to the [rate limit](Builder::rate_limit) is kept as the time at which their budget is whole again, and that time
///   stays. A client that owes more time than a whole budget of the new limit takes to come back begins anew.
/// - Connections that were opened while the number for one client was not limited do not count later.
/// - With [`EventLoop::Portable`](crate::EventLoop::Portable), the header timeout, the limit of fields and `half_close` are told to hyper
///   when a connection begins, and count for new ones.
#[derive(Clone, Debug)]
pub struct Reloader {
    pub(super) in_force: Arc<InForce>,
    pub(super) status: Arc<Status>,
    /// What the names of variables begin with.
    pub(super) prefix: String,
    /// What the dashboard shows.
    #[cfg(feature = "admin")]
    pub(super) rows: Rows,
}

impl Reloader {
    /// Puts the settings of `server` in force, which may be made as the one that was started. Returns the names of those that have changed,
    /// as a [variable](crate::Server::from_env) is called; what has no variable is not among them.
    ///
    /// Where it listens, its admin side, its access log, who observes it, its metrics and its shutdown are those of the start, whatever
    /// this builder says, and so are `request_ids`, `body_limit` and `tcp_nodelay`. The cores follow within their next turn; this does not wait for them. When the server has ended, nobody follows.
    ///
    /// # Errors
    /// When a setting differs that cannot change ([`Error::NeedsRestart`]), or when settings do not go together, in the words of the start.
    /// Nothing has changed then.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use baiwan::{Builder, Server};
    ///
    /// fn server(keep_alive: Duration) -> Builder {
    ///     Server::builder().bind("127.0.0.1:0").workers(1).keep_alive_timeout(Some(keep_alive))
    /// }
    ///
    /// let running = server(Duration::from_secs(75)).start(axum::Router::new())?;
    /// let reloader = running.reloader();
    /// // Later, when a signal has come or a file has changed:
    /// assert_eq!(reloader.reload(server(Duration::from_secs(20)))?, ["KEEP_ALIVE_TIMEOUT"]);
    /// let error = reloader.reload(server(Duration::from_secs(20)).workers(2)).unwrap_err();
    /// assert!(error.to_string().starts_with("WORKERS cannot change"));
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn reload(&self, server: Builder) -> Result<Vec<&'static str>, Error> {
        self.change(false, |before| {
            let mut new = server.settings;
            // A program says where it listens in another way, and has the others where it gives them away.
            new.binding = before.binding.clone();
            new.access_log = before.access_log.clone();
            let changed = before.changed_to(&new);
            let names = changed.differences(&new);
            match names.is_empty() {
                true => Ok(changed),
                false => {
                    let names = names.into_iter().map(|name| format!("{}{name}", self.prefix)).collect();
                    Err(Error::NeedsRestart { names })
                }
            }
        })
    }

    /// As [`reload`](Self::reload), but whatever of `server` cannot change stays as it is. With `remakes_apps`, each core makes its app anew,
    /// if the server was started with a factory (`start_with`), for the requests that follow; its routes must be those from before.
    ///
    /// # Errors
    /// When settings do not go together.
    #[doc(hidden)]
    pub fn reload_what_can_change(&self, server: &Builder, remakes_apps: bool) -> Result<Vec<&'static str>, Error> {
        self.change(remakes_apps, |before| Ok(before.changed_to(&server.settings)))
    }

    fn change(
        &self,
        remakes_apps: bool,
        change: impl FnOnce(&Settings) -> Result<Settings, Error>,
    ) -> Result<Vec<&'static str>, Error> {
        let names = self.in_force.change(remakes_apps, |before| {
            let changed = change(before)?;
            check(&changed, &self.prefix)?;
            let names = before.differences(&changed);
            Ok::<_, Error>((changed, names))
        })?;
        let settings = self.in_force.settings();
        self.status.bounds.change(settings.live_timeout, settings.slow_poll_counted());
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &settings.metrics {
            metrics.set_rate_limit(settings.rate_limit.per_second());
        }
        #[cfg(feature = "admin")]
        self.rows.change(|label| {
            let setting = TABLE.iter().find(|setting| setting.row.name == label)?;
            Some((setting.show)(&settings))
        });
        self.status.wake_cores();
        Ok(names)
    }
}
