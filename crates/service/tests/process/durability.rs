//! kill -9 loses no acknowledged change and tears none: of the service, on either store, and of the PostgreSQL beneath it.
//!
//! Sixteen clients create, replace and delete users until they are cut off. What a client was told must be there afterwards; what
//! it had asked for without an answer may be.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::postgres::{self, Differences, Server};
use crate::running::{Client, Running, command, eventually};

const ROUNDS: usize = 200;
/// Rounds in which PostgreSQL itself is killed.
const SERVER_ROUNDS: usize = 20;
const CLIENTS: usize = 16;
/// To PostgreSQL. Each costs a round some time, because a password is hashed thousands of times for it.
const CONNECTIONS: &str = "4";
/// A round ends after this many acknowledgements at the latest.
const ACKNOWLEDGED_MAX: u64 = 150;
/// Nothing that works takes this long for one acknowledgement.
const PATIENCE: Duration = Duration::from_secs(60);
/// One user of this many is deleted.
const DELETED_EACH: usize = 4;

/// What a client was told of a user.
struct Acknowledged {
    id: i64,
    told: Told,
}

struct Told {
    /// All names of this user begin so; the number of the version follows.
    user: String,
    version: u32,
    is_deleted: bool,
    will_be_deleted: bool,
}

impl Told {
    fn name(&self, version: u32) -> String {
        format!("{} {version}", self.user)
    }

    /// Whether the user may be stored with that name, or not at all, once the client was cut off.
    fn allows(&self, stored: Option<&str>) -> bool {
        let replaced = stored.is_some_and(|name| name == self.name(self.version + 1));
        match stored {
            Some(name) => !self.is_deleted && (name == self.name(self.version) || self.version == 1 && replaced),
            None => self.is_deleted || self.version == 2 && self.will_be_deleted,
        }
    }
}

/// A row as it is stored: id, name, address.
type Row = (i64, String, String);

fn address(name: &str) -> String {
    format!("{}@example.org", name.replace(' ', "."))
}

#[test]
fn row_105_kill_9_loses_no_acknowledged_change_in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let stored = || rows_of_file(&directory.path().join("baiwan.db"));
    survive(|| Running::start(command(directory.path())), stored);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_105_kill_9_loses_no_acknowledged_change_in_postgresql() {
    let directory = tempfile::tempdir().unwrap();
    let database = Server::shared().database();
    // Two hundred starts, beside all other tests on the same server: that one of them waits is no failure.
    let url = format!("{}?connect_timeout=60", database.url);
    let start = || {
        let mut command = command(directory.path());
        command.env("DATABASE_URL", &url).env("DATABASE_CONNECTIONS", CONNECTIONS);
        Running::start_with_store(command)
    };
    survive(start, || rows_of_database(&database.keeper_url));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_105_kill_9_of_postgresql_loses_no_acknowledged_change_and_needs_no_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(Differences { fsync: true, ..Differences::default() });
    let database = server.database();
    let mut command = command(directory.path());
    command.env("DATABASE_URL", &database.url).env("DATABASE_CONNECTIONS", CONNECTIONS);
    let service = Running::start_with_store(command);
    let mut acknowledged = HashMap::new();
    for round in 0..SERVER_ROUNDS {
        let clients = Clients::start(service.address, round);
        clients.wait(&mut acknowledged);
        server.kill();
        clients.stop(&mut acknowledged);
        server.start_again();
        assert_all_there(&rows_of_database(&database.keeper_url), &acknowledged, round);
        eventually("the service has its store again", || service.is_ready());
    }
}

/// Kills the service in the middle of the writes, again and again.
fn survive(start: impl Fn() -> Running, stored: impl Fn() -> Vec<Row>) {
    let mut acknowledged = HashMap::new();
    for round in 0..ROUNDS {
        let service = start();
        assert_all_there(&stored(), &acknowledged, round);
        let clients = Clients::start(service.address, round);
        clients.wait(&mut acknowledged);
        service.signal(Signal::KILL);
        drop(service);
        clients.stop(&mut acknowledged);
    }
    let service = start();
    assert_all_there(&stored(), &acknowledged, ROUNDS);
    let (id, told) = acknowledged.iter().filter(|(_, told)| !told.will_be_deleted).max_by_key(|(id, _)| **id).unwrap();
    let last = service.connect().ask("GET", &format!("/api/users/{id}"), "").unwrap();
    assert!(told.allows(last.json()["name"].as_str()), "{last:?}");
}

