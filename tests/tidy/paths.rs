//! Every path that a file names, resolved as far as one file tells: `crate`,
//! `self` and `super`, nested imports, renames, globs of modules in the same
//! file, and names that an import brought in. What macros are given is read as
//! tokens, so a path there counts wherever it looks like one.

use std::collections::HashMap;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path and where it stands. Its first part is `crate` or the name of another
/// crate; its last is `*` for a glob import.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) parts: Vec<String>,
}

/// Every path of more than one part that this file names, `module` being where it stands.
pub(crate) fn mentions(module: &[String], file: &syn::File) -> Vec<Mention> {
    let reader = Reader::read(module, file);
    let mut mentions = Vec::new();
    for (scope, line, written) in &reader.written {
        for parts in reader.resolve(*scope, written, DEPTH_MAX) {
            mentions.push(Mention { line: *line, parts });
        }
    }
    mentions
}

/// The names at the root of the crate and what each stands for, from `src/lib.rs`.
pub(crate) fn exports(file: &syn::File) -> HashMap<String, Vec<Vec<String>>> {
    let reader = Reader::read(&[], file);
    let names = reader.scopes[0].names.iter();
    let resolved = names.map(|(name, paths)| {
        let paths = paths.iter().flat_map(|path| reader.resolve(0, path, DEPTH_MAX));
        (name.clone(), paths.collect())
    });
    resolved.collect()
}

/// An import that leads to an import that leads .. this often is read as it stands.
const DEPTH_MAX: usize = 8;

/// A path as it is written.
#[derive(Clone)]
struct Written {
    parts: Vec<String>,
    /// It begins with `::`, so with the name of a crate.
    rooted: bool,
}

impl Written {
    fn from_root(parts: Vec<String>) -> Written {
        Written { parts, rooted: true }
    }
}

/// A module, that of the file or one written inside it. Imports inside a
/// function count as its module's.
struct Scope {
    module: Vec<String>,
    names: HashMap<String, Vec<Written>>,
    globs: Vec<Written>,
}

impl Scope {
    fn new(module: Vec<String>) -> Scope {
        Scope {
            module,
            names: HashMap::new(),
            globs: Vec::new(),
        }
    }
}

struct Reader {
    scopes: Vec<Scope>,
    current: usize,
    written: Vec<(usize, usize, Written)>,
}

impl Reader {
    fn read(module: &[String], file: &syn::File) -> Reader {
        let mut reader = Reader {
            scopes: vec![Scope::new(in_crate(module, []))],
            current: 0,
            written: Vec::new(),
        };
        reader.visit_file(file);
        reader
    }

    fn resolve(&self, scope: usize, path: &Written, depth: usize) -> Vec<Vec<String>> {
        let Some((first, rest)) = path.parts.split_first() else {
            return Vec::new();
        };
        let module = &self.scopes[scope].module;
        match first.as_str() {
            "Self" => Vec::new(),
            _ if path.rooted || depth == 0 || first == "crate" => vec![path.parts.clone()],
            "self" => vec![in_crate(&module[1..], rest.iter().cloned())],
            "super" => {
                let supers = path.parts.iter().take_while(|part| *part == "super").count();
                let above = module.len().saturating_sub(supers).max(1);
                vec![in_crate(&module[1..above], path.parts[supers..].iter().cloned())]
            }
            name => self.resolve_name(scope, name, rest, depth).unwrap_or_else(|| vec![path.parts.clone()]),
        }
    }

    /// What a plain name stands for, with the rest of the path behind it; `None` if this file does not say.
    fn resolve_name(
        &self,
        scope: usize,
        name: &str,
        rest: &[String],
        depth: usize,
    ) -> Option<Vec<Vec<String>>> {
        let here = &self.scopes[scope];
        if let Some(bound) = here.names.get(name) {
            let longer = bound.iter().map(|path| Written {
                parts: path.parts.iter().chain(rest).cloned().collect(),
                // `use h2;` binds the name to itself: a crate.
                rooted: path.rooted || path.parts[0] == name,
            });
            return Some(longer.flat_map(|path| self.resolve(scope, &path, depth - 1)).collect());
        }
        let opened = here.globs.iter().flat_map(|glob| self.resolve(scope, glob, depth - 1));
        opened.into_iter().find_map(|module| {
            let other = self.scopes.iter().position(|scope| scope.module == module)?;
            (other != scope && depth > 1).then(|| self.resolve_name(other, name, rest, depth - 1))?
        })
    }

