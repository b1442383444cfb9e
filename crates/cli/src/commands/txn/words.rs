//! Words of a line: bare, in single quotes as they are, in double quotes and backquotes as Go's
//! string literals (The Go Programming Language Specification, "String literals").

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// The words. `None`: a quote has no end.
pub(super) fn words(line: &str) -> Option<Vec<OsString>> {
    let (mut words, mut rest) = (Vec::new(), line.trim());
    while !rest.is_empty() {
        let (word, behind) = match rest.as_bytes()[0] {
            b'"' | b'`' => quoted(rest)?,
            b'\'' => {
                let (word, behind) = rest[1..].split_once('\'')?;
                (word.as_bytes().to_vec(), behind)
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (rest.as_bytes()[..end].to_vec(), &rest[end..])
            }
        };
        words.push(OsString::from_vec(word));
        rest = behind.trim_start();
    }
    Some(words)
}

/// The bytes of a literal that the text begins with, and what is behind it.
pub(super) fn quoted(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let (raw, behind) = raw.split_once('`')?;
        return Some((raw.replace('\r', "").into_bytes(), behind));
    }
    let (mut bytes, mut rest) = (Vec::new(), text.strip_prefix('"')?);
    loop {
        let letter = rest.chars().next()?;
        rest = &rest[letter.len_utf8()..];
        match letter {
            '"' => return Some((bytes, rest)),
            '\\' => rest = escaped(rest, &mut bytes)?,
            letter => push(letter, &mut bytes),
        }
    }
}

/// What stands behind a backslash.
fn escaped<'a>(text: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let letter = text.chars().next()?;
    let (digits, radix) = match letter {
        'x' => (2, 16),
        'u' => (4, 16),
        'U' => (8, 16),
        '0'..='7' => (3, 8),
        _ => {
            bytes.push(match letter {
                'a' => 0x07,
                'b' => 0x08,
                'f' => 0x0c,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                'v' => 0x0b,
                '\\' | '"' => letter as u8,
                _ => return None,
            });
            return Some(&text[1..]);
        }
    };
    let from = usize::from(radix == 16);
    let number = u32::from_str_radix(text.get(from..from + digits)?, radix).ok()?;
    match letter {
        'u' | 'U' => push(char::from_u32(number)?, bytes),
        _ => bytes.push(u8::try_from(number).ok()?),
    }
    Some(&text[from + digits..])
}

fn push(letter: char, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Option<Vec<u8>> {
        quoted(text).filter(|(_, behind)| behind.is_empty()).map(|(bytes, _)| bytes)
    }

    #[test]
    fn literals_are_those_of_go() {
        assert_eq!(literal(r#""a\n\t\\\"""#).unwrap(), b"a\n\t\\\"");
        assert_eq!(
            literal(r#""\x00\377\u00e9\U0001f512é""#).unwrap(),
            b"\x00\xff\xc3\xa9\xf0\x9f\x94\x92\xc3\xa9"
        );
        assert_eq!(literal(r"`a\n`").unwrap(), br"a\n");
        for wrong in [
            "",
            "a",
            "\"a",
            "`a",
            r#""\q""#,
            r#""\x4""#,
            r#""\400""#,
            r#""\ud800""#,
            r#""\xé""#,
        ] {
            assert_eq!(literal(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn words_are_split_at_blanks_outside_of_quotes() {
        let line = r#"put  key "a b\n" 'c "d"' --lease=1"#;
        assert_eq!(
            words(line).unwrap(),
            ["put", "key", "a b\n", "c \"d\"", "--lease=1"]
        );
        assert_eq!(words("put 'a"), None);
    }
}
