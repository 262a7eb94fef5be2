//! Every metric of the server: its name, kind, unit, labels, and what moves it.
//!
//! What a scrape says of a metric comes from here, and so does the table of the documentation. An app's own metrics are not here.

/// One metric.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// As in a scrape, with `_total` and the unit.
    pub name: &'static str,
    /// Counter, gauge, histogram or info.
    pub kind: Kind,
    /// None for plain numbers.
    pub unit: Option<&'static str>,
    /// What its series are told apart by.
    pub labels: &'static [&'static str],
    /// What it is and what moves it, without a full stop: the `HELP` of a scrape.
    pub help: &'static str,
}

/// What a metric is, in the words of Prometheus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts values by size.
    Histogram,
    /// It is 1, and its labels say something that does not change.
    Info,
}

impl Kind {
    /// As in a scrape; an info is a gauge there, but for OpenMetrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

macro_rules! metrics {
    ($($kind:ident $name:literal [$($label:literal),*] $($unit:literal)? : $help:literal)+) => {
        &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            unit: unit(&[$($unit),*]),
            labels: &[$($label),*],
            help: $help,
        }),+]
    };
}

const fn unit(unit: &[&'static str]) -> Option<&'static str> {
    if unit.is_empty() { None } else { Some(unit[0]) }
}

/// All of them, those of the admin side, of logs and of the ready service's store and settings among them.
pub static METRICS: &[Metric] = metrics! {
    Counter "http_requests_total" ["method", "route", "status"]:
        "Exchanges that have ended: answered by the app or by the server itself, or cut; status is none where nothing was answered"
    Histogram "http_request_duration_seconds" ["method", "route", "status"] "seconds":
        "From the head of a request to the last byte of its answer; without streams, which baiwan_stream_duration_seconds has, and switched protocols"
    Histogram "baiwan_stream_duration_seconds" ["route"] "seconds":
        "How long streams lasted: answers of which a piece after the first had to be waited for, Server-Sent Events, and connections that had switched protocols"
    Gauge "baiwan_requests_in_flight" []:
        "Requests whose handler is waited for, or whose answer is being sent"
    Gauge "baiwan_connections" ["state"]:
        "Open connections by what they wait for: idle, receiving, handling, sending, upgraded or closing"
    Counter "baiwan_connections_opened_total" []:
        "Connections that were accepted, those that were turned away among them"
    Counter "baiwan_connections_closed_total" ["reason"]:
        "Connections that have ended, by the one reason of each"
    Gauge "baiwan_connections_max" []:
        "The maximum of connections in force"
    Counter "baiwan_requests_refused_total" ["rule"]:
        "Requests that broke a rule of HTTP, by its name"
    Counter "baiwan_requests_denied_total" ["reason"]:
        "Requests and connections that a limit did not let through, and that were told so, by its name"
    Counter "baiwan_rate_limit_decisions_total" ["decision"]:
        "What the rate limit, and those among the layers of the app, have decided of requests: allowed, refused, or reported in the place of refused"
    Gauge "baiwan_rate_limit_per_second" []:
        "Requests a second that the rate limit allows each client; absent where there is none"
    Gauge "baiwan_rate_limit_store_up" []:
        "1 while the store of RATE_LIMIT_STORE answers; 0 while the ready service allows its part of the budget by itself; absent without one"
    Counter "baiwan_rate_limit_store_undecided_total" []:
        "Decisions of the rate limit that RATE_LIMIT_STORE did not make in time, so that the ready service made them by itself; absent without one"
    Counter "baiwan_overloads_total" []:
        "Times that a core could not keep up and began to refuse what had waited too long"
    Counter "baiwan_received_bytes_total" [] "bytes":
        "Bytes of requests whose exchange has ended: heads, and bodies as far as they were read"
    Counter "baiwan_sent_bytes_total" [] "bytes":
        "Bytes of answers whose exchange has ended, with head and framing"
    Histogram "baiwan_loop_lag_seconds" ["core"] "seconds":
        "How long what became ready may have waited for its core's loop to look: the time since the look before, unless the loop slept"
    Histogram "baiwan_turn_duration_seconds" ["core"] "seconds":
        "How long a turn of a core's loop took, with the handlers that it polled"
    Counter "baiwan_slow_polls_total" ["route"]:
        "Polls of a handler that took longer than SLOW_POLL without giving the core back"
    Gauge "baiwan_stuck_cores" []:
        "Cores that have not taken a turn for 2 seconds"
    Counter "baiwan_core_stuck_total" ["route"]:
        "Times that a core has not taken a turn for 2 seconds, by the route whose handler held it"
    Counter "baiwan_handler_panics_total" []:
        "Handlers that panicked; each cost its request"
    Counter "baiwan_core_panics_total" []:
        "Loops of cores that panicked; each cost the connections of its core"
    Counter "baiwan_accept_failures_total" []:
        "Times that the system refused to accept or to watch a connection: it was out of files or memory"
    Counter "baiwan_untrusted_proxy_fields_total" []:
        "Requests with a field of proxies from a peer that is not trusted, as far as they were looked at"
    Counter "baiwan_log_lines_dropped_total" ["log"]:
        "Lines of a log that were not written: it was slow, full, closed or failing"
    Counter "baiwan_access_log_writer_cpu_seconds_total" [] "seconds":
        "Processor time of the thread that writes the access log"
    Info "baiwan_event_loop_info" ["event_loop", "fd_tables"]:
        "How cores wait for their connections, and whether each has an fd table of its own"
    Info "baiwan_build_info" ["version"]:
        "The version of Baiwan"
    Gauge "baiwan_live" []:
        "1 while /health/live answers 200: every core takes turns"
    Gauge "baiwan_ready" []:
        "1 while /health/ready answers 200: new connections are welcome, and required checks pass"
    Gauge "baiwan_health_check_up" ["check"]:
        "1 while a named check of the app passes"
    Gauge "baiwan_memory_used_ratio" []:
        "Memory in use by the process's cgroup, as a part of what it may have; absent where nothing limits it"
    Gauge "baiwan_memory_limit_bytes" [] "bytes":
        "The memory that the process may have: of its cgroup, or the machine's"
    Counter "baiwan_listen_overflows_total" []:
        "Connections of this network namespace that were lost because the backlog of a listener was full"
    Gauge "baiwan_config_last_reload_successful" []:
        "1 if the settings that the ready service read last were right and are in force; 0 if they were refused and those before are"
    Gauge "baiwan_config_last_reload_success_timestamp_seconds" [] "seconds":
        "When the settings in force of the ready service were read, in seconds since 1970"
    Gauge "baiwan_store_up" []:
        "1 while the store of the ready service answers"
    Gauge "baiwan_store_queue_length" []:
        "Reads and changes that were asked of the store and are not answered"
    Histogram "baiwan_store_wait_seconds" ["operation"] "seconds":
        "How long requests waited for a read or a change of the store"
    Counter "baiwan_store_errors_total" ["reason"]:
        "Reads and changes that the store did not do: queue-full, or unavailable"
    Counter "process_cpu_seconds_total" [] "seconds":
        "Processor time of the process, in user and system mode"
    Gauge "process_resident_memory_bytes" [] "bytes":
        "Memory of the process that is in RAM"
    Gauge "process_virtual_memory_bytes" [] "bytes":
        "Address space of the process"
    Gauge "process_start_time_seconds" [] "seconds":
        "When the process was started, in seconds since 1970"
    Gauge "process_open_fds" []:
        "Open files of the process's first fd table"
    Gauge "process_max_fds" []:
        "The limit on open files"
    Gauge "process_threads" []:
        "Threads of the process"
};

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_say_what_is_counted_and_in_which_unit() {
        for metric in METRICS {
            let Metric { name, kind, unit, help, .. } = metric;
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), *kind == Kind::Info, "{name}");
            let bare = name.strip_suffix("_total").unwrap_or(name);
            assert!(unit.is_none_or(|unit| bare.ends_with(&format!("_{unit}"))), "{name}");
            assert!(!help.ends_with('.') && help.len() > 10, "{name}");
        }
        let names: HashSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }
}
