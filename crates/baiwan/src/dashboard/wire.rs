//! The dashboard's data as JSON, in columns, as the page draws them.
//!
//! ```json
//! {"server": {"instance": "...", "state": "ready", ...}, "in_force": [["workers", "2"]], "checks": [...],
//!  "next": 42, "seconds": {"at_ms": [...], "connections": {"idle": [...]}, "latency_us": {"p50": [null, 210]}, ...},
//!  "routes": [...], "routes_window_ms": 60000, "errors": [...]}
//! ```
//!
//! `next` is the `after` of the next question. Another `instance` is another process: what was known of the one before is void.
//!
//! The invariant: all columns of `seconds` are of one length.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::Dashboard;
use super::history::{ANSWERS, CONNECTIONS_FOR_MEMORY, Failure, History, PERCENTILES, STATES};

/// What stays as it is while the server runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    /// Of the app, or of the crate.
    pub(crate) version: String,
    /// Differs from that of every process before.
    pub(crate) instance: String,
    pub(crate) started_ms: u64,
    pub(crate) connections_max: u64,
    #[serde(skip)]
    pub(crate) in_force: Rows,
}

/// Names and values, in the order in which they are shown. A value may change while the server runs; clones are the same rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows(Arc<Mutex<Vec<(String, String)>>>);

impl Rows {
    pub(crate) fn new(rows: Vec<(String, String)>) -> Self {
        Self(Arc::new(Mutex::new(rows)))
    }

