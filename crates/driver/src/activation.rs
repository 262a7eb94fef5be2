//! Sockets that a service manager has opened for this process and keeps open while it restarts: the protocol of
//! sd_listen_fds(3), which systemd and others speak.
//!
//! `LISTEN_PID` names the process that is meant, `LISTEN_FDS` says how many there are, from descriptor 3 on, and `LISTEN_FDNAMES` what
//! they are called. The variables stay: a child has another process id, so they are not meant for it, and no program can unset one
//! safely once it has threads.

use std::fmt;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kind::check_listening;

/// A listening socket from a service manager.
#[derive(Debug)]
pub struct ActivatedSocket {
    name: String,
    number: RawFd,
    fd: OwnedFd,
}

impl ActivatedSocket {
    /// What the service manager calls it: `FileDescriptorName=` of its unit, or the unit's own name; `unknown` where it does not say.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ActivatedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (descriptor {})", self.name, self.number)
    }
}

impl From<ActivatedSocket> for OwnedFd {
    fn from(socket: ActivatedSocket) -> Self {
        socket.fd
    }
}

/// Takes the listening sockets that a service manager has opened for this process, in its order. There are none where the variables
/// are not set or name another process, and from the second call on.
///
/// Call it at the start of `main`, before anything else opens files: where the variables promise more than there is, the numbers could
/// be those of other files.
///
/// # Errors
/// When the variables cannot be read or promise what is not there, and when one of the sockets cannot be listened on: the error says
/// which, and what it is.
///
/// # Example
/// ```
/// // Nobody has opened sockets for this test.
/// assert!(baiwan_driver::activated_sockets()?.is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn activated_sockets() -> io::Result<Vec<ActivatedSocket>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let refused = |error: io::Error, what: &str| io::Error::new(error.kind(), format!("{what}: {error}"));
    let given = sd_notify::listen_fds_with_names()
        .map_err(|error| refused(error, "the sockets of the service manager (LISTEN_FDS) cannot be taken"))?;
    let mut sockets = Vec::with_capacity(given.len());
    for (number, name) in given {
        // SAFETY: `LISTEN_PID` is the id of this process, so whoever started it says that this descriptor was opened for it; it was
        // found open just now. It becomes owned only here, once, because `TAKEN` lets one call of the process come this far.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        sockets.push(ActivatedSocket { name, number, fd });
    }
    for socket in &sockets {
        check_listening(&socket.fd)
            .map_err(|error| refused(error, &format!("the service manager's socket {socket} cannot be served")))?;
    }
    Ok(sockets)
}
