//! The flags of `baiwan load`: what each may be, and which mean nothing together.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use baiwan_load::{Expectations, Need, Sources, Target};
use clap::Args;
use http::{HeaderName, HeaderValue, Method};

use baiwan::parse_timeout;
use baiwan::settings::{CONNECTIONS_MAX, WORKERS_MAX, parse_count, parse_length, whole_number};

/// The most requests that one connection may have outstanding.
pub const PIPELINE_MAX: u32 = 1024;
/// The most requests a second.
pub const RATE_MAX: f64 = 1e9;

// clap takes the doc comments below as help, so they are written for the reader of `--help`.
/// The flags of `baiwan load`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// What to request.
    #[arg(value_name = "URL", help = "What to request: http://HOST[:PORT]/path?query")]
    pub url: Target,

    /// Connect to this Unix socket; the URL says what to request
    #[arg(long, value_name = "PATH", help_heading = "Connections")]
    pub unix: Option<PathBuf>,

    /// Connections, all open at the same time
    #[arg(long, default_value = "50", value_name = "N", value_parser = parse_connections, help_heading = "Connections")]
    pub connections: u64,

    /// Open them evenly over this time [default: as fast as they are taken]
    #[arg(long, value_name = "TIME", value_parser = parse_ramp, help_heading = "Connections")]
    pub ramp: Option<Duration>,

    /// Addresses to connect from: one, a range A-B, or a network such as 127.0.0.0/8 [default: the system chooses;
    /// 127.0.0.0/8 for more than 10,000 connections to an IPv4 loopback address]
    #[arg(long, value_name = "ADDRESSES", help_heading = "Connections")]
    pub source: Option<Sources>,

    /// Keep the connections open for this time; without --rate, --duration or --requests nothing is sent on them
    #[arg(long, value_name = "TIME", value_parser = parse_length, help_heading = "Connections")]
    pub hold: Option<Duration>,

    /// Open lost connections again, on or off [default: on while requests are sent]
    #[arg(long, value_name = "ON/OFF", value_parser = parse_switch, help_heading = "Connections")]
    pub reconnect: Option<bool>,

    /// Open a new connection for each request
    #[arg(long, help_heading = "Connections")]
    pub close: bool,

    /// Processes that make the load [default: as few as the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = parse_workers, help_heading = "Connections")]
    pub workers: Option<u64>,

    /// How long the load lasts [default: 10s, unless --requests or --hold sets the end]
    #[arg(long, value_name = "TIME", value_parser = parse_length, help_heading = "Load")]
    pub duration: Option<Duration>,

    /// Number of requests in all; with --duration, the run ends with whichever is over first
    #[arg(long, value_name = "N", value_parser = parse_requests, help_heading = "Load")]
    pub requests: Option<u64>,

    /// Constant rate, without waiting for earlier answers (an open loop): requests a second, in all
    #[arg(long, value_name = "R", value_parser = parse_rate, help_heading = "Load")]
    pub rate: Option<f64>,

    /// Connections that send requests, as a share (1%) or a number [default: all]
    #[arg(long, value_name = "SHARE", help_heading = "Load")]
    pub active: Option<Active>,

    /// Requests outstanding on one connection at the same time [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_pipeline, help_heading = "Load")]
    pub pipeline: Option<u32>,

    /// Make the same load for this time first, without counting it
    #[arg(long, value_name = "TIME", value_parser = parse_length, help_heading = "Load")]
    pub warm_up: Option<Duration>,

    /// Time for a whole answer, and for opening connections without progress; off is none
    // Spelled out, because clap takes an `Option` to be a flag that may be left out.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_timeout, help_heading = "Load")]
    pub timeout: std::option::Option<Duration>,

    /// Method of the requests [default: GET, with a body POST]
    #[arg(long, short = 'X', value_name = "METHOD", value_parser = parse_method, help_heading = "Request")]
    pub method: Option<Method>,

    /// A field of the requests; may be repeated
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = parse_header, help_heading = "Request")]
    pub header: Vec<(HeaderName, HeaderValue)>,

    /// Body of the requests
    #[arg(long, short = 'd', value_name = "TEXT", help_heading = "Request")]
    pub body: Option<String>,

    /// Body of the requests, from a file
    #[arg(long, value_name = "PATH", help_heading = "Request")]
    pub body_file: Option<PathBuf>,

    /// Status of a right answer [default: any below 400]
    #[arg(long, value_name = "STATUS", value_parser = parse_status, help_heading = "Answer")]
    pub expect_status: Option<u16>,

    /// Body of a right answer [default: any]
    #[arg(long, value_name = "TEXT", help_heading = "Answer")]
    pub expect_body: Option<String>,

    /// Body of a right answer, from a file
    #[arg(long, value_name = "PATH", help_heading = "Answer")]
    pub expect_body_file: Option<PathBuf>,

    /// Answers are endless streams of events; the run holds them for --duration or --hold
    #[arg(long, help_heading = "Answer")]
    pub sse: bool,

    /// Write everything that was measured as JSON; with - to standard output, and the summary to standard error
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub json: Option<PathBuf>,

    /// Write a page with charts
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub html: Option<PathBuf>,

    /// Measure CPU time and memory of the server, the process with this number on this machine
    #[arg(long, value_name = "PID", value_parser = parse_pid, help_heading = "Report")]
    pub server_pid: Option<u32>,

    /// Figures compared with values, such as 'p99<50ms,errors=0'; the exit code is 1 if one does not hold
    #[arg(long, value_name = "DEMANDS", help_heading = "Report")]
    pub expect: Option<Expectations>,

    /// Show nothing while the run goes on
    #[arg(long, help_heading = "Report")]
    pub quiet: bool,
}

