//! Answers, as a client reads them, under libFuzzer; built without it, on the files named as arguments.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| baiwan_fuzz::answer(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    baiwan_fuzz::replay(baiwan_fuzz::answer)
}
