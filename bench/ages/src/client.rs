//! One process of clients: each connection asks, is idle, or reads a streamed answer, until the server ends it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::{FRAME, FRAMES};

/// Connections that are opened together, and the pause before the next: 12,500 in two seconds.
const TOGETHER: usize = 100;
const PAUSE: Duration = Duration::from_millis(16);

/// How connections were ended, by the clients' account.
#[derive(Default, Debug)]
pub(crate) struct Ends {
    /// By an answer that said so.
    pub(crate) told: usize,
    /// Between two requests.
    pub(crate) idle: usize,
    /// After a request, of whose answer nothing came.
    pub(crate) unanswered: usize,
    /// Inside an answer.
    pub(crate) torn: usize,
    /// By the second of the clock.
    pub(crate) by_second: BTreeMap<u64, usize>,
}

impl Ends {
    pub(crate) fn add(&mut self, other: &Self) {
        self.told += other.told;
        self.idle += other.idle;
        self.unanswered += other.unanswered;
        self.torn += other.torn;
        for (second, count) in &other.by_second {
            *self.by_second.entry(*second).or_default() += count;
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.by_second.values().sum()
    }

    /// What [`write`](Self::write) has written.
    pub(crate) fn read(text: &str) -> anyhow::Result<Self> {
        let mut lines = text.lines();
        let mut next = || anyhow::Ok(lines.next().context("a line is missing")?.parse::<usize>()?);
        let [told, idle, unanswered, torn] = [next()?, next()?, next()?, next()?];
        let second = |line: &str| {
            let (second, count) = line.split_once(' ').context("two numbers")?;
            anyhow::Ok((second.parse()?, count.parse()?))
        };
        Ok(Self { told, idle, unanswered, torn, by_second: lines.map(second).collect::<anyhow::Result<_>>()? })
    }

    fn write(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n{}\n", self.told, self.idle, self.unanswered, self.torn);
        for (second, count) in &self.by_second {
            text += &format!("{second} {count}\n");
        }
        text
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, idle, unanswered, torn, .. } = self;
        write!(
            f,
            "ended by an answer {told}, idle {idle}, a request not answered {unanswered}, inside an answer {torn}"
        )
    }
}

/// How a connection ended.
enum End {
    Told,
    Idle,
    Unanswered,
    Torn,
}

/// What came of a request.
enum Answer {
    Whole,
    Last,
    Ended(End),
}

/// Opens `count` connections from an address, and waits for their ends.
#[expect(clippy::print_stdout, reason = "the process that has started this one reads it")]
pub(crate) async fn run(server: SocketAddr, source: Ipv4Addr, count: usize, age: Duration) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    for number in 0..count {
        if number % TOGETHER == TOGETHER - 1 {
            tokio::time::sleep(PAUSE).await;
        }
        connections.spawn(async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind((source, 0).into())?;
            let end = live(socket.connect(server).await?, number, age).await?;
            anyhow::Ok((end, now()))
        });
    }
    let mut ends = Ends::default();
    while let Some(ended) = connections.join_next().await {
        let (end, second) = ended??;
        *ends.by_second.entry(second).or_default() += 1;
        *match end {
            End::Told => &mut ends.told,
            End::Idle => &mut ends.idle,
            End::Unanswered => &mut ends.unanswered,
            End::Torn => &mut ends.torn,
        } += 1;
    }
    print!("{}", ends.write());
    Ok(())
}

/// One in four is idle after its first request, one in four reads streams, and the others ask every 2 to 14 seconds.
async fn live(mut stream: TcpStream, number: usize, age: Duration) -> anyhow::Result<End> {
    let pause = match number % 4 {
        0 => age * 10,
        _ => Duration::from_millis(2_000 + (number as u64 * 7919) % 12_000),
    };
    let path = if number % 4 == 1 { "/streamed" } else { "/" };
    loop {
        match ask(&mut stream, path).await {
            Answer::Whole => {}
            Answer::Last => return Ok(End::Told),
            Answer::Ended(end) => return Ok(end),
        }
        let mut byte = [0];
        if tokio::time::timeout(pause, stream.read(&mut byte)).await.is_ok() {
            return Ok(End::Idle);
        }
    }
}

async fn ask(stream: &mut TcpStream, path: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Answer::Ended(End::Unanswered);
    }
    let mut bytes = Vec::new();
    loop {
        match stream.read_buf(&mut bytes).await {
            Ok(count) if count > 0 => {}
            _ if bytes.is_empty() => return Answer::Ended(End::Unanswered),
            _ => return Answer::Ended(End::Torn),
        }
        if is_whole(&bytes, path) {
            break;
        }
    }
    match String::from_utf8_lossy(&bytes).contains("connection: close") {
        true => {
            // The end is the server's.
            let _ = stream.read_to_end(&mut bytes).await;
            Answer::Last
        }
        false => Answer::Whole,
    }
}

fn is_whole(bytes: &[u8], path: &str) -> bool {
    match path {
        "/" => bytes.ends_with(b"\r\n\r\nhello"),
        _ => {
            bytes.ends_with(b"0\r\n\r\n")
                && bytes.windows(FRAME.len()).filter(|part| *part == FRAME.as_bytes()).count() == FRAMES
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the processes have nothing else in common")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
