//! What a receive says about a connection, beside its bytes.

use std::io;

use baiwan_driver::Driver;

use super::table::{Flags, Slot, Table};

pub(super) enum Arrival {
    Bytes(usize),
    Nothing,
    End,
    Failed,
}

impl Arrival {
    /// Keeps `READABLE` true to its meaning: an empty or a short receive has emptied the socket, unless the end of the
    /// stream, which is announced only once, is still behind the bytes.
    pub(super) fn note<S>(slot: &mut Slot<S>, outcome: io::Result<usize>, bytes_max: usize) -> Self {
        match outcome {
            Ok(0) => Self::End,
            Ok(count) => {
                if count < bytes_max && !slot.flags.has(Flags::HANGUP) {
                    slot.flags.clear(Flags::READABLE);
                }
                Self::Bytes(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.flags.clear(Flags::READABLE);
                slot.flags.set(Flags::SILENT);
                Self::Nothing
            }
            Err(_) => Self::Failed,
        }
    }
}

/// Receives once into the area.
pub(super) fn receive_once<D: Driver>(
    driver: &mut D,
    table: &mut Table<D::Socket>,
    index: u32,
    area: &mut [u8],
) -> Arrival {
    let slot = &mut table[index];
    let outcome = driver.receive_into(&slot.socket, area);
    Arrival::note(slot, outcome, area.len())
}
