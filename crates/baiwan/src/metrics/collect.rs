//! A scrape: every metric of the server's cores and of the process, written by `prometheus-client`.
//!
//! It reads atomics that cores write, and files of `/proc`; it runs on the thread of whoever asks, and no core waits for it.

use std::fmt;
use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::core::DENIALS;
use super::histogram::Distribution;
use super::labels::StatusLabel;
use super::process::Process;
use super::shared::Shared;
use super::sums::Sums;
use super::table::{Kind, METRICS};
use crate::route_table::RouteTable;
use crate::status::{ConnectionState, Counts, Status};

static SECONDS: Unit = Unit::Seconds;
static BYTES: Unit = Unit::Bytes;

/// Begins a metric of the [table](METRICS) in a scrape: its name, help and kind come from there.
///
/// # Panics
/// If the table has no metric of this name.
pub fn describe<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'static str,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    let metric = METRICS.iter().find(|metric| metric.name == name).expect("a scrape writes what the table has");
    let (kind, suffix) = match metric.kind {
        Kind::Counter => (MetricType::Counter, "_total"),
        Kind::Gauge => (MetricType::Gauge, ""),
        Kind::Histogram => (MetricType::Histogram, ""),
        Kind::Info => (MetricType::Info, "_info"),
    };
    // The encoder adds what the kind and the unit say.
    let name = name.strip_suffix(suffix).unwrap_or(name);
    let unit = match metric.unit {
        Some("seconds") => name.strip_suffix("_seconds").map(|name| (name, &SECONDS)),
        Some("bytes") => name.strip_suffix("_bytes").map(|name| (name, &BYTES)),
        _ => None,
    };
    let (name, unit) = unit.map_or((name, None), |(name, unit)| (name, Some(unit)));
    encoder.encode_descriptor(name, metric.help, unit, kind)
}

/// What a server and its process say at a scrape.
#[derive(Debug)]
pub(super) struct Collected(pub(super) std::sync::Arc<Shared>);

impl Collector for Collected {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut scrape = Scrape(encoder);
        if let Some(status) = self.0.status() {
            let sums = Sums::of(&self.0.cores());
            scrape.requests(&sums, &status.routes)?;
            scrape.connections(status)?;
            scrape.decisions(&sums, status)?;
            scrape.cores(&sums, &status.counts())?;
        }
        scrape.server(&self.0)?;
        scrape.logs(&self.0)?;
        scrape.process(&Process::read(Path::new("/")))
    }
}

struct Scrape<'a>(DescriptorEncoder<'a>);

