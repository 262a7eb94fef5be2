//! One client: its connection, its requests, and what became of each.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tally::Tally;

/// An answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// A client creates a user with every fifth request, and reads with the others.
const CREATES_EVERY: u64 = 5;

pub(crate) struct Client {
    address: SocketAddr,
    name: String,
    keeps: bool,
    asked: u64,
    kept: Option<BufReader<TcpStream>>,
}

/// Why a request was not answered.
enum Fault {
    Connect(io::Error),
    /// The connection ended before a byte of the answer had come.
    Closed(io::Error),
    /// It ended later, or what came is no answer.
    Cut(io::Error),
    TooSlow,
}

struct Answer {
    status: u16,
    is_last: bool,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, name: String, keeps: bool) -> Self {
        Self { address, name, keeps, asked: 0, kept: None }
    }

    /// Asks once, and counts what becomes of it.
    pub(crate) async fn ask(&mut self, tally: &mut Tally) {
        self.asked += 1;
        let creates = self.asked.is_multiple_of(CREATES_EVERY);
        let request = self.request(creates);
        let mut was_kept = self.kept.is_some();
        let outcome = loop {
            match timeout(PATIENCE, self.exchange(&request)).await.unwrap_or(Err(Fault::TooSlow)) {
                Err(Fault::Closed(error)) if is_orderly(&error) && std::mem::take(&mut was_kept) => tally.again += 1,
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(answer) if answer.status == if creates { 201 } else { 200 } => {
                tally.answered += 1;
                tally.created += u64::from(creates);
            }
            Ok(answer) => tally.fail(format!("status {}", answer.status)),
            Err(Fault::Connect(error)) => {
                tally.refused += u64::from(error.kind() == io::ErrorKind::ConnectionRefused);
                tally.fail(format!("connect: {error}"));
            }
            Err(Fault::Closed(error)) => {
                tally.reset += u64::from(error.kind() == io::ErrorKind::ConnectionReset);
                tally.fail(format!("closed before the answer: {error}"));
            }
            Err(Fault::Cut(error)) => tally.fail(format!("cut in the answer: {error}")),
            Err(Fault::TooSlow) => tally.fail("no answer in time".to_owned()),
        }
    }

    fn request(&self, creates: bool) -> String {
        let last = if self.keeps { "" } else { "connection: close\r\n" };
        if !creates {
            return format!("GET /api/users?limit=1 HTTP/1.1\r\nhost: bench\r\n{last}\r\n");
        }
        let user = format!("{}-{}", self.name, self.asked);
        let body = format!("{{\"name\":\"{user}\"}}");
        let fields = format!("host: bench\r\ncontent-type: application/json\r\nidempotency-key: \"{user}\"\r\n{last}");
        format!("POST /api/users HTTP/1.1\r\n{fields}content-length: {}\r\n\r\n{body}", body.len())
    }

    async fn exchange(&mut self, request: &str) -> Result<Answer, Fault> {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await.map_err(Fault::Connect)?;
                stream.set_nodelay(true).map_err(Fault::Connect)?;
                BufReader::new(stream)
            }
        };
        stream.write_all(request.as_bytes()).await.map_err(Fault::Closed)?;
        if stream.fill_buf().await.map_err(Fault::Closed)?.is_empty() {
            return Err(Fault::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
        let answer = read_answer(&mut stream).await.map_err(Fault::Cut)?;
        self.kept = Some(stream).filter(|_| self.keeps && !answer.is_last);
        Ok(answer)
    }
}

/// Whether the other side has closed the connection, and not reset it: not even where the request came after that (tcp(7), `EPIPE`).
fn is_orderly(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe)
}

async fn read_answer(stream: &mut BufReader<TcpStream>) -> io::Result<Answer> {
    let line = read_line(stream).await?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let (mut length, mut is_last) = (0, false);
    loop {
        let field = read_line(stream).await?.to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length: ") {
            length = value.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
        is_last |= field == "connection: close";
    }
    stream.read_exact(&mut vec![0; length]).await?;
    Ok(Answer { status, is_last })
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What is counted where the second request on a connection finds it closed in order, or reset.
    async fn counted(is_reset: bool) -> Tally {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let serving = tokio::spawn(async move {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            for number in 0..2 {
                let (mut stream, _) = listener.accept().await.expect("it connects");
                let mut request = [0; 1024];
                let taken = stream.read(&mut request).await.expect("it asks");
                stream.write_all(answer).await.expect("it listens");
                assert!(taken > 0 && stream.read(&mut request).await.is_ok());
                if number == 0 && is_reset {
                    stream.set_zero_linger().expect("it is a socket");
                }
            }
        });
        let (mut client, mut tally) = (Client::new(address, "test".to_owned(), true), Tally::default());
        client.ask(&mut tally).await;
        client.ask(&mut tally).await;
        serving.abort();
        tally
    }

    #[tokio::test]
    async fn a_request_whose_connection_is_reset_has_failed_and_one_whose_is_closed_is_asked_once_more() {
        let closed = counted(false).await;
        assert_eq!((closed.answered, closed.again, closed.reset, closed.failed), (2, 1, 0, 0), "{:?}", closed.failures);
        let reset = counted(true).await;
        assert_eq!((reset.answered, reset.again, reset.reset, reset.failed), (1, 0, 1, 1), "{:?}", reset.failures);
    }
}
