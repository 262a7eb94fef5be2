//! The table of settings: every one that a server takes as text, in the order of the help.
//!
//! A setting that nothing obeys is not here, so that no help promises too much. What a server is told by its program alone has no
//! row. A new setting needs its field in [`Settings`], its row here, and the place that obeys it.

use std::time::Duration;

use baiwan_limits::RATE_MAX;

use super::Settings;
use super::bind::{BIND_DEFAULT, GROUP_DEFAULT, MODE_DEFAULT, OWNER_DEFAULT, parse_account, parse_mode, shown_mode};
use super::limits::{parse_ipv6_prefix, parse_networks, shown_networks};
use super::setting::{Kind, Row, Setting, store};
use super::value::{
    CONNECTIONS_MAX, FIELDS_LIMITS, HEAD_LIMITS, OFF, TARGET_LIMITS, WORKERS_MAX, parse_count, parse_destination,
    parse_field_name, parse_grace, parse_length, parse_lines, parse_maximum, parse_proxies, parse_rate, parse_size,
    parse_socket_path, parse_span, parse_switch, parse_timeout, shown_destination, shown_grace, shown_maximum,
    shown_proxies, shown_rate, shown_size, shown_span, shown_timeout,
};

/// Every setting of a server.
pub static TABLE: &[Setting<Settings>] = &[
    Setting {
        row: Row::new(
            "HOST",
            "ADDRESS",
            "Address to listen on: an IP address or `localhost`; `::` serves both IP versions",
        ),
        set: |settings, text| settings.binding.set_host(text),
        show: |settings| settings.binding.shown_host(),
    },
    Setting {
        row: Row::new("PORT", "PORT", "TCP port; `0` takes a free one, which the start names"),
        set: |settings, text| settings.binding.set_port(text),
        show: |settings| settings.binding.shown_port(),
    },
    Setting {
        row: Row {
            default: Some(BIND_DEFAULT),
            kind: Kind::List,
            ..Row::new(
                "BIND",
                "ADDRESSES",
                "Where to listen instead, separated by commas: `0.0.0.0:8080`, `[::]:8080`, `unix:/run/baiwan/http.sock`, or `unix:@name` \
                 for a Unix socket without a file (Linux). Set together with `HOST` or `PORT`, it is refused",
            )
        },
        set: |settings, text| settings.binding.set_addresses(text),
        show: |settings| settings.binding.shown_addresses(),
    },
    Setting {
        row: Row {
            default: Some(MODE_DEFAULT),
            ..Row::new(
                "BIND_MODE",
                "MODE",
                "Permissions of the Unix sockets in `BIND`, such as `0660`: whoever may write may connect",
            )
        },
        set: |settings, text| store(&mut settings.binding.access.mode, parse_mode(text)),
        show: |settings| settings.binding.access.mode.map_or(MODE_DEFAULT.to_owned(), shown_mode),
    },
    Setting {
        row: Row {
            default: Some(OWNER_DEFAULT),
            ..Row::new(
                "BIND_OWNER",
                "USER",
                "Who owns the Unix sockets in `BIND`: a user's name or number. Another than the process's own needs root or `CAP_CHOWN`",
            )
        },
        set: |settings, text| store(&mut settings.binding.access.owner, parse_account(text)),
        show: |settings| settings.binding.access.owner.clone().unwrap_or(OWNER_DEFAULT.to_owned()),
    },
    Setting {
        row: Row {
            default: Some(GROUP_DEFAULT),
            ..Row::new(
                "BIND_GROUP",
                "GROUP",
                "Group of the Unix sockets in `BIND`, by name or number: one of the process's own, unless that is root",
            )
        },
        set: |settings, text| store(&mut settings.binding.access.group, parse_account(text)),
        show: |settings| settings.binding.access.group.clone().unwrap_or(GROUP_DEFAULT.to_owned()),
    },
    Setting {
        row: Row {
            default: Some("one per core, within the CPU quota"),
            ..Row::new("WORKERS", "COUNT", "Worker threads")
        },
        set: |settings, text| {
            store(&mut settings.workers, parse_count(text, WORKERS_MAX).map(|count| Some(count as usize)))
        },
        show: |settings| settings.worker_count().to_string(),
    },
    Setting {
        row: Row {
            default: Some(MAX_CONNECTIONS_DEFAULT),
            ..Row::new(
                "MAX_CONNECTIONS",
                "COUNT",
                "Connections held at once; one more gets a 503. The start says how far the default was lowered, and warns if too \
                 few are left; a value that is set and cannot be had is refused",
            )
        },
        set: |settings, text| store(&mut settings.max_connections, parse_count(text, CONNECTIONS_MAX).map(Some)),
        show: |settings| settings.max_connections.map_or(MAX_CONNECTIONS_DEFAULT.to_owned(), |count| count.to_string()),
    },
    Setting {
        row: Row::new(
            "RATE_LIMIT",
            "RATE",
            "Requests of each client: `100` or `100/s`, `1000/min`, `10000/h`, or `off`; one more gets a 429. Clients over Unix sockets, \
             `/health`, `/health/*` and CORS preflights are not limited",
        ).reloadable(),
        set: |settings, text| settings.rate_limit.set_quota(text),
        show: |settings| settings.rate_limit.shown_quota(),
    },
    Setting {
        row: Row {
            default: Some(BURST_DEFAULT),
            ..Row::new("RATE_LIMIT_BURST", "COUNT", "Requests that a client may send at once after a pause").reloadable()
        },
        set: |settings, text| {
            let count = parse_count(text, u32::MAX.into()).map(|count| u32::try_from(count).ok());
            store(&mut settings.rate_limit.burst, count)
        },
        show: |settings| settings.rate_limit.burst.map_or(BURST_DEFAULT.to_owned(), |count| count.to_string()),
    },
    Setting {
        row: Row::new(
            "RATE_LIMIT_MODE",
            "MODE",
            "`enforce`, or `report`: requests that are too many are let through, counted, and named in the log once a second",
        ).reloadable(),
        set: |settings, text| store(&mut settings.rate_limit.mode, text.parse()),
        show: |settings| settings.rate_limit.mode.name().to_owned(),
    },
    Setting {
        row: Row {
            kind: Kind::List,
            ..Row::new(
                "RATE_LIMIT_EXEMPT",
                "NETWORKS",
                "Clients that are never limited: networks such as `10.0.0.0/8`, or addresses, separated by commas; or `off`",
            ).reloadable()
        },
        set: |settings, text| store(&mut settings.rate_limit.scope.exempt, parse_networks(text)),
        show: |settings| shown_networks(&settings.rate_limit.scope.exempt),
    },
    Setting {
        row: Row::new("RATE_LIMIT_IPV6_PREFIX", "BITS", "How much of an IPv6 address is one client: 32 to 128 bits"),
        set: |settings, text| store(&mut settings.rate_limit.scope.ipv6_prefix, parse_ipv6_prefix(text)),
        show: |settings| settings.rate_limit.scope.ipv6_prefix.to_string(),
    },
    Setting {
        row: Row::new(
            "HEAD_LIMIT",
            "SIZE",
            "Bytes of a request's head, from its first line to the empty line; then 431 (`head-too-large`). A connection holds \
             up to this, or 16 KiB if that is more, while a head is not complete or requests wait",
        ).reloadable(),
        set: |settings, text| store(&mut settings.http.head_bytes_max, parse_size(text, &HEAD_LIMITS)),
        show: |settings| shown_size(settings.http.head_bytes_max),
    },
    Setting {
        row: Row::new(
            "TARGET_LIMIT",
            "SIZE",
            "Bytes of a request's target, its query included; then 414 (`target-too-long`)",
        ).reloadable(),
        set: |settings, text| store(&mut settings.http.target_bytes_max, parse_size(text, &TARGET_LIMITS)),
        show: |settings| shown_size(settings.http.target_bytes_max),
    },
    Setting {
        row: Row::new(
            "FIELDS_LIMIT",
            "COUNT",
            "Field lines of a request's head, and of the trailers of its body; then 431 (`fields-too-many`)",
        ).reloadable(),
        set: |settings, text| {
            let count = parse_count(text, *FIELDS_LIMITS.end() as u64);
            store(&mut settings.http.fields_max, count.map(|count| count as usize))
        },
        show: |settings| settings.http.fields_max.to_string(),
    },
    Setting {
        row: Row {
            kind: Kind::List,
            ..Row::new(
                "TRUSTED_PROXIES",
                "LIST",
                "Peers that are believed when they name the client in `X-Forwarded-For`, or without that in `Forwarded`: `off`, or \
                 networks such as `10.0.0.0/8`, addresses, and `unix` for Unix sockets, separated by commas",
            ).reloadable()
        },
        set: |settings, text| {
            let field = settings.proxies.field().cloned();
            store(&mut settings.proxies, parse_proxies(text).map(|proxies| proxies.with_field(field)))
        },
        show: |settings| shown_proxies(&settings.proxies),
    },
    Setting {
        row: Row::new(
            "CLIENT_IP_HEADER",
            "FIELD",
            "The one field in which `TRUSTED_PROXIES` name the client, such as `CF-Connecting-IP`, `X-Real-IP` or `Forwarded`; `off` \
             is as above",
        ).reloadable(),
        set: |settings, text| {
            let field = parse_field_name(text);
            field.map(|field| settings.proxies = std::mem::take(&mut settings.proxies).with_field(field))
        },
        show: |settings| settings.proxies.field().map_or(OFF.to_owned(), ToString::to_string),
    },
    Setting {
        row: Row::new(
            "PROXY_PROTOCOL",
            "CHOICE",
            "`on`: connections of `TRUSTED_PROXIES` begin with the PROXY protocol, version 1 or 2, which says who has connected to the \
             proxy; one without it is refused. Not with `EVENT_LOOP=portable`",
        ).reloadable(),
        set: |settings, text| store(&mut settings.proxy_protocol, parse_switch(text)),
        show: |settings| if settings.proxy_protocol { "on" } else { OFF }.to_owned(),
    },
    Setting {
        row: Row::new("HEADER_TIMEOUT", "DURATION", "Time for a request's head, from its first byte; then 408").reloadable(),
        set: |settings, text| store(&mut settings.header_timeout, parse_timeout(text)),
        show: |settings| shown_timeout(settings.header_timeout),
    },
    Setting {
        row: Row {
            portable: false,
            ..Row::new("KEEP_ALIVE_TIMEOUT", "DURATION", "Time that a connection may be idle between requests").reloadable()
        },
        set: |settings, text| store(&mut settings.keep_alive_timeout, parse_timeout(text)),
        show: |settings| shown_timeout(settings.keep_alive_timeout),
    },
    Setting {
        row: Row::new(
            "MAX_CONNECTIONS_PER_IP",
            "COUNT",
            "Connections that one client holds at once; then 429 (`too-many-connections-per-client`), or a reset where many are \
             refused. A client is an IPv4 address or an IPv6 prefix, with `PROXY_PROTOCOL=on` the one that the header names; trusted \
             proxies and Unix sockets are exempt",
        ).reloadable(),
        set: |settings, text| store(&mut settings.max_connections_per_ip, parse_maximum(text, u32::MAX)),
        show: |settings| shown_maximum(settings.max_connections_per_ip),
    },
    Setting {
        row: Row::new(
            "NEW_CONNECTIONS_PER_IP",
            "COUNT",
            "New connections of one client a second, and as many at once; refused and exempt as with `MAX_CONNECTIONS_PER_IP`",
        ).reloadable(),
        set: |settings, text| store(&mut settings.new_connections_per_ip, parse_maximum(text, RATE_MAX)),
        show: |settings| shown_maximum(settings.new_connections_per_ip),
    },
    Setting {
        row: Row::new(
            "MAX_CONNECTION_AGE",
            "DURATION",
            "Age at which a connection ends, spread by 10 % or over a minute: the next answer says so, idle ones close, and what \
             goes on is told (`Ending`) and has 30 seconds. Lets clients move to new instances",
        ).reloadable(),
        set: |settings, text| store(&mut settings.max_connection_age, parse_timeout(text)),
        show: |settings| shown_timeout(settings.max_connection_age),
    },
    Setting {
        row: Row::new(
            "MAX_CONNECTION_REQUESTS",
            "COUNT",
            "Requests that a connection may ask; the last answer says so",
        ).reloadable(),
        set: |settings, text| store(&mut settings.max_connection_requests, parse_maximum(text, u32::MAX)),
        show: |settings| shown_maximum(settings.max_connection_requests),
    },
    Setting {
        row: Row::new("BODY_TIMEOUT", "DURATION", "Time for a request's whole body; then 408 (`body-timeout`)").reloadable(),
        set: |settings, text| store(&mut settings.body_timeout, parse_timeout(text)),
        show: |settings| shown_timeout(settings.body_timeout),
    },
    Setting {
        row: Row::new(
            "BODY_MIN_RATE",
            "BYTES",
            "Bytes a second that a request's body must bring on average, after 5 seconds of grace; then 408 (`body-too-slow`)",
        ).reloadable(),
        set: |settings, text| store(&mut settings.body_rate_min, parse_rate(text)),
        show: |settings| shown_rate(settings.body_rate_min),
    },
    Setting {
        row: Row {
            portable: false,
            ..Row::new(
                "WRITE_MIN_RATE",
                "BYTES",
                "Bytes a second that a client must take of a response on average while some wait for it, after 5 seconds of grace; \
                 then the connection is reset (`write-too-slow`)",
            ).reloadable()
        },
        set: |settings, text| store(&mut settings.write_rate_min, parse_rate(text)),
        show: |settings| shown_rate(settings.write_rate_min),
    },
    Setting {
        row: Row::new("REQUEST_TIMEOUT", "DURATION", "Time for a handler to begin its response; then 503").reloadable(),
        set: |settings, text| store(&mut settings.request_timeout, parse_timeout(text)),
        show: |settings| shown_timeout(settings.request_timeout),
    },
    Setting {
        row: Row::new(
            "WRITE_TIMEOUT",
            "DURATION",
            "Longest pause in sending a response. With `off`, Linux gives up after 12 minutes",
        ).reloadable(),
        set: |settings, text| store(&mut settings.write_timeout, parse_timeout(text)),
        show: |settings| shown_timeout(settings.write_timeout),
    },
    Setting {
        row: Row::new(
            "HALF_CLOSE",
            "CHOICE",
            "`on` answers a client that ends its direction after its request (`nc -N`), but ends its streams of events; `off` \
             treats it as gone",
        ).reloadable(),
        set: |settings, text| store(&mut settings.half_close, parse_switch(text)),
        show: |settings| if settings.half_close { "on" } else { OFF }.to_owned(),
    },
    Setting {
        row: Row {
            portable: false,
            ..Row::new(
                "OVERLOAD",
                "NAME",
                "`off`, or `auto`: a core on which requests wait serves the newest first, and answers those that have waited \
                 20 ms with 503, until it keeps up again",
            )
        },
        set: |settings, text| store(&mut settings.overload, text.parse()),
        show: |settings| settings.overload.name().to_owned(),
    },
    Setting {
        row: Row::new(
            "SHUTDOWN_IDLE",
            "DURATION",
            "Time that a connection without a request (idle, or with half a head) may hold up a stop",
        ),
        set: |settings, text| store(&mut settings.shutdown_idle, parse_span(text)),
        show: |settings| shown_span(settings.shutdown_idle),
    },
    Setting {
        row: Row {
            // Endpoints leave the lists of proxies and nodes some seconds after a pod was told to end.
            kubernetes_default: Some("5s"),
            ..Row::new(
                "SHUTDOWN_DELAY",
                "DURATION",
                "Time to go on serving at SIGTERM while readiness is already denied, so that load balancers notice; less than \
                 `SHUTDOWN_TIMEOUT`",
            )
        },
        set: |settings, text| store(&mut settings.shutdown_delay, parse_timeout(text).map(Option::unwrap_or_default)),
        show: |settings| shown_timeout(Some(settings.shutdown_delay).filter(|delay| *delay > Duration::ZERO)),
    },
    Setting {
        row: Row::new("SHUTDOWN_TIMEOUT", "DURATION", "Time for the whole stop, the delay included; not 0"),
        set: |settings, text| store(&mut settings.shutdown_timeout, parse_length(text)),
        show: |settings| shown_span(settings.shutdown_timeout),
    },
    Setting {
        row: Row::new(
            "SHUTDOWN_GRACE",
            "DURATION",
            "Time that tasks which handlers have spawned may go on after the last connection; `rest` is what is left of \
             `SHUTDOWN_TIMEOUT`, which no such task outlives",
        ),
        set: |settings, text| store(&mut settings.shutdown_grace, parse_grace(text)),
        show: |settings| shown_grace(settings.shutdown_grace),
    },
    Setting {
        row: Row::new(
            "ACCESS_LOG",
            "WHERE",
            "Where a line for each request goes: `on` for standard output, `off`, or the path of a file, with a `/` in it, which is \
             opened anew when it was moved or deleted",
        ),
        set: |settings, text| store(&mut settings.access_log.to, parse_destination(text)),
        show: |settings| shown_destination(&settings.access_log.to),
    },
    Setting {
        row: Row::new(
            "ACCESS_LOG_SAMPLE",
            "COUNT",
            "Lines a second of `ACCESS_LOG`; above it a part of the requests is written, and every failure of the app (a status \
             of 500 or more) all the same; `off` writes all",
        ),
        set: |settings, text| store(&mut settings.access_log.sample_above, parse_lines(text)),
        show: |settings| settings.access_log.sample_above.map_or(OFF.to_owned(), |lines| lines.to_string()),
    },
    Setting {
        row: Row::new(
            "EVENT_LOOP",
            "NAME",
            "`auto`, `epoll`, or `portable` (hyper on plain Tokio, for development on other systems)",
        ),
        set: |settings, text| store(&mut settings.event_loop, text.parse()),
        show: |settings| settings.event_loop.name().to_owned(),
    },
    Setting {
        row: Row::new(
            "FD_TABLES",
            "NAME",
            "`shared` or `per-core`; with `per-core` the limit on open files counts for each core, not for all together \
             (Linux)",
        ),
        set: |settings, text| store(&mut settings.fd_tables, text.parse()),
        show: |settings| settings.fd_tables.name().to_owned(),
    },
    Setting {
        row: Row::new(
            "TAKEOVER",
            "PATH",
            "Unix socket through which a process that is started with the same setting takes over the listening sockets of the one that \
             serves, which then answers what it has accepted and ends; or `off` (Linux)",
        ),
        set: |settings, text| store(&mut settings.takeover, parse_socket_path(text)),
        show: |settings| settings.takeover.as_ref().map_or(OFF.to_owned(), |path| path.display().to_string()),
    },
    Setting {
        row: Row::new(
            "LIVE_TIMEOUT",
            "DURATION",
            "Time that a core may be blocked by a handler until `/health/live` answers 503, so that an orchestrator restarts the \
             server; the log names it after 2 seconds",
        ).reloadable(),
        set: |settings, text| store(&mut settings.live_timeout, parse_length(text)),
        show: |settings| shown_span(settings.live_timeout),
    },
    #[cfg(feature = "metrics")]
    Setting {
        row: Row::new(
            "SLOW_POLL",
            "DURATION",
            "How long a handler may keep its core without waiting for anything until that is counted by route \
             (`baiwan_slow_polls_total`)",
        ).reloadable(),
        set: |settings, text| store(&mut settings.slow_poll, parse_timeout(text)),
        show: |settings| shown_timeout(settings.slow_poll),
    },
];

/// The number of `RATE_LIMIT` is the burst, too.
const BURST_DEFAULT: &str = "as in `RATE_LIMIT`";
const MAX_CONNECTIONS_DEFAULT: &str = "1000000, lowered to what files and memory allow";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_given_again() {
        let defaults = Settings::default();
        for Setting { row, set, show } in TABLE {
            if row.default.is_none() {
                let mut settings = defaults.clone();
                set(&mut settings, &show(&defaults)).unwrap_or_else(|allowed| panic!("{}: {allowed}", row.name));
                assert_eq!(show(&settings), show(&defaults), "{}", row.name);
            }
        }
    }
}
