//! What is set and asked of sockets that rustix has no function for; above all, how much the kernel holds for a peer that does not
//! read.
//!
//! Linux lets a send buffer grow to `net.ipv4.tcp_wmem`, 4 MiB, whether its peer reads or not. `TCP_NOTSENT_LOWAT` (tcp(7)) bounds only
//! what has not left yet: what is on its way, and so the throughput over long distances, is not concerned. One segment, 64 KiB at the
//! most, may go beyond it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What the kernel takes for a peer beyond what can leave at once. With it, it holds 48 KiB for peers that never read; `bench/readers`
/// counts it.
pub(crate) const UNSENT_BYTES_MAX: u32 = 32 * 1024;
/// The same for peers that have shown that they read. With less, a single connection at full speed costs a quarter more CPU time.
pub(crate) const UNSENT_BYTES_MAX_WIDE: u32 = 64 * 1024;

/// Bounds what the kernel takes of a TCP connection, or of those that a listener accepts, beyond what can leave at once.
pub(crate) fn set_unsent_max(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    set_number(socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes as libc::c_int)
}

/// Bytes that the kernel holds for the peer of a TCP connection: on their way and not acknowledged, or not sent yet (tcp(7),
/// `SIOCOUTQ`). Of a Unix connection, what its peer has not read, in units of the kernel's own (unix(7)). 0 where it cannot be asked.
pub fn held_bytes(socket: impl AsFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, because it is borrowed; TIOCOUTQ, another name of SIOCOUTQ, writes one `c_int` to where its
    // argument points, which lives until the call returns.
    let outcome = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Sets an option whose value is a C `int` (setsockopt(2)).
pub(crate) fn set_number(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open, because it is borrowed; the value is a `c_int` that lives until the call returns, and the
    // length is its size.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
