//! A private server on a free port, a client that reads what comes, and waiting for a condition.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use baiwan::{App, Builder, Error, EventLoop, Health, Running, Server};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Nothing that works takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server of one core on a free port.
pub(crate) fn server(event_loop: EventLoop) -> Builder {
    builder(event_loop).bind("127.0.0.1:0")
}

/// A server of one core that listens nowhere yet.
pub(crate) fn builder(event_loop: EventLoop) -> Builder {
    Server::builder().workers(1).event_loop(event_loop)
}

/// A server in this process. Cut when it is dropped; `stop` ends it in order.
pub(crate) struct Rig {
    pub(crate) health: Health,
    pub(crate) running: Running,
    stop: oneshot::Sender<()>,
    /// Where it was started, and is waited for.
    runtime: Runtime,
}

impl Rig {
    pub(crate) fn start<A: App + Send>(builder: Builder, app: A) -> Self {
        Self::around(builder, |builder| builder.start(app))
    }

    pub(crate) fn start_with<A: App>(builder: Builder, factory: impl Fn(usize) -> A + Send + Sync + 'static) -> Self {
        Self::around(builder, |builder| builder.start_with(factory))
    }

    fn around(builder: Builder, start: impl FnOnce(Builder) -> Result<Running, Error>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let health = builder.health();
        let stopped = async {
            // A sender that is gone says the same.
            let _ = stopped.await;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let running = {
            let _within = runtime.enter();
            start(builder.shutdown(stopped)).unwrap()
        };
        Self { health, running, stop, runtime }
    }

    /// Where the server listens, as it says itself.
    pub(crate) fn address(&self) -> String {
        self.running.addresses().remove(0)
    }

    pub(crate) fn connect(&self) -> Client<TcpStream> {
        Client::connect(&self.address())
    }

    /// Tells the server to stop; the thread ends when it has.
    pub(crate) fn begin_stop(self) -> JoinHandle<Result<(), Error>> {
        let Self { running, stop, runtime, .. } = self;
        std::thread::spawn(move || {
            stop.send(()).unwrap();
            runtime.block_on(async { tokio::time::timeout(PATIENCE, running.wait()).await.unwrap() })
        })
    }

    /// Stops the server in order, when nobody is connected any more.
    pub(crate) fn stop(self) {
        let health = self.health.clone();
        eventually("every connection is closed", || health.connections() == 0);
        self.begin_stop().join().unwrap().unwrap();
    }
}

/// Waits for a condition, and fails when it does not come.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() {
        if condition() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("it did not come to pass that {what}");
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// One connection, used from one thread.
pub(crate) struct Client<S: Read> {
    stream: BufReader<S>,
}

impl Client<TcpStream> {
    pub(crate) fn connect(address: &str) -> Self {
        Self::over_tcp(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn over_tcp(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().unwrap()
    }

    /// A second handle on the connection, for sending without waiting or beside reading.
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.get_ref().try_clone().unwrap()
    }
}

impl Client<UnixStream> {
    pub(crate) fn connect_unix(path: &std::path::Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap())
    }

    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream) }
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, "", body)
    }

    /// Sends a request and reads the answer; each of `fields` ends with `\r\n`.
    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &str, body: &str) -> Answer {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}{length}\r\n{body}"));
        self.answer(method == "HEAD")
    }

    /// Reads an answer.
    pub(crate) fn answer(&mut self, to_head: bool) -> Answer {
        let mut answer = self.head();
        if to_head || answer.status == 204 {
            return answer;
        }
        if answer.field("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.field("content-length") {
            answer.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut answer.body).unwrap();
        } else {
            self.stream.read_to_end(&mut answer.body).unwrap();
        }
        answer
    }

    /// Reads the head of an answer.
    pub(crate) fn head(&mut self) -> Answer {
        let line = self.line();
        let status = line.strip_prefix("HTTP/1.1 ").or(line.strip_prefix("HTTP/1.0 ")).and_then(|rest| rest.get(..3));
        let status = status.unwrap_or_else(|| panic!("not the start of an answer: {line:?}")).parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line, "", "a field, or the end of the head");
                return Answer { status, fields, body: Vec::new() };
            };
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut short: {line:?}")).to_owned()
    }

    /// Reads a chunk; `None` is the last one.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().expect("the answer was cut")
    }

    /// Reads a chunk; an error if the connection ends before it does.
    pub(crate) fn try_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; usize::from_str_radix(line, 16).unwrap() + 2];
        self.stream.read_exact(&mut bytes)?;
        assert!(bytes.ends_with(b"\r\n"));
        bytes.truncate(bytes.len() - 2);
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// Reads that many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Waits for the end of the connection; anything that comes before it is wrong.
    pub(crate) fn expect_end(&mut self) {
        match self.stream.read(&mut [0; 1]) {
            Ok(count) => assert_eq!(count, 0, "more than was asked for"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}
