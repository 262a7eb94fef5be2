//! A stop under full load: what becomes of the requests that were sent.
//!
//! Every connection always has a request, or a pipelined pair, outstanding. In the middle of that the server is told to stop.
//! An answer that says `Connection: close` is the last on its connection; what was sent behind it was not received, and a
//! client would repeat it elsewhere.

use std::collections::VecDeque;

use anyhow::{Context, Result, ensure};

use crate::clock::now_ns;
use crate::connection::Arrival;
use crate::exchange::{Exchange, Progress, answer_bytes, says_close};
use crate::figures::Figures;
use crate::fleet::Fleet;
use crate::rows::Plan;
use crate::server::{STOP_TIMEOUT, Server};

/// Requests that were sent whole.
pub(crate) const SENT: &str = "requests_sent";
/// Answers that came whole, and were right.
pub(crate) const ANSWERED: &str = "requests_answered";
/// Requests that the server says it has received, where it says so.
pub(crate) const RECEIVED: &str = "requests_received";
/// Received and not answered.
pub(crate) const LOST: &str = "requests_lost";
/// Sent and not answered.
pub(crate) const UNANSWERED: &str = "requests_unanswered";
/// Answers of which only a part came, and wrong ones.
pub(crate) const BROKEN: &str = "answers_broken";
/// From the signal to the end of the last connection.
pub(crate) const DRAINED_MS: &str = "drained_ms";
/// From the signal to the end of the process.
pub(crate) const STOP_MS: &str = "stop_ms";

pub(crate) fn measure(server: &mut Server, plan: &Plan, connections: usize) -> Result<Figures> {
    let mut fleet = Fleet::open(server.address(), connections, &Exchange::hello())?;
    let mut load = Load::new(&mut fleet);
    for index in 0..connections {
        load.send(index)?;
    }
    let begin = now_ns();
    while now_ns() - begin < plan.warm.as_nanos() as u64 {
        load.turn()?;
    }
    ensure!(load.open == connections, "the server closed connections before it was told to stop");
    let told = now_ns();
    server.terminate()?;
    while load.open > 0 {
        load.turn()?;
        let silence = now_ns() - told;
        ensure!(silence < STOP_TIMEOUT.as_nanos() as u64, "{} connections are open after the stop", load.open);
    }
    let (counts, drained) = (load.counts, now_ns());
    let (ended, said) = server.wait_end()?;
    let mut figures = figures(&counts, received(&said)?);
    figures.insert(DRAINED_MS, (drained - told) as f64 / 1_000_000.0);
    figures.insert(STOP_MS, (ended - told) as f64 / 1_000_000.0);
    Ok(figures)
}

/// What a server has said at last: how many requests it has received; or nothing.
fn received(said: &str) -> Result<Option<u64>> {
    match said.trim() {
        "" => Ok(None),
        number => number.parse().map(Some).with_context(|| format!("not a number of requests: {number:?}")),
    }
}

fn figures(counts: &Counts, received: Option<u64>) -> Figures {
    let mut figures = Figures::from([
        (SENT, counts.sent as f64),
        (ANSWERED, counts.answered as f64),
        (UNANSWERED, counts.sent as f64 - counts.answered as f64),
        (BROKEN, counts.broken as f64),
    ]);
    if let Some(received) = received {
        figures.insert(RECEIVED, received as f64);
        figures.insert(LOST, received as f64 - counts.answered as f64);
    }
    figures
}

#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    sent: u64,
    answered: u64,
    broken: u64,
}

/// The kinds of requests.
const KINDS: usize = 3;

/// A closed loop of mixed requests that goes on until the server ends it.
struct Load<'a> {
    fleet: &'a mut Fleet,
    exchanges: [Exchange; KINDS],
    peers: Vec<Peer>,
    open: usize,
    counts: Counts,
    ready: Vec<usize>,
}

/// One connection.
#[derive(Default)]
struct Peer {
    /// The kinds of the requests that are outstanding, in order.
    waiting: VecDeque<usize>,
    /// What has come of the next answer.
    partial: Vec<u8>,
    /// The next request's kind.
    next: usize,
    /// The server takes no more requests.
    closing: bool,
    ended: bool,
}

