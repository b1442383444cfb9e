//! A layer names only what stands left of it:
//!
//! ```text
//! pb, types, error <- config <- wire <- core <- net <- client <- concurrency
//! ```
//!
//! The layer of a file is its first module; `src/lib.rs` binds them all and has none.

use std::collections::HashMap;

use crate::paths;
use crate::source::{Finding, Source};

const RULE: &str = "layers";

/// From left to right. What shares a number is one layer.
const LAYERS: &[(&str, u8)] = &[
    ("pb", 0),
    ("types", 0),
    ("error", 0),
    ("config", 1),
    ("wire", 2),
    ("core", 3),
    ("net", 4),
    ("client", 5),
    ("concurrency", 6),
];

/// What a layer may not name although it stands left: the options of a program know no message.
const APART: &[(&str, &str)] = &[("config", "pb")];

/// What the names at the root of the crate stand for.
pub(crate) struct Root(HashMap<String, Vec<Vec<String>>>);

impl Root {
    pub(crate) fn of(sources: &[Source]) -> Root {
        let root = sources.iter().find(|source| source.path == "src/lib.rs");
        Root(root.map(|source| paths::exports(&source.syntax)).unwrap_or_default())
    }
}

pub(crate) fn check(source: &Source, root: &Root) -> Vec<Finding> {
    let (Some(module), Some(layer)) = (source.module(), source.layer()) else {
        return Vec::new();
    };
    if rank(&layer).is_none() {
        let what =
            format!("`{layer}` is no layer: put the file into one, or add the layer to tests/tidy/layers.rs");
        return vec![source.finding(1, RULE, what)];
    }
    let mentions = paths::mentions(&module, &source.syntax);
    let findings = mentions.iter().filter_map(|mention| {
        let what = complaint(&layer, &mention.parts, root)?;
        Some(source.finding(mention.line, RULE, what))
    });
    findings.collect()
}

fn complaint(layer: &str, path: &[String], root: &Root) -> Option<String> {
    let (first, name) = (path.first()?, path.get(1)?);
    if first != "crate" {
        return None;
    }
    let written = path.join("::");
    if name == "*" {
        return Some(format!(
            "`{written}` hides which layer is meant: import from the layer by name"
        ));
    }
    if rank(name).is_some() {
        return points_wrong(layer, name).then(|| advice(layer, name, &written));
    }
    let Some(meanings) = root.0.get(name) else {
        // A macro that is exported stands at the root wherever it is written.
        return (path.len() > 2)
            .then(|| format!("`{name}` in `{written}` is no layer: add it to tests/tidy/layers.rs"));
    };
    let meant = meanings.iter().filter(|meaning| meaning[0] == "crate");
    let target = meant.filter_map(|meaning| meaning.get(1)).find(|target| points_wrong(layer, target))?;
    Some(advice(layer, target, &written))
}

fn points_wrong(layer: &str, target: &str) -> bool {
    APART.contains(&(layer, target)) || rank(target) > rank(layer)
}

fn rank(layer: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == layer).map(|(_, rank)| *rank)
}

fn advice(layer: &str, target: &str, written: &str) -> String {
    format!(
        "`{layer}` may not name `{target}` (`{written}`): move what both need to the left, \
         or let `{target}` pass it in as a parameter"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, code: &str) -> usize {
        let lib = "mod client; pub mod error; mod types; pub use client::Client; pub use error::Error;
                   pub use types::Revision; struct Version;";
        let root = Root::of(&[Source::new("src/lib.rs", lib)]);
        check(&Source::new(path, code), &root).len()
    }

    #[test]
    fn an_import_that_points_right_is_reported() {
        let wrong = [
            ("src/types.rs", "use crate::wire::frame;"),
            ("src/error.rs", "use crate::config::Config;"),
            ("src/config.rs", "use crate::net::dial::Dial;"),
            ("src/config.rs", "use crate::pb::KeyValue;"),
            ("src/wire/frame.rs", "use super::super::core::time::Instant;"),
            (
                "src/core/lock.rs",
                "use crate::{types::Revision, net::{self, clock}};",
            ),
            ("src/core/lock.rs", "fn f() { crate::net::clock::now(); }"),
            (
                "src/core/lock.rs",
                "fn f() { assert!(crate::net::clock::is_set()); }",
            ),
            (
                "src/core/lock.rs",
                "#[cfg(test)] mod tests { use crate::client::*; }",
            ),
            ("src/net/call.rs", "fn f(_: Vec<crate::client::Put>) {}"),
            ("src/net/mod.rs", "pub use crate::client::kv as store;"),
            ("src/client/kv.rs", "use super::super::concurrency::Session;"),
        ];
        for (path, code) in wrong {
            assert!(findings(path, code) > 0, "{path}: {code}");
        }
    }

    #[test]
    fn a_name_from_the_root_counts_as_what_it_stands_for() {
        assert_eq!(findings("src/net/call.rs", "use crate::Client;"), 1);
        assert_eq!(
            findings("src/net/call.rs", "use crate::{Error, Revision, Version};"),
            0
        );
        assert_eq!(findings("src/net/call.rs", "use crate::*;"), 1);
    }

    #[test]
    fn what_is_no_layer_is_reported() {
        assert_eq!(findings("src/misc.rs", ""), 1);
        assert_eq!(findings("src/net/call.rs", "use crate::misc::thing;"), 1);
    }

    #[test]
    fn an_import_that_points_left_is_not() {
        let right = [
            ("src/lib.rs", "mod concurrency; pub use concurrency::Session;"),
            ("src/error.rs", "use crate::types::Revision;"),
            (
                "src/config.rs",
                "use crate::error::Error; use crate::types::KeyRange;",
            ),
            (
                "src/wire/method.rs",
                "use crate::pb; use crate::config::Config; use super::frame;",
            ),
            (
                "src/core/lock.rs",
                "use core::time::Duration; use crate::core::time::Instant;",
            ),
            (
                "src/core/lock.rs",
                "pub(crate) struct A; mod net { } fn f() { net::g(); client::h(); }",
            ),
            (
                "src/concurrency/mutex.rs",
                "use crate::client::Client; use crate::core::lock;",
            ),
            ("tests/api/main.rs", "use crate::concurrency::x;"),
        ];
        for (path, code) in right {
            assert_eq!(findings(path, code), 0, "{path}: {code}");
        }
    }

    #[test]
    fn the_message_says_where_what_and_what_instead() {
        let source = Source::new("src/core/lock.rs", "\n\nuse crate::net::dial;");
        let found = check(&source, &Root(HashMap::new()))[0].to_string();
        assert!(
            found.starts_with("src/core/lock.rs:3: [layers] `core` may not name `net` (`crate::net::dial`)")
        );
        assert!(found.contains("parameter"), "{found}");
    }
}