/// Clients at work.
struct Clients {
    acknowledged: Receiver<Acknowledged>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    round: usize,
}

impl Clients {
    /// They go on after an answer that the store is late, or away; any other that is no success fails the test.
    fn start(address: SocketAddr, round: usize) -> Self {
        // Every acknowledgement fits, so that no client ever waits for the test.
        let (sender, acknowledged) = sync_channel(1 << 16);
        let over = Arc::new(AtomicBool::new(false));
        let work = |client: usize| {
            let work = Work { prefix: format!("{round}-{client}"), sender: sender.clone() };
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let Ok(mut client) = Client::connect(address) else { return };
                // Cut off, it ends.
                let mut numbers = (0..).take_while(|_| !over.load(Relaxed));
                let _ = numbers.try_for_each(|number| work.on_user(&mut client, number));
            })
        };
        let threads = (0..CLIENTS).map(work).collect();
        Self { acknowledged, over, threads, round }
    }

    /// Waits for some acknowledgements.
    fn wait(&self, acknowledged: &mut HashMap<i64, Told>) {
        for _ in 0..=RandomState::new().hash_one(self.round) % ACKNOWLEDGED_MAX {
            let one = self.acknowledged.recv_timeout(PATIENCE).expect("clients are being answered");
            acknowledged.insert(one.id, one.told);
        }
    }

    /// Waits for the end of the clients. What they were told after the last one counted counts as well.
    fn stop(self, acknowledged: &mut HashMap<i64, Told>) {
        self.over.store(true, Relaxed);
        self.threads.into_iter().for_each(|client| client.join().unwrap());
        acknowledged.extend(self.acknowledged.try_iter().map(|one| (one.id, one.told)));
    }
}

/// What one client does.
struct Work {
    prefix: String,
    sender: SyncSender<Acknowledged>,
}

impl Work {
    /// The life of one user, as far as it is acknowledged.
    fn on_user(&self, client: &mut Client, number: usize) -> std::io::Result<()> {
        let will_be_deleted = number.is_multiple_of(DELETED_EACH);
        let told = |version, is_deleted| Told {
            user: format!("{} {number}", self.prefix),
            version,
            is_deleted,
            will_be_deleted,
        };
        let body = |version| {
            let name = told(version, false).name(version);
            serde_json::json!({"name": name, "email": address(&name)}).to_string()
        };
        let created = client.ask("POST", "/api/users", &body(1))?;
        if !is_success(created.status) {
            return Ok(());
        }
        let id = created.json()["id"].as_i64().unwrap();
        let acknowledge = |told| self.sender.try_send(Acknowledged { id, told }).unwrap();
        acknowledge(told(1, false));
        let path = format!("/api/users/{id}");
        if !is_success(client.ask("PUT", &path, &body(2))?.status) {
            return Ok(());
        }
        acknowledge(told(2, false));
        if will_be_deleted && is_success(client.ask("DELETE", &path, "")?.status) {
            acknowledge(told(2, true));
        }
        Ok(())
    }
}

/// Whether something was acknowledged. On a busy machine the store may be late.
fn is_success(status: u16) -> bool {
    let is_success = (200..300).contains(&status);
    assert!(is_success || status == 503, "answered with {status}");
    is_success
}

fn rows_of_file(file: &Path) -> Vec<Row> {
    let connection = Connection::open(file).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let mut statement = connection.prepare("SELECT id, name, email FROM users").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn rows_of_database(url: &str) -> Vec<Row> {
    let rows = postgres::run(url, "SELECT id, name, email FROM users");
    let row = |row: Vec<String>| {
        let [id, name, email] = row.try_into().unwrap();
        (id.parse().unwrap(), name, email)
    };
    rows.into_iter().map(row).collect()
}

fn assert_all_there(rows: &[Row], acknowledged: &HashMap<i64, Told>, round: usize) {
    for (id, name, email) in rows {
        assert_eq!(*email, address(name), "user {id} is torn, before round {round}");
    }
    let stored: HashMap<i64, &str> = rows.iter().map(|(id, name, _)| (*id, &**name)).collect();
    for (id, told) in acknowledged {
        let stored = stored.get(id).copied();
        let (user, version) = (&told.user, told.version);
        assert!(told.allows(stored), "{user} was told version {version}, before round {round}; stored is {stored:?}");
    }
}
