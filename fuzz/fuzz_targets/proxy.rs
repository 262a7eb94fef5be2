//! What proxies say of their clients, under libFuzzer; built without it, on the files named as arguments.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| baiwan_fuzz::proxy(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    baiwan_fuzz::replay(baiwan_fuzz::proxy)
}
