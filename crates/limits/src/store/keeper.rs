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
use tokio::time::Instant;

use super::script::BEAT;
use super::{COMPLAINT_PAUSE, INSTANCES_MAX, RESPONSE_TIMEOUT, Shared};

/// The set of instances.
const INSTANCES: &str = "baiwan:instances";
/// The store counts an instance out that has sent no beat for this number of seconds.
const SILENCE_SECONDS: u64 = 5;
/// A key that nobody owes anything.
const PROBE: &str = "baiwan:limit:probe";
const BEAT_PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts to reach a server that is away, at first and at last; up to twice as long, by chance.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);
const ATTEMPT_PAUSE_MAX: Duration = Duration::from_secs(4);
/// The keeper gives up a connection on which this number of beats in a row came too late.
const MISSES_MAX: u32 = 8;
const LEAVE_TIMEOUT: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

struct Keeper {
    client: Client,
    shared: Arc<Shared>,
    beat: Script,
    /// This instance, as the others know it.
    name: String,
    counts_instances: bool,
    /// When it was last said that the server is away.
    said_away: Option<Instant>,
    /// It was said that the server is there, and nothing else since.
    is_said: bool,
}

/// Starts the thread, which ends with the sender of `ended`.
pub(super) fn start(client: Client, shared: Arc<Shared>, mut ended: watch::Receiver<()>, counts_instances: bool) {
    let name = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let mut keeper =
        Keeper { client, shared, beat: Script::new(BEAT), name, counts_instances, said_away: None, is_said: false };
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(async {
                tokio::select! {
                    _ = ended.changed() => {}
                    () = keeper.keep() => {}
                }
                keeper.leave().await;
            }),
            Err(error) => tracing::error!(%error, "the store of rate limits cannot be used"),
        }
    };
    std::thread::Builder::new().name("baiwan-limits".to_owned()).spawn(body).expect("the system has a thread");
}

impl Keeper {
    /// Connects, and connects again. Never ends.
    async fn keep(&mut self) {
        let mut pause = ATTEMPT_PAUSE;
        loop {
            let begun = Instant::now();
            if let Err(error) = self.hold().await {
                self.say_away(&error);
            }
            self.shared.connection.store(None);
            if begun.elapsed() > ATTEMPT_PAUSE_MAX {
                pause = ATTEMPT_PAUSE;
            }
            // Not all instances at once.
            let random = RandomState::new().hash_one(()) % 1000;
            tokio::time::sleep(pause.mul_f64(1.0 + random as f64 / 1000.0)).await;
            pause = (pause * 2).min(ATTEMPT_PAUSE_MAX);
        }
    }

    /// Holds a connection until it fails.
    async fn hold(&mut self) -> Result<(), RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(CONNECT_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // A check that costs nothing shows whether checks are allowed there.
        let mut probe = self.shared.script.prepare_invoke();
        let _: (u8, u64) = probe.key(PROBE).arg(1).arg(1).arg(0).invoke_async(&mut connection).await?;
        // The first beat loads its script.
        self.beat(&mut connection, CONNECT_TIMEOUT).await?;
        loop {
            self.until_quick(&mut connection).await?;
            self.say_there();
            // What was said of the connection before.
            let _ = tokio::time::timeout(Duration::ZERO, self.shared.lost.notified()).await;
            self.shared.connection.store(Some(Arc::new(connection.clone())));
            loop {
                tokio::select! {
                    () = self.shared.lost.notified() => break,
                    () = tokio::time::sleep(BEAT_PAUSE) => self.beat(&mut connection, CONNECT_TIMEOUT).await?,
                }
            }
            self.say_away(&slow());
        }
    }

    /// Waits until the server answers as fast as a check needs it. The connection stays: one answer that came late is no reason for another.
    async fn until_quick(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let mut misses = 0;
        while let Err(error) = self.beat(connection, RESPONSE_TIMEOUT).await {
            misses += 1;
            if !error.is_timeout() || misses == MISSES_MAX {
                return Err(error);
            }
            tokio::time::sleep(ATTEMPT_PAUSE).await;
        }
        Ok(())
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

    /// Counts this instance out, if the server answers at once.
    async fn leave(&self) {
        let Some(connection) = self.shared.connection.load_full() else { return };
        let mut connection = MultiplexedConnection::clone(&connection);
        let mut command = redis::cmd("ZREM");
        command.arg(INSTANCES).arg(&self.name);
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, command.query_async::<u32>(&mut connection)).await;
    }

    /// Says that the server is away, at most once a minute.
    fn say_away(&mut self, error: &RedisError) {
        if self.said_away.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
            (self.said_away, self.is_said) = (Some(Instant::now()), false);
            let (instances, lost) = (self.shared.instances.load(Relaxed), self.shared.losses.load(Relaxed));
            tracing::warn!(
                %error, store = %self.shared.url, instances, lost,
                "the store of rate limits is away: each instance allows its part by itself"
            );
        }
    }

    /// Says that the server is there, if the last that was said is something else.
    fn say_there(&mut self) {
        if !std::mem::replace(&mut self.is_said, true) {
            tracing::info!(store = %self.shared.url, "the store of rate limits is there");
        }
    }
}

fn slow() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time").into()
}
