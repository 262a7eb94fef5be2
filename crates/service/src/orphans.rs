//! Processes that have lost their parent become children of PID 1, which in a container is the service. It starts none itself, but a command that
//! somebody runs in its container may leave one behind; once ended, it would stay in the table of processes until the service ends.

use std::io;

use rustix::process::{WaitOptions, wait};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

const INIT: u32 = 1;

/// Begins to look out for them, where this process is PID 1, for as long as the runtime lives.
pub(crate) fn adopt(runtime: &Runtime) -> io::Result<()> {
    if std::process::id() == INIT {
        let _within = runtime.enter();
        runtime.spawn(reap(signal(SignalKind::child())?));
    }
    Ok(())
}

/// Takes the exit status of each that ends, so that the kernel can forget it.
async fn reap(mut ends: Signal) {
    while ends.recv().await.is_some() {
        // One signal may stand for several of them. An error means that no child is left.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
    }
}
