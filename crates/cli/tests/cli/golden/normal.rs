//! What differs from run to run, replaced by a word.

/// IDs, ports, versions, sizes, times, paths, the widths of columns, and the order of members, which is
/// that of their IDs.
pub(super) fn normal(text: &str) -> String {
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = text
        .replace(env!("CARGO_TARGET_TMPDIR"), "DIR")
        .replace(&format!("{machine}:"), "MACHINE:");
    let lines = text.lines().filter(|line| !line.starts_with("Server version"));
    let mut lines: Vec<String> = lines.map(normal_line).collect();
    for members in lines.chunk_by_mut(|one, other| is_member(one) && is_member(other)) {
        members.sort();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn is_member(line: &str) -> bool {
    line.starts_with("ID, ")
}

fn normal_line(line: &str) -> String {
    let line = [("remaining(", "s)"), (" since ", "Z"), ("(", "s left)")]
        .into_iter()
        .fold(line.to_owned(), |line, (before, behind)| {
            number_between(&line, before, behind)
        });
    let mut line = fields(&line);
    if let Some(members) =
        line.strip_prefix("ETCD_INITIAL_CLUSTER=\"").and_then(|line| line.strip_suffix('"'))
    {
        let mut members: Vec<_> = members.split(',').collect();
        members.sort_unstable();
        line = format!("ETCD_INITIAL_CLUSTER=\"{}\"", members.join(","));
    }
    let mut normal = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(first) = rest.chars().next() {
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
        let length = match is_word(first) {
            true => rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (word, behind) = rest.split_at(length);
        normal.push_str(replaced(word, &normal));
        rest = behind;
    }
    columns(&without_what_is_optional(&normal))
}

/// Without the gap that pads an ID, and the fields that not every version of etcd has.
fn without_what_is_optional(line: &str) -> String {
    let fields = ["\"dbSizeQuota\":NUMBER,", "\"storageVersion\":\"VERSION\","];
    let line = fields.into_iter().fold(line.to_owned(), |line, field| line.replace(field, ""));
    let line = line.replace("\"SHA256\",\"version\":\"VERSION\"", "\"SHA256\"");
    let mut line = line;
    // One with leading zeros is padded by as many blanks.
    while line.contains("cluster  ") || line.contains("Member  ") {
        line = line.replace("cluster  ", "cluster ").replace("Member  ", "Member ");
    }
    line
}

/// A number, or a time, between these.
fn number_between(line: &str, before: &str, behind: &str) -> String {
    let found = line.match_indices(before).find_map(|(at, _)| {
        let start = at + before.len();
        let end = start + line[start..].find(behind)?;
        let is_time = |byte: u8| byte.is_ascii_digit() || b"-:T".contains(&byte);
        line[start..end].bytes().all(is_time).then_some(start..end)
    });
    match found {
        Some(range) => format!("{}TIME{}", &line[..range.start], &line[range.end..]),
        None => line.to_owned(),
    }
}

/// What stands for a word, by what it is and what was before it.
fn replaced<'a>(word: &'a str, before: &str) -> &'a str {
    let is_number = || word.bytes().all(|byte| byte.is_ascii_digit());
    let is_hexadecimal = || word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = || {
        word.split('.')
            .filter(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if word.len() > 16 && word.len() < 64 && is_number()
        || (11..=16).contains(&word.len()) && is_hexadecimal()
    {
        "ID"
    } else if word.len() == 64 && is_hexadecimal() {
        "SHA256"
    } else if before.ends_with("127.0.0.1:") && is_number() && word.len() > 1 {
        "PORT"
    } else if before.ends_with("MACHINE:") {
        "PID"
    } else if parts().count() == 3 && word.matches('.').count() == 2 {
        "VERSION"
    } else {
        word
    }
}

/// The numbers in these fields of JSON.
fn fields(line: &str) -> String {
    const NAMES: [&str; 15] = [
        "dbSize",
        "dbSizeInUse",
        "dbSizeQuota",
        "raftIndex",
        "raftAppliedIndex",
        "bytes",
        "ttl",
        "lease_left_seconds",
        "seconds",
        "locks",
        "locks_per_second",
        "wait_mean_ns",
        "wait_p50_ns",
        "wait_p99_ns",
        "wait_max_ns",
    ];
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let mut line = line.to_owned();
    for name in NAMES {
        let field = format!("\"{name}\":");
        let mut from = 0;
        while let Some(at) = line[from..].find(&field) {
            let start = from + at + field.len();
            let digits = line[start..].bytes().take_while(is_digit).count();
            line.replace_range(start..start + digits, "NUMBER");
            from = start;
        }
    }
    line
}

/// As `12.30ms`.
fn is_time(word: &str) -> bool {
    let number = word.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    number.parse::<f64>().is_ok() && ["ns", "µs", "ms", "s"].contains(&&word[number.len()..])
}

/// Sizes, times and what was counted in such, and one width for all gaps.
fn columns(line: &str) -> String {
    let parts = line.split("  ").map(str::trim).filter(|part| !part.is_empty());
    let parts: Vec<_> = parts.collect();
    let is_table = parts.len() > 4;
    if !is_table {
        return line.to_owned();
    }
    let size = |part: &&str| match part.strip_suffix("iB") {
        Some(_) => "SIZE".to_owned(),
        None => (*part).to_owned(),
    };
    let mut parts: Vec<_> = parts.iter().map(size).collect();
    if parts.iter().any(|part| is_time(part)) {
        // The first says what was asked for, the last what failed.
        let last = parts.len() - 1;
        for part in &mut parts[1..last] {
            *part = match is_time(part) {
                true => "TIME".to_owned(),
                false => "NUMBER".to_owned(),
            };
        }
        return parts.join("  ");
    }
    if let Some(last) = parts.last_mut().filter(|last| last.parse::<u64>().is_ok()) {
        "NUMBER".clone_into(last);
    }
    parts.join("  ")
}

#[test]
fn an_id_with_leading_zeros_is_one_like_others() {
    let added = |member: &str, cluster: &str| normal(&format!("Member {member} added to cluster {cluster}"));
    let padded = added("    123456789abc", "  23456789abcdef");
    assert_eq!(padded, added("0123456789abcdef", "123456789abcdef0"));
    assert_eq!(padded, "Member ID added to cluster ID\n");
}
