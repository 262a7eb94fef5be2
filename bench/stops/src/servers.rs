//! The servers that are stopped, each on two threads.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const WORKERS: usize = 2;
/// Idle connections of the clients must not hold up a round.
const IDLE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Server {
    Baiwan,
    Axum,
}

/// A server until it is told to stop and has.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<anyhow::Result<()>>,
    /// That of a server which brings none.
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) fn by_name(name: &str) -> anyhow::Result<Self> {
        match name {
            "baiwan" => Ok(Self::Baiwan),
            "axum" => Ok(Self::Axum),
            _ => bail!("no such server: {name}"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Baiwan => "baiwan",
            Self::Axum => "axum",
        }
    }

    pub(crate) async fn start(self, app: Router) -> anyhow::Result<Running> {
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            // A sender that is gone says the same.
            let _ = stopped.await;
        };
        match self {
            Self::Baiwan => {
                let builder = baiwan::Server::builder().bind("127.0.0.1:0").workers(WORKERS).shutdown_idle(IDLE);
                let running = builder.shutdown(stopped).start(app)?;
                let address = running.addresses().first().context("it listens nowhere")?.parse()?;
                let ended = tokio::spawn(async { Ok(running.wait().await?) });
                Ok(Running { address, stop, ended, runtime: None })
            }
            Self::Axum => {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                let runtime = runtime.worker_threads(WORKERS).enable_all().build()?;
                let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let ended = runtime.spawn(async move {
                    let listener = TcpListener::from_std(listener)?;
                    Ok(axum::serve(listener, app).with_graceful_shutdown(stopped).await?)
                });
                Ok(Running { address, stop, ended, runtime: Some(runtime) })
            }
        }
    }
}

impl Running {
    /// Stops it in order; what its runtime has left ends with it, as it does when `main` returns.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        // One that has failed says so below.
        let _ = self.stop.send(());
        let outcome = self.ended.await?;
        if let Some(runtime) = self.runtime {
            runtime.shutdown_background();
        }
        outcome
    }
}