    /// Changes the values for which `value` has another, given the name.
    pub(crate) fn change(&self, value: impl Fn(&str) -> Option<String>) {
        for (name, shown) in self.lock().iter_mut() {
            if let Some(value) = value(name) {
                *shown = value;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the server is at the moment.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct State {
    /// By the clock that `started_ms` is of: that of a browser may be another.
    pub(crate) now_ms: u64,
    /// The name of a [`Phase`](crate::Phase).
    pub(crate) phase: &'static str,
    pub(crate) is_live: bool,
    pub(crate) is_ready: bool,
    /// Whole sentences: what the page says before all else.
    pub(crate) warnings: Vec<String>,
    #[serde(skip)]
    pub(crate) checks: Vec<Check>,
}

/// What one named check has found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// None before its first run.
    pub(crate) is_up: Option<bool>,
    /// Why not.
    pub(crate) reason: Option<String>,
}

#[derive(Serialize)]
struct Data<'a> {
    server: Server<'a>,
    in_force: &'a [(String, String)],
    checks: &'a [Check],
    next: u64,
    seconds: Seconds,
    routes: Vec<Route>,
    routes_window_ms: u64,
    /// The newest first.
    errors: &'a [Failure],
}

#[derive(Serialize)]
struct Server<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    #[serde(flatten)]
    state: &'a State,
    /// Below that many, memory per connection is not told.
    connections_for_memory: u64,
}

/// Columns of one length.
#[derive(Default, Serialize)]
struct Seconds {
    at_ms: Vec<u64>,
    connections: BTreeMap<&'static str, Vec<u32>>,
    in_flight: Vec<u32>,
    answers_per_second: BTreeMap<&'static str, Vec<u32>>,
    latency_us: BTreeMap<&'static str, Vec<Option<u32>>>,
    /// By core.
    lag_p99_us: Vec<Vec<Option<u32>>>,
    lag_max_us: Vec<Vec<Option<u32>>>,
    resident_bytes: Vec<u64>,
    bytes_per_connection: Vec<Option<u32>>,
    received_bytes_per_second: Vec<u64>,
    sent_bytes_per_second: Vec<u64>,
}

#[derive(Serialize)]
struct Route {
    route: String,
    requests: u64,
    errors: u64,
    p99_us: Option<u64>,
}

pub(super) fn encode(dashboard: &Dashboard, after: Option<u64>, state: &State) -> Vec<u8> {
    let in_force = dashboard.facts.in_force.lock();
    let data = Data {
        server: Server { facts: &dashboard.facts, state, connections_for_memory: CONNECTIONS_FOR_MEMORY },
        in_force: &in_force,
        checks: &state.checks,
        next: dashboard.history.next(),
        seconds: seconds(&dashboard.history, after.unwrap_or(0)),
        routes: dashboard
            .routes
            .top()
            .into_iter()
            .map(|top| Route {
                route: top.route.to_string(),
                requests: top.requests,
                errors: top.errors,
                p99_us: top.p99_us,
            })
            .collect(),
        routes_window_ms: dashboard.routes.window_ms(),
        errors: &dashboard.failures,
    };
    serde_json::to_vec(&data).expect("numbers and texts under names are JSON")
}

fn seconds(history: &History, from: u64) -> Seconds {
    let mut columns = Seconds {
        lag_p99_us: vec![Vec::new(); history.cores()],
        lag_max_us: vec![Vec::new(); history.cores()],
        ..Seconds::default()
    };
    // There even where they are empty.
    STATES.iter().for_each(|state| _ = columns.connections.insert(state, Vec::new()));
    ANSWERS.iter().for_each(|answer| _ = columns.answers_per_second.insert(answer, Vec::new()));
    PERCENTILES.iter().for_each(|(name, _)| _ = columns.latency_us.insert(name, Vec::new()));
    for (second, lag) in history.since(from) {
        columns.at_ms.push(second.wall_ms);
        for (state, count) in STATES.iter().zip(second.connections) {
            columns.connections.entry(state).or_default().push(count);
        }
        for (answer, rate) in ANSWERS.iter().zip(second.answers_per_second) {
            columns.answers_per_second.entry(answer).or_default().push(rate);
        }
        for ((name, _), us) in PERCENTILES.iter().zip(second.latency_us) {
            columns.latency_us.entry(name).or_default().push(us);
        }
        for (core, lag) in lag.enumerate() {
            columns.lag_p99_us[core].push(lag.p99_us);
            columns.lag_max_us[core].push(lag.max_us);
        }
        columns.in_flight.push(second.in_flight);
        columns.resident_bytes.push(second.resident_bytes);
        columns.bytes_per_connection.push(second.bytes_per_connection);
        columns.received_bytes_per_second.push(second.received_per_second);
        columns.sent_bytes_per_second.push(second.sent_per_second);
    }
    columns
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dashboard::history::tests::moment;

    fn facts() -> Facts {
        Facts {
            version: "0.1.0".to_owned(),
            instance: "1".to_owned(),
            started_ms: 1_000_000,
            connections_max: 10,
            in_force: Rows::new(vec![("workers".to_owned(), "2".to_owned())]),
        }
    }

    fn data(dashboard: &Dashboard, after: Option<u64>) -> Value {
        let state = State { now_ms: 1_061_000, phase: "serving", is_live: true, is_ready: true, ..State::default() };
        serde_json::from_slice(&dashboard.data(after, &state)).unwrap()
    }

    #[test]
    fn before_the_first_second_all_columns_are_there_and_empty() {
        let data = data(&Dashboard::new(facts()), None);
        assert_eq!((&data["next"], &data["seconds"]["at_ms"]), (&json!(0), &json!([])));
        assert_eq!(data["seconds"]["latency_us"], json!({"p50": [], "p90": [], "p99": [], "p99_9": []}));
        assert_eq!(data["seconds"]["connections"].as_object().unwrap().len(), STATES.len());
        assert_eq!((&data["routes"], &data["errors"]), (&json!([]), &json!([])));
        assert_eq!((&data["server"]["phase"], &data["server"]["version"]), (&json!("serving"), &json!("0.1.0")));
        assert_eq!((&data["server"]["started_ms"], &data["server"]["now_ms"]), (&json!(1_000_000), &json!(1_061_000)));
        assert_eq!(data["in_force"], json!([["workers", "2"]]));
    }

    #[test]
    fn who_asks_again_gets_what_is_new() {
        let mut dashboard = Dashboard::new(facts());
        for n in 0..=5_u64 {
            let mut moment = moment(n * 1000, 2);
            moment.answers[0] = n * 7;
            dashboard.handle_moment(&moment);
        }
        let first = data(&dashboard, None);
        assert_eq!(first["seconds"]["answers_per_second"]["2xx"], json!([7, 7, 7, 7, 7]));
        assert_eq!(first["seconds"]["lag_p99_us"].as_array().unwrap().len(), 2);
        let next = first["next"].as_u64().unwrap();
        assert_eq!(data(&dashboard, Some(next))["seconds"]["at_ms"], json!([]));
        dashboard.handle_moment(&moment(6_000, 2));
        let second = data(&dashboard, Some(next));
        assert_eq!(second["seconds"]["at_ms"], json!([1_006_000]));
        assert_eq!(second["seconds"]["latency_us"]["p99"], json!([null]));
    }

    #[test]
    fn the_last_failures_are_those_of_the_last_moment() {
        let mut dashboard = Dashboard::new(facts());
        let mut now = moment(10_000, 1);
        now.failures = vec![Failure {
            at_ms: 1_009_900,
            method: Some("GET".to_owned()),
            route: "/users/{id}".to_owned(),
            status: 500,
            duration_us: 3_000,
            request_id: Some("7".to_owned()),
        }];
        dashboard.handle_moment(&now);
        let expected = json!([{"at_ms": 1_009_900, "method": "GET", "route": "/users/{id}", "status": 500, "duration_us": 3000,
            "request_id": "7"}]);
        assert_eq!(data(&dashboard, None)["errors"], expected);
    }
}
