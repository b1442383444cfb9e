//! Runs `targets/percent.rs` under libFuzzer.

#![no_main]

#[path = "../targets/percent.rs"]
mod percent;

libfuzzer_sys::fuzz_target!(|data: &[u8]| percent::run(data));
