//! Percent-decoding never fails, gives back what was encoded, and leaves what
//! has no escapes as it is.

use tenure::wire::status::percent_decode;

pub(crate) fn run(data: &[u8]) {
    let decoded = percent_decode(data);
    if !data.contains(&b'%') {
        assert_eq!(decoded, String::from_utf8_lossy(data));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(decoded.len() <= text.len());
        assert_eq!(percent_decode(encode(text).as_bytes()), text);
    }
}

/// As gRPC says: printable ASCII but the percent sign stays.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
