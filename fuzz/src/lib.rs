//! Properties that hold for any bytes, each a function that panics where one is broken.
//!
//! libFuzzer looks for such bytes (`fuzz_targets`); the ones that it kept (`corpus`) are replayed by an ordinary test on
//! a stable toolchain. The functions do no I/O and depend on their argument alone, so that an input that failed once
//! fails always.

#![forbid(unsafe_code)]

mod answer;
mod body;
mod head;
mod input;
mod proxy;
mod reference;
mod response;

pub use answer::check as answer;
pub use body::check as body;
pub use head::check as head;
pub use proxy::check as proxy;
pub use response::check as response;

/// Runs `property` on each file named as an argument of the program. A broken property ends it.
///
/// # Errors
///
/// A file that cannot be read.
pub fn replay(property: fn(&[u8])) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        property(&std::fs::read(path)?);
    }
    Ok(())
}

/// Plays the whole server with the peers, faults and pieces that `data` decides; see `baiwan::simulation`.
pub fn engine(data: &[u8]) {
    baiwan::simulation::run_bytes(data);
}
