//! A Redis of the tests' own, on a free port of 127.0.0.1, gone with this process.
//!
//! A shell starts it and reads from a pipe: however this process ends, the pipe ends with it, and the shell stops the server.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// Starts what follows, says its number, and stops it at the end of its input.
const GUARDIAN: &str = r#"
"$@" </dev/null >/dev/null 2>&1 &
server=$!
echo "$server"
read -r order
kill -CONT "$server"
kill -KILL "$server"
"#;

/// A server that keeps nothing on a disk.
pub(crate) struct Server {
    guardian: Child,
    /// Its end is the server's.
    order: Option<ChildStdin>,
    process: String,
    pub(crate) port: u16,
}

impl Server {
    /// Starts one, and waits until it listens. `redis-server` must be installed.
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(port)
    }

    /// As [`start`](Self::start), on the port of a server that is gone.
    pub(crate) fn start_at(port: u16) -> Self {
        let mut guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian", "redis-server", "--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut process = String::new();
        BufReader::new(guardian.stdout.as_mut().unwrap()).read_line(&mut process).unwrap();
        let server = Self { order: guardian.stdin.take(), guardian, process: process.trim().to_owned(), port };
        let listens = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(listens, "redis-server does not listen; Debian has it in the package of that name");
        server
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
