//! A link in a document leads somewhere, also where the package is all there is: to a file that the
//! package has. The guides and the comments are pages of the documentation, where no file is beside them.

use crate::source::Finding;

/// What there is to lead to.
pub(crate) struct Files {
    /// From the root of the repository.
    all: Vec<String>,
    /// What `include` of the package's manifest says.
    packed: Vec<String>,
}

impl Files {
    pub(crate) fn of(texts: &[(String, String)]) -> Files {
        let manifest = texts.iter().find(|(path, _)| path == "Cargo.toml").expect("there is a manifest");
        let (_, include) = manifest.1.split_once("\ninclude = [").expect("it says what the package has");
        let (include, _) = include.split_once(']').expect("a list ends");
        let all = texts.iter().map(|(path, _)| path.clone()).collect();
        Files::new(all, include.split('"').skip(1).step_by(2))
    }

    fn new<'a>(all: Vec<String>, include: impl Iterator<Item = &'a str>) -> Files {
        let packed = include.map(|entry| entry.trim_start_matches('/').to_owned()).collect();
        Files { all, packed }
    }

    fn are_there(&self, path: &str) -> bool {
        self.all.iter().any(|file| file == path || is_in(file, path))
    }

    fn are_packed(&self, path: &str) -> bool {
        self.packed.iter().any(|entry| match entry.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == entry || is_in(path, entry),
        })
    }
}

pub(crate) fn check(path: &str, text: &str, files: &Files) -> Vec<Finding> {
    let is_comment = path.ends_with(".rs");
    if !(path.ends_with(".md") || is_comment && path.starts_with("src/")) {
        return Vec::new();
    }
    let is_page = is_comment || path.starts_with("docs/");
    let (directory, _) = path.rsplit_once('/').unwrap_or(("", path));
    let mut is_code = false;
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        is_code ^= line.trim_start().trim_start_matches(['/', '!', ' ']).starts_with("```");
        let is_prose = !is_code && (!is_comment || line.trim_start().starts_with("//"));
        for target in targets(line).filter(|target| is_prose && is_file(target, is_comment)) {
            let what = if is_page {
                format!("`{target}` is nothing in the documentation: name it in words, or link to an item")
            } else if !files.are_there(&joined(directory, target)) {
                format!("`{target}` is not there")
            } else if files.are_packed(path) && !files.are_packed(&joined(directory, target)) {
                format!("`{target}` is not in the package: put it into `include`, or name it in words")
            } else {
                continue;
            };
            findings.push(Finding {
                path: path.to_owned(),
                line: number + 1,
                rule: "links",
                what,
            });
        }
    }
    findings
}

fn is_in(file: &str, directory: &str) -> bool {
    file.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// What stands behind `](`, without the place in it.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    let ends = line.split("](").skip(1);
    ends.filter_map(|end| end.split([')', '#']).next()).filter(|target| !target.is_empty())
}

/// Whether it is a path from here: not an address, and in a comment not an item.
fn is_file(target: &str, is_comment: bool) -> bool {
    let is_address = target.contains("://") || target.starts_with("mailto:");
    !is_address && (!is_comment || target.starts_with("..") || target.ends_with(".md"))
}

fn joined(directory: &str, target: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn links_that_lead_nowhere_are_reported() {
    let all = [
        "README.md",
        "NOTES.md",
        "docs/a.md",
        "examples/a.rs",
        "src/lib.rs",
    ]
    .map(str::to_owned);
    let files = Files::new(all.into(), ["/src", "/docs", "/READ*"].into_iter());
    for (path, text, what) in [
        ("README.md", "[a](docs/b.md)", "`docs/b.md` is not there"),
        (
            "README.md",
            "x\n[a](examples) [b](docs/a.md#b)",
            "`examples` is not in the package",
        ),
        ("NOTES.md", "[a](src/none.rs)", "`src/none.rs` is not there"),
        ("docs/a.md", "[a](../README.md)", "nothing in the documentation"),
        (
            "src/lib.rs",
            "/// [a](../docs/a.md)",
            "nothing in the documentation",
        ),
    ] {
        let found = check(path, text, &files);
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].what.contains(what), "{}", found[0]);
    }
    for (path, text) in [
        (
            "README.md",
            "[a](docs/a.md#b), [b](https://example.com/a.md), [c](#d), [e](docs)",
        ),
        ("README.md", "```rust\nlet a = b[0](c);\n```"),
        ("NOTES.md", "[a](examples/a.rs)"),
        ("src/lib.rs", "/// [a](crate::A)\nlet a = b[0](\"c.md\");"),
        ("tests/a.rs", "//! [a](../none.md)"),
    ] {
        assert!(check(path, text, &files).is_empty(), "{text}");
    }
}