impl<'a> Load<'a> {
    /// On connections that were answered once.
    fn new(fleet: &'a mut Fleet) -> Self {
        let open = fleet.len();
        Self {
            exchanges: [Exchange::hello(), Exchange::echo(), Exchange::sleep()],
            peers: (0..open).map(|index| Peer { next: index % KINDS, ..Peer::default() }).collect(),
            open,
            counts: Counts { sent: open as u64, answered: open as u64, broken: 0 },
            ready: Vec::new(),
            fleet,
        }
    }

    /// Sends the next request of a connection; every fourth connection sends pairs.
    fn send(&mut self, index: usize) -> Result<()> {
        let peer = &mut self.peers[index];
        let kinds = [peer.next, (peer.next + 1) % KINDS];
        let kinds = if index % 4 == 3 { &kinds[..] } else { &kinds[..1] };
        peer.next = (peer.next + kinds.len()) % KINDS;
        let bytes: Vec<u8> = kinds.iter().flat_map(|kind| self.exchanges[*kind].request()).copied().collect();
        // If the connection has ended meanwhile, its end is about to be seen.
        if self.fleet.send_or_end(index, &bytes)? {
            self.counts.sent += kinds.len() as u64;
            peer.waiting.extend(kinds);
        }
        Ok(())
    }

    /// Waits for answers and sends what follows them.
    fn turn(&mut self) -> Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.fleet.wait(&mut ready)?;
        for &index in &ready {
            self.receive(index)?;
        }
        self.ready = ready;
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let peer = &mut self.peers[index];
        while !peer.ended {
            match self.fleet.arrival(index)? {
                Arrival::Nothing => break,
                Arrival::Bytes(bytes) => {
                    peer.partial.extend_from_slice(bytes);
                    peer.take_answers(&self.exchanges, &mut self.counts);
                }
                Arrival::End => {
                    self.counts.broken += u64::from(!peer.partial.is_empty());
                    peer.ended = true;
                    self.open -= 1;
                    self.fleet.end(index);
                }
            }
        }
        match peer.waiting.is_empty() && !peer.closing && !peer.ended {
            true => self.send(index),
            false => Ok(()),
        }
    }
}

impl Peer {
    /// Counts the answers that are whole.
    fn take_answers(&mut self, exchanges: &[Exchange; KINDS], counts: &mut Counts) {
        while let Some(length) = answer_bytes(&self.partial).filter(|length| *length <= self.partial.len()) {
            let answer: Vec<u8> = self.partial.drain(..length).collect();
            self.closing |= says_close(&answer);
            let kind = self.waiting.pop_front();
            match kind.is_some_and(|kind| exchanges[kind].progress(&answer) == Progress::Whole) {
                true => counts.answered += 1,
                false => counts.broken += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    const LAST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";

    fn take(bytes: &str) -> (Peer, Counts) {
        let mut peer = Peer { waiting: [0, 0].into(), ..Peer::default() };
        let mut counts = Counts::default();
        peer.partial.extend_from_slice(bytes.as_bytes());
        peer.take_answers(&[Exchange::hello(), Exchange::echo(), Exchange::sleep()], &mut counts);
        (peer, counts)
    }

    #[test]
    fn the_answers_of_a_pair_are_told_apart() {
        let (peer, counts) = take(&format!("{HELLO}{LAST}"));
        assert_eq!((counts.answered, counts.broken), (2, 0));
        assert!(peer.closing && peer.waiting.is_empty() && peer.partial.is_empty());
    }

    #[test]
    fn an_answer_in_part_is_not_counted() {
        let (peer, counts) = take(&format!("{HELLO}{}", &HELLO[..HELLO.len() - 1]));
        assert_eq!((counts.answered, counts.broken), (1, 0));
        assert!(!peer.closing && peer.waiting.len() == 1 && !peer.partial.is_empty());
    }

    #[test]
    fn a_wrong_answer_is_no_answer() {
        let (_, counts) = take("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        assert_eq!((counts.answered, counts.broken), (0, 1));
    }

    #[test]
    fn a_request_is_lost_when_it_was_received_and_not_answered() {
        let counts = Counts { sent: 10, answered: 7, broken: 0 };
        let figures = figures(&counts, Some(8));
        assert_eq!((figures[LOST], figures[UNANSWERED]), (1.0, 3.0));
        assert_eq!((received("8\n").unwrap(), received("").unwrap()), (Some(8), None));
        assert!(received("eight").is_err());
    }
}
