//! Metrics of a server, for Prometheus and for whoever asks in the process.
//!
//! Each core counts for itself (`core`); at a scrape the counts are added up, on the thread of whoever asks (`sums`), and written by
//! `prometheus-client` (`collect`). What is counted, and under which name, stands in [`METRICS`].
//!
//! | file | part |
//! |---|---|
//! | `table` | every metric: name, kind, unit, labels, what moves it |
//! | `core` | what one core counts |
//! | `labels`, `histogram` | what requests are told apart by, and durations by size |
//! | `clients`, `failures` | who asks most; the last failures |
//! | `shared`, `sums` | what the cores of a server have counted |
//! | `collect`, `process` | a scrape; the process as the system sees it |
//! | `snapshot` | the same numbers as plain values |
//!
//! The invariant: a scrape never waits for a core, nor a core for a scrape longer than it takes to copy a list.

mod clients;
mod collect;
mod core;
mod failures;
mod histogram;
mod labels;
mod process;
mod shared;
mod snapshot;
mod sums;
mod table;

use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};

pub use prometheus_client;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

pub use self::clients::Client;
use self::collect::Collected;
pub use self::collect::describe;
pub(crate) use self::core::Core;
pub use self::histogram::Distribution;
pub(crate) use self::shared::Facts;
use self::shared::Shared;
pub use self::snapshot::{CoreTurns, Failure, Route, Snapshot};
pub use self::table::{Kind, METRICS, Metric};
#[cfg(feature = "admin")]
use crate::narrow_buckets::{BUCKETS, Tallies};
use crate::say::say;
use crate::status::Status;

/// The `Content-Type` of [`Metrics::render`].
pub const TEXT: &str = prometheus_text::CONTENT_TYPE;
/// The `Content-Type` of [`Metrics::render_openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A handle on the metrics of a server, from [`Builder::metrics`](crate::Builder::metrics). Clones are handles on the same.
///
/// It can be asked at any time, from any thread; before the server starts there is nothing of the server in it. A scrape of 1,000 routes
/// takes milliseconds of the thread that asks, so with many routes ask on a thread that serves nobody.
///
/// # Example
/// Metrics as a route of the app itself:
/// ```
/// use axum::{Router, http::header::CONTENT_TYPE, routing::get};
///
/// let mut server = baiwan::Server::builder().bind("127.0.0.1:0");
/// let metrics = server.metrics();
/// let scrape = move || async move { ([(CONTENT_TYPE, baiwan::metrics::TEXT)], metrics.render()) };
/// let app = Router::new().route("/", get(|| async { "hello" })).route("/metrics", get(scrape));
/// # let running = server.start(app)?;
/// # drop(running);
/// # Ok::<(), baiwan::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Metrics(Arc<Shared>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// All metrics in the text format of Prometheus, version 0.0.4: what is sent as [`TEXT`].
    pub fn render(&self) -> String {
        self.write(prometheus_text::encode)
    }

    /// All metrics in the text format of OpenMetrics 1.0: what is sent as [`OPENMETRICS`] to those who accept
    /// `application/openmetrics-text`.
    pub fn render_openmetrics(&self) -> String {
        let mut all = self.write(text::encode_registry);
        all.push_str("# EOF\n");
        all
    }

    /// Has `register` add metrics of the app's own, which every scrape shows after those of the server. May be called at any time, but not by
    /// a metric that is being written.
    ///
    /// A counter's name must not end in `_total`: the encoder adds that, and panics in a build with debug assertions if it is there.
    ///
    /// # Example
    /// ```
    /// use baiwan::metrics::prometheus_client::metrics::counter::Counter;
    ///
    /// let mut server = baiwan::Server::builder().bind("127.0.0.1:0");
    /// let metrics = server.metrics();
    /// let orders = Counter::<u64>::default();
    /// metrics.registry(|registry| registry.register("shop_orders", "Orders that were taken", orders.clone()));
    /// orders.inc();
    /// assert!(metrics.render().contains("shop_orders_total 1\n"));
    /// ```
    pub fn registry<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.app.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same numbers as plain values.
    ///
    /// # Example
    /// ```
    /// let mut server = baiwan::Server::builder().bind("127.0.0.1:0");
    /// let metrics = server.metrics();
    /// # let running = server.start(axum::Router::new())?;
    /// let requests: u64 = metrics.snapshot().statuses.iter().map(|(_, count)| count).sum();
    /// assert_eq!(requests, 0);
    /// # drop(running);
    /// # Ok::<(), baiwan::Error>(())
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.0)
    }

    /// The clients that have asked most and those that were refused most since the start, in no order: a few hundred. One
    /// request in eight is looked at, at random, so numbers of requests are estimates; each refusal counts.
    pub fn clients(&self) -> Vec<Client> {
        self.0.clients().into_values().collect()
    }

    /// How long requests took, streams apart, and how late each core was, in narrow buckets: for percentiles.
    #[cfg(feature = "admin")]
    pub(crate) fn narrow(&self) -> (Box<Tallies>, Vec<Tallies>) {
        let mut durations = Box::new([0; BUCKETS]);
        let lags = |core: &Arc<Core>| {
            core.narrow_durations.add_to(&mut durations);
            let mut lags = [0; BUCKETS];
            core.narrow_lags.add_to(&mut lags);
            lags
        };
        let lags = self.0.cores().iter().map(lags).collect();
        (durations, lags)
    }

    /// Has a scrape show what another part of the server says, under names of the [table](METRICS); see [`describe`].
    #[doc(hidden)]
    pub fn add_part(&self, part: impl Collector) {
        lock(&self.0.parts).register_collector(Box::new(part));
    }

    /// Has a scrape show how many lines of the program's own log were lost so far, beside those of the access log.
    #[doc(hidden)]
    pub fn main_log_dropped(&self, lines: fn() -> u64) {
        self.0.main_log_dropped.get_or_init(|| lines);
    }

    /// The server starts.
    pub(crate) fn begin(&self, status: &Arc<Status>, facts: Facts) {
        self.0.begin(status, facts);
    }

    /// The rate limit in force is this one from now on.
    pub(crate) fn set_rate_limit(&self, per_second: Option<f64>) {
        self.0.set_rate_limit(per_second);
    }

    /// Where the `index`-th core counts.
    pub(crate) fn core(&self, status: &Arc<Status>, index: usize) -> Arc<Core> {
        self.0.core(status, index)
    }

    fn write(&self, encode: impl Fn(&mut String, &Registry) -> fmt::Result) -> String {
        let mut own = Registry::default();
        own.register_collector(Box::new(Collected(Arc::clone(&self.0))));
        let mut all = String::new();
        for registry in [&own, &lock(&self.0.parts), &lock(&self.0.app)] {
            let begin = all.len();
            if encode(&mut all, registry).is_err() {
                // A metric of the app's own that cannot be written costs the app's, and nothing else.
                all.truncate(begin);
                say(|| tracing::warn!("a metric cannot be written, so a scrape lacks those of its registry"));
            }
        }
        all
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
