//! The headers that a call sends: gRPC's and etcd's own.
//!
//! All values but the timeout are shared between calls, so a call's header map
//! costs the two allocations of a map, and one more when it has a timeout.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::error::{Code, Origin};
use crate::wire::Status;

/// The version of etcd's API that this client was written for. A server counts
/// its clients by it, and refuses what is no version.
pub const CLIENT_API_VERSION: &str = "3.7";

const USER_AGENT: &str = concat!("tenure/", env!("CARGO_PKG_VERSION"));

// Made by the compiler: a name or a value that is made for each call is checked byte by byte.
static API_VERSION_NAME: HeaderName = HeaderName::from_static("client-api-version");
static HAS_LEADER: HeaderName = HeaderName::from_static("hasleader");
static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static TOKEN: HeaderName = HeaderName::from_static("token");
static AGENT: HeaderValue = HeaderValue::from_static(USER_AGENT);
static API_VERSION: HeaderValue = HeaderValue::from_static(CLIENT_API_VERSION);
static GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
static TRUE: HeaderValue = HeaderValue::from_static("true");

/// What every call of a client sends beside its message.
#[derive(Clone, Debug)]
pub struct Metadata {
    require_leader: bool,
    introduction: bool,
    /// What is the same for all calls. A copy of it costs less than what is put in piece by piece.
    same: HeaderMap,
}

impl Metadata {
    /// Calls require a leader and say what client this is.
    #[must_use]
    pub fn new() -> Metadata {
        Metadata::of(true, true)
    }

    /// Whether a member that sees no leader refuses a call at once, and ends an
    /// open stream after three election timeouts, instead of waiting for one.
    /// Serializable reads and questions to a single member do without.
    pub fn set_require_leader(&mut self, require_leader: bool) {
        *self = Metadata::of(require_leader, self.introduction);
    }

    /// Whether the server is told which client this is, and the API's version. It only
    /// counts its clients by it. A fourth header doubles the map: it costs a call 300 bytes.
    pub fn set_introduction(&mut self, tell: bool) {
        *self = Metadata::of(self.require_leader, tell);
    }

    /// The headers of a call that has this much time left, and this token, in a map of
    /// their own.
    ///
    /// The time is rounded up, so that the server never gives up before this
    /// side does.
    #[must_use]
    pub fn headers(&self, timeout: Option<Duration>, token: Option<&Token>) -> HeaderMap {
        if timeout.is_none() && token.is_none() {
            return self.same.clone();
        }
        self.headers_with(timeout, token)
    }

    // Not inlined: where nothing is added this is in nobody's way.
    #[inline(never)]
    fn headers_with(&self, timeout: Option<Duration>, token: Option<&Token>) -> HeaderMap {
        // A copy has no room for more, and would be moved.
        let more = usize::from(token.is_some()) + usize::from(timeout.is_some());
        let mut headers = self.same(more);
        if let Some(Token(token)) = token {
            headers.insert(&TOKEN, token.clone());
        }
        if let Some(timeout) = timeout {
            headers.insert(&TIMEOUT, timeout_value(timeout));
        }
        headers
    }

    fn of(require_leader: bool, introduction: bool) -> Metadata {
        let mut metadata = Metadata {
            require_leader,
            introduction,
            same: HeaderMap::new(),
        };
        metadata.same = metadata.same(0);
        metadata
    }

    /// With room for so many more.
    fn same(&self, more: usize) -> HeaderMap {
        let count = 2 + 2 * usize::from(self.introduction) + usize::from(self.require_leader);
        let mut headers = HeaderMap::with_capacity(count + more);
        headers.insert(header::CONTENT_TYPE, GRPC.clone());
        headers.insert(header::TE, TRAILERS.clone());
        if self.introduction {
            headers.insert(header::USER_AGENT, AGENT.clone());
            headers.insert(&API_VERSION_NAME, API_VERSION.clone());
        }
        if self.require_leader {
            headers.insert(&HAS_LEADER, TRUE.clone());
        }
        headers
    }
}

impl Default for Metadata {
    fn default() -> Metadata {
        Metadata::new()
    }
}

