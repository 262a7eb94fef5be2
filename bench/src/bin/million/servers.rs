//! The server that holds the connections: started with all deadlines off, watched from outside, stopped or killed.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use baiwan_driver::{FileLimit, read_kilobytes};
use baiwan_load::process;
use rustix::process::{Pid, Signal, kill_process};

use crate::cli::Kind;

/// How long a server may take to listen, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files of a server's process, or of one core's table, that are not connections: its own, and what Baiwan sets aside.
const FILES_RESERVED: u64 = 320;
/// The same that each further core adds to every table.
const FILES_PER_CORE: u64 = 4;
/// The kernel spreads connections by hash. With this many standard deviations of room no core ever runs full.
const DEVIATIONS: f64 = 6.0;

/// A server, of one process or several.
pub(crate) struct Server {
    children: Vec<Child>,
    pub(crate) address: SocketAddrV4,
    /// What it is, for the report.
    pub(crate) title: String,
    /// Threads or processes that share the connections.
    pub(crate) parts: u64,
    folder: tempfile::TempDir,
    one_process: bool,
}

impl Server {
    /// Starts a server that has room for `connections`, and waits until it listens.
    pub(crate) fn start(kind: Kind, processes: bool, connections: u64) -> Result<Self> {
        let parts = parts(connections, FileLimit::now().hard)?;
        // Several sockets are going to listen on it, so it must be known before.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut server = Self {
            children: Vec::new(),
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port),
            title: String::new(),
            parts,
            folder: tempfile::tempdir().context("cannot make a temporary folder")?,
            one_process: !processes && matches!(kind, Kind::Baiwan),
        };
        match (kind, processes) {
            (Kind::Baiwan, false) => server.start_service()?,
            (Kind::Baiwan, true) => server.start_processes()?,
            (Kind::Nginx, _) => server.start_nginx()?,
        }
        server.wait_until_it_listens()?;
        Ok(server)
    }

    /// One process of the ready service. Where the limit of files is too low, with a table for each core.
    fn start_service(&mut self) -> Result<()> {
        let program =
            std::env::var_os("BAIWAN").map(PathBuf::from).context("BAIWAN names no program: use bench/million")?;
        let mut command = Command::new(program);
        command.arg("serve").env("HOST", "127.0.0.1").env("PORT", self.address.port().to_string());
        command.env("DATABASE_URL", format!("sqlite:{}", self.folder.path().join("baiwan.db").display()));
        self.title = "baiwan serve".to_owned();
        if self.parts > 1 {
            command.env("FD_TABLES", "per-core").env("WORKERS", self.parts.to_string());
            self.title = format!("baiwan serve, one process, FD_TABLES=per-core WORKERS={}", self.parts);
        }
        for variable in ["HEADER", "KEEP_ALIVE", "BODY", "REQUEST", "WRITE"] {
            command.env(format!("{variable}_TIMEOUT"), "0");
        }
        self.spawn(command.env("BODY_MIN_RATE", "0").env("LOG_LEVEL", "warn"))
    }

    /// Several processes of an axum app on Baiwan, one worker each, that share a port.
    fn start_processes(&mut self) -> Result<()> {
        self.title = format!("an axum app on Baiwan, {} processes on one port", self.parts);
        for _ in 0..self.parts {
            let mut command = Command::new(sibling("server-baiwan")?);
            self.spawn(command.env("ADDRESS", self.address.to_string()).env("REUSE_PORT", "1"))?;
        }
        Ok(())
    }

    fn start_nginx(&mut self) -> Result<()> {
        let folder = self.folder.path().to_owned();
        let (parts, port, files) = (self.parts, self.address.port(), FileLimit::now().hard);
        let configuration = format!(
            "daemon off;\nworker_processes {parts};\nworker_rlimit_nofile {files};\npid {folder}/nginx.pid;\n\
             error_log {folder}/error.log;\nevents {{ worker_connections {room}; }}\n\
             http {{\n  access_log off;\n  keepalive_timeout 1d;\n  keepalive_requests 1000000000;\n  server {{\n    \
             listen 127.0.0.1:{port} reuseport backlog=65535;\n    location / {{ return 200 \"hello\"; }}\n  }}\n}}\n",
            folder = folder.display(),
            room = files.saturating_sub(64),
        );
        let path = folder.join("nginx.conf");
        std::fs::write(&path, configuration)?;
        let version = Command::new("nginx").arg("-v").output().context("nginx is not installed")?;
        let version = String::from_utf8_lossy(&version.stderr).trim().replace("nginx version: ", "");
        self.title = format!("{version}, {parts} worker processes");
        let mut command = Command::new("nginx");
        self.spawn(command.arg("-p").arg(&folder).arg("-c").arg(&path))
    }

    fn spawn(&mut self, command: &mut Command) -> Result<()> {
        let program = Path::new(command.get_program()).display().to_string();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn();
        self.children.push(child.with_context(|| format!("cannot start {program}"))?);
        Ok(())
    }

    /// Asks until somebody answers.
    fn wait_until_it_listens(&mut self) -> Result<()> {
        let start = now();
        loop {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("the server ended at once, with {status}");
                }
            }
            if answers(self.address) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "the server does not answer");
            rest(Duration::from_millis(10));
        }
    }

    /// The first of its processes, whose descendants belong to it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// The process to watch, where it is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        (self.children.len() == 1).then(|| self.children[0].id())
    }

    pub(crate) fn is_one_process(&self) -> bool {
        self.one_process && self.children.len() == 1
    }

    /// Resident set size of all processes: pages that they share count for each.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let bytes = |pid| read_kilobytes(format!("/proc/{pid}/status"), "VmRSS:").unwrap_or_default();
        self.pids().into_iter().map(bytes).sum()
    }

    /// Proportional set size of all processes.
    pub(crate) fn user_bytes(&self) -> u64 {
        self.pids().into_iter().map(|pid| process::user_bytes(pid).unwrap_or_default()).sum()
    }

    /// CPU time of all processes so far, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.pids().into_iter().map(|pid| process::cpu_ns(pid).unwrap_or_default()).sum()
    }

    /// kill -9, and a new start on the same port. Returns at once.
    pub(crate) fn kill_and_restart(&mut self) -> Result<()> {
        for mut child in self.children.drain(..) {
            child.kill()?;
            child.wait()?;
        }
        self.start_service()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &self.children {
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
        let start = now();
        for child in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
                rest(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How many tables of `files` each hold `connections` that are spread over them by hash.
fn parts(connections: u64, files: u64) -> Result<u64> {
    for parts in 1..=1024u64 {
        let room = files.saturating_sub(FILES_RESERVED + FILES_PER_CORE * parts) as f64;
        let mean = connections as f64 / parts as f64;
        let most = if parts == 1 { mean } else { mean + DEVIATIONS * mean.sqrt() };
        if most <= room {
            return Ok(parts);
        }
    }
    bail!("{connections} connections do not fit into 1024 tables of {files} files (ulimit -n)")
}

/// A program beside this one.
fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "{} was not built: use bench/million", path.display());
    Ok(path)
}

fn answers(address: SocketAddrV4) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut line = String::new();
    asked.is_ok() && BufReader::new(stream).read_line(&mut line).is_ok() && line.contains(" 200 ")
}

#[expect(clippy::disallowed_methods, reason = "what is waited for is another process")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "what is waited for is another process")]
pub(crate) fn rest(duration: Duration) {
    std::thread::sleep(duration);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_tables_as_the_limit_demands() {
        assert_eq!(parts(10_000, 20_000).unwrap(), 1);
        assert_eq!(parts(1_000_000, 2_000_000).unwrap(), 1);
        let parts = parts(1_000_000, 20_000).unwrap();
        assert!((52..60).contains(&parts), "{parts}");
        assert!(super::parts(1_000_000, 400).is_err());
    }
}
