//! What a file must say and what it must not: a story at its top, a reason
//! beside `#[ignore]`, nothing left to be written in shipped code, and no name that says nothing.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::source::{Finding, Source};

/// Parts of a name that say nothing of what the thing is.
const EMPTY_NAMES: &[&str] = &["manager", "helper", "helpers", "util", "utils"];

const PLACEHOLDERS: &[&str] = &["todo", "unimplemented", "dbg"];

/// The file opens with `//!`.
pub(crate) fn check_story(source: &Source) -> Vec<Finding> {
    if source.is_generated() || source.text.starts_with("//!") {
        return Vec::new();
    }
    let what = "open the file with `//!`: what it owns, what it refuses, who drives it";
    vec![source.finding(1, "story", what)]
}

/// `#[ignore]` has a reason.
pub(crate) fn check_ignored(source: &Source) -> Vec<Finding> {
    let mut attributes = Attributes(Vec::new());
    attributes.visit_file(&source.syntax);
    let what = "say why, and how to run it: `#[ignore = \"an hour long: cargo test -- --ignored soak\"]`";
    let lines = attributes.0.into_iter();
    lines.map(|line| source.finding(line, "ignored", what)).collect()
}

/// No `todo!`, `unimplemented!` or `dbg!` is shipped.
pub(crate) fn check_placeholders(source: &Source) -> Vec<Finding> {
    if !source.is_shipped() {
        return Vec::new();
    }
    let mut calls = Calls(Vec::new());
    calls.visit_file(&source.syntax);
    let found = calls.0.into_iter().map(|(line, name)| {
        let what =
            format!("`{name}!` is no shipped code: write it, or return an error that says what is missing");
        source.finding(line, "placeholder", what)
    });
    found.collect()
}

/// No type and no module is called Manager, Helper or utils.
pub(crate) fn check_names(source: &Source) -> Vec<Finding> {
    if source.is_generated() {
        return Vec::new();
    }
    let mut names = Names(Vec::new());
    names.visit_file(&source.syntax);
    let empty = names
        .0
        .iter()
        .filter(|name| parts_of(&name.to_string()).any(|part| EMPTY_NAMES.contains(&&*part)));
    let found = empty.map(|name| {
        let what = format!(
            "`{name}` does not say what it is: call it by what it holds or does (pool, driver, clock)"
        );
        source.finding(name.span().start().line, "name", what)
    });
    found.collect()
}

/// `LeaseManager` and `lease_manager` are both `lease`, `manager`.
fn parts_of(name: &str) -> impl Iterator<Item = String> {
    let mut parts = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            parts.push(String::new());
        }
        if let (Some(part), true) = (parts.last_mut(), letter != '_') {
            part.extend(letter.to_lowercase());
        }
    }
    parts.into_iter()
}

/// The lines of `#[ignore]` without a reason.
struct Attributes(Vec<usize>);

impl<'ast> Visit<'ast> for Attributes {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if !attribute.path().is_ident("ignore") {
            return;
        }
        let reason = match &attribute.meta {
            syn::Meta::NameValue(reason) => match &reason.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) => text.value(),
                _ => String::new(),
            },
            _ => String::new(),
        };
        if reason.trim().is_empty() {
            self.0.push(attribute.pound_token.spans[0].start().line);
        }
    }
}

/// The placeholders that are called, in macros too.
struct Calls(Vec<(usize, String)>);

impl Calls {
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(name) if is_bang(tokens.get(at + 1)) => self.note(name),
                _ => {}
            }
        }
    }

    fn note(&mut self, name: &syn::Ident) {
        if PLACEHOLDERS.iter().any(|placeholder| name == placeholder) {
            self.0.push((name.span().start().line, name.to_string()));
        }
    }
}

impl<'ast> Visit<'ast> for Calls {
    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        if let Some(name) = called.path.segments.last() {
            self.note(&name.ident);
        }
        self.scan(called.tokens.clone());
    }
}

fn is_bang(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == '!')
}

/// The names of types, traits and modules.
struct Names(Vec<syn::Ident>);

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let name = match item {
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Mod(item) => Some(&item.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        self.0.extend(name.cloned());
        visit::visit_item(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: impl Fn(&Source) -> Vec<Finding>, path: &str, code: &str) -> Vec<usize> {
        rule(&Source::new(path, code)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_without_a_story_is_reported() {
        for code in [
            "",
            "use a;",
            "// A comment.\n//! Late.",
            "/// Of an item.\nfn f() {}",
        ] {
            assert_eq!(lines(check_story, "src/net/dial.rs", code), [1], "{code}");
        }
        assert_eq!(
            lines(check_story, "src/net/dial.rs", "//! Dials.\nuse a;"),
            [0; 0]
        );
        let generated = "// This file is @generated by prost-build.\n";
        assert_eq!(lines(check_story, "src/pb/mvccpb.rs", generated), [0; 0]);
    }

    #[test]
    fn an_ignored_test_without_a_reason_is_reported() {
        for code in ["\n#[ignore]\nfn f() {}", "mod t {\n#[ignore = \" \"] fn f() {} }"] {
            assert_eq!(lines(check_ignored, "tests/soak.rs", code), [2], "{code}");
        }
        let said = "#[ignore = \"an hour long\"] #[must_use] fn f() { ignore(); }";
        assert_eq!(lines(check_ignored, "tests/soak.rs", said), [0; 0]);
    }

    #[test]
    fn a_placeholder_in_shipped_code_is_reported() {
        let wrong = [
            "fn f() { todo!() }",
            "fn f() { std::unimplemented!(); }",
            "fn f() { vec![dbg!(1)]; }",
        ];
        for code in wrong {
            assert_eq!(lines(check_placeholders, "src/net/dial.rs", code), [1], "{code}");
            assert_eq!(
                lines(check_placeholders, "crates/etcd/src/lib.rs", code),
                [1],
                "{code}"
            );
            assert_eq!(
                lines(check_placeholders, "tests/api/main.rs", code),
                [0; 0],
                "{code}"
            );
        }
        let right = "// todo!\nfn todo() { unreachable!(\"todo!()\"); let dbg = todo() != 1; }";
        assert_eq!(lines(check_placeholders, "src/net/dial.rs", right), [0; 0]);
    }

    #[test]
    fn a_name_that_says_nothing_is_reported() {
        let wrong = [
            "struct LeaseManager;",
            "enum Helper {}",
            "trait WatchHelpers {}",
            "type Utils = ();",
            "mod utils;",
            "mod a { mod string_util {} }",
        ];
        for code in wrong {
            assert_eq!(lines(check_names, "src/net/dial.rs", code), [1], "{code}");
            assert_eq!(lines(check_names, "tests/api/main.rs", code), [1], "{code}");
        }
        let right = "struct Pool; mod driver; fn manager() {} struct Utilization; struct Managed;";
        assert_eq!(lines(check_names, "src/net/dial.rs", right), [0; 0]);
    }
}
