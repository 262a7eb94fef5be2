//! What is set and asked of sockets that rustix has no function for; above all, how much the kernel holds for a peer that does not
//! read.
//!
//! Linux lets a send buffer grow to `net.ipv4.tcp_wmem`, 4 MiB, whether its peer reads or not. `TCP_NOTSENT_LOWAT` (tcp(7)) bounds only
//! what has not left yet: what is on its way, and so the throughput over long distances, is not concerned. The kernel asks whether the
//! mark is reached before it begins a segment, and not while it fills one: as long as the last segment has not left, it goes on growing to
//! 64 KiB, whatever the mark is. So what may be much for a peer that may not read is sent in pieces that nothing is added to (`MSG_EOR`),
//! which makes each the end of its segment.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The kernel begins no segment for a peer while this many bytes, or more, cannot leave. With it, and with pieces of
/// [`PIECE_BYTES_MAX`], less than 32 KiB wait for a peer that never reads; `bench/readers` counts the memory that they take.
pub(crate) const UNSENT_BYTES_MAX: u32 = 16 * 1024;
/// As much as the system's own setting says (`net.ipv4.tcp_notsent_lowat`, no limit by itself): for peers that have shown that they read.
/// Each 10 MiB take three times the calls with a mark of 256 KiB.
pub(crate) const UNSENT_BYTES_MAX_OF_SYSTEM: u32 = 0;
/// What is handed to the kernel in one call, as a segment of its own, for a peer that may not read.
pub(crate) const PIECE_BYTES_MAX: usize = 16 * 1024;
/// Fewer bytes are no segment of their own: the kernel's memory for a segment would be more than they are.
pub(crate) const PIECE_BYTES_MIN: usize = 4 * 1024;

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

/// By how much the [held bytes](held_bytes) are more than the room that the peer's system has announced, its window; below zero, the room
/// that is left. Where the window cannot be asked for (a Unix connection, Linux before 5.4), it counts as nothing.
pub fn excess_bytes(socket: impl AsFd) -> i64 {
    let held = held_bytes(&socket).cast_signed();
    let Some([unsent, window]) = unsent_and_window(&socket) else { return held };
    // A window that the peer has taken back had room for what is on its way.
    held - window.max(held - unsent)
}

/// Bytes of a TCP connection that were not sent yet, and the peer's window: `tcpi_notsent_bytes` and `tcpi_snd_wnd` of Linux's `tcp_info`,
/// whose later members the C library does not know.
fn unsent_and_window(socket: &impl AsFd) -> Option<[i64; 2]> {
    const UNSENT_AT: usize = 144;
    const WINDOW_AT: usize = 228;
    const END: usize = WINDOW_AT + 4;
    let mut bytes = [0_u8; END];
    let mut length = END as libc::socklen_t;
    // SAFETY: the descriptor is open, because it is borrowed; at most `length` bytes are written, which is the size of the buffer, and buffer
    // and length live until the call returns.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let number = |at: usize| Some(i64::from(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?)));
    match outcome == 0 && length as usize == END {
        true => Some([number(UNSENT_AT)?, number(WINDOW_AT)?]),
        false => None,
    }
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