/// Which connections send requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Active {
    /// A share of all: more than 0, at most 1.
    Share(f64),
    /// A number of connections, at least 1.
    Count(u64),
}

impl FromStr for Active {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ALLOWED: &str = "a share above 0% and up to 100%, such as 1%, or a number of connections from 1 on";
        let Some(percent) = text.strip_suffix('%') else {
            return whole_number(text).filter(|count| *count > 0).map(Self::Count).ok_or(ALLOWED);
        };
        let share = decimal(percent).map(|percent| percent / 100.0);
        share.filter(|share| *share > 0.0 && *share <= 1.0).map(Self::Share).ok_or(ALLOWED)
    }
}

impl Arguments {
    /// Whether requests are sent one after the other: neither streams nor connections that are only held.
    pub fn sends_requests(&self) -> bool {
        let load = self.duration.is_some() || self.requests.is_some() || self.rate.is_some() || self.active.is_some();
        !self.sse && (load || self.hold.is_none())
    }

    /// Checks what one value alone cannot show.
    ///
    /// # Errors
    ///
    /// One line that names the flag, its value and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        self.check_together()?;
        if let Some(Active::Count(count)) =
            self.active.filter(|active| matches!(active, Active::Count(count) if *count > self.connections))
        {
            return Err(format!("--active is {count}; allowed is up to --connections, which is {}", self.connections));
        }
        if self.json.is_some() && self.json == self.html {
            return Err("--json and --html are the same file; allowed are two".to_owned());
        }
        if let Some(pid) = self.server_pid.filter(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            return Err(format!(
                "--server-pid is {pid}; allowed is a process that runs on this machine, and none has this number"
            ));
        }
        let has = |need| match need {
            Need::Nothing => true,
            Need::ServerPid => self.server_pid.is_some(),
            Need::Events => self.sse,
        };
        match self.expect.as_ref().and_then(|expect| expect.unmeasured(has)) {
            Some((text, need)) => {
                Err(format!("--expect has {text:?}; that is measured only with {}", super::flag_of(need)))
            }
            None => Ok(()),
        }
    }

    fn check_together(&self) -> Result<(), String> {
        let refused = |flags: &[&str], why: &str| {
            let given = flags.iter().find_map(|flag| Some((flag, self.given(flag)?)));
            given.map_or(Ok(()), |(flag, value)| Err(format!("--{flag} is {value}; {why}")))
        };
        if self.sse {
            let flags =
                ["requests", "rate", "active", "pipeline", "warm-up", "close", "expect-body", "expect-body-file"];
            refused(&flags, "with --sse it means nothing: each connection asks once, and its answer does not end")?;
        }
        if self.close {
            let flags = ["ramp", "hold", "active", "pipeline", "reconnect"];
            refused(&flags, "with --close it means nothing: a connection lasts for one request")?;
        }
        if !self.sends_requests() && !self.sse {
            let flags = [
                "warm-up",
                "pipeline",
                "method",
                "header",
                "body",
                "body-file",
                "expect-status",
                "expect-body",
                "expect-body-file",
            ];
            refused(
                &flags,
                "with --hold alone it means nothing: no request is sent without --rate, --requests or --duration",
            )?;
        }
        for (one, other, why) in [
            ("hold", "duration", "with --sse allowed is one of --hold and --duration: they mean the same"),
            ("body", "body-file", "allowed is one of --body and --body-file"),
            ("expect-body", "expect-body-file", "allowed is one of --expect-body and --expect-body-file"),
            ("source", "unix", "with --unix there is no address to connect from"),
        ] {
            if (one != "hold" || self.sse) && self.given(other).is_some() {
                refused(&[one], why)?;
            }
        }
        Ok(())
    }

    /// The value of a flag that was given, in words.
    fn given(&self, flag: &str) -> Option<String> {
        let time = |time: Option<Duration>| time.map(|time| format!("{time:?}"));
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        match flag {
            "requests" => self.requests.map(|count| count.to_string()),
            "rate" => self.rate.map(|rate| rate.to_string()),
            "active" => self.active.map(|active| match active {
                Active::Share(share) => format!("{}%", share * 100.0),
                Active::Count(count) => count.to_string(),
            }),
            "pipeline" => self.pipeline.map(|count| count.to_string()),
            "warm-up" => time(self.warm_up),
            "ramp" => time(self.ramp),
            "hold" => time(self.hold),
            "duration" => time(self.duration),
            "close" => self.close.then(|| "given".to_owned()),
            "reconnect" => self.reconnect.map(|on| if on { "on" } else { "off" }.to_owned()),
            "method" => self.method.as_ref().map(ToString::to_string),
            "header" => self.header.first().map(|(name, _)| name.to_string()),
            "body" => self.body.as_ref().map(|body| format!("{body:?}")),
            "body-file" => path(&self.body_file),
            "expect-status" => self.expect_status.map(|status| status.to_string()),
            "expect-body" => self.expect_body.as_ref().map(|body| format!("{body:?}")),
            "expect-body-file" => path(&self.expect_body_file),
            "unix" => path(&self.unix),
            "source" => self.source.map(|source| format!("{} and {} more", source.first, source.count - 1)),
            _ => unreachable!("every flag that is refused beside another has its words"),
        }
    }
}

