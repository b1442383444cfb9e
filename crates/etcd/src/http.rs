//! As much HTTP/1.0, whose answers come in one piece, as it takes to ask an etcd on loopback how it is.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The most of a response that is read.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// The body of the answer to a GET, or to a POST of `body`, if its status is 200.
pub(crate) fn request(
    address: SocketAddr,
    path: &str,
    body: Option<&str>,
    within: Duration,
) -> io::Result<String> {
    let deadline = Instant::now() + within;
    let mut stream = TcpStream::connect_timeout(&address, within.max(Duration::from_millis(1)))?;
    let method = if body.is_some() { "POST" } else { "GET" };
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.set_write_timeout(Some(until(deadline)?))?;
    stream.write_all(head.as_bytes())?;
    let mut response = Vec::new();
    let mut chunk = [0; 4096];
    while response.len() < RESPONSE_BYTES_MAX {
        stream.set_read_timeout(Some(until(deadline)?))?;
        match stream.read(&mut chunk)? {
            0 => break,
            count => response.extend_from_slice(&chunk[..count]),
        }
    }
    body_of(&String::from_utf8_lossy(&response))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("no 200 from etcd"))
}

/// The digits of a number in the JSON text `body`, quoted or not; `None` where `field` is absent.
pub(crate) fn number(body: &str, field: &str) -> Option<u64> {
    let (_, rest) = body.split_once(&format!("\"{field}\""))?;
    let rest = rest.trim_start_matches([' ', ':', '"']);
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The value of a gauge in the text of `/metrics`.
pub(crate) fn gauge(metrics: &str, name: &str) -> Option<usize> {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(value)
}

fn body_of(response: &str) -> Option<&str> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 200 ").then_some(body)
}

fn until(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_quoted_spaced_or_bare() {
        let body = r#"{"header":{"member_id": "18", "raft_term":2},"leader":"18446744073709551615"}"#;
        assert_eq!(number(body, "member_id"), Some(18));
        assert_eq!(number(body, "raft_term"), Some(2));
        assert_eq!(number(body, "leader"), Some(u64::MAX));
        assert_eq!(number(body, "dbSize"), None);
    }

    #[test]
    fn a_gauge_is_read_by_its_whole_name() {
        let metrics = "# HELP watchers all\nwatchers_slow 3\nwatchers 17\n";
        assert_eq!(gauge(metrics, "watchers"), Some(17));
        assert_eq!(gauge(metrics, "watch"), None);
    }

    #[test]
    fn only_a_200_has_a_body() {
        assert_eq!(body_of("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Some("{}"));
        assert_eq!(body_of("HTTP/1.0 503 Service Unavailable\r\n\r\n{}"), None);
        assert_eq!(body_of("HTTP/1.0 200 OK\r\n"), None);
    }
}
