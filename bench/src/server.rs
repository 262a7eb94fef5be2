//! A server process: started on its core, measured from outside, killed when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::clock::{now_ns, settle};
use crate::proc_files;

/// The servers, in the order of their turns.
pub(crate) const SERVERS: [&str; 2] = ["baiwan", "axum"];

/// A server that takes longer to stop has failed.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often to look whether a server has ended.
const END_POLL: Duration = Duration::from_millis(1);

/// A running server.
pub(crate) struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddrV4,
}

impl Server {
    /// Starts `server-NAME` on the server's core and waits until it listens. `deadline` is for heads and bodies, instead of the
    /// server's own.
    pub(crate) fn start(name: &str, programs: &Path, cores: &Cores, deadline: Option<Duration>) -> Result<Self> {
        let program = programs.join(format!("server-{name}"));
        // The child inherits the affinity that this thread has at the moment.
        pin(cores.server)?;
        let mut command = Command::new(&program);
        for variable in ["HEADER_TIMEOUT", "BODY_TIMEOUT"] {
            command.env_remove(variable);
            if let Some(deadline) = deadline {
                command.env(variable, format!("{}ms", deadline.as_millis()));
            }
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        pin(cores.client)?;
        let mut child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("the server has no output")?;
        let output = BufReader::new(output);
        let mut server = Self { child, output, address: SocketAddrV4::new([127, 0, 0, 1].into(), 0) };
        let mut line = String::new();
        server.output.read_line(&mut line).context("cannot read the server's address")?;
        server.address = line.trim().parse().with_context(|| format!("the server did not start: {line:?}"))?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        proc_files::cpu_ns(self.child.id())
    }

    pub(crate) fn user_bytes(&self) -> Result<u64> {
        proc_files::user_bytes(self.child.id())
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
            settle(END_POLL);
        };
        let end = now_ns();
        ensure!(status.success(), "the server ended with {status}");
        let mut said = String::new();
        self.output.read_to_string(&mut said).context("cannot read what the server said")?;
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

/// Which core runs what.
pub(crate) struct Cores {
    pub(crate) client: usize,
    pub(crate) server: usize,
}

impl Cores {
    /// The first two cores that this process may use; the client gets the first.
    pub(crate) fn take() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("cannot read the affinity")?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        match (cores.next(), cores.next()) {
            (Some(client), Some(server)) => {
                pin(client)?;
                Ok(Self { client, server })
            }
            _ => bail!("two cores are needed: one for the client, one for the server"),
        }
    }
}

fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core}"))
}

/// Raises the limit of open files, which servers inherit, and checks that it suffices for so many connections.
pub(crate) fn check_file_limit(connections: usize) -> Result<()> {
    /// Files of a process that are not connections. Baiwan sets 144 aside with one core.
    const FILES_RESERVED: u64 = 160;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let files = limit.maximum.unwrap_or(u64::MAX);
    let needed = connections as u64 + FILES_RESERVED;
    ensure!(files >= needed, "{connections} connections need {needed} open files, the limit is {files} (ulimit -n)");
    Ok(())
}

/// Builds the servers beside this program, when it runs under cargo; returns the folder that they are in.
pub(crate) fn build() -> Result<PathBuf> {
    ensure!(!cfg!(debug_assertions), "figures need optimised programs: cargo run --release");
    let program = std::env::current_exe().context("cannot find this program")?;
    let folder = program.parent().context("this program is in no folder")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let status = Command::new(cargo)
            .args([
                "build",
                "--release",
                "--locked",
                "--quiet",
                "--package",
                "bench-servers",
                "--manifest-path",
                manifest,
            ])
            .arg("--target-dir")
            .arg(folder.parent().unwrap_or(folder))
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "the servers do not build");
    }
    Ok(folder.to_owned())
}
