//! Tokio, reqwest and sqlx inside handlers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use baiwan::EventLoop;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::rig::{Rig, eventually, server};

pub(crate) fn tasks_timers_and_blocking_calls_work_in_handlers(event_loop: EventLoop) {
    let background = Arc::new(AtomicUsize::new(0));
    let outlives = Arc::clone(&background);
    let work = || async move {
        let spawned = tokio::spawn(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            "spawned"
        });
        let local = tokio::task::spawn_local(async {
            let here = std::rc::Rc::new("local");
            tokio::task::yield_now().await;
            *here
        });
        let blocking = tokio::task::spawn_blocking(|| std::thread::current().id());
        let late = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
        // Nobody waits for this one: it goes on after the answer.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            outlives.fetch_add(1, Relaxed);
        });
        let elsewhere = blocking.await.unwrap() != std::thread::current().id();
        let local = local.await.unwrap();
        format!("{} {local} {elsewhere} {}", spawned.await.unwrap(), late.is_err())
    };
    let rig = Rig::start(server(event_loop), Router::new().route("/", get(work)));
    let mut client = rig.connect();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "spawned local true true");
    }
    eventually("tasks outlive the handler that spawned them", || background.load(Relaxed) == 10);
    drop(client);
    rig.stop();
}

pub(crate) fn a_handler_fetches_from_its_own_server_and_from_another(event_loop: EventLoop) {
    let fetch = |url: String| async move {
        let answer = reqwest::get(url).await.unwrap();
        format!("{} {}", answer.status().as_u16(), answer.text().await.unwrap())
    };
    let app = Router::new().route("/fetch", post(fetch)).route("/here", get(|| async { "from here" }));
    let rig = Rig::start(server(event_loop), app);
    let other = Rig::start(server(event_loop), Router::new().route("/there", get(|| async { "from there" })));
    let mut client = rig.connect();
    // One core: it serves the second request while the first one waits for it.
    assert_eq!(client.post("/fetch", &format!("http://{}/here", rig.address())).text(), "200 from here");
    assert_eq!(client.post("/fetch", &format!("http://{}/there", other.address())).text(), "200 from there");
    assert_eq!(client.post("/fetch", &format!("http://{}/nowhere", other.address())).text(), "404 ");
    drop(client);
    rig.stop();
    other.stop();
}

fn options(directory: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(directory.join("notes.db"))
        .create_if_missing(true)
        .busy_timeout(Duration::from_secs(60))
}

const CREATE: &str = "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)";

async fn add(State(pool): State<SqlitePool>, text: String) -> String {
    let mut transaction = pool.begin().await.unwrap();
    let insert = sqlx::query("INSERT INTO notes (text) VALUES (?)").bind(text);
    let id = insert.execute(&mut *transaction).await.unwrap().last_insert_rowid();
    transaction.commit().await.unwrap();
    id.to_string()
}

async fn all(State(pool): State<SqlitePool>) -> String {
    let texts: Vec<String> = sqlx::query_scalar("SELECT text FROM notes ORDER BY text").fetch_all(&pool).await.unwrap();
    texts.join(",")
}

fn notes(pool: SqlitePool) -> Router {
    Router::new().route("/", get(all).post(add)).with_state(pool)
}

/// Adds notes on several connections, so that both cores have some, and reads them all back.
fn use_notes(rig: &Rig) {
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let mut client = rig.connect();
            std::thread::spawn(move || {
                for letter in ['a', 'b', 'c', 'd'] {
                    let answer = client.post("/", &format!("{letter}{number}"));
                    assert_eq!(answer.status, 200);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let expected: Vec<_> =
        ["a", "b", "c", "d"].iter().flat_map(|letter| (0..8).map(move |n| format!("{letter}{n}"))).collect();
    assert_eq!(rig.connect().get("/").text(), expected.join(","));
}

pub(crate) fn a_pool_from_before_the_start_serves_all_cores(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    // As with `#[tokio::main]`: the runtime that opens the pool stays.
    let main = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let pool = main.block_on(async {
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options(directory.path())).await.unwrap();
        sqlx::query(CREATE).execute(&pool).await.unwrap();
        pool
    });
    let rig = Rig::start(server(event_loop).workers(2), notes(pool.clone()));
    use_notes(&rig);
    rig.stop();
    main.block_on(pool.close());
}

pub(crate) fn a_pool_for_each_core_is_made_on_its_thread(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let pools = Arc::new(AtomicUsize::new(0));
    let made = Arc::clone(&pools);
    let rig = Rig::start_with(server(event_loop).workers(2), move |_core| {
        made.fetch_add(1, Relaxed);
        let pool = SqlitePoolOptions::new().max_connections(2).after_connect(|connection, _| {
            Box::pin(async move { sqlx::query(CREATE).execute(connection).await.map(drop) })
        });
        notes(pool.connect_lazy_with(options(&path)))
    });
    use_notes(&rig);
    assert_eq!(pools.load(Relaxed), 2);
    rig.stop();
}
