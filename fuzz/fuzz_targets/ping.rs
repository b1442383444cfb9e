//! Runs `targets/ping.rs` under libFuzzer.

#![no_main]

#[path = "../targets/inputs.rs"]
mod inputs;
#[path = "../targets/ping.rs"]
mod ping;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ping::run(data));
