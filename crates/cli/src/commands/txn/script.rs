//! The three parts of a transaction, as etcdctl reads them:
//!
//! ```text
//! value("key1") = "bar"        comparisons: ver(sion), c(reate), m(od), val(ue), lease;
//! mod("key1") > "0"            =, !=, < and >; keys and values as Go quotes them
//!
//! put key1 "new value"         done where all of them hold: get, put and del with their flags
//!
//! get --prefix key             done where one does not
//! ```

use clap::{Parser, Subcommand};
use tenure::{Client, Compare, LeaseId, Op, Revision, Txn};

use super::super::{del, get, put};
use super::words::{quoted, words};
use crate::failure::{Failure, one_line};

#[derive(Debug)]
pub(super) struct Script {
    compares: Vec<Compare>,
    success: Vec<Operation>,
    failure: Vec<Operation>,
}

/// A line of the second and the third part.
#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
struct Line {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    Get(get::Arguments),
    Put(put::Arguments),
    Del(del::Arguments),
}

impl Script {
    pub(super) fn parse(parts: &[Vec<String>; 3]) -> Result<Script, Failure> {
        let [compares, success, failure] = parts;
        let operations =
            |lines: &[String]| lines.iter().map(|line| operation(line)).collect::<Result<_, _>>();
        Ok(Script {
            compares: compares.iter().map(|line| compare(line)).collect::<Result<_, _>>()?,
            success: operations(success)?,
            failure: operations(failure)?,
        })
    }

    pub(super) fn fill<'a>(&self, mut txn: Txn<&'a Client>) -> Result<Txn<&'a Client>, Failure> {
        for compare in &self.compares {
            txn = txn.when(compare.clone());
        }
        for operation in &self.success {
            txn = txn.then(operation.op()?);
        }
        for operation in &self.failure {
            txn = txn.or_else(operation.op()?);
        }
        Ok(txn)
    }
}

impl Operation {
    fn op(&self) -> Result<Op, Failure> {
        Ok(match self {
            Operation::Get(get) => get.set(Op::get(get.keys().range()?)).into(),
            Operation::Del(del) => del.set(Op::delete(del.keys().range()?)).into(),
            Operation::Put(put) => {
                let value = put.value().ok_or("a put in a transaction needs its value")?;
                put.set(Op::put(put.key(), value)).into()
            }
        })
    }
}

fn operation(line: &str) -> Result<Operation, Failure> {
    let words = words(line).ok_or_else(|| format!("a quote without its end: {line}"))?;
    let parsed = Line::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let why = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        format!("{line}: {}", one_line(why))
    })?;
    Ok(parsed.operation)
}

fn compare(line: &str) -> Result<Compare, Failure> {
    parse_compare(line.trim())
        .ok_or_else(|| format!("not a comparison such as mod(\"key\") > \"0\": {line}").into())
}

fn parse_compare(line: &str) -> Option<Compare> {
    let (target, rest) = line.split_once('(')?;
    let (key, rest) = quoted(rest.trim_start())?;
    let rest = rest.trim_start().strip_prefix(')')?.trim_start();
    let at = rest.find(|letter: char| !"=!<>".contains(letter))?;
    let (sign, rest) = rest.split_at(at);
    let (value, rest) = quoted(rest.trim_start())?;
    if !rest.trim().is_empty() {
        return None;
    }
    let number = || std::str::from_utf8(&value).ok()?.parse::<i64>().ok();
    // The comparands have types of their own.
    macro_rules! compared {
        ($comparand:expr, $value:expr) => {{
            let (comparand, value) = ($comparand, $value);
            match sign {
                "=" => comparand.equal(value),
                "!=" => comparand.not_equal(value),
                "<" => comparand.less(value),
                ">" => comparand.greater(value),
                _ => return None,
            }
        }};
    }
    Some(match target.trim() {
        "ver" | "version" => compared!(Compare::version(key), number()?),
        "c" | "create" => compared!(Compare::create_revision(key), Revision(number()?)),
        "m" | "mod" => compared!(Compare::mod_revision(key), Revision(number()?)),
        "val" | "value" => compared!(Compare::value(key), value),
        "lease" => {
            let id = u64::from_str_radix(std::str::from_utf8(&value).ok()?, 16).ok()?;
            compared!(Compare::lease(key), LeaseId(i64::from_ne_bytes(id.to_ne_bytes())))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_compare(line: &str) -> bool {
        compare(line).is_ok()
    }

    #[test]
    fn comparisons_are_read_as_etcdctl_reads_them() {
        for line in [
            "value(\"k\") = \"v\"",
            "val(\"k\") != \"\"",
            "mod(\"k\") > \"0\"",
            "m(\"k\")<\"7\"",
            "create(`k`) = \"0\"",
            "ver(\"a b\") = \"1\"",
            "lease(\"k\") = \"694d\"",
        ] {
            assert!(is_compare(line), "{line}");
        }
        for line in [
            "",
            "value",
            "value(k) = \"v\"",
            "value(\"k\") == \"v\"",
            "mod(\"k\") > \"x\"",
            "mod(\"k\") > 0",
            "size(\"k\") > \"0\"",
            "mod(\"k\") > \"0\" and more",
            "mod(\"k\" > \"0\"",
        ] {
            assert!(!is_compare(line), "{line}");
        }
    }

    #[test]
    fn operations_have_the_flags_of_their_commands() {
        for line in [
            "put k v",
            "put k 'a b' --prev-kv",
            "get --prefix k",
            "del k l",
            "put k -1",
        ] {
            assert!(operation(line).is_ok(), "{line}: {:?}", operation(line));
        }
        for line in ["", "watch k", "get", "put k 'a", "get k --frobnicate"] {
            assert!(operation(line).is_err(), "{line}");
        }
        assert!(operation("put k").unwrap().op().is_err());
    }
}