impl Scrape<'_> {
    fn counter(&mut self, name: &'static str, value: impl Number) -> fmt::Result {
        value.write_counter(&mut describe(&mut self.0, name)?)
    }

    fn gauge(&mut self, name: &'static str, value: impl Number) -> fmt::Result {
        value.write_gauge(&mut describe(&mut self.0, name)?)
    }

    /// A counter for each value of one label.
    fn counters<'b>(
        &mut self,
        name: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'b str, u64)>,
    ) -> fmt::Result {
        let mut metric = describe(&mut self.0, name)?;
        for (value, count) in values {
            count.write_counter(&mut metric.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn requests(&mut self, sums: &Sums, routes: &RouteTable) -> fmt::Result {
        let labels = |labels: &super::labels::Labels| {
            let route = routes.template(labels.route);
            ([("method", labels.method()), ("route", route)], [("status", labels.status())])
        };
        let mut metric = describe(&mut self.0, "http_requests_total")?;
        for (of, requests) in &sums.requests {
            requests.count.write_counter(&mut metric.encode_family(&labels(of))?)?;
        }
        let mut metric = describe(&mut self.0, "http_request_duration_seconds")?;
        for (of, requests) in &sums.requests {
            distribution(&mut metric, &labels(of), &requests.durations)?;
        }
        let mut metric = describe(&mut self.0, "baiwan_stream_duration_seconds")?;
        for (route, durations) in &sums.streams {
            distribution(&mut metric, &[("route", routes.template(*route))], durations)?;
        }
        self.counter("baiwan_received_bytes_total", sums.received_bytes)?;
        self.counter("baiwan_sent_bytes_total", sums.sent_bytes)
    }

    fn connections(&mut self, status: &Status) -> fmt::Result {
        let states = status.connections_by_state();
        let of = |state: ConnectionState| states[state as usize];
        self.gauge("baiwan_requests_in_flight", of(ConnectionState::Handling) + of(ConnectionState::Sending))?;
        let mut metric = describe(&mut self.0, "baiwan_connections")?;
        for state in ConnectionState::ALL {
            of(state).write_gauge(&mut metric.encode_family(&[("state", state.name())])?)?;
        }
        let counts = status.counts();
        self.counter("baiwan_connections_opened_total", counts.accepted)?;
        let closed = counts.closed.iter().map(|(reason, count)| (reason.name(), *count));
        self.counters("baiwan_connections_closed_total", "reason", closed)?;
        self.gauge("baiwan_connections_max", status.connections_max)
    }

    fn decisions(&mut self, sums: &Sums, status: &Status) -> fmt::Result {
        let counts = status.counts();
        self.counters("baiwan_requests_refused_total", "rule", counts.refused.iter().copied())?;
        self.counters("baiwan_requests_denied_total", "reason", DENIALS.into_iter().zip(sums.denied))?;
        let decisions = [
            ("allowed", status.rate_limit_allowed()),
            ("refused", counts.rate_limited),
            ("reported", counts.rate_limit_reported),
        ];
        self.counters("baiwan_rate_limit_decisions_total", "decision", decisions)?;
        self.counter("baiwan_overloads_total", counts.overloads)?;
        self.counter("baiwan_untrusted_proxy_fields_total", counts.untrusted_proxy_fields)
    }

    fn cores(&mut self, sums: &Sums, counts: &Counts) -> fmt::Result {
        for (name, all) in [("baiwan_loop_lag_seconds", &sums.lags), ("baiwan_turn_duration_seconds", &sums.turns)] {
            let mut metric = describe(&mut self.0, name)?;
            for (core, durations) in all.iter().enumerate() {
                distribution(&mut metric, &[("core", core)], durations)?;
            }
        }
        self.counter("baiwan_handler_panics_total", counts.handler_panics)?;
        self.counter("baiwan_core_panics_total", counts.core_panics)?;
        self.counter("baiwan_accept_failures_total", counts.accept_failures)
    }

    fn server(&mut self, shared: &Shared) -> fmt::Result {
        describe(&mut self.0, "baiwan_build_info")?.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let (Some(status), Some(facts)) = (shared.status(), shared.facts()) else { return Ok(()) };
        let labels = [("event_loop", facts.event_loop), ("fd_tables", facts.fd_tables)];
        describe(&mut self.0, "baiwan_event_loop_info")?.encode_info(&labels)?;
        if let Some(rate) = shared.rate_limit_per_second() {
            self.gauge("baiwan_rate_limit_per_second", rate)?;
        }
        if let Some(bytes) = facts.memory_limit_bytes {
            self.gauge("baiwan_memory_limit_bytes", bytes)?;
        }
        match status.memory_pressure().percent {
            0 => Ok(()),
            percent => self.gauge("baiwan_memory_used_ratio", f64::from(percent) / 100.0),
        }
    }

    /// Nothing of a log that is not there.
    fn logs(&mut self, shared: &Shared) -> fmt::Result {
        let access = shared.status().filter(|status| status.access_log.get().is_some()).map(|status| status.counts());
        let main = shared.main_log_dropped.get().map(|dropped| ("main", dropped()));
        let dropped = main.into_iter().chain(access.as_ref().map(|counts| ("access", counts.access_log_dropped)));
        if main.is_some() || access.is_some() {
            self.counters("baiwan_log_lines_dropped_total", "log", dropped)?;
        }
        match access {
            Some(counts) => {
                let seconds = counts.access_log_writer_cpu.as_secs_f64();
                self.counter("baiwan_access_log_writer_cpu_seconds_total", seconds)
            }
            None => Ok(()),
        }
    }

    fn process(&mut self, process: &Process) -> fmt::Result {
        let gauges = [
            ("process_resident_memory_bytes", process.resident_bytes),
            ("process_virtual_memory_bytes", process.virtual_bytes),
            ("process_open_fds", process.open_fds),
            ("process_max_fds", process.max_fds),
            ("process_threads", process.threads),
        ];
        for (name, value) in gauges {
            if let Some(value) = value {
                self.gauge(name, value)?;
            }
        }
        if let Some(seconds) = process.start_seconds {
            self.gauge("process_start_time_seconds", seconds)?;
        }
        if let Some(seconds) = process.cpu_seconds {
            self.counter("process_cpu_seconds_total", seconds)?;
        }
        match process.listen_overflows {
            Some(count) => self.counter("baiwan_listen_overflows_total", count),
            None => Ok(()),
        }
    }
}

fn distribution(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, durations: &Distribution) -> fmt::Result {
    let mut family = metric.encode_family(labels)?;
    family.encode_histogram::<NoLabelSet>(durations.sum_seconds, durations.count(), &durations.pairs(), None)
}

impl EncodeLabelValue for StatusLabel {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.write(encoder)
    }
}

/// A value of a scrape.
trait Number {
    fn write_counter(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result;
    fn write_gauge(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result;
}

impl Number for u64 {
    fn write_counter(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        metric.encode_counter::<NoLabelSet, _, u64>(self, None)
    }

    fn write_gauge(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        metric.encode_gauge(self)
    }
}

impl Number for f64 {
    fn write_counter(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        metric.encode_counter::<NoLabelSet, _, u64>(self, None)
    }

    fn write_gauge(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        metric.encode_gauge(self)
    }
}
