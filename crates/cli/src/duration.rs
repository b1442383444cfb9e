//! Times as people write them: `10` and `0.5` are seconds, as in flock(1), and `1m30s` and
//! `500ms` are as in Go, and so in etcdctl.

use std::time::Duration;

/// A clap value parser.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const WRONG: &str = "not a time: 10, 0.5, 500ms or 1m30s";
    if text.is_empty() {
        return Err(WRONG.to_owned());
    }
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| WRONG.to_owned())?;
        rest = &rest[digits..];
        let letters =
            rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..letters] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                // Without a unit, only alone.
                "" if digits == text.len() => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(WRONG.to_owned()),
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| WRONG.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_flock_and_what_go_take() {
        for (text, milliseconds) in [
            ("0", 0),
            ("10", 10_000),
            ("0.5", 500),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1m30",
            "5 s",
            "1d",
            "1e9999",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
