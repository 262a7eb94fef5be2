//! What a request costs: 5 ms of the core, or 50 ms of a wait for one of 20 places, as for a connection of a pool.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;

const CPU_TIME: Duration = Duration::from_millis(5);
const WAIT_TIME: Duration = Duration::from_millis(50);
pub(crate) const POOL: usize = 20;

/// The app whose one route computes.
pub(crate) fn computing() -> Router {
    Router::new().route(
        "/",
        get(async || {
            let ends = thread_time() + CPU_TIME;
            while thread_time() < ends {
                std::hint::spin_loop();
            }
            "computed"
        }),
    )
}

/// The app whose one route waits.
pub(crate) fn waiting() -> Router {
    let pool = Arc::new(Semaphore::new(POOL));
    Router::new().route(
        "/",
        get(async move || {
            // Nobody closes it.
            let _place = pool.acquire().await;
            tokio::time::sleep(WAIT_TIME).await;
            "waited"
        }),
    )
}

/// How long this thread has run: what the host gives to others does not count.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