/// Who is calling, as `Authenticate` gave it. Clones share it, and `Debug` does not
/// show it.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// A token to be sent.
    ///
    /// # Errors
    /// `INTERNAL` when it cannot be a header's value.
    pub fn new(token: String) -> Result<Token, Status> {
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(token)).map_err(|_| {
            let message = "the server's token cannot be sent as a header";
            Status::new(Code::Internal, Origin::Transport, message)
        })?;
        // Keeps it out of Debug, and out of the tables that HPACK compresses with.
        value.set_sensitive(true);
        // The first clone of such bytes is the one that allocates; no call is to pay for it.
        let _ = value.clone();
        Ok(Token(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The largest number of a `grpc-timeout`, which has at most eight digits.
const TIMEOUT_NUMBER_MAX: u128 = 99_999_999;

/// gRPC's units of time, the finest first, with their nanoseconds.
const TIMEOUT_UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// A timeout in the finest unit that holds it, rounded up; never zero, which is
/// no `grpc-timeout`, and at most 11,415 years.
fn timeout_value(timeout: Duration) -> HeaderValue {
    let nanos = timeout.as_nanos().max(1);
    let (unit, number) = TIMEOUT_UNITS
        .iter()
        .map(|&(unit, unit_nanos)| (unit, nanos.div_ceil(unit_nanos)))
        .find(|&(_, number)| number <= TIMEOUT_NUMBER_MAX)
        .unwrap_or((b'H', TIMEOUT_NUMBER_MAX));
    // On the stack, the last digit first.
    let mut text = [0; 9];
    let mut start = text.len() - 1;
    text[start] = unit;
    // It fits, and is divided faster.
    let mut rest = u32::try_from(number).unwrap_or(u32::MAX);
    while rest > 0 {
        start -= 1;
        text[start] = DIGITS[(rest % 10) as usize];
        rest /= 10;
    }
    HeaderValue::from_bytes(&text[start..]).unwrap_or(HeaderValue::from_static("99999999H"))
}

const DIGITS: &[u8; 10] = b"0123456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_sends_what_grpc_and_etcd_ask_for() {
        let headers = Metadata::new().headers(None, None);
        let mut sent: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        sent.sort_unstable();
        let expected = [
            ("client-api-version", "3.7"),
            ("content-type", "application/grpc"),
            ("hasleader", "true"),
            ("te", "trailers"),
            ("user-agent", USER_AGENT),
        ];
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_token_and_a_timeout_are_sent_when_there_are_any() {
        let metadata = Metadata::new();
        let token = Token::new("abc.17".to_owned()).expect("a token");
        let headers = metadata.headers(Some(Duration::from_secs(7)), Some(&token));
        assert_eq!(headers["token"], "abc.17");
        assert!(headers["token"].is_sensitive());
        assert_eq!(headers["grpc-timeout"], "7000000u");
        assert!(!metadata.headers(None, None).contains_key("token"));
    }

    #[test]
    fn a_leader_and_a_version_are_left_out_on_demand() {
        let mut metadata = Metadata::new();
        metadata.set_require_leader(false);
        metadata.set_introduction(false);
        let headers = metadata.headers(None, None);
        assert!(!headers.contains_key("hasleader") && !headers.contains_key("client-api-version"));
    }

    #[test]
    fn a_token_that_is_no_header_is_refused() {
        let status = Token::new("a\nb".to_owned()).expect_err("a line break");
        assert_eq!(status.code, Code::Internal);
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let token = Token::new("hunter2".to_owned()).expect("a token");
        let headers = Metadata::new().headers(None, Some(&token));
        assert!(!format!("{token:?} {headers:?}").contains("hunter2"));
    }

    #[test]
    fn a_timeout_is_rounded_up_to_eight_digits() {
        let table = [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(1), "1n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_000), "100000u"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(5), "5000000u"),
            (Duration::from_nanos(99_999_999_001), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::from_secs(99_999_999), "99999999S"),
            (Duration::from_secs(100_000_000), "1666667M"),
            (Duration::from_secs(60 * 99_999_999 + 1), "1666667H"),
            (Duration::MAX, "99999999H"),
        ];
        for (timeout, text) in table {
            assert_eq!(timeout_value(timeout), text, "{timeout:?}");
        }
    }
}
