//! A server that stops under load, again and again, while its requests use what the cores share: no request that it has taken in
//! fails, and no job that a handler has left behind is lost.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use baiwan::{CloseReason, EventLoop};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use crate::rig::{Rig, eventually, server};

const ROUNDS: usize = 10;
const CLIENTS: usize = 8;
/// Answers before the server is told to stop.
const ANSWERS_BEFORE: usize = 100;
/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What all cores share, and nobody else has.
#[derive(Clone)]
struct Shared {
    client: reqwest::Client,
    pool: SqlitePool,
    upstream: String,
    jobs: Arc<Jobs>,
}

#[derive(Default)]
struct Jobs {
    begun: AtomicUsize,
    done: AtomicUsize,
}

/// Asks the other server through the client that all cores share.
async fn fetch(shared: &Shared) -> Option<String> {
    shared.client.get(&shared.upstream).send().await.ok()?.error_for_status().ok()?.text().await.ok()
}

async fn note(shared: &Shared, text: &str) -> Option<()> {
    sqlx::query("INSERT INTO notes (text) VALUES (?)").bind(text).execute(&shared.pool).await.ok().map(drop)
}

async fn work(State(shared): State<Shared>) -> Result<String, StatusCode> {
    let text = fetch(&shared).await.ok_or(StatusCode::BAD_GATEWAY)?;
    note(&shared, "request").await.ok_or(StatusCode::SERVICE_UNAVAILABLE)?;
    shared.jobs.begun.fetch_add(1, Relaxed);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if fetch(&shared).await.is_some() && note(&shared, "job").await.is_some() {
            shared.jobs.done.fetch_add(1, Relaxed);
        }
    });
    Ok(text)
}

fn options(directory: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(directory.join("notes.db")).create_if_missing(true);
    options.busy_timeout(PATIENCE).pragma("synchronous", "off")
}

/// Asks until nobody answers, and counts the answers. One that is not 200, or is cut, is a failure.
fn ask_on(address: &str, answers: &AtomicUsize) {
    while let Ok(stream) = TcpStream::connect(address) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stream = BufReader::new(stream);
        while stream.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").is_ok() {
            let mut line = String::new();
            // The server has taken no byte of a request if it says nothing.
            let Ok(1..) = stream.read_line(&mut line) else { break };
            assert_eq!(line, "HTTP/1.1 200 OK\r\n");
            let (mut length, mut is_last) = (0, false);
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
                let field = line.to_ascii_lowercase();
                length = field.strip_prefix("content-length: ").map_or(length, |value| value.trim().parse().unwrap());
                is_last |= field == "connection: close\r\n";
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            assert_eq!(body, b"from there");
            answers.fetch_add(1, Relaxed);
            if is_last {
                break;
            }
        }
    }
}

fn stop_under_load(event_loop: EventLoop, upstream: &str) {
    let directory = tempfile::tempdir().unwrap();
    let main = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = main.block_on(async {
        let pool = SqlitePoolOptions::new().max_connections(4).acquire_timeout(PATIENCE);
        let pool = pool.connect_with(options(directory.path())).await.unwrap();
        sqlx::query("CREATE TABLE notes (text TEXT NOT NULL)").execute(&pool).await.unwrap();
        pool
    });
    let jobs = Arc::new(Jobs::default());
    let client = reqwest::Client::new();
    let shared = Shared { client, pool, upstream: upstream.to_owned(), jobs: Arc::clone(&jobs) };
    let builder = server(event_loop).workers(2).shutdown_idle(Duration::from_millis(50)).shutdown_timeout(PATIENCE);
    let rig = Rig::start(builder, Router::new().route("/", get(work)).with_state(shared));
    let (address, health) = (rig.address(), rig.health.clone());
    let answers = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask_on(&address, &answers));
        }
        eventually("the server is busy", || answers.load(Relaxed) >= ANSWERS_BEFORE);
        rig.begin_stop().join().unwrap().unwrap();
    });
    let (counts, answers) = (health.counts(), answers.load(Relaxed));
    assert_eq!(answers as u64, counts.requests, "each request that was taken in is answered");
    assert_eq!((jobs.begun.load(Relaxed), jobs.done.load(Relaxed)), (answers, answers));
    assert_eq!((counts.connections, counts.closed_by(CloseReason::DrainTimeout)), (0, 0));
    main.block_on(async {
        let pool = SqlitePool::connect_with(options(directory.path())).await.unwrap();
        let notes: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&pool).await.unwrap();
        assert_eq!(notes, 2 * answers as i64);
        pool.close().await;
    });
}

pub(crate) fn no_request_fails_and_no_job_is_lost_when_a_busy_server_stops(event_loop: EventLoop) {
    let there = || async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        "from there"
    };
    let upstream = Rig::start(server(event_loop), Router::new().route("/", get(there)));
    let url = format!("http://{}/", upstream.address());
    for _ in 0..ROUNDS {
        stop_under_load(event_loop, &url);
    }
    upstream.stop();
}
