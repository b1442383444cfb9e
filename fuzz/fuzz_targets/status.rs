//! Runs `targets/status.rs` under libFuzzer.

#![no_main]

#[path = "../targets/status.rs"]
mod status;

libfuzzer_sys::fuzz_target!(|data: &[u8]| status::run(data));
