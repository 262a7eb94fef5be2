//! A client that sends bytes as they are given, and reads answers as they come.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::answer::Answer;
use crate::stage::{PATIENCE, Stage};

/// A socket of either kind.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

/// One connection. What is asked and answered with `ask` and `answer` stands in the stage's record.
pub(crate) struct Client<'a> {
    stage: &'a Stage,
    stream: BufReader<Socket>,
}

impl<'a> Client<'a> {
    pub(crate) fn connect(stage: &'a Stage, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stage, stream: BufReader::new(Socket::Tcp(stream)) }
    }

    pub(crate) fn connect_unix(stage: &'a Stage, path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stage, stream: BufReader::new(Socket::Unix(stream)) }
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        match self.stream.get_ref() {
            Socket::Tcp(stream) => stream.local_addr().unwrap(),
            Socket::Unix(_) => panic!("a Unix socket has no port"),
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends to a server that may have closed already.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        match self.stream.get_mut() {
            Socket::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Socket::Unix(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// Ends the own direction.
    pub(crate) fn shut(&mut self) {
        let _ = match self.stream.get_mut() {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Sends a request and reads the answer; each of `fields` ends with `\r\n`.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send_request(method, path, fields, body.as_ref());
        self.stage.note(format!("{method} {path}"));
        self.answer_to(method)
    }

    /// Asks without writing the answer down: it has an address or a time in it, or differs.
    #[track_caller]
    pub(crate) fn ask_unrecorded(&mut self, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
        self.send_request(method, path, fields, body);
        self.read_answer(method)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    /// Sends a request whose answer is read later.
    #[track_caller]
    pub(crate) fn send_request(&mut self, method: &str, path: &str, fields: &str, body: &[u8]) {
        let length = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}{length}\r\n").into_bytes();
        bytes.extend(body);
        self.send(bytes);
    }

    /// Reads an answer to that method and writes it down.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        let answer = self.read_answer(method);
        self.stage.note(answer.normalised());
        answer
    }

    /// Reads an answer that is not compared as a whole.
    #[track_caller]
    pub(crate) fn read_answer(&mut self, method: &str) -> Answer {
        let mut answer = self.read_head();
        if method == "HEAD" || [100, 101, 204, 304].contains(&answer.status()) {
            return answer;
        }
        if answer.field("transfer-encoding").is_some_and(|codings| codings.ends_with("chunked")) {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
            answer.trailers = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty())).collect();
        } else if let Some(length) = answer.field("content-length") {
            answer.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut answer.body).unwrap();
        } else {
            self.stream.read_to_end(&mut answer.body).unwrap();
        }
        answer
    }

    /// Reads the head of an answer and writes it down.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Answer {
        let head = self.read_head();
        self.stage.note(format!("head of {}", head.normalised()));
        head
    }

    #[track_caller]
    pub(crate) fn read_head(&mut self) -> Answer {
        self.try_head().expect("the head of an answer")
    }

    /// Waits for an answer to begin; no if the connection ends instead.
    pub(crate) fn is_answered(&mut self) -> bool {
        match self.stream.fill_buf() {
            Ok(bytes) => !bytes.is_empty(),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("neither an answer nor an end: {error}"),
        }
    }

    /// Reads the head of an answer; none if the connection ends instead.
    #[track_caller]
    pub(crate) fn try_head(&mut self) -> Option<Answer> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            outcome => outcome.unwrap(),
        };
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut short: {line:?}")).to_owned();
        assert!(line.starts_with("HTTP/1.") && line.len() >= 12, "not the start of an answer: {line:?}");
        let mut answer = Answer { line, fields: Vec::new(), body: Vec::new(), trailers: Vec::new() };
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else {
                assert_eq!(line.trim_end_matches(':').trim(), "", "a field, or the end of the head");
                return Some(answer);
            };
            answer.fields.push((name.to_owned(), value.to_owned()));
        }
    }

    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).unwrap();
        let line = String::from_utf8_lossy(&line);
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("cut short: {line:?}")).to_owned()
    }

    /// Reads a chunk; `None` is the last one, whose trailers follow.
    #[track_caller]
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().expect("the answer was cut")
    }

    /// Reads a chunk; an error if the connection ends before it does.
    pub(crate) fn try_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let length = usize::from_str_radix(line, 16).unwrap();
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(Some(bytes))
    }

    /// Reads that much of a chunked body's text and writes it down, however it was cut into chunks.
    #[track_caller]
    pub(crate) fn text_of_chunks(&mut self, length: usize) -> String {
        let mut text = Vec::new();
        while text.len() < length {
            text.extend(self.chunk().expect("more text"));
        }
        let text = String::from_utf8(text).unwrap();
        self.stage.note(format!("arrived: {text:?}"));
        text
    }

    /// Reads that many bytes.
    #[track_caller]
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Waits for the end of the connection; anything that comes before it is wrong.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        match self.stream.read(&mut [0; 1]) {
            Ok(count) => assert_eq!(count, 0, "more than was asked for"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        self.stage.note("the connection ended");
    }
}
