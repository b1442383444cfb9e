//! The committed files of `src/pb/` are what `proto/` says.

use std::path::Path;

#[path = "../proto/codegen.rs"]
mod codegen;

#[test]
fn the_committed_messages_are_those_of_proto() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, code) in codegen::generate(&root.join("proto")).expect("proto/ does not compile") {
        let committed = std::fs::read_to_string(root.join("src/pb").join(&name)).unwrap_or_default();
        let line = committed.lines().zip(code.lines()).take_while(|(old, new)| old == new).count();
        assert!(
            committed == code,
            "src/pb/{name} is not what proto/ says, from line {} on: run `cargo build --features codegen` and commit \
             src/pb (the generated files are never edited; proto/ and proto/codegen.rs are)",
            line + 1
        );
    }
}
