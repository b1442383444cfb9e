//! Runs `targets/pool.rs` under libFuzzer.

#![no_main]

#[path = "../targets/inputs.rs"]
mod inputs;
#[path = "../targets/pool.rs"]
mod pool;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pool::run(data));
