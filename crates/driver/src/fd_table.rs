//! Fd tables of threads' own, and listening sockets on their way from one table to another.
//!
//! The limit on open files counts for each table (getrlimit(2), `RLIMIT_NOFILE`), and a thread may leave the one that it shares
//! with its process: so threads with a table each have the limit once for each of them. What they give up is that a descriptor means the
//! same everywhere; see [`unshare_fd_table`].
//!
//! The invariant of a [`Handover`]: what was put in and not taken is open in no table, so no table gets a copy of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::BoundListener;
use crate::rights::{MESSAGE_FDS_MAX, receive, send};

const _: () = assert!(MESSAGE_FDS_MAX <= u8::MAX as usize, "a message begins with their number");

/// Gives the calling thread an fd table of its own, and so a limit on open files of its own. It begins as a copy of the
/// shared one. Threads that this thread starts from now on share the new table.
///
/// # This breaks what every program relies on
///
/// From here on a descriptor *number* that was opened on this thread means something else, or nothing, on threads with another
/// table, and the other way round. A socket, file, pool, epoll instance or runtime that one of them opened must not be used,
/// woken or dropped by another: reads and writes would go to whatever has that number there, such as a stranger's connection,
/// and a drop would close it. Types do not say so: everything that is `Send` can still be moved.
///
/// What was open before the call is open in both tables, under the same number, until it is closed in both. So what both sides
/// use, wake-up descriptors above all, must be opened before; and what must end when its owner closes it, such as a connection
/// or a listener, must not be open then. Record locks (`fcntl`) belong to a table, too.
///
/// # Errors
/// `PermissionDenied` where a seccomp profile forbids `unshare`, as Docker's does by default; otherwise when the system is out
/// of memory.
pub fn unshare_fd_table() -> io::Result<()> {
    // SAFETY: `FILES` replaces the table that descriptor numbers are looked up in, for this thread alone, and touches no
    // memory: unlike with `munmap`, no reference or allocation can dangle after it. That threads do not use each other's
    // descriptors afterwards is what the documentation above asks of the caller.
    unsafe { unshare_unsafe(UnshareFlags::FILES)? };
    Ok(())
}

/// Carries listening sockets from one fd table to another, as messages in a socket. On the way they are open in neither; what
/// comes in meanwhile waits in their backlogs.
#[derive(Debug)]
pub struct Handover {
    to: OwnedFd,
    from: OwnedFd,
}

impl Handover {
    /// A way that is open in every table that the calling thread's is copied to later.
    ///
    /// # Errors
    /// When the process is out of files.
    pub fn new() -> io::Result<Self> {
        let (to, from) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok(Self { to, from })
    }

    /// Sends a set of listeners and closes them here.
    ///
    /// # Errors
    /// `WouldBlock` when as many sets as fit are on their way; then, as with every error, the listeners are as they were. At most
    /// 253 are a set.
    pub fn put(&self, listeners: &mut Vec<BoundListener>) -> io::Result<()> {
        if listeners.len() > MESSAGE_FDS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 253 listeners"));
        }
        let fds: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
        send(self.to.as_fd(), &[fds.len() as u8], &fds, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        listeners.clear();
        Ok(())
    }

    /// Takes a set that is on its way, whichever comes first, into the calling thread's table.
    ///
    /// # Errors
    /// `WouldBlock` when none is; `EMFILE` when this table has no room for all of it: then it is lost.
    pub fn take(&self) -> io::Result<Vec<BoundListener>> {
        let (mut count, mut fds) = ([0], Vec::new());
        receive(self.from.as_fd(), &mut count, &mut fds, RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC)?;
        let listeners = fds.into_iter().map(BoundListener::moved).collect::<io::Result<Vec<_>>>()?;
        match listeners.len() == usize::from(count[0]) {
            true => Ok(listeners),
            false => Err(Errno::MFILE.into()),
        }
    }
}
