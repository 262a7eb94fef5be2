//! Cores with fd tables of their own, in the service as a process.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::running::{Client, Running, command};

const CORES: usize = 4;
/// This number of connections misses one of four cores once in 10^12.
const CLIENTS: usize = 100;

fn with_tables(directory: &std::path::Path) -> Command {
    let mut command = command(directory);
    command.env("FD_TABLES", "per-core").env("WORKERS", CORES.to_string());
    command
}

impl Running {
    /// Folders of `/proc`, one for each thread.
    fn tasks(&self) -> impl Iterator<Item = std::path::PathBuf> {
        std::fs::read_dir(self.in_proc("task")).unwrap().map(|task| task.unwrap().path())
    }

    fn thread(&self, name: &str) -> Pid {
        let is_it = |task: &std::path::PathBuf| std::fs::read_to_string(task.join("comm")).unwrap().trim() == name;
        let task = self.tasks().find(is_it).unwrap();
        Pid::from_raw(task.file_name().unwrap().to_str().unwrap().parse().unwrap()).unwrap()
    }

    /// The files of each thread, by its name: links as the kernel writes them.
    pub(crate) fn files_of_threads(&self) -> Vec<(String, Vec<String>)> {
        let files_of = |task: std::path::PathBuf| {
            let name = std::fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
            let files = std::fs::read_dir(task.join("fd")).unwrap();
            // A file may be gone when it is looked at.
            let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
            (name, links.map(|link| link.to_string_lossy().into_owned()).collect())
        };
        self.tasks().map(files_of).collect()
    }
}

/// How many of a thread's files are the database's.
fn database(files: &[String]) -> usize {
    files.iter().filter(|link| link.contains("baiwan.db")).count()
}

#[test]
fn the_service_works_with_a_table_for_each_core() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_tables(directory.path()));
    assert_eq!(service.ready["fd_tables"], "per-core");
    let copied = service.files_of_threads().iter().map(|(_, files)| database(files)).min().unwrap();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| service.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let created = client.ask("POST", "/api/users", &json!({"name": format!("user {number}")}).to_string()).unwrap();
        assert_eq!(created.status, 201, "{created:?}");
        let path = format!("/api/users/{}", created.json()["id"]);
        assert_eq!(client.ask("GET", &path, "").unwrap().json(), created.json());
        assert_eq!(client.ask("GET", "/health", "").unwrap().json()["status"], "healthy");
        assert_eq!(client.ask("POST", "/echo", "hello").unwrap().body, b"Echo: hello");
    }
    let page = clients[0].ask("GET", "/api/users?limit=100", "").unwrap().json();
    assert_eq!(page["users"].as_array().unwrap().len(), CLIENTS);
    for client in &mut clients {
        assert_eq!(client.ask("GET", "/health/ready", "").unwrap().status, 200);
    }
    let threads = service.files_of_threads();
    let cores: Vec<_> = threads.iter().filter(|(name, _)| name.starts_with("baiwan-core-")).collect();
    assert_eq!(cores.len(), CORES);
    for (name, files) in cores {
        // What the store had open at the start was copied. A core that has read has opened nothing.
        assert_eq!(database(files), copied, "{name} has opened the database: {files:?}");
        let sockets = files.iter().filter(|link| link.starts_with("socket:")).count();
        assert!(sockets < CLIENTS, "{name} has {sockets} sockets");
    }
    drop(clients);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.lines().last().unwrap().contains("stopped"), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    assert!(!directory.path().join("baiwan.db-wal").exists(), "the log was moved into the file");
}

#[test]
fn sigterm_is_seen_whichever_thread_it_reaches() {
    for core in 0..CORES {
        let directory = tempfile::tempdir().unwrap();
        let service = Running::start(with_tables(directory.path()));
        assert_eq!(service.connect().ask("GET", "/health/live", "").unwrap().status, 200);
        // A signal for the process that is sent to a thread's number is handled by that thread.
        kill_process(service.thread(&format!("baiwan-core-{core}")), Signal::TERM).unwrap();
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.lines().last().unwrap().contains("stopped"), "{log}");
    }
}
