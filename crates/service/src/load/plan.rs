//! From flags to a plan. Pure, but for [`Bodies::read`].

use std::path::Path;
use std::time::Duration;

use baiwan_load::{Phase, Plan, Sources};
use http::header::{ACCEPT, CONNECTION};
use http::{HeaderMap, HeaderValue, Method};

use super::arguments::{Active, Arguments};

/// How long a run lasts where nothing says so.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// Connections that are being opened at the same time: far fewer than the 4096 that wait in a listener's queue by default.
const OPENING_MAX: u64 = 512;
/// With more connections from one address Linux looks for a free port for milliseconds; with 28,000 there is none, by default.
const OF_ONE_ADDRESS_MAX: u64 = 10_000;

/// Bodies that may come from files.
#[derive(Clone, Debug, Default)]
pub struct Bodies {
    /// Of a request.
    pub request: Option<Vec<u8>>,
    /// Of a right answer.
    pub expected: Option<Vec<u8>>,
}

impl Bodies {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// A file cannot be read: one line that names the flag and the file.
    pub fn read(arguments: &Arguments) -> Result<Self, String> {
        let read = |flag: &str, text: Option<&String>, path: Option<&Path>| match (text, path) {
            (Some(text), _) => Ok(Some(text.clone().into_bytes())),
            (None, Some(path)) => std::fs::read(path).map(Some).map_err(|error| {
                format!("{flag} is {:?}; allowed is a file that can be read: {error}", path.display().to_string())
            }),
            (None, None) => Ok(None),
        };
        Ok(Self {
            request: read("--body-file", arguments.body.as_ref(), arguments.body_file.as_deref())?,
            expected: read(
                "--expect-body-file",
                arguments.expect_body.as_ref(),
                arguments.expect_body_file.as_deref(),
            )?,
        })
    }
}

/// The plan of a run against `address`, which was looked up.
///
/// # Errors
///
/// One line that names the flag that does not fit, or says why there is no such request.
pub fn plan(arguments: &Arguments, address: &str, bodies: &Bodies) -> Result<Plan, String> {
    let default = if bodies.request.is_some() { Method::POST } else { Method::GET };
    let method = arguments.method.clone().unwrap_or(default);
    let request = arguments.url.request(&method, &headers(arguments), bodies.request.as_deref());
    Ok(Plan {
        address: address.to_owned(),
        request: request.map_err(|error| format!("there is no such request: {error}"))?,
        head_request: method == Method::HEAD,
        connections: arguments.connections,
        active: match arguments.active {
            Some(Active::Share(share)) => share,
            Some(Active::Count(count)) => count as f64 / arguments.connections as f64,
            None => 1.0,
        },
        pipeline: arguments.pipeline.unwrap_or(1),
        connect_each: arguments.close,
        reconnect: arguments.reconnect.unwrap_or_else(|| arguments.sends_requests()),
        sources: sources(arguments, address)?,
        timeout: arguments.timeout,
        expect_status: arguments.expect_status,
        expect_body: bodies.expected.clone(),
        events: arguments.sse,
        phases: phases(arguments),
    })
}

/// Whether a plan sends requests whose answers end.
pub fn asks(plan: &Plan) -> bool {
    plan.phases.iter().any(|phase| matches!(phase, Phase::Closed { .. } | Phase::Rate { .. }))
}

fn headers(arguments: &Arguments) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &arguments.header {
        headers.append(name, value.clone());
    }
    if arguments.sse && !headers.contains_key(ACCEPT) {
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    }
    if arguments.close && !headers.contains_key(CONNECTION) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    headers
}

fn sources(arguments: &Arguments, address: &str) -> Result<Option<Sources>, String> {
    let target: Option<std::net::SocketAddr> = address.parse().ok();
    match (arguments.source, target) {
        (Some(sources), Some(target)) if sources.first.is_ipv4() != target.is_ipv4() => Err(format!(
            "--source is {} and further; allowed are addresses of the same version of IP as {target}",
            sources.first
        )),
        (Some(sources), _) => Ok(Some(sources)),
        // All of it is this machine's on Linux alone.
        (None, Some(target)) if cfg!(target_os = "linux") && target.is_ipv4() && target.ip().is_loopback() => {
            let many = arguments.connections > OF_ONE_ADDRESS_MAX;
            Ok(many.then(|| "127.0.0.0/8".parse().expect("this is a network")))
        }
        (None, _) => Ok(None),
    }
}

fn phases(arguments: &Arguments) -> Vec<Phase> {
    let mut phases = Vec::new();
    if !arguments.close {
        phases.push(Phase::Open {
            ramp: arguments.ramp.unwrap_or_default(),
            ask: arguments.sse,
            opening_max: OPENING_MAX.min(arguments.connections),
        });
    }
    if arguments.sends_requests() {
        // Without an end of its own the load goes on for as long as the connections are held.
        let has_end = arguments.duration.is_some() || arguments.requests.is_some();
        let while_held = arguments.hold.filter(|_| !has_end);
        let duration = arguments.duration.or(while_held).or((!has_end).then_some(DURATION_DEFAULT));
        phases.extend(arguments.warm_up.map(|warm_up| load(arguments, Some(warm_up), None, true)));
        phases.push(load(arguments, duration, arguments.requests, false));
        phases.extend(arguments.hold.filter(|_| has_end).map(|duration| Phase::Hold { duration }));
    } else {
        let duration = arguments.hold.or(arguments.duration).unwrap_or(DURATION_DEFAULT);
        phases.push(Phase::Hold { duration });
    }
    phases.push(Phase::Close);
    phases
}

/// At a rate, a number of requests is a duration too; the shorter counts.
fn load(arguments: &Arguments, duration: Option<Duration>, requests: Option<u64>, warm_up: bool) -> Phase {
    let Some(per_second) = arguments.rate else {
        return Phase::Closed { duration, requests, each: None, outstanding_max: None, warm_up };
    };
    let until_sent = requests.and_then(|requests| Duration::try_from_secs_f64(requests as f64 / per_second).ok());
    let duration = duration.into_iter().chain(until_sent).min().unwrap_or(DURATION_DEFAULT);
    Phase::Rate { per_second, duration, warm_up }
}
