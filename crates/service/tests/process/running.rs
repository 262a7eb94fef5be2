//! The real binary, started by a test, and the smallest client that can talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A test that waits longer than this for a byte has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nothing that comes to pass takes longer.
const CONDITION_PATIENCE: Duration = Duration::from_secs(60);

/// A process that is ready; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The line that said it is ready.
    pub(crate) ready: Value,
    /// The lines before it.
    pub(crate) said_before: Vec<Value>,
    /// What it said since.
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// The binary with its database in `directory`, on a free port, and nothing of this test's environment.
pub(crate) fn command(directory: &Path) -> Command {
    with_settings(Command::new(env!("CARGO_BIN_EXE_baiwan")), directory)
}

pub(crate) fn with_settings(mut command: Command, directory: &Path) -> Command {
    command.env_clear().env("STATE_DIRECTORY", directory).env("HOST", "127.0.0.1").env("PORT", "0");
    // Tests of the admin side ask for one; standard output is the test's own.
    command.env("ADMIN_HOST", "off").env("ACCESS_LOG", "off");
    command.env("LOG_FORMAT", "json").stderr(Stdio::piped());
    command
}

impl Running {
    /// Starts the command and returns once it says that it is ready.
    pub(crate) fn start(command: Command) -> Self {
        Self::start_telling(command, |_| {})
    }

    /// The same, and tells the number of the process before that.
    pub(crate) fn start_telling(mut command: Command, tell: impl FnOnce(i32)) -> Self {
        let mut child = command.spawn().unwrap();
        tell(Pid::from_child(&child).as_raw_nonzero().get());
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let (said_before, ready) = until_ready(&mut stderr);
        let first = ready["addresses"].as_str().unwrap().split(' ').next().unwrap();
        let address = first.strip_prefix("http://").unwrap().parse().unwrap();
        // Read to the end on a thread, so that the process never waits for a reader.
        let log = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                lines.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Self { child, address, ready, said_before, log, reader: Some(reader) }
    }

    /// Starts the command and returns once its store answers as well.
    pub(crate) fn start_with_store(mut command: Command) -> Self {
        command.env("READY_REQUIRES", "store");
        let service = Self::start(command);
        eventually("the service has its store", || service.is_ready());
        service
    }

    /// Whether all its cores are: so many connections miss one of eight once in 80,000 times.
    pub(crate) fn is_ready(&self) -> bool {
        (0..100).all(|_| self.connect().ask("GET", "/health/ready", "").unwrap().status == 200)
    }

    /// What Linux says of the process in a file of `/proc`.
    pub(crate) fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(self.in_proc(name)).unwrap()
    }

    /// The most memory that the process has had resident so far.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A file or folder that the kernel has of the process.
    pub(crate) fn in_proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.child.id()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end; returns how it ended and what it had said since it was ready.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        (status, self.log())
    }

    /// What it has said since it was ready.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for the line of the log whose message begins so.
    pub(crate) fn line(&self, message: &str) -> Value {
        let mut found = None;
        eventually(&format!("it says {message:?}"), || {
            let lines = self.log();
            let mut lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            found = lines.find(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message)));
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it says before it is ready, and that it is.
fn until_ready(stderr: &mut BufReader<ChildStderr>) -> (Vec<Value>, Value) {
    let mut said = Vec::new();
    loop {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended before it was ready: {said:?}");
        let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
        if value["message"] == "baiwan is ready" {
            return (said, value);
        }
        said.push(value);
    }
}

/// Waits for a condition, and fails when it does not come.
#[expect(clippy::disallowed_methods, reason = "a wait for another process is one of real time")]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !condition() {
        assert!(begin.elapsed() < CONDITION_PATIENCE, "it did not come to pass that {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// One connection, kept alive.
pub(crate) struct Client(BufReader<TcpStream>);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// The same connection, for another thread to send on.
    pub(crate) fn another_hand(&self) -> Self {
        Self(BufReader::new(self.0.get_ref().try_clone().unwrap()))
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        self.send_request(method, path, body)?;
        self.answer(method)
    }

    pub(crate) fn send_request(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<()> {
        let length = body.len();
        let fields = format!("host: test\r\ncontent-type: application/json\r\ncontent-length: {length}");
        self.send(format!("{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n{body}").as_bytes())
    }

    /// The users that the service lists first, a hundred at most.
    pub(crate) fn users(&mut self) -> Vec<Value> {
        let answer = self.ask("GET", "/api/users?limit=100", "").unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["users"].as_array().unwrap().clone()
    }

    /// Reads a whole answer to a request of that method.
    pub(crate) fn answer(&mut self, method: &str) -> std::io::Result<Answer> {
        let head = self.head()?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // These have no content (RFC 9110, sections 15.3.5 and 15.4.5).
        let is_empty = method == "HEAD" || status == 204 || status == 304;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = self.bytes(if is_empty { 0 } else { length.unwrap().parse().unwrap() })?;
        Ok(Answer { status, head, body })
    }

    /// Reads a status line and fields, through the empty line.
    pub(crate) fn head(&mut self) -> std::io::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head.to_ascii_lowercase())
    }

    pub(crate) fn bytes(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether the server has closed the connection, after waiting for it.
    pub(crate) fn is_closed_by_server(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}
