//! How bytes that are owed to one connection are handed to the kernel: at once, gathered, or in pieces.
//!
//! None of these waits, and a socket whose peer is gone is an error and no signal.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{self, SendAncillaryBuffer, SendFlags};

use crate::option::{PIECE_BYTES_MAX, PIECE_BYTES_MIN};

/// Chunks handed to the kernel in one call; what is left goes with the next.
const SLICES_MAX: usize = 64;
/// Pieces handed to the kernel for one connection before the next has its turn.
const PIECES_MAX: usize = 8;

/// Sends bytes that lie in one place.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}

/// Sends the front and as many chunks of the queue as fit one call; also says how many bytes that was an offer of.
pub(crate) fn send_gathered(socket: &OwnedFd, front: &[u8], queue: [&[Bytes]; 2]) -> (io::Result<usize>, usize) {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let (count, offered) = gather(&mut slices, front, queue, 0..usize::MAX);
    (send_slices(socket, &slices[..count], SendFlags::empty()), offered)
}

/// The same in pieces, so that the kernel takes little beyond what can leave at once.
pub(crate) fn send_pieces(socket: &OwnedFd, front: &[u8], queue: [&[Bytes]; 2]) -> (io::Result<usize>, usize) {
    let mut taken = 0;
    for _ in 0..PIECES_MAX {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (count, offered) = gather(&mut slices, front, queue, taken..taken + PIECE_BYTES_MAX);
        if count == 0 {
            break;
        }
        let end = if offered < PIECE_BYTES_MIN { SendFlags::empty() } else { SendFlags::EOR };
        match send_slices(socket, &slices[..count], end) {
            Ok(sent) => {
                let before = taken;
                taken += sent;
                if sent < offered || offered < PIECE_BYTES_MAX {
                    return (Ok(taken), before + offered);
                }
            }
            Err(error) if taken == 0 => return (Err(error), offered),
            // A short send; an error shows at the next one.
            Err(_) => return (Ok(taken), taken + offered),
        }
    }
    (Ok(taken), taken)
}

/// Puts the bytes of a range of front and queue into slices, as far as there are slices. Returns how many slices those are, and how many
/// bytes.
fn gather<'a>(
    slices: &mut [IoSlice<'a>; SLICES_MAX],
    front: &'a [u8],
    queue: [&'a [Bytes]; 2],
    range: Range<usize>,
) -> (usize, usize) {
    let (mut skip, mut left) = (range.start, range.len());
    let (mut count, mut bytes) = (0, 0);
    for chunk in std::iter::once(front).chain(queue.into_iter().flatten().map(|chunk| &chunk[..])) {
        let skipped = skip.min(chunk.len());
        skip -= skipped;
        let part = &chunk[skipped..];
        let part = &part[..left.min(part.len())];
        if part.is_empty() {
            continue;
        }
        slices[count] = IoSlice::new(part);
        (count, bytes, left) = (count + 1, bytes + part.len(), left - part.len());
        if count == SLICES_MAX || left == 0 {
            break;
        }
    }
    (count, bytes)
}

fn send_slices(socket: &OwnedFd, slices: &[IoSlice<'_>], end: SendFlags) -> io::Result<usize> {
    let mut control: [MaybeUninit<u8>; 0] = [];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut control);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL | end;
        match net::sendmsg(socket, slices, &mut control, flags) {
            Err(Errno::INTR) => {}
            outcome => return outcome.map_err(io::Error::from),
        }
    }
}
