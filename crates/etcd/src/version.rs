//! Lines and versions of etcd, and how they are read from its texts.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// A line of etcd releases, such as 3.5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Line {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

impl Line {
    /// etcd 3.4, the oldest that is tested against.
    pub const V3_4: Line = Line { major: 3, minor: 4 };
    /// etcd 3.5.
    pub const V3_5: Line = Line { major: 3, minor: 5 };
    /// etcd 3.6.
    pub const V3_6: Line = Line { major: 3, minor: 6 };
    /// etcd 3.7.
    pub const V3_7: Line = Line { major: 3, minor: 7 };
    /// All lines that are tested against, the oldest first.
    pub const ALL: [Line; 4] = [Line::V3_4, Line::V3_5, Line::V3_6, Line::V3_7];
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Line {
    type Err = Error;

    /// Reads `3.5`, or `v3.5`.
    fn from_str(text: &str) -> Result<Line, Error> {
        let numbers = text.trim().trim_start_matches('v').split_once('.');
        let line = numbers.and_then(|(major, minor)| {
            Some(Line {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        });
        line.ok_or_else(|| Error::new(format!("{text:?} is no line of etcd; one looks like 3.5")))
    }
}

/// The version of an etcd, without what may follow the third number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The line it is of.
    pub line: Line,
    /// The third number.
    pub patch: u16,
}

impl Version {
    /// Finds the version in what `etcd --version` prints.
    pub(crate) fn in_output(output: &str) -> Option<Version> {
        let text = output.lines().find_map(|line| line.strip_prefix("etcd Version:"))?;
        let mut numbers = text.trim().splitn(3, '.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let patch = numbers.next()?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
        Some(Version {
            line: Line { major, minor },
            patch,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.line, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_etcd_prints() {
        let version = Version::in_output("etcd Version: 3.6.0-rc.1\nGit SHA: 1234567\n").unwrap();
        assert_eq!((version.line, version.patch), (Line::V3_6, 0));
        assert_eq!(version.to_string(), "3.6.0");
        assert_eq!(Version::in_output("Go Version: go1.26.0"), None);
        assert_eq!(Version::in_output("etcd Version: 3.6"), None);
    }

    #[test]
    fn lines_are_ordered_by_number_and_read_back() {
        assert!(Line { major: 3, minor: 10 } > Line::V3_7);
        for line in Line::ALL {
            assert_eq!(line.to_string().parse::<Line>().unwrap(), line);
        }
        assert!("3".parse::<Line>().is_err());
        assert!("3.x".parse::<Line>().is_err());
    }
}
