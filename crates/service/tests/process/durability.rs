//! kill -9 loses no acknowledged write: fifty rounds on one database.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::running::{Client, Running, command};

const ROUNDS: usize = 50;
const CLIENTS: usize = 16;
/// A round ends after at most so many acknowledgements.
const ACKNOWLEDGED_MAX: u64 = 300;

type Acknowledged = (i64, String);

#[test]
fn kill_9_loses_no_acknowledged_write() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: HashMap<i64, String> = HashMap::new();
    for round in 0..ROUNDS {
        let service = Running::start(command(directory.path()));
        assert_all_there(directory.path(), &acknowledged, round);
        // Every acknowledgement fits, so that no client ever waits for the test.
        let (sender, receiver) = sync_channel(1 << 16);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| post_until_cut(service.address, format!("{round}-{client}"), sender.clone()))
            .collect();
        drop(sender);
        let kill_after = RandomState::new().hash_one(round) % ACKNOWLEDGED_MAX;
        for _ in 0..=kill_after {
            let (id, name) = receiver.recv().unwrap();
            acknowledged.insert(id, name);
        }
        service.signal(Signal::KILL);
        drop(service);
        clients.into_iter().for_each(|client| client.join().unwrap());
        // What was acknowledged between the last one counted and the kill counts as well.
        acknowledged.extend(receiver.try_iter());
    }
    let service = Running::start(command(directory.path()));
    assert_all_there(directory.path(), &acknowledged, ROUNDS);
    let id = acknowledged.keys().max().unwrap();
    let last = service.connect().ask("GET", &format!("/api/users/{id}"), "").unwrap();
    assert_eq!(last.json()["name"].as_str(), acknowledged.get(id).map(String::as_str));
}

fn post_until_cut(address: SocketAddr, prefix: String, acknowledged: SyncSender<Acknowledged>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Ok(mut client) = Client::connect(address) else { return };
        for n in 0.. {
            let name = format!("{prefix}-{n}");
            let Ok(answer) = client.ask("POST", "/api/users", &format!(r#"{{"name":"{name}"}}"#)) else { return };
            assert_eq!(answer.status, 201, "{answer:?}");
            acknowledged.try_send((answer.json()["id"].as_i64().unwrap(), name)).unwrap();
        }
    })
}

fn assert_all_there(directory: &Path, acknowledged: &HashMap<i64, String>, round: usize) {
    let connection = Connection::open(directory.join("baiwan.db")).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "round {round}");
    let mut statement = connection.prepare("SELECT id, name FROM users").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let stored: HashMap<i64, String> = rows.collect::<Result<_, _>>().unwrap();
    for (id, name) in acknowledged {
        assert_eq!(stored.get(id), Some(name), "acknowledged before round {round}");
    }
}
