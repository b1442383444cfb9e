//! `wire` and `core` decide and do nothing else: they name no runtime, socket,
//! file, process, clock or source of chance, in their tests neither. That is
//! what lets a script, a fuzzer and a simulation drive them, and a seed replay a failure.

use crate::paths;
use crate::source::{Finding, Source};

const RULE: &str = "purity";

const TIME: &str = "take `now: crate::core::time::Instant` as a parameter; net/clock reads the clock";
const CHANCE: &str = "take a seed as a parameter";
const IO: &str = "return an action, and let `net` carry it out";

/// What they may not name, and what to do instead. `alloc` and `core` count as `std`.
const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio", IO),
    ("tokio_rustls", IO),
    ("tokio_util", IO),
    ("h2", IO),
    ("rustls", IO),
    ("rustix", IO),
    ("libc", IO),
    ("socket2", IO),
    ("std::net", IO),
    ("std::os", IO),
    ("std::fs", IO),
    ("std::env", "take the value as an option of src/config.rs"),
    ("std::process", IO),
    ("std::thread", IO),
    ("std::time::Instant", TIME),
    ("std::time::SystemTime", TIME),
    ("std::time::UNIX_EPOCH", TIME),
    ("rand", CHANCE),
    ("fastrand", CHANCE),
    ("getrandom", CHANCE),
    ("std::hash::RandomState", CHANCE),
    ("std::collections::hash_map::RandomState", CHANCE),
];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let (Some(module), Some(layer)) = (source.module(), source.layer()) else {
        return Vec::new();
    };
    if !["wire", "core"].contains(&layer.as_str()) {
        return Vec::new();
    }
    let mentions = paths::mentions(&module, &source.syntax);
    let findings = mentions.iter().filter_map(|mention| {
        let instead = complaint(&mention.parts)?;
        let what = format!("`{layer}` may not name `{}`: {instead}", mention.parts.join("::"));
        Some(source.finding(mention.line, RULE, what))
    });
    findings.collect()
}

fn complaint(path: &[String]) -> Option<&'static str> {
    let first = path.first()?.as_str();
    if let [.., clock, "now"] = path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        if ["Instant", "SystemTime"].contains(&clock) {
            return Some(TIME);
        }
    }
    if first == "crate" {
        return None;
    }
    let first = if ["core", "alloc"].contains(&first) {
        "std"
    } else {
        first
    };
    let path: Vec<&str> = [first].into_iter().chain(path[1..].iter().map(String::as_str)).collect();
    let found = FORBIDDEN.iter().find(|(forbidden, _)| reaches(&path, forbidden));
    found.map(|(_, instead)| *instead)
}

/// Whether this path names what is forbidden, something in it, or all that stands beside it.
fn reaches(path: &[&str], forbidden: &str) -> bool {
    let forbidden: Vec<&str> = forbidden.split("::").collect();
    match path {
        [opened @ .., "*"] => forbidden.starts_with(opened) || opened.starts_with(&forbidden),
        _ => path.starts_with(&forbidden),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, code: &str) -> usize {
        check(&Source::new(path, code)).len()
    }

    #[test]
    fn io_clocks_and_chance_are_reported() {
        let wrong = [
            "use tokio::sync::Notify;",
            "use ::h2::Reason;",
            "use std::{fmt, net::IpAddr};",
            "use std::time::Instant;",
            "use core::net::Ipv4Addr;",
            "use std::time::*;",
            "use std::time; fn f() { time::Instant::now(); }",
            "fn f(_: std::time::SystemTime) {}",
            "fn f() { Instant::now(); }",
            "fn f() { tokio::select! {} }",
            "fn f() { format!(\"{}\", std::env::var(\"A\")); }",
            "#[tokio::test] async fn f() {}",
            "use std::collections::hash_map::{HashMap, RandomState};",
            "fn f() { let a = rand::random(); }",
            "fn f() { std::thread::sleep(d); std::process::exit(1); }",
            "#[cfg(test)] mod tests { use std::fs::read; }",
            "extern crate rustix;",
        ];
        for code in wrong {
            assert!(findings("src/core/lock.rs", code) > 0, "{code}");
            assert!(findings("src/wire/frame.rs", code) > 0, "{code}");
        }
    }

    #[test]
    fn data_durations_and_the_own_instant_are_not() {
        let right = [
            "use std::time::Duration; use crate::core::time::Instant;",
            "use std::collections::{HashMap, VecDeque}; use std::collections::hash_map::{DefaultHasher, Entry};",
            "use std::io::Read; use bytes::*; use http::HeaderMap;",
            "use super::time::Instant; fn f(now: Instant) { Instant(7).saturating_since(now); }",
            "/// See [`tokio::spawn`].\nfn f() { self.net.env.process(); assert!(\"tokio::spawn\".is_empty()); }",
            "mod rand; use rand::Xorshift;",
        ];
        for code in right {
            assert_eq!(findings("src/core/lock.rs", code), 0, "{code}");
        }
    }

    #[test]
    fn the_layers_with_io_may() {
        for path in [
            "src/net/dial.rs",
            "src/client/kv.rs",
            "src/lib.rs",
            "tests/api/main.rs",
        ] {
            assert_eq!(
                findings(path, "use tokio::net::TcpStream; use std::time::Instant;"),
                0,
                "{path}"
            );
        }
    }

    #[test]
    fn the_message_says_where_what_and_what_instead() {
        let source = Source::new("src/core/lock.rs", "//! A lock.\nuse std::time::Instant;");
        let found = check(&source)[0].to_string();
        assert!(
            found.starts_with(
                "src/core/lock.rs:2: [purity] `core` may not name `std::time::Instant`: take `now"
            )
        );
    }
}
