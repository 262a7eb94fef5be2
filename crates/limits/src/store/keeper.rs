//! The thread that keeps the connection to the server: it connects, beats, and says when the server is away and when it is back.
//!
//! The invariant: a connection is handed out only after a beat that was answered in the time that a check has.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, Script};
use tokio::sync::watch;

use super::script::BEAT;
use super::{INSTANCES_MAX, RESPONSE_TIMEOUT, Shared};

/// The set of instances.
const INSTANCES: &str = "baiwan:instances";
/// An instance that was silent for so many seconds is counted out.
const SILENCE_SECONDS: u64 = 10;
const BEAT_PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts to reach a server that is away.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

struct Keeper {
    client: Client,
    shared: Arc<Shared>,
    beat: Script,
    /// This instance, as the others know it.
    name: String,
    counts_instances: bool,
    /// Whether it was said that the server is away.
    said_away: bool,
    /// The server was not reached before.
    is_first: bool,
}

/// Starts the thread, which ends with the sender of `ended`.
pub(super) fn start(client: Client, shared: Arc<Shared>, mut ended: watch::Receiver<()>, counts_instances: bool) {
    let name = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let mut keeper =
        Keeper { client, shared, beat: Script::new(BEAT), name, counts_instances, said_away: false, is_first: true };
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    _ = ended.changed() => {}
                    () = keeper.keep() => {}
                }
            }),
            Err(error) => tracing::error!(%error, "the store of rate limits cannot be used"),
        }
    };
    std::thread::Builder::new().name("baiwan-limits".to_owned()).spawn(body).expect("the system has a thread");
}

impl Keeper {
    /// Connects, and connects again. Never ends.
    async fn keep(&mut self) {
        loop {
            if let Err(error) = self.hold().await
                && !std::mem::replace(&mut self.said_away, true)
            {
                let instances = self.shared.instances.load(Relaxed);
                tracing::warn!(%error, instances, "the store of rate limits is away: each instance allows its part by itself");
            }
            self.shared.connection.store(None);
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
    }

    /// Holds a connection until it fails.
    async fn hold(&mut self) -> Result<(), RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        self.shared.script.load_async(&mut connection).await?;
        // The first beat loads its script.
        self.beat(&mut connection, CONNECT_TIMEOUT).await?;
        self.beat(&mut connection, RESPONSE_TIMEOUT).await?;
        if std::mem::replace(&mut self.said_away, false) || self.is_first {
            tracing::info!("the store of rate limits is there");
        }
        self.is_first = false;
        // What was said of the connection before.
        let _ = tokio::time::timeout(Duration::ZERO, self.shared.lost.notified()).await;
        self.shared.connection.store(Some(Arc::new(connection.clone())));
        loop {
            tokio::select! {
                () = self.shared.lost.notified() => return Err(slow()),
                () = tokio::time::sleep(BEAT_PAUSE) => self.beat(&mut connection, CONNECT_TIMEOUT).await?,
            }
        }
    }

    /// Tells the server that this instance lives, and learns how many there are.
    async fn beat(&self, connection: &mut MultiplexedConnection, limit: Duration) -> Result<(), RedisError> {
        let mut invocation = self.beat.prepare_invoke();
        invocation.key(INSTANCES).arg(&self.name).arg(SILENCE_SECONDS);
        let instances: u32 =
            tokio::time::timeout(limit, invocation.invoke_async(connection)).await.map_err(|_| slow())??;
        if self.counts_instances {
            self.shared.instances.store(instances.clamp(1, INSTANCES_MAX), Relaxed);
        }
        Ok(())
    }
}

fn slow() -> RedisError {
    (redis::ErrorKind::Io, "no answer in time").into()
}
