//! The server that is probed, and a reader of answers that forgives nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use baiwan::{EventLoop, Running, Server};
use rustix::net::{AddressFamily, SocketType};

use crate::app::{Seen, app};

/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// One server of one core for all cases; it ends with the process.
pub(crate) struct Probed {
    pub(crate) seen: Seen,
    pub(crate) address: SocketAddr,
    _running: Mutex<Running>,
}

pub(crate) static PROBED: LazyLock<Probed> = LazyLock::new(|| {
    let seen = Seen::default();
    let builder = Server::builder().bind("127.0.0.1:0").workers(1).event_loop(EventLoop::Epoll);
    let running = builder.start(app(seen.clone())).unwrap();
    Probed { seen, address: running.addresses()[0].parse().unwrap(), _running: Mutex::new(running) }
});

/// How the bytes of a case reach the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Whole,
    /// Cut in two at this place; the second piece leaves when the server has read the first.
    Cut(usize),
    ByteByByte,
}

/// A second connection, to know when the server has read what was sent on another one before.
pub(crate) struct Fence(TcpStream);

impl Fence {
    pub(crate) fn new() -> Self {
        Self(connect())
    }

    /// Returns when the server has read all that was sent to it before: one core takes them in their order.
    fn wait(&mut self) {
        self.0.write_all(b"GET /fence HTTP/1.1\r\nHost: probe\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\nfence") {
            let mut piece = [0; 512];
            let count = self.0.read(&mut piece).unwrap();
            assert_ne!(count, 0, "the connection beside the case was closed");
            bytes.extend_from_slice(&piece[..count]);
        }
    }
}

/// Connects from an address of its own: a port may have a second connection while the first is still asked about.
fn connect() -> TcpStream {
    static CONNECTIONS: AtomicU32 = AtomicU32::new(0);
    let source = Ipv4Addr::from(0x7f01_0000 + CONNECTIONS.fetch_add(1, Relaxed));
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrV4::new(source, 0)).unwrap();
    rustix::net::connect(&socket, &PROBED.address).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `bytes` and returns all that comes until the server ends the connection, and the requests that its app has seen.
pub(crate) fn exchange(bytes: &[u8], way: Way, fence: &mut Fence) -> (Vec<u8>, Vec<String>) {
    let mut stream = connect();
    let pieces = match way {
        Way::Whole => vec![bytes],
        Way::Cut(place) => vec![&bytes[..place], &bytes[place..]],
        Way::ByteByByte => bytes.chunks(1).collect(),
    };
    for (index, piece) in pieces.into_iter().enumerate() {
        if index == 1 {
            fence.wait();
        }
        // A server that has refused already need not listen to the rest.
        if stream.write_all(piece).is_err() {
            break;
        }
    }
    let received = read_to_end(&mut stream);
    (received, PROBED.seen.take(stream.local_addr().unwrap().ip()))
}

/// As `exchange`, but the client ends its direction after `bytes`.
pub(crate) fn exchange_cut_off(bytes: &[u8]) -> (Vec<u8>, Vec<String>) {
    let mut stream = connect();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let received = read_to_end(&mut stream);
    (received, PROBED.seen.take(stream.local_addr().unwrap().ip()))
}

/// One connection that is asked step by step.
pub(crate) struct Dialogue(TcpStream);

impl Dialogue {
    pub(crate) fn new() -> Self {
        Self(connect())
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).unwrap();
    }

    /// Waits for exactly these bytes.
    pub(crate) fn expect(&mut self, bytes: &str) {
        let mut received = vec![0; bytes.len()];
        self.0.read_exact(&mut received).unwrap();
        assert_eq!(received.escape_ascii().to_string(), bytes.as_bytes().escape_ascii().to_string());
    }

    /// Waits for the head of an answer.
    pub(crate) fn head(&mut self) -> Answer {
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            received.extend(byte);
        }
        read_head(&mut &received[..]).unwrap()
    }

    /// All that comes until the server ends the connection.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        read_to_end(&mut self.0)
    }

    /// All answers until the server ends the connection.
    pub(crate) fn answers(self, methods: &[&str]) -> Vec<Answer> {
        read_answers(&self.rest(), methods).unwrap()
    }
}

fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Ok(_) => {}
        // What came before the reset is there.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no end after {:?}: {error}", received.escape_ascii().to_string()),
    }
    received
}

/// An answer as it came.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Statuses of the 1xx answers before it.
    pub(crate) interim: Vec<u16>,
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// Those that the head has announced.
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
    /// The body ended with the connection, or before it should.
    pub(crate) until_close: bool,
}