fn parse_connections(text: &str) -> Result<u64, String> {
    parse_count(text, CONNECTIONS_MAX)
}

fn parse_workers(text: &str) -> Result<u64, String> {
    parse_count(text, WORKERS_MAX)
}

fn parse_requests(text: &str) -> Result<u64, &'static str> {
    whole_number(text).filter(|count| *count > 0).ok_or("a whole number from 1 on")
}

fn parse_pipeline(text: &str) -> Result<u32, String> {
    parse_count(text, PIPELINE_MAX.into()).map(|count| count as u32)
}

fn parse_ramp(text: &str) -> Result<Duration, &'static str> {
    let ramp = parse_timeout(text);
    ramp.map(Option::unwrap_or_default)
        .map_err(|_| "a duration up to 24h such as 500ms, 10s or 2m; 0 is as fast as it goes")
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = decimal(text).filter(|rate| *rate > 0.0 && *rate <= RATE_MAX);
    rate.ok_or_else(|| format!("a number of requests a second above 0 and up to {RATE_MAX}, such as 0.5 or 10000"))
}

fn parse_switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off"),
    }
}

fn parse_status(text: &str) -> Result<u16, &'static str> {
    let status = whole_number(text).filter(|status| (200..=599).contains(status));
    status.map(|status| status as u16).ok_or("a final status from 200 to 599")
}

fn parse_method(text: &str) -> Result<Method, &'static str> {
    text.parse().map_err(|_| "a method such as GET or POST")
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), &'static str> {
    const ALLOWED: &str = "a name and a value, such as 'accept: text/html'";
    let (name, value) = text.split_once(':').ok_or(ALLOWED)?;
    Ok((name.parse().map_err(|_| ALLOWED)?, value.trim_matches([' ', '\t']).parse().map_err(|_| ALLOWED)?))
}

fn parse_pid(text: &str) -> Result<u32, &'static str> {
    let pid = whole_number(text).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    pid.ok_or("the number of a process")
}

/// Digits with at most one point between them.
fn decimal(text: &str) -> Option<f64> {
    let whole = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    (whole(before) && whole(after)).then(|| text.parse().ok())?
}
