//! The repository's own rules, checked on its sources: which layer may name
//! which, what the layers without IO may not name, how long a file and a
//! function may be, and a few words. Each rule is one module here, with
//! snippets that break it and snippets that do not.
//!
//! A rule that is in the way is changed here and in ARCHITECTURE.md, not worked around.

mod layers;
mod length;
mod links;
mod machine;
mod paths;
mod purity;
mod source;
mod words;

use source::{Finding, Source};

#[test]
fn imports_point_left() {
    let root = layers::Root::of(&repository());
    check(|source| layers::check(source, &root));
}

#[test]
fn wire_and_core_name_no_io_no_clock_and_no_chance() {
    check(purity::check);
}

#[test]
fn files_and_functions_are_short() {
    check(length::check);
}

#[test]
fn a_file_opens_with_its_story() {
    check(words::check_story);
}

#[test]
fn an_ignored_test_says_why() {
    check(words::check_ignored);
}

#[test]
fn nothing_is_left_to_be_written() {
    check(words::check_placeholders);
}

#[test]
fn names_say_what_a_thing_is() {
    check(words::check_names);
}

#[test]
fn no_file_names_a_developers_machine() {
    report(source::texts().iter().flat_map(|(path, text)| machine::check(path, text)));
}

#[test]
fn links_lead_somewhere() {
    let texts = source::texts();
    let files = links::Files::of(&texts);
    report(texts.iter().flat_map(|(path, text)| links::check(path, text, &files)));
}

#[test]
fn the_walk_finds_the_sources() {
    let paths: Vec<String> = repository().into_iter().map(|source| source.path).collect();
    for expected in [
        "src/lib.rs",
        "src/core/time.rs",
        "tests/tidy/main.rs",
        "crates/etcd/src/lib.rs",
    ] {
        assert!(
            paths.iter().any(|path| path == expected),
            "{expected} was not read: {paths:?}"
        );
    }
    assert!(
        paths.iter().all(|path| !path.starts_with("target/")),
        "build output was read"
    );
}

fn repository() -> Vec<Source> {
    let texts = source::texts();
    let sources = texts.into_iter().filter(|(path, _)| source::is_held(path));
    sources.map(|(path, text)| Source::new(path, text)).collect()
}

fn check(rule: impl Fn(&Source) -> Vec<Finding>) {
    report(repository().iter().flat_map(rule));
}

fn report(findings: impl Iterator<Item = Finding>) {
    let lines: Vec<String> = findings.map(|finding| finding.to_string()).collect();
    assert!(
        lines.is_empty(),
        "{} finding(s):\n{}",
        lines.len(),
        lines.join("\n")
    );
}
