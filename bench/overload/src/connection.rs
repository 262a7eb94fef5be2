//! One connection: a request, its answer, the next.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is asked of the app.
pub(crate) const REQUEST: &str = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
const ANSWER_BYTES_MAX: usize = 4096;

pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a request; the status of its answer.
    pub(crate) async fn ask(&mut self, request: &str) -> anyhow::Result<u16> {
        self.stream.write_all(request.as_bytes()).await?;
        self.received.clear();
        loop {
            ensure!(self.received.len() < ANSWER_BYTES_MAX, "an answer without an end");
            ensure!(self.stream.read_buf(&mut self.received).await? > 0, "closed by the server");
            if let Some(status) = whole_answer(&self.received)? {
                return Ok(status);
            }
        }
    }
}

/// The status of an answer, if all of it is there.
fn whole_answer(received: &[u8]) -> anyhow::Result<Option<u16>> {
    let Some(end) = memmem::find(received, b"\r\n\r\n") else { return Ok(None) };
    let head = str::from_utf8(&received[..end])?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.parse()?;
    let fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim());
    let length: usize = length.last().unwrap_or("0").parse()?;
    Ok((received.len() >= end + 4 + length).then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(whole_answer(answer).ok(), Some(Some(503)));
        assert!((0..answer.len()).all(|end| whole_answer(&answer[..end]).ok() == Some(None)));
    }
}
