//! Reports of runs that never were, with plausible figures.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use baiwan_load::{
    Bytes, Client, Connections, Events, Latencies, PhaseReport, Quantiles, REPORT_VERSION, Report, Requests, Second,
    Server,
};

/// The latencies of `count` requests around `middle` seconds, with a long tail. The same each time.
fn latencies(count: u32, middle: f64) -> Latencies {
    let mut latencies = Latencies::default();
    for step in 0..count {
        let quantile = (f64::from(step) + 0.5) / f64::from(count);
        let tail = if quantile > 0.999 { 40.0 } else { 1.0 };
        latencies.record((middle * 1e9 * (0.4 - (1.0 - quantile).ln() * 0.87) * tail) as u64);
    }
    latencies
}

fn series(phases: &[PhaseReport]) -> Vec<Second> {
    let second = |at: u64| {
        let time = at as f64;
        let phase = phases.iter().rposition(|phase| phase.begin < time).unwrap();
        let wave = 1.0 + 0.2 * (time / 5.0).sin();
        let asked = phases[phase].sent > 0;
        let rate = if asked { 10_000.0 } else { 0.0 };
        Second {
            at: time,
            phase,
            open: if phase == 0 { (at * 200).min(1000) } else { 1000 },
            outstanding: if asked { (12.0 * wave) as u64 } else { 0 },
            answered: rate as u64 - u64::from(asked && at == 40) * 3,
            errors: u64::from(asked && at == 40) * 3,
            events: 0,
            p50: if asked { 0.0004 * wave } else { 0.0 },
            p99: if asked { 0.0031 * wave * wave } else { 0.0 },
            max: if asked { 0.02 * wave + if at == 40 { 1.2 } else { 0.0 } } else { 0.0 },
        }
    };
    (1..=65).map(second).collect()
}

fn phase(name: &str, begin: f64, seconds: f64, sent: u64, latency: Quantiles) -> PhaseReport {
    PhaseReport {
        name: name.to_owned(),
        begin,
        seconds,
        sent,
        answered: sent,
        open: if name == "close" { 0 } else { 1000 },
        latency,
        server_cpu_seconds: Some(sent as f64 * 7.5e-6),
        server_user_bytes: Some(66 << 20),
        client_cpu_seconds: sent as f64 * 9.1e-6,
        ..PhaseReport::default()
    }
}

/// A minute at a constant rate, with three errors and a server that was watched.
pub(crate) fn open_loop() -> Report {
    static REPORT: OnceLock<Report> = OnceLock::new();
    REPORT.get_or_init(make_open_loop).clone()
}

fn make_open_loop() -> Report {
    let latency = latencies(599_997, 0.000_4);
    let told = latency.quantiles();
    let phases = vec![
        phase("open", 0.0, 5.0, 0, Quantiles::default()),
        phase("open loop", 5.0, 60.0, 600_000, told),
        phase("close", 65.0, 0.02, 0, Quantiles::default()),
    ];
    Report {
        version: REPORT_VERSION,
        started: "2026-11-22T18:00:00Z".to_owned(),
        command: "baiwan load http://127.0.0.1:8080/ --connections 1000 --ramp 5s --rate 10000 --duration 60s"
            .to_owned(),
        url: "http://127.0.0.1:8080/".to_owned(),
        interrupted: false,
        seconds: 60.0,
        connections: Connections {
            wanted: 1000,
            opened: 1000,
            lost: 2,
            attempts_failed: 0,
            failures: BTreeMap::new(),
            reopened: 2,
            alive: 1000,
            open_seconds: 4.995,
            connect: latencies(1000, 0.000_09).quantiles(),
        },
        requests: Requests { sent: 600_000, answered: 599_997, per_second: 9999.95 },
        latency: told,
        latency_curve: latency.curve(),
        send_delay: latencies(600_000, 0.000_02).quantiles(),
        errors: BTreeMap::from([("reset".to_owned(), 2), ("timeout".to_owned(), 1), ("total".to_owned(), 3)]),
        error_details: BTreeMap::from([
            ("connection reset by peer".to_owned(), 2),
            ("no whole answer in 10s".to_owned(), 1),
        ]),
        statuses: BTreeMap::from([("200".to_owned(), 599_997)]),
        bytes: Bytes { sent: 24_600_000, received: 81_599_592 },
        events: None,
        server: Some(Server {
            pid: 4242,
            cpu_seconds: 4.5,
            cpu_seconds_per_request: Some(7.5e-6),
            user_bytes_before: 8 << 20,
            user_bytes_max: 9 << 20,
            user_bytes_per_connection: Some(61.0),
            kernel_bytes_per_connection: Some(7412.0),
        }),
        client: Client {
            workers: 2,
            cpu_seconds: 5.46,
            cpu_seconds_per_request: Some(9.1e-6),
            user_bytes: 12 << 20,
            ..Client::default()
        },
        series: series(&phases),
        phases,
        expectations: Vec::new(),
    }
}

/// Ten seconds as fast as it went, without an error or a watched server.
pub(crate) fn closed_loop() -> Report {
    let latency = latencies(400_000, 0.001_2);
    let phases = vec![
        phase("open", 0.0, 0.012, 0, Quantiles::default()),
        phase("closed loop", 0.012, 10.0, 400_000, latency.quantiles()),
    ];
    Report {
        seconds: 10.0,
        connections: Connections { lost: 0, reopened: 0, open_seconds: 0.012, ..open_loop().connections },
        requests: Requests { sent: 400_000, answered: 400_000, per_second: 40_000.0 },
        latency: latency.quantiles(),
        latency_curve: latency.curve(),
        errors: BTreeMap::from([("total".to_owned(), 0)]),
        error_details: BTreeMap::new(),
        statuses: BTreeMap::from([("200".to_owned(), 400_000)]),
        server: None,
        client: Client {
            workers: 1,
            cpu_seconds: 4.2,
            cpu_seconds_per_request: Some(10.5e-6),
            user_bytes: 6 << 20,
            ..Client::default()
        },
        series: series(&phases).into_iter().take(10).collect(),
        phases,
        ..open_loop()
    }
}

/// Streams of events, held for five minutes.
pub(crate) fn streams() -> Report {
    let phases =
        vec![phase("open", 0.0, 5.0, 0, Quantiles::default()), phase("hold", 5.0, 300.0, 0, Quantiles::default())];
    let mut series = series(&phases);
    series.iter_mut().for_each(|second| second.events = second.open);
    Report {
        seconds: 300.0,
        requests: Requests::default(),
        server: open_loop().server.map(|server| Server { cpu_seconds_per_request: None, ..server }),
        client: Client { cpu_seconds_per_request: None, ..open_loop().client },
        latency: Quantiles::default(),
        latency_curve: Vec::new(),
        send_delay: Quantiles::default(),
        errors: BTreeMap::new(),
        error_details: BTreeMap::new(),
        events: Some(Events {
            received: 300_000,
            per_second: 1000.0,
            missing: 4,
            delay: latencies(10_000, 0.000_7).quantiles(),
            interval: latencies(10_000, 0.5).quantiles(),
        }),
        series,
        phases,
        ..open_loop()
    }
}
