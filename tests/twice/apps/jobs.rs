//! Handlers that answer at once and leave a job behind, which the stop tells to finish, and a `main` that waits for
//! all jobs.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

use super::server;
use crate::stage::Stop;

#[derive(Clone)]
struct Jobs {
    /// Each job holds one; none is left when all have ended.
    running: mpsc::Sender<()>,
    release: Arc<Notify>,
    done: watch::Sender<u32>,
}

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let (running, mut ended) = mpsc::channel(1);
    let jobs = Jobs { running, release: Arc::default(), done: watch::channel(0).0 };
    let (release, done) = (Arc::clone(&jobs.release), jobs.done.subscribe());
    let app = Router::new()
        .route("/jobs", post(start))
        .route("/done", get(|State(jobs): State<Jobs>| async move { jobs.done.borrow().to_string() }))
        .route("/release", post(|State(jobs): State<Jobs>| async move { jobs.release.notify_one() }))
        .with_state(jobs);
    let signal = async move {
        stop.await;
        release.notify_one();
    };
    server::serve(listener, app).with_graceful_shutdown(signal).await?;
    ended.recv().await;
    let done = *done.borrow();
    if done == 2 { Ok(()) } else { Err(io::Error::other(format!("{done} jobs were done"))) }
}

async fn start(State(jobs): State<Jobs>) -> StatusCode {
    tokio::spawn(async move {
        jobs.release.notified().await;
        jobs.done.send_modify(|done| *done += 1);
        drop(jobs.running);
    });
    StatusCode::ACCEPTED
}
