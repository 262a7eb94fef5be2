//! A Redis of the tests' own, on a free port of 127.0.0.1, gone with this process.
//!
//! A shell starts it and reads from a pipe: however this process ends, the pipe ends with it, and the shell stops the server.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Starts what follows, says its number, and stops it at the end of its input.
const GUARDIAN: &str = r#"
"$@" </dev/null 2>&1 &
server=$!
echo "$server"
exec >/dev/null
read -r order
kill -CONT "$server"
kill -KILL "$server"
"#;
/// A port that is free when it is looked for may be taken when the server comes.
const PORTS_MAX: usize = 5;

/// Whether there is a `redis-server` (Debian has it in the package of that name). Where `CI` is set there must be one; elsewhere tests
/// that need it are passed over.
pub(crate) fn is_installed() -> bool {
    let found = Command::new("redis-server").arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "redis-server is not installed");
    found
}

/// A server that keeps nothing on a disk.
pub(crate) struct Server {
    guardian: Child,
    /// Its end is the server's.
    order: Option<ChildStdin>,
    process: String,
    pub(crate) port: u16,
}

impl Server {
    /// Starts one, and waits until it listens.
    pub(crate) fn start() -> Self {
        let free_port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = (0..PORTS_MAX).find_map(|_| Self::try_start(free_port(), &[]));
        server.expect("redis-server starts")
    }

    /// As [`start`](Self::start), on the port of a server that is gone.
    pub(crate) fn start_at(port: u16) -> Self {
        Self::try_start(port, &[]).expect("the port is free again")
    }

    /// Starts one on this port, with further options; None if it ends at once.
    pub(crate) fn try_start(port: u16, options: &[&str]) -> Option<Self> {
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian", "redis-server", "--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(guardian.stdout.take().unwrap()).lines().map_while(Result::ok);
        let process = lines.next().unwrap();
        let mut server = Self { order: guardian.stdin.take(), guardian, process, port };
        let listens = lines.any(|line| line.contains("Ready to accept connections"));
        if !listens {
            server.order = None;
        }
        listens.then_some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command in it.
    pub(crate) fn command(&self, words: &[&str]) {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.contains("ERR"), "{words:?}: {text}");
    }

    /// Has it stand still, or go on.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.process]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.order.take());
        let _ = self.guardian.wait();
    }
}