impl Answer {
    /// The value of the only field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|field| field.0 == name);
        let value = values.next().map(|(_, value)| std::str::from_utf8(value).unwrap());
        assert!(values.next().is_none(), "{name} is repeated: {self:?}");
        value
    }

    pub(crate) fn says_close(&self) -> bool {
        self.field("connection").is_some_and(|options| options.split(", ").any(|option| option == "close"))
    }
}

/// Reads all answers in `bytes`; `methods` are those of the requests. An error says where the bytes are no answer.
pub(crate) fn read_answers(mut bytes: &[u8], methods: &[&str]) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    let mut interim = Vec::new();
    while !bytes.is_empty() {
        let mut answer = read_head(&mut bytes)?;
        if answer.status < 200 {
            if answer.field("content-length").is_some() || answer.field("transfer-encoding").is_some() {
                return Err(format!("an interim answer with a body: {answer:?}"));
            }
            interim.push(answer.status);
            continue;
        }
        answer.interim = std::mem::take(&mut interim);
        let method = methods.get(answers.len()).copied().unwrap_or("GET");
        if method != "HEAD" && ![204, 304].contains(&answer.status) {
            read_body(&mut answer, &mut bytes)?;
        }
        answers.push(answer);
    }
    Ok(answers)
}

fn take_line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n").ok_or("a line has no end")?;
    let line = &bytes[..end];
    *bytes = &bytes[end + 2..];
    match line.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        true => Ok(line),
        false => Err(format!("a control byte in {:?}", line.escape_ascii().to_string())),
    }
}

fn read_head(bytes: &mut &[u8]) -> Result<Answer, String> {
    let line = take_line(bytes)?;
    let wrong = || format!("no status line: {:?}", line.escape_ascii().to_string());
    let rest = line.strip_prefix(b"HTTP/1.1 ").ok_or_else(wrong)?;
    let (status, reason) = rest.split_at_checked(3).ok_or_else(wrong)?;
    if reason.first() != Some(&b' ') {
        return Err(wrong());
    }
    let status = std::str::from_utf8(status).ok().and_then(|status| status.parse().ok()).ok_or_else(wrong)?;
    Ok(Answer { status, fields: read_fields(bytes)?, ..Answer::default() })
}

/// Field lines and the empty line behind them.
fn read_fields(bytes: &mut &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut fields = Vec::new();
    loop {
        let line = take_line(bytes)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let wrong = || format!("no field line: {:?}", line.escape_ascii().to_string());
        let colon = line.iter().position(|&byte| byte == b':').ok_or_else(wrong)?;
        let name = std::str::from_utf8(&line[..colon]).map_err(|_| wrong())?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(wrong());
        }
        fields.push((name.to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec()));
    }
}

fn read_body(answer: &mut Answer, bytes: &mut &[u8]) -> Result<(), String> {
    match (answer.field("transfer-encoding"), answer.field("content-length")) {
        (Some(_), Some(_)) => Err(format!("both length and coding: {answer:?}")),
        (Some("chunked"), None) => read_chunks(answer, bytes),
        (Some(coding), None) => Err(format!("the coding {coding}")),
        (None, Some(length)) => {
            let length: usize = length.parse().map_err(|_| format!("the length {length:?}"))?;
            answer.until_close = bytes.len() < length;
            let (body, rest) = bytes.split_at(length.min(bytes.len()));
            answer.body = body.to_vec();
            *bytes = rest;
            Ok(())
        }
        (None, None) => {
            answer.until_close = true;
            answer.body = std::mem::take(bytes).to_vec();
            Ok(())
        }
    }
}

fn read_chunks(answer: &mut Answer, bytes: &mut &[u8]) -> Result<(), String> {
    loop {
        if bytes.is_empty() {
            answer.until_close = true;
            return Ok(());
        }
        let line = std::str::from_utf8(take_line(bytes)?).unwrap();
        let length = usize::from_str_radix(line, 16).map_err(|_| format!("the chunk size {line:?}"))?;
        if length == 0 {
            answer.trailers = read_fields(bytes)?;
            let announced = answer.field("trailer").unwrap_or_default().to_owned();
            let is_announced = |name: &str| announced.split(", ").any(|announced| announced == name);
            return match answer.trailers.iter().find(|field| !is_announced(&field.0)) {
                None => Ok(()),
                Some(field) => Err(format!("a trailer that nobody announced: {field:?}")),
            };
        }
        let (data, rest) = bytes.split_at_checked(length).ok_or("a chunk is cut")?;
        *bytes = rest.strip_prefix(b"\r\n").ok_or("a chunk has no end")?;
        answer.body.extend_from_slice(data);
    }
}
