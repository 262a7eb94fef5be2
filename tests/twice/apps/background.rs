//! A task of `main` that the handlers talk to through a channel, and that outlives every request.

use std::io;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use super::server;
use crate::stage::Stop;

enum Command {
    Add(i64),
    Read(oneshot::Sender<i64>),
}

type Commands = mpsc::Sender<Command>;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let (commands, mut received) = mpsc::channel(16);
    let (total, seen) = watch::channel(0);
    let worker = tokio::spawn(async move {
        while let Some(command) = received.recv().await {
            match command {
                Command::Add(number) => total.send_modify(|total| *total += number),
                Command::Read(answer) => {
                    let _ = answer.send(*total.borrow());
                }
            }
        }
        *total.borrow()
    });
    let app = Router::new()
        .route("/add/{number}", post(add))
        .route("/total", get(read))
        .route(
            "/wait/{least}",
            get(move |Path(least): Path<i64>| {
                let mut seen = seen.clone();
                async move {
                    seen.wait_for(|total| *total >= least).await.map(|total| total.to_string()).unwrap_or_default()
                }
            }),
        )
        .with_state(commands);
    server::serve(listener, app).with_graceful_shutdown(stop).await?;
    // All senders are gone with the app, so the worker ends.
    let total = worker.await?;
    if total != 42 { Err(io::Error::other(format!("the total is {total}"))) } else { Ok(()) }
}

async fn add(State(commands): State<Commands>, Path(number): Path<i64>) -> StatusCode {
    commands.send(Command::Add(number)).await.map_or(StatusCode::SERVICE_UNAVAILABLE, |()| StatusCode::ACCEPTED)
}

async fn read(State(commands): State<Commands>) -> Result<String, StatusCode> {
    let (answer, total) = oneshot::channel();
    commands.send(Command::Read(answer)).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    total.await.map(|total| total.to_string()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
