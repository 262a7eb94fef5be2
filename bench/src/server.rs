//! A server process: started on its core, measured from outside, killed when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use baiwan_driver::raise_file_limit;
use baiwan_load::process;
use bench::proc_files::SoftInterrupts;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::Timespec;

use crate::clock::{now_ns, settle};
use crate::connection::{Connection, Receiver};
use crate::exchange::Exchange;
use crate::peers::{Peer, Places};

/// A server that takes longer to listen has failed.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that takes longer to stop has failed.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look whether a server listens that does not say so, or has ended.
const POLL: Duration = Duration::from_millis(1);

/// How a server is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetUp {
    /// For heads and bodies, instead of Baiwan's own.
    pub(crate) deadline: Option<Duration>,
    /// Threads of Baiwan's server, 1 or 2. The second has the client's core.
    pub(crate) workers: usize,
}

impl SetUp {
    /// One worker, and its own deadlines.
    pub(crate) const USUAL: Self = Self { deadline: None, workers: 1 };
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    /// Of one that announces its address.
    output: Option<BufReader<ChildStdout>>,
    address: SocketAddrV4,
    /// When its process was started.
    started_ns: u64,
    soft_interrupts: SoftInterrupts,
}

impl Server {
    /// Starts a server on its cores and waits until it listens.
    pub(crate) fn start(peer: &Peer, places: &Places, cores: &Cores, set_up: SetUp) -> Result<Self> {
        let port = if peer.announces { 0 } else { free_port()? };
        let mut command = peer.command(places, port);
        for variable in ["HEADER_TIMEOUT", "BODY_TIMEOUT"] {
            command.env_remove(variable);
            if let Some(deadline) = set_up.deadline {
                command.env(variable, format!("{}ms", deadline.as_millis()));
            }
        }
        command.env("WORKERS", set_up.workers.to_string());
        let output = if peer.announces { Stdio::piped() } else { Stdio::null() };
        // The child inherits the affinity that this thread has at the moment.
        pin(&[cores.server, cores.client][..set_up.workers.clamp(1, 2)])?;
        let started_ns = now_ns();
        let child = command.stdin(Stdio::null()).stdout(output).spawn();
        pin(&[cores.client])?;
        let mut child = child.with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let output = child.stdout.take().map(BufReader::new);
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let mut server = Self { child, output, address, started_ns, soft_interrupts: cores.soft_interrupts };
        match server.output {
            Some(_) => server.read_address()?,
            None => server.wait_until_it_listens()?,
        }
        Ok(server)
    }

    fn read_address(&mut self) -> Result<()> {
        let output = self.output.as_mut().context("the server has no output")?;
        let timeout = Timespec { tv_sec: START_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(output.get_ref(), PollFlags::IN)], Some(&timeout));
        ensure!(ready.context("cannot wait")? > 0, "it does not say where it listens");
        let mut line = String::new();
        output.read_line(&mut line).context("cannot read the server's address")?;
        self.address = line.trim().parse().with_context(|| format!("the server did not start: {line:?}"))?;
        Ok(())
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once, with {status}");
            }
            ensure!(now_ns() - self.started_ns < START_TIMEOUT.as_nanos() as u64, "the server does not listen");
            settle(POLL);
        }
        Ok(())
    }

    /// Asks for the first answer. Returns when it came, in milliseconds from the start of the process.
    pub(crate) fn ask_first(&self) -> Result<f64> {
        let connection = Connection::bound(0)?;
        connection.connect(self.address)?;
        connection.ask(&Exchange::hello(), &mut Receiver::new())?;
        Ok((now_ns() - self.started_ns) as f64 / 1e6)
    }

    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The kernel's threads on its core and the client's.
    pub(crate) fn soft_interrupts(&self) -> SoftInterrupts {
        self.soft_interrupts
    }

    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        process::cpu_ns(self.child.id())
    }

    pub(crate) fn user_bytes(&self) -> Result<u64> {
        process::user_bytes(self.child.id())
    }

    /// Asks the server to stop in order.
    pub(crate) fn terminate(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot send a signal")
    }

    /// Waits until the process has ended by itself. Returns when, and what it said at last.
    pub(crate) fn wait_end(&mut self) -> Result<(u64, String)> {
        let begin = now_ns();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            ensure!(now_ns() - begin < STOP_TIMEOUT.as_nanos() as u64, "the server did not stop");
            settle(POLL);
        };
        let end = now_ns();
        ensure!(status.success(), "the server ended with {status}");
        let mut said = String::new();
        if let Some(output) = &mut self.output {
            output.read_to_string(&mut said).context("cannot read what the server said")?;
        }
        Ok((end, said))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; the cause was reported where it was noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

/// Which core runs what.
pub(crate) struct Cores {
    pub(crate) client: usize,
    pub(crate) server: usize,
    soft_interrupts: SoftInterrupts,
}

impl Cores {
    /// The first two cores that this process may use; the client gets the first.
    pub(crate) fn take() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot read the affinity")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(client), Some(server)) => {
                pin(&[client])?;
                Ok(Self { client, server, soft_interrupts: SoftInterrupts::find(client, server) })
            }
            _ => bail!("two cores are needed: one for the client, one for the server"),
        }
    }
}

fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on the cores {cores:?}"))
}

/// Files of a process that are not connections. Baiwan sets 144 aside with one core.
pub(crate) const FILES_RESERVED: u64 = 160;

/// Raises the limit of open files, which servers inherit, and checks that it suffices for these connections.
pub(crate) fn check_file_limit(connections: usize) -> Result<()> {
    let files = raise_file_limit().soft;
    let needed = connections as u64 + FILES_RESERVED;
    ensure!(files >= needed, "{connections} connections need {needed} open files, the limit is {files} (ulimit -n)");
    Ok(())
}
