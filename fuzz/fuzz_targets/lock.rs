//! Runs `targets/lock.rs` under libFuzzer.

#![no_main]

#[path = "../targets/inputs.rs"]
mod inputs;
#[path = "../targets/lock.rs"]
mod lock;

libfuzzer_sys::fuzz_target!(|data: &[u8]| lock::run(data));
