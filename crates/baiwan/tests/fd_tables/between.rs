//! What cores do for each other: wake-ups in every direction, while many connections are open whose files have the same numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::alone::alone;
use crate::rig::{Client, Rig};
use crate::{core, server};

const CORES: usize = 4;
/// So many connections miss one of four cores once in 10^12.
const CLIENTS: usize = 100;

type Question = oneshot::Sender<String>;

/// Who answers questions, by name; senders are plain memory, which all cores share.
type Desks = Arc<Mutex<BTreeMap<String, mpsc::Sender<Question>>>>;

/// A task that answers, on the runtime that this is called within.
fn open_desk(desks: &Desks, name: String) {
    let (questions, mut asked) = mpsc::channel::<Question>(8);
    desks.lock().unwrap().insert(name, questions);
    tokio::spawn(async move {
        while let Some(question) = asked.recv().await {
            // So that it is this task that is woken, and then the one that asked.
            tokio::task::yield_now().await;
            let _ = question.send(core());
        }
    });
}

async fn ask(State(desks): State<Desks>, Path(name): Path<String>) -> String {
    let (question, answer) = oneshot::channel();
    let desk = desks.lock().unwrap()[&name].clone();
    desk.send(question).await.unwrap();
    format!("{} of {}", answer.await.unwrap(), core())
}

#[test]
fn tasks_of_all_cores_and_of_main_wake_each_other() {
    alone("between::tasks_of_all_cores_and_of_main_wake_each_other", || {
        let desks = Desks::default();
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, is_started) = std::sync::mpsc::sync_channel(1);
        let for_home = Arc::clone(&desks);
        let home = std::thread::Builder::new().name("home".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                open_desk(&for_home, core());
                let stopped = async { drop(stopped.await) };
                let running = server(CORES).shutdown(stopped).start_with(move |_| {
                    open_desk(&for_home, core());
                    let desks = Arc::clone(&for_home);
                    Router::new()
                        .route("/ask/{name}", get(ask))
                        .route("/core", get(|| async { core() }))
                        .with_state(desks)
                });
                let running = running.unwrap();
                started.send(running.addresses().remove(0)).unwrap();
                running.wait().await
            })
        });
        let address = is_started.recv().unwrap();
        let names: BTreeSet<String> = desks.lock().unwrap().keys().cloned().collect();
        assert_eq!(names.len(), CORES + 1);
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(&address)).collect();
        let mut cores = BTreeSet::new();
        for client in &mut clients {
            let core = client.get("/core").text().to_owned();
            for name in &names {
                assert_eq!(client.get(&format!("/ask/{name}")).text(), format!("{name} of {core}"));
            }
            cores.insert(core);
        }
        assert_eq!(cores.len(), CORES);
        // No wake-up went to anybody's connection.
        assert!(clients.iter_mut().all(|client| client.get("/core").status == 200));
        drop(clients);
        stop.send(()).unwrap();
        home.unwrap().join().unwrap().unwrap();
    });
}

#[test]
fn handlers_use_files_threads_and_sockets_of_their_core() {
    async fn read_here(State(path): State<PathBuf>) -> String {
        std::fs::read_to_string(path).unwrap()
    }
    async fn read_blocking(State(path): State<PathBuf>) -> String {
        tokio::task::spawn_blocking(move || std::fs::read_to_string(path).unwrap()).await.unwrap()
    }
    async fn from_afar(Path(port): Path<u16>) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
    async fn child() -> String {
        let output = tokio::task::spawn_blocking(|| std::process::Command::new("echo").arg("child").output());
        String::from_utf8(output.await.unwrap().unwrap().stdout).unwrap()
    }
    alone("between::handlers_use_files_threads_and_sockets_of_their_core", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "from a file").unwrap();
        let afar = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = afar.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in afar.incoming() {
                std::io::Write::write_all(&mut stream.unwrap(), b"from afar").unwrap();
            }
        });
        let app = Router::new()
            .route("/here", get(read_here))
            .route("/blocking", get(read_blocking))
            .route("/afar/{port}", get(from_afar))
            .route("/child", get(child))
            .with_state(path);
        let rig = Rig::start(server(2), app);
        let mut clients: Vec<Client<_>> = (0..40).map(|_| rig.connect()).collect();
        for _ in 0..3 {
            for client in &mut clients {
                assert_eq!(client.get("/here").text(), "from a file");
                assert_eq!(client.get("/blocking").text(), "from a file");
                assert_eq!(client.get(&format!("/afar/{port}")).text(), "from afar");
            }
        }
        assert_eq!(clients[0].get("/child").text(), "child\n");
        drop(clients);
        rig.stop();
    });
}

#[test]
fn what_a_factory_opens_is_in_the_table_of_its_core_alone() {
    alone("between::what_a_factory_opens_is_in_the_table_of_its_core_alone", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let rig = Rig::start_with(server(3), move |core| {
            let file = Arc::new(std::fs::File::create(path.join(core.to_string())).unwrap());
            assert!(Handle::try_current().is_ok());
            Router::new().route("/", get(|| async move { file.metadata().unwrap().len().to_string() }))
        });
        let mut found = BTreeMap::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            let name = std::fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
            let files = std::fs::read_dir(task.join("fd")).unwrap();
            let links = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
            found.insert(name, links.filter(|link| link.starts_with(directory.path())).collect::<Vec<_>>());
        }
        for core in 0..3 {
            let own = directory.path().join(core.to_string());
            assert_eq!(found.remove(&format!("baiwan-core-{core}")), Some(vec![own]));
        }
        assert!(found.values().all(Vec::is_empty), "{found:?}");
        rig.stop();
    });
}
