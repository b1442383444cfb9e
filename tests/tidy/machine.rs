//! No text file holds an absolute path of the machine that it was written on.

use crate::source::Finding;

/// Put together, so that this file does not break its own rule.
const ROOTS: &[&str] = &[
    concat!("/", "home/"),
    concat!("/", "root/"),
    concat!("/", "work/"),
];

pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let lines = text.lines().enumerate();
    let found = lines.filter_map(|(number, line)| {
        let root = ROOTS.iter().find(|root| names(line, root))?;
        Some(Finding {
            path: path.to_owned(),
            line: number + 1,
            rule: "machine",
            what: format!("`{root}` is a path of one machine: name it relative to the repository, or read it from the environment"),
        })
    });
    found.collect()
}

/// Whether an absolute path in this line begins with `root`: behind a letter, a
/// digit or a variable it is the middle of a URL or of a longer path.
fn names(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || "._-~})>*".contains(letter))
    })
}

#[test]
fn a_path_of_a_machine_is_reported() {
    for root in ROOTS {
        for line in [
            format!("{root}me"),
            format!("cd {root}me"),
            format!("A=\"{root}x\""),
            format!("file://{root}x"),
        ] {
            let found = check("test.sh", &format!("first\n{line}\n"));
            assert_eq!(found.len(), 1, "{line}");
            assert!(
                found[0].to_string().starts_with("test.sh:2: [machine] "),
                "{}",
                found[0]
            );
        }
    }
}

#[test]
fn the_middle_of_a_url_or_a_path_is_not() {
    for root in ROOTS {
        let lines = [
            format!("https://example.com{root}x"),
            format!("src{root}x"),
            format!("${{BASE}}{root}x"),
            root.trim_end_matches('/').to_owned(),
        ];
        for line in lines {
            assert!(check("README.md", &line).is_empty(), "{line}");
        }
    }
}
