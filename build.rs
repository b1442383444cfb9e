//! Renews `src/pb/` from `proto/` under the feature `codegen`, and does nothing
//! otherwise: a plain build reads the committed files.

#[cfg(feature = "codegen")]
#[path = "proto/codegen.rs"]
mod codegen;

#[cfg(not(feature = "codegen"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "codegen")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::path::Path;

    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=src/pb");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, code) in codegen::generate(&root.join("proto"))? {
        let path = root.join("src/pb").join(name);
        // A file written without need would be compiled again, and by every build.
        if std::fs::read_to_string(&path).ok().as_ref() != Some(&code) {
            std::fs::write(path, code)?;
        }
    }
    Ok(())
}
