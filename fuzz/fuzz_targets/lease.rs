//! Runs `targets/lease.rs` under libFuzzer.

#![no_main]

#[path = "../targets/inputs.rs"]
mod inputs;
#[path = "../targets/lease.rs"]
mod lease;

libfuzzer_sys::fuzz_target!(|data: &[u8]| lease::run(data));
