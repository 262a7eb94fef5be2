//! The load of wrk, as people run it, and what it says.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bench::proc_files::{self, MachineTime};

use crate::clock::now_ns;
use crate::figures::{CPU_US, Figures, MEAN_MS, OTHERS_CORES, REQUESTS_PER_SECOND};
use crate::server::Server;

/// wrk counts answers that take longer as errors: slow is not wrong.
const TIMEOUT: &str = "30s";

/// What a run of wrk gave.
pub(crate) struct Outcome {
    pub(crate) said: Said,
    /// Of wrk, user and system.
    pub(crate) cpu_ns: u64,
    /// Of the server.
    server_ns: u64,
    /// What others than wrk and the server used, in cores.
    pub(crate) others_cores: f64,
}

/// What wrk prints.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) requests: u64,
    requests_per_second: f64,
    mean_ms: f64,
    /// What it counts as errors, in its own words.
    errors: Vec<String>,
}

pub(crate) fn measure(server: &Server, threads: usize, connections: usize, duration: Duration) -> Result<Figures> {
    let outcome = run(server, threads, connections, duration)?;
    Ok(Figures::from([
        (REQUESTS_PER_SECOND, outcome.said.requests_per_second),
        (MEAN_MS, outcome.said.mean_ms),
        (CPU_US, outcome.server_ns as f64 / 1000.0 / outcome.said.requests as f64),
        (OTHERS_CORES, outcome.others_cores),
    ]))
}

/// The version, if wrk is here.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("wrk").arg("-v").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(said.split_whitespace().nth(1).unwrap_or("of an unknown version").to_owned())
}

/// The words of a run against any server, for the report.
pub(crate) fn words(threads: usize, connections: usize, duration: Duration) -> Vec<String> {
    let words = ["wrk", &format!("-t{threads}"), &format!("-c{connections}"), &format!("-d{}s", duration.as_secs())];
    words.into_iter().chain(["--timeout", TIMEOUT]).map(str::to_owned).collect()
}

/// Runs it on the core of this thread, against `GET /`. What it counts as an error is one.
pub(crate) fn run(server: &Server, threads: usize, connections: usize, duration: Duration) -> Result<Outcome> {
    let moment = || -> Result<(MachineTime, [u64; 4])> {
        let soft = server.soft_interrupts().read();
        let [wrk_ns, server_ns] = [proc_files::ended_children_cpu_ns()?, server.cpu_ns()? + soft.server_ns];
        Ok((MachineTime::read()?, [wrk_ns, server_ns, soft.client_ns, now_ns()]))
    };
    let (machine_before, before) = moment()?;
    // It must not outlive this program.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(words(threads, connections, duration))
        .arg(format!("http://{}/", server.address()))
        .stdin(Stdio::null())
        .output();
    let (machine, after) = moment()?;
    let output = output.or_else(not_found)?;
    let [cpu_ns, server_ns, soft_ns, wall_ns] = std::array::from_fn(|place| after[place] - before[place]);
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "wrk: {}", complaint.trim().lines().last().unwrap_or("failed"));
    let said = parse(&text).with_context(|| format!("wrk said something else: {text:?}"))?;
    if !said.errors.is_empty() {
        bail!("wrk: {}", said.errors.join("; "));
    }
    ensure!(said.requests > 0, "wrk: no request was answered");
    let others_cores = machine.others_cores(machine_before, cpu_ns + server_ns + soft_ns, wall_ns);
    Ok(Outcome { said, cpu_ns, server_ns, others_cores })
}

fn not_found(error: io::Error) -> Result<std::process::Output> {
    Err(error).context("cannot start wrk with setpriv")
}

/// Takes what it prints apart. Pure.
fn parse(text: &str) -> Option<Said> {
    let lines = || text.lines().map(str::trim);
    let after = |name: &str| lines().find_map(|line| line.strip_prefix(name));
    let requests = lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?;
    let mut errors = Vec::new();
    if let Some(sockets) = after("Socket errors:") {
        errors.push(format!("socket errors:{sockets}"));
    }
    if let Some(count) = after("Non-2xx or 3xx responses:") {
        errors.push(format!("{} answers were not 2xx", count.trim()));
    }
    Some(Said {
        requests,
        requests_per_second: after("Requests/sec:")?.trim().parse().ok()?,
        mean_ms: milliseconds(after("Latency")?.split_whitespace().next()?)?,
        errors,
    })
}

/// `1.02ms`, as wrk writes times.
fn milliseconds(text: &str) -> Option<f64> {
    let unit_at = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "Running 1s test @ http://127.0.0.1:8080/\n  4 threads and 100 connections\n  \
                        Thread Stats   Avg      Stdev     Max   +/- Stdev\n    \
                        Latency     1.50ms  613.23us  17.90ms   91.39%\n    \
                        Req/Sec    16.51k     1.33k   18.85k    72.50%\n  \
                        66002 requests in 1.01s, 8.12MB read\nRequests/sec:  65432.10\nTransfer/sec:      8.05MB\n";

    #[test]
    fn what_wrk_prints_is_taken_apart() {
        let said = Said { requests: 66_002, requests_per_second: 65_432.1, mean_ms: 1.5, errors: Vec::new() };
        assert_eq!(parse(SAID).unwrap(), said);
        assert_eq!(parse("unable to connect to 127.0.0.1:1 Connection refused\n"), None);
    }

    #[test]
    fn what_wrk_counts_as_an_error_is_one() {
        let errors =
            "  Socket errors: connect 0, read 3, write 0, timeout 0\n  Non-2xx or 3xx responses: 5\nRequests/sec:";
        let said = parse(&SAID.replace("Requests/sec:", errors)).unwrap();
        assert_eq!(said.errors.len(), 2, "{said:?}");
        assert!(said.errors[0].contains("read 3") && said.errors[1].contains('5'), "{said:?}");
    }

    #[test]
    fn times_have_units() {
        for (text, expected) in [("613.25us", 0.61325), ("17.90ms", 17.9), ("1.25s", 1250.0), ("2.00m", 120_000.0)] {
            assert_eq!(milliseconds(text), Some(expected), "{text}");
        }
        assert_eq!(milliseconds("17"), None);
    }
}
