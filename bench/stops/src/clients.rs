//! The clients of the server that is stopped: each asks over one connection at a time, as fast as it is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::app::Tally;

/// Asks until nobody listens. Counts answers of 200, and returns the others.
pub(crate) async fn ask_until_nobody_answers(address: SocketAddr, tally: Arc<Tally>) -> Vec<String> {
    let mut others = Vec::new();
    while let Ok(stream) = TcpStream::connect(address).await {
        let mut stream = BufReader::new(stream);
        while stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n").await.is_ok() {
            // What is cut has no answer; the server knows whether it had been taken in.
            let Some(answer) = read_answer(&mut stream).await else { break };
            match answer.status.starts_with("HTTP/1.1 200 ") {
                true => drop(tally.answered.fetch_add(1, Relaxed)),
                false => others.push(format!("{} {}", answer.status, answer.body)),
            }
            if answer.is_last {
                break;
            }
        }
    }
    others
}

struct Answer {
    status: String,
    body: String,
    is_last: bool,
}

async fn read_answer(stream: &mut BufReader<TcpStream>) -> Option<Answer> {
    let status = read_line(stream).await?;
    let (mut length, mut is_last) = (0, false);
    loop {
        let field = read_line(stream).await?.to_ascii_lowercase();
        if field.is_empty() {
            break;
        }
        if let Some(value) = field.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        }
        is_last |= field == "connection: close";
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), is_last })
}

/// None where the connection has ended.
async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.strip_suffix("\r\n").map(str::to_owned)
}
