//! Which settings may change while the server runs, and what becomes of those that cores share.
//!
//! The invariant: a row of the table says that its setting may change (`Row::reloadable`) exactly if [`Settings::changed_to`] takes it.

use std::sync::Arc;

use baiwan_http1::Limits;

use super::{Settings, TABLE};

impl Settings {
    /// These settings, with those of `new` that may change while the server runs.
    pub fn changed_to(&self, new: &Self) -> Self {
        let new = new.clone();
        let mut changed = self.clone();
        changed.rate_limit = new.rate_limit;
        // Connections are counted by it, and counted out by it.
        changed.rate_limit.scope.ipv6_prefix = self.rate_limit.scope.ipv6_prefix;
        let Limits { head_bytes_max, target_bytes_max, fields_max, .. } = new.http;
        changed.http = Limits { head_bytes_max, target_bytes_max, fields_max, ..self.http };
        changed.proxies = new.proxies;
        changed.proxy_protocol = new.proxy_protocol;
        changed.header_timeout = new.header_timeout;
        changed.keep_alive_timeout = new.keep_alive_timeout;
        changed.max_connections_per_ip = new.max_connections_per_ip;
        changed.new_connections_per_ip = new.new_connections_per_ip;
        changed.max_connection_age = new.max_connection_age;
        changed.max_connection_requests = new.max_connection_requests;
        changed.body_timeout = new.body_timeout;
        changed.body_rate_min = new.body_rate_min;
        changed.write_rate_min = new.write_rate_min;
        changed.request_timeout = new.request_timeout;
        changed.write_timeout = new.write_timeout;
        changed.half_close = new.half_close;
        changed.live_timeout = new.live_timeout;
        changed.slow_poll = new.slow_poll;
        // What has no row: these are asked for each request.
        changed.refusal_cors = new.refusal_cors;
        changed.buffered_body_bytes_max = new.buffered_body_bytes_max;
        changed.options_asterisk = new.options_asterisk;
        changed.in_force_after(self)
    }

    /// The names of the settings of the table that differ between these and `other`.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let differs = |name: &str| match name {
            // One that was set counts for this machine, too, even where it has the value of the default.
            "RATE_LIMIT" => self.rate_limit.scope.exempts_loopback != other.rate_limit.scope.exempts_loopback,
            _ => false,
        };
        let rows =
            TABLE.iter().filter(|setting| (setting.show)(self) != (setting.show)(other) || differs(setting.row.name));
        rows.map(|setting| setting.row.name).collect()
    }

    /// With what cores share that is made of settings: that of `before` where it is the same.
    fn in_force_after(mut self, before: &Self) -> Self {
        if self.rate_limit != before.rate_limit {
            self.rate_limit_in_force = self.rate_limit.in_force(before.rate_limit_in_force.as_deref());
        }
        self.clients_in_force = self.clients(before.clients_in_force.as_deref()).map(Arc::new);
        if self.max_connection_age != before.max_connection_age {
            self.ages_in_force = self.ages();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another value than the default for each setting.
    const OTHERS: &[(&str, &str)] = &[
        ("HOST", "127.0.0.1"),
        ("PORT", "1"),
        ("WORKERS", "1000"),
        ("MAX_CONNECTIONS", "1000"),
        ("RATE_LIMIT", "50/s"),
        ("RATE_LIMIT_BURST", "7"),
        ("RATE_LIMIT_MODE", "report"),
        ("RATE_LIMIT_EXEMPT", "10.0.0.0/8"),
        ("RATE_LIMIT_IPV6_PREFIX", "48"),
        ("HEAD_LIMIT", "4KiB"),
        ("TARGET_LIMIT", "1KiB"),
        ("FIELDS_LIMIT", "20"),
        ("TRUSTED_PROXIES", "10.0.0.0/8"),
        ("CLIENT_IP_HEADER", "X-Real-IP"),
        ("PROXY_PROTOCOL", "on"),
        ("MAX_CONNECTIONS_PER_IP", "5"),
        ("NEW_CONNECTIONS_PER_IP", "5"),
        ("MAX_CONNECTION_REQUESTS", "5"),
        ("BODY_MIN_RATE", "7"),
        ("WRITE_MIN_RATE", "7"),
        ("HALF_CLOSE", "on"),
        ("OVERLOAD", "auto"),
        ("ACCESS_LOG", "on"),
        ("ACCESS_LOG_SAMPLE", "7"),
        ("EVENT_LOOP", "portable"),
        ("FD_TABLES", "per-core"),
    ];

    fn other(name: &str) -> &'static str {
        OTHERS.iter().find(|(of, _)| *of == name).map_or("17s", |(_, value)| value)
    }

    #[test]
    fn what_the_table_says_may_change_is_what_changes() {
        for setting in TABLE {
            let (before, mut new) = (Settings::default(), Settings::default());
            let name = setting.row.name;
            (setting.set)(&mut new, other(name)).unwrap_or_else(|allowed| panic!("{name}: {allowed}"));
            assert_eq!(before.differences(&new), [name]);
            let changed = before.changed_to(&new);
            let expected = if setting.row.reloadable { &[name][..] } else { &[] };
            assert_eq!(before.differences(&changed), expected, "{name} is marked, or not, and must obey");
        }
    }

    #[test]
    fn what_cores_share_is_made_anew_only_where_it_changes() {
        let mut first =
            Settings { max_connection_age: Some(std::time::Duration::from_secs(60)), ..Settings::default() };
        first.rate_limit.quota = "100/s".parse().ok();
        let first = first.in_force();
        let same = first.changed_to(&Settings { header_timeout: None, ..first.clone() });
        let is_same = |one: &Settings, other: &Settings| {
            let (one, other) = (one.rate_limit_in_force.as_ref().unwrap(), other.rate_limit_in_force.as_ref().unwrap());
            Arc::ptr_eq(one, other)
        };
        assert!(is_same(&first, &same));
        assert!(Arc::ptr_eq(first.ages_in_force.as_ref().unwrap(), same.ages_in_force.as_ref().unwrap()));
        let mut slower = first.clone();
        slower.rate_limit.quota = "10/s".parse().ok();
        assert!(!is_same(&first, &first.changed_to(&slower)));
        let off = first.changed_to(&Settings::default());
        assert!(off.rate_limit_in_force.is_none() && off.ages_in_force.is_none());
    }
}
