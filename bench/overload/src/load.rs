//! The open loop: requests are due at random times, at the rate of the phase, whether or not earlier ones are answered.
//!
//! Each is sent on a connection that is free; where none is, it waits for one, and its latency counts from when it was due.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::connection::{Connection, REQUEST};
use crate::phase::{Outcome, PATIENCE, Record, figures};
use crate::probe::{self, Answers, Probe};

/// As many as the servers take.
pub(crate) const CONNECTIONS: usize = 2000;
/// Times the capacity, one phase after the other.
const MULTIPLES: [f64; 6] = [0.5, 1.0, 2.0, 5.0, 10.0, 0.5];
/// The phase in which the server's health is asked for, too.
const PROBED: usize = 4;

/// A request, by its phase and when it was due.
#[derive(Clone, Copy)]
struct Due {
    phase: usize,
    at: Instant,
}

#[derive(Default)]
struct Shared {
    due: RefCell<VecDeque<Due>>,
    more: Notify,
    begins: RefCell<Vec<Instant>>,
    records: RefCell<[Vec<Record>; MULTIPLES.len()]>,
    /// Requests that have no record yet.
    open: Cell<usize>,
}

impl Shared {
    fn record(&self, due: Due, outcome: Outcome) {
        let due_after = due.at.duration_since(self.begins.borrow()[due.phase]);
        self.records.borrow_mut()[due.phase].push(Record { due: due_after, took: due.at.elapsed(), outcome });
        self.open.set(self.open.get() - 1);
    }

    /// The next request that its client still waits for.
    async fn next(&self) -> Due {
        loop {
            let next = self.due.borrow_mut().pop_front();
            match next {
                Some(due) if due.at.elapsed() > PATIENCE => self.record(due, Outcome::Unsent),
                Some(due) => return due,
                None => self.more.notified().await,
            }
        }
    }
}

/// Makes the load, and prints a line for each phase.
#[expect(clippy::print_stdout, reason = "the figures are what this program is for")]
pub(crate) async fn run(
    address: SocketAddr,
    admin: Option<SocketAddr>,
    capacity: f64,
    length: Duration,
) -> anyhow::Result<()> {
    let shared = Rc::new(Shared::default());
    let mut opened = Vec::new();
    for _ in 0..CONNECTIONS {
        opened.push(Connection::open(address).await?);
    }
    for connection in opened {
        tokio::task::spawn_local(serve_due(Rc::clone(&shared), address, connection));
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut next = Instant::now() + Duration::from_millis(500);
    let probes = probe_all(address, admin, next + length * PROBED as u32, length);
    for (phase, multiple) in MULTIPLES.into_iter().enumerate() {
        shared.begins.borrow_mut().push(next);
        let ends = next + length;
        while next < ends {
            sleep_until(next).await;
            shared.due.borrow_mut().push_back(Due { phase, at: next });
            shared.open.set(shared.open.get() + 1);
            shared.more.notify_one();
            next += Duration::from_secs_f64(random.exponential() / (capacity * multiple));
        }
        next = ends;
    }
    // What is on its way is waited for, but not for ever.
    let ends = Instant::now() + length;
    while shared.open.get() > 0 && Instant::now() < ends {
        sleep_until(Instant::now() + Duration::from_millis(50)).await;
    }
    for (phase, (multiple, records)) in MULTIPLES.into_iter().zip(shared.records.borrow().iter()).enumerate() {
        let mut figures = figures(multiple, length, records);
        if phase == PROBED {
            let each = probes.iter().map(|(name, answers)| ((*name).to_owned(), probe::figures(&answers.borrow())));
            figures["probes"] = each.collect::<serde_json::Map<_, _>>().into();
        }
        println!("{figures}");
    }
    Ok(())
}

/// Has the server's health asked for from `begins` on, and where the answers will be.
fn probe_all(
    address: SocketAddr,
    admin: Option<SocketAddr>,
    begins: Instant,
    length: Duration,
) -> Vec<(&'static str, Answers)> {
    let all = [Some(Probe::of_server(address)), admin.map(Probe::of_admin)];
    let begin = |probe: Probe| {
        let answers = Answers::default();
        tokio::task::spawn_local(probe::run(probe, begins, begins + length, Rc::clone(&answers)));
        (probe.name, answers)
    };
    all.into_iter().flatten().map(begin).collect()
}

/// Sends requests that are due on one connection, one after the other, and opens it again where it was lost.
async fn serve_due(shared: Rc<Shared>, address: SocketAddr, connection: Connection) {
    let mut connection = Some(connection);
    loop {
        let due = shared.next().await;
        if connection.is_none() {
            connection = Connection::open(address).await.ok();
        }
        let answer = match &mut connection {
            Some(connection) => connection.ask(REQUEST).await.ok(),
            None => None,
        };
        match answer {
            Some(status) => shared.record(due, Outcome::Status(status)),
            None => {
                connection = None;
                shared.record(due, Outcome::Failed);
            }
        }
    }
}

/// Random numbers (xorshift64*), the same in each run.
struct Random(u64);

impl Random {
    /// The time between two arrivals of which one comes in each unit of time on average.
    fn exponential(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        -((bits as f64 + 1.0) / (1_u64 << 53) as f64).ln()
    }
}
