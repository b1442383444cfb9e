//! Turns `proto/*.proto` into the Rust of `src/pb/`: messages only, no services.
//!
//! `build.rs` includes this file to renew `src/pb/` under the feature `codegen`,
//! and `tests/codegen.rs` to tell that the committed files are what it writes.
//! It writes no file itself.

use std::error::Error;
use std::path::Path;

use prost_build::{Config, Module};

/// One file of `proto/` each, and the module of `src/pb/` that it becomes.
const MODULES: [&str; 6] = [
    "authpb",
    "etcdserverpb",
    "health",
    "mvccpb",
    "v3electionpb",
    "v3lockpb",
];

/// Messages that carry a secret: `src/pb/redacted.rs` writes their `Debug`.
const SECRET: [&str; 5] = [
    ".authpb.User",
    ".etcdserverpb.AuthUserAddRequest",
    ".etcdserverpb.AuthUserChangePasswordRequest",
    ".etcdserverpb.AuthenticateRequest",
    ".etcdserverpb.AuthenticateResponse",
];

/// The file names of `src/pb/`, in alphabetical order, each with its contents.
pub(crate) fn generate(proto: &Path) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let sources = MODULES.map(|module| proto.join(format!("{module}.proto")));
    let descriptors = protox::compile(sources, [proto])?;
    let requests = descriptors
        .file
        .into_iter()
        .map(|file| (Module::from_parts([file.name().trim_end_matches(".proto")]), file))
        .collect();
    let mut files: Vec<(String, String)> = Config::new()
        .bytes(["."])
        .skip_debug(SECRET)
        .generate(requests)?
        .into_iter()
        .map(|(module, code)| {
            let name = module.to_file_name_or("pb");
            let proto = name.replace(".rs", ".proto");
            let head = format!("// From proto/{proto}, by `cargo build --features codegen`.\n");
            (name, head + &code)
        })
        .collect();
    files.sort();
    Ok(files)
}
