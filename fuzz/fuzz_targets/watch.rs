//! Runs `targets/watch.rs` under libFuzzer.

#![no_main]

#[path = "../targets/inputs.rs"]
mod inputs;
#[path = "../targets/watch.rs"]
mod watch;

libfuzzer_sys::fuzz_target!(|data: &[u8]| watch::run(data));
