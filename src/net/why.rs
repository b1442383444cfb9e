//! Why there is no connection, in one line that names every endpoint: an error is read
//! in a log, where its sources may be lost.

use std::error::Error as StdError;
use std::fmt::{self, Write};

use crate::error::Error;

/// Endpoints that are named, of however many.
const ENDPOINTS_MAX: usize = 8;

/// Of what is said of one of them; a cause may quote a peer.
const CAUSE_BYTES_MAX: usize = 200;

/// How an endpoint stands.
#[derive(Clone, Copy)]
pub(super) enum Standing<'a> {
    Connected,
    /// It is dialled for the first time.
    Dialled,
    Lost(&'a Error),
}

/// `what`, and of each endpoint why it is not connected.
pub(super) fn message<'a>(
    what: &str,
    endpoints: impl ExactSizeIterator<Item = (&'a str, Standing<'a>)>,
) -> String {
    let mut text = what.to_owned();
    let rest = endpoints.len().saturating_sub(ENDPOINTS_MAX);
    for (index, (name, standing)) in endpoints.take(ENDPOINTS_MAX).enumerate() {
        let mark = if index == 0 { ':' } else { ';' };
        let mut cause = Short::default();
        // It takes everything, and keeps what it has room for.
        let _ = match standing {
            Standing::Connected => cause.write_str("connected"),
            Standing::Dialled => cause.write_str("no answer yet"),
            Standing::Lost(error) => say(&mut cause, error),
        };
        let _ = write!(text, "{mark} {name}: {}", cause.text);
    }
    if rest > 0 {
        let _ = write!(text, "; and {rest} more");
    }
    text
}

/// Says of one error what happened, in a line.
#[cfg(feature = "tracing")]
pub(super) struct Because<'a>(pub(super) &'a Error);

#[cfg(feature = "tracing")]
impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause = Short::default();
        say(&mut cause, self.0)?;
        // A cause may quote a peer, who shall not write lines of a log.
        cause.text.chars().try_for_each(|char| match char.is_control() {
            true => write!(f, "{}", char.escape_default()),
            false => f.write_char(char),
        })
    }
}

/// What happened, and what that came from, down to the last cause.
fn say(cause: &mut Short, error: &Error) -> fmt::Result {
    cause.write_str(error.message())?;
    let mut source = error.source();
    while let Some(beneath) = source {
        match beneath.downcast_ref::<Error>() {
            Some(error) => write!(cause, ": {}", error.message())?,
            None => write!(cause, ": {beneath}")?,
        }
        source = beneath.source();
    }
    Ok(())
}

/// The beginning of what is written to it.
#[derive(Default)]
struct Short {
    text: String,
    is_full: bool,
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.is_full {
            return Ok(());
        }
        let room = CAUSE_BYTES_MAX - self.text.len();
        let end = text.char_indices().map(|(at, char)| at + char.len_utf8()).take_while(|end| *end <= room);
        let end = end.last().unwrap_or(0);
        self.text.push_str(&text[..end]);
        if end < text.len() {
            self.is_full = true;
            self.text.push_str("..");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Origin;

    #[test]
    fn each_endpoint_is_named_with_its_last_cause() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = Error::unsent(Origin::Transport, "cannot connect").with_source(refused);
        let endpoints = [
            ("http://a:1", Standing::Lost(&error)),
            ("http://b:1", Standing::Dialled),
            ("http://c:1", Standing::Connected),
        ];
        assert_eq!(
            message("no endpoint is connected", endpoints.into_iter()),
            "no endpoint is connected: http://a:1: cannot connect: connection refused; http://b:1: no answer yet; http://c:1: connected"
        );
    }

    #[test]
    fn however_much_there_is_to_say_it_stays_short() {
        let error = Error::unsent(Origin::Transport, "\u{e9}".repeat(10_000));
        let endpoints = vec![("http://a:1", Standing::Lost(&error)); 1000];
        let text = message("no endpoint is connected", endpoints.into_iter());
        assert!(
            text.len() < ENDPOINTS_MAX * (CAUSE_BYTES_MAX + 30) + 60,
            "{}",
            text.len()
        );
        assert!(text.ends_with(".; and 992 more"), "{text}");
    }
}
