//! Has the smallest program (`--profile small`) linked as small as it gets, too. The other
//! profiles are left as they are. The benchmark's program on etcd-client is linked by the same.

use std::path::PathBuf;
use std::{env, fs};

/// What no program needs that aborts on a panic: the tables for unwinding, but for those that what
/// starts a program on musl has of itself. Without them a backtrace shows nothing. Said beside the
/// linker's own script, not in its place.
const WITHOUT_UNWINDING: &str = "\
SECTIONS
{
  /DISCARD/ :
  {
    *(EXCLUDE_FILE(*crtbegin*.o *crtend*.o) .eh_frame)
    *(.eh_frame_hdr)
    *(.gcc_except_table .gcc_except_table.*)
  }
}
INSERT AFTER .rodata;
";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let has = |name, value| env::var(name).is_ok_and(|found| found == value);
    // Cargo tells of a profile by this: neither by its name nor by what it does on a panic. The one that
    // has it aborts.
    if !has("OPT_LEVEL", "z") || !has("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    let script = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names it")).join("without_unwinding.ld");
    fs::write(&script, WITHOUT_UNWINDING).expect("cargo made the directory");
    link_with(&format!("-T,{}", script.display()));
    link_with("--no-eh-frame-hdr");
    // Addresses to relocate take a bit each. glibc knows that from 2.36 on, and musl from 1.2.4.
    if has("CARGO_CFG_TARGET_ENV", "gnu") {
        link_with("-z,pack-relative-relocs");
    }
}

fn link_with(option: &str) {
    println!("cargo:rustc-link-arg-bins=-Wl,{option}");
}