    fn bind(&mut self, name: &syn::Ident, path: Written) {
        let names = &mut self.scopes[self.current].names;
        names.entry(name.to_string()).or_default().push(path);
    }

    fn declare(&mut self, name: &syn::Ident) {
        let module = &self.scopes[self.current].module;
        let path = in_crate(&module[1..], [name.to_string()]);
        self.bind(name, Written::from_root(path));
    }

    fn mention(&mut self, line: usize, path: Written) {
        self.written.push((self.current, line, path));
    }

    fn import(&mut self, tree: &syn::UseTree, mut path: Written) {
        match tree {
            syn::UseTree::Path(step) => {
                path.parts.push(step.ident.to_string());
                self.import(&step.tree, path);
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.import(tree, path.clone());
                }
            }
            syn::UseTree::Name(name) => self.import_as(&name.ident, None, path),
            syn::UseTree::Rename(renamed) => self.import_as(&renamed.ident, Some(&renamed.rename), path),
            syn::UseTree::Glob(glob) => {
                self.scopes[self.current].globs.push(path.clone());
                path.parts.push("*".to_owned());
                self.mention(glob.star_token.spans[0].start().line, path);
            }
        }
    }

    fn import_as(&mut self, name: &syn::Ident, rename: Option<&syn::Ident>, mut path: Written) {
        // `use a::b::{self}` brings in `b`.
        let own = if name == "self" && !path.parts.is_empty() {
            syn::Ident::new(path.parts.last().expect("it is not empty"), name.span())
        } else {
            path.parts.push(name.to_string());
            name.clone()
        };
        self.bind(rename.unwrap_or(&own), path.clone());
        self.mention(name.span().start().line, path);
    }

    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(word) if word == "use" => at += self.scan_import(&tokens[at..]),
                TokenTree::Ident(_) if !follows_dot(&tokens, at) => at += self.scan_path(&tokens, at),
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads a path that begins here, and returns how many tokens beyond the first it took.
    fn scan_path(&mut self, tokens: &[TokenTree], start: usize) -> usize {
        let mut parts = vec![tokens[start].to_string()];
        let mut last = start;
        while is_colons(tokens, last + 1) {
            let Some(TokenTree::Ident(part)) = tokens.get(last + 3) else {
                break;
            };
            parts.push(part.to_string());
            last += 3;
        }
        let rooted = start >= 2 && is_colons(tokens, start - 2);
        if parts.len() > 1 || rooted {
            self.mention(tokens[start].span().start().line, Written { parts, rooted });
        }
        last - start
    }

    /// Reads an import inside a macro where it is a whole one, as [`Reader::scan_path`] does.
    fn scan_import(&mut self, tokens: &[TokenTree]) -> usize {
        let is_end = |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ';');
        let Some(end) = tokens.iter().position(is_end) else {
            return 0;
        };
        let import = tokens[..=end].iter().cloned().collect();
        match syn::parse2::<syn::ItemUse>(import) {
            Ok(import) => {
                self.visit_item_use(&import);
                end
            }
            Err(_) => 0,
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            syn::Item::Const(item) => self.declare(&item.ident),
            syn::Item::Enum(item) => self.declare(&item.ident),
            syn::Item::Fn(item) => self.declare(&item.sig.ident),
            syn::Item::Mod(item) => self.declare(&item.ident),
            syn::Item::Static(item) => self.declare(&item.ident),
            syn::Item::Struct(item) => self.declare(&item.ident),
            syn::Item::Trait(item) => self.declare(&item.ident),
            syn::Item::Type(item) => self.declare(&item.ident),
            syn::Item::Union(item) => self.declare(&item.ident),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.content.is_none() {
            return visit::visit_item_mod(self, item);
        }
        let outer = self.current;
        let mut module = self.scopes[outer].module.clone();
        module.push(item.ident.to_string());
        self.current = self.scopes.len();
        self.scopes.push(Scope::new(module));
        visit::visit_item_mod(self, item);
        self.current = outer;
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let path = Written {
            parts: Vec::new(),
            rooted: item.leading_colon.is_some(),
        };
        self.import(&item.tree, path);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let path = Written::from_root(vec![item.ident.to_string()]);
        let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
        self.bind(name, path.clone());
        self.mention(item.ident.span().start().line, path);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        let rooted = path.leading_colon.is_some();
        if let (Some(first), true) = (path.segments.first(), rooted || parts.len() > 1) {
            self.mention(first.ident.span().start().line, Written { parts, rooted });
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        visit::visit_macro(self, called);
        self.scan(called.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.scan(list.tokens.clone());
    }
}

fn in_crate(module: &[String], rest: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut parts = vec!["crate".to_owned()];
    parts.extend(module.iter().cloned());
    parts.extend(rest);
    parts
}

fn is_colons(tokens: &[TokenTree], at: usize) -> bool {
    let is_colon = |token: Option<&TokenTree>, spacing: Option<Spacing>| match token {
        Some(TokenTree::Punct(mark)) => mark.as_char() == ':' && spacing.is_none_or(|s| mark.spacing() == s),
        _ => false,
    };
    is_colon(tokens.get(at), Some(Spacing::Joint)) && is_colon(tokens.get(at + 1), None)
}

/// A field or a method is no path.
fn follows_dot(tokens: &[TokenTree], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|at| tokens.get(at));
    matches!(before, Some(TokenTree::Punct(mark)) if mark.as_char() == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that `code`, standing in `src/core/lock.rs`, names.
    fn named(code: &str) -> Vec<String> {
        let module = ["core".to_owned(), "lock".to_owned()];
        let file = syn::parse_file(code).expect("the snippet is Rust");
        mentions(&module, &file).iter().map(|mention| mention.parts.join("::")).collect()
    }

    #[test]
    fn relative_paths_begin_at_the_module() {
        let code = "use self::queue::Queue; use super::time::Instant; use super::super::net::dial;
                    fn f() { super::lease::f(); }";
        let expected = [
            "crate::core::lock::queue::Queue",
            "crate::core::time::Instant",
            "crate::net::dial",
        ];
        assert_eq!(named(code)[..3], expected);
        assert_eq!(named(code)[3], "crate::core::lease::f");
    }

    #[test]
    fn nested_imports_are_taken_apart() {
        let code = "use crate::{types::{self, Revision as R}, wire::*};";
        assert_eq!(
            named(code),
            ["crate::types", "crate::types::Revision", "crate::wire::*"]
        );
    }

    #[test]
    fn a_renamed_import_is_followed() {
        let code = "use std::time as clock; use clock::Instant as Now; fn f() { Now::now(); }";
        assert_eq!(named(code)[2], "std::time::Instant::now");
        let code = "extern crate tokio as runtime; fn f() { runtime::spawn(()); }";
        assert_eq!(named(code), ["tokio", "tokio::spawn"]);
    }

    #[test]
    fn a_crate_imported_by_its_name_is_itself() {
        assert_eq!(named("use h2; fn f(_: h2::Reason) {}"), ["h2", "h2::Reason"]);
    }

    #[test]
    fn an_own_item_hides_a_crate_unless_the_path_is_rooted() {
        let code = "mod rand; fn f() { rand::f(); ::rand::f(); }";
        assert_eq!(named(code), ["crate::core::lock::rand::f", "rand::f"]);
    }

    #[test]
    fn an_inner_module_sees_what_it_opens_and_no_more() {
        let code = "use std::time; mod tests { use super::*; fn f() { time::Instant::now(); } }";
        assert!(named(code).contains(&"std::time::Instant::now".to_owned()));
        let code = "use std::time; mod tests { fn f() { time::Instant::now(); } }";
        assert!(!named(code).contains(&"std::time::Instant::now".to_owned()));
    }

    #[test]
    fn paths_in_macros_and_attributes_count() {
        let code = "fn f() { assert_eq!(vec![crate::net::f::<u8>()], a.b::<crate::client::T>()); }";
        let paths = named(code);
        assert!(paths.contains(&"crate::net::f".to_owned()), "{paths:?}");
        assert!(paths.contains(&"crate::client::T".to_owned()), "{paths:?}");
        let code = "macro_rules! m { () => { use std::{fs, env::var}; $crate::net::f() } }";
        assert_eq!(named(code), ["std::fs", "std::env::var", "crate::net::f"]);
        assert!(named("#[cfg_attr(test, tokio::test)] fn f() {}").contains(&"tokio::test".to_owned()));
    }

    #[test]
    fn the_root_tells_what_its_names_stand_for() {
        let file = syn::parse_file("pub mod error; pub use error::{Code, Error as E}; pub use bytes::Bytes;");
        let exports = exports(&file.expect("the snippet is Rust"));
        assert_eq!(exports["E"], [["crate", "error", "Error"]]);
        assert_eq!(exports["error"], [["crate", "error"]]);
        assert_eq!(exports["Bytes"], [["bytes", "Bytes"]]);
    }
}
