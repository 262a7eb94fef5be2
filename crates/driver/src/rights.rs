//! Descriptors that travel in a message, from one fd table to another or from process to process (unix(7), `SCM_RIGHTS`).
//!
//! The kernel opens them anew for whoever receives the message: sender and receiver share what is behind them, such as the backlog of
//! a listening socket. Descriptors that nobody receives are closed with the socket that they wait in.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// Descriptors that one message carries, at most (unix(7), `SCM_RIGHTS`).
pub const MESSAGE_FDS_MAX: usize = 253;

/// Sends bytes, at least one, and with the first of them the descriptors. They stay open here. Returns how many bytes were taken; what is
/// left is to be sent without the descriptors.
///
/// # Errors
/// `WouldBlock` when the socket does not wait and has no room; `InvalidInput` for more than [`MESSAGE_FDS_MAX`] descriptors; otherwise
/// what the system says. Nothing was sent then.
pub fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    send(socket, bytes, fds, SendFlags::NOSIGNAL)
}

/// Receives into `buffer`, and appends to `fds` the descriptors that came with the bytes. `Ok(0)` is the end of the stream. Descriptors
/// that this table has no room for are lost: whoever expects a number of them compares.
///
/// # Errors
/// `WouldBlock` when nothing is there and the socket does not wait, or has waited for its timeout; otherwise what the system says.
pub fn receive_fds(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    receive(socket, buffer, fds, RecvFlags::CMSG_CLOEXEC)
}

/// The user whose rights this process has.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The user of the process at the other end of a connected Unix socket (unix(7), `SO_PEERCRED`): whoever connected, or whoever began to
/// listen where this end has connected to.
///
/// # Errors
/// What the system says.
pub fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

pub(crate) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    if fds.len() > MESSAGE_FDS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 253 descriptors"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(fds));
            debug_assert!(fits, "the space is for the most that there may be");
        }
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    fds: &mut Vec<OwnedFd>,
    flags: RecvFlags,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(message) => {
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(received) = part {
                        fds.extend(received);
                    }
                }
                return Ok(message.bytes);
            }
        }
    }
}
