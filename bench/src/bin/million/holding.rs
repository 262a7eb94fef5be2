//! Opens all connections, leaves them idle, asks on them now and then, asks once on each, and closes them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use baiwan_load::{Observer, Phase, Plan, Run, SECOND, Second, Sources, kernel_memory};

use crate::cli::{Kind, Options};
use crate::held::{self, CLOSE, Ends};
use crate::report::{self, Outcome};
use crate::servers::{self, Server};

/// Connections that are being opened at the same time.
pub(crate) const OPENING_MAX: u64 = 512;
/// Requests outstanding in the round over all connections: enough that nobody waits for work.
const ROUND_OUTSTANDING_MAX: u64 = 1_024;
/// An answer that takes longer is an error.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);
/// From when the connections are closed until the server's memory is read once more.
const GIVEN_BACK_AFTER: Duration = Duration::from_secs(5);
/// Addresses to connect from: those of the loopback network after the first.
const SOURCES: Sources = Sources { first: std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), count: 1 << 20 };
/// Sockets that show what one costs the kernel at the client's end.
const SAMPLE: usize = 4_000;

pub(crate) fn run(options: &Options, words: &[String]) -> Result<Outcome> {
    let client_kernel_bytes = client_end_bytes()?;
    let server = Server::start(options.server, options.processes, options.connections)?;
    crate::say(&format!("{}, {} connections", server.title, options.connections));
    let mut watch = Watch { ends: Ends::start(&server), server: &server, connections: options.connections };
    let plan = plan(options, &server);
    let run = Run {
        command: report::command(words),
        url: format!("http://{}", server.address),
        workers: None,
        server_pid: server.pid(),
        every: SECOND,
        worker: &crate::worker,
    };
    let load = baiwan_load::run(&plan, &run, &mut watch)?;
    // What connections have used goes back to the system a moment after they are gone.
    servers::rest(GIVEN_BACK_AFTER);
    watch.ends.read(&server);
    let ends = watch.ends;
    Ok(held::outcome(options, &server, &load, &ends, client_kernel_bytes))
}

/// A connection that is lost stays lost, and counts.
fn plan(options: &Options, server: &Server) -> Plan {
    Plan {
        request: request(options.server, server),
        sources: Some(SOURCES),
        timeout: Some(TIMEOUT),
        expect_status: Some(200),
        phases: vec![
            Phase::Open { ramp: Duration::ZERO, ask: true, opening_max: OPENING_MAX },
            Phase::Hold { duration: options.idle },
            Phase::Rate { per_second: options.rate, duration: options.hold, warm_up: false },
            Phase::Closed {
                duration: None,
                requests: None,
                each: Some(1),
                outstanding_max: Some(ROUND_OUTSTANDING_MAX),
                warm_up: false,
            },
            Phase::Close,
        ],
        ..Plan::new(server.address.to_string(), options.connections)
    }
}

/// One request, as long as those of stock clients are at least.
pub(crate) fn request(kind: Kind, server: &Server) -> Vec<u8> {
    let path = match kind {
        Kind::Baiwan if server.is_one_process() => "/health/live",
        _ => "/",
    };
    format!("GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: baiwan-load\r\naccept: */*\r\n\r\n", server.address)
        .into_bytes()
}

pub(crate) fn sources() -> Sources {
    SOURCES
}

/// What the kernel takes for the client's end of a connection: the growth by sockets that are bound and not yet connected.
/// Connecting adds nothing to it that stays, but for its registration in epoll.
fn client_end_bytes() -> Result<f64> {
    use rustix::event::epoll;
    use rustix::net::{AddressFamily, SocketType, bind, socket};

    let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let before = kernel_memory::bytes()?;
    let mut sockets = Vec::with_capacity(SAMPLE);
    for index in 0..SAMPLE {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &std::net::SocketAddr::new(SOURCES.at(index as u64 / 1_000), 0)).context("cannot bind")?;
        epoll::add(&watch, &socket, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        sockets.push(socket);
    }
    let after = kernel_memory::bytes()?;
    Ok((after as f64 - before as f64) / SAMPLE as f64)
}

/// Tells of the progress, and reads what the ends of the phases have cost.
struct Watch<'a> {
    ends: Ends,
    server: &'a Server,
    connections: u64,
}

impl Observer for Watch<'_> {
    fn phase(&mut self, index: usize, phase: &Phase) {
        // A phase begins where the one before has ended.
        self.ends.read(self.server);
        if index != CLOSE {
            crate::say(phase.name());
        }
    }

    fn second(&mut self, second: &Second) {
        let Second { at, open, answered, errors, p99, .. } = second;
        let p99_ms = p99 * 1000.0;
        crate::say(&format!(
            "{at:6.0} s  {open} of {} open  {answered} answered  p99 {p99_ms:.1} ms  {errors} errors",
            self.connections
        ));
    }
}
