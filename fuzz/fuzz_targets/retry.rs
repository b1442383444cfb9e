//! Runs `targets/retry.rs` under libFuzzer.

#![no_main]

#[path = "../targets/retry.rs"]
mod retry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| retry::run(data));
