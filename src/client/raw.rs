//! Calls of any method with any bytes, to fuzz servers with. **Unstable**: behind the
//! feature `unstable`, and exempt from semantic versioning.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;

use super::Client;
use crate::error::Error;
use crate::net::clock;

/// What an answer may hold unless the caller says otherwise.
const MESSAGES_MAX: usize = 1024;

impl Client {
    /// A call of the method at `path`, such as `/etcdserverpb.KV/Range`, whose body
    /// and answer nobody looks at. It is sent once, never again by itself.
    ///
    /// **Unstable**: it may change in any release. Fuzzing a server is what it is for;
    /// `examples/raw_call.rs` does so.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// // A RangeRequest of the key "k".
    /// let answer = client.raw("/etcdserverpb.KV/Range").message(b"\x0a\x01k").send().await;
    /// println!("{} messages, then {:?}", answer.messages.len(), answer.end);
    /// # Ok(())
    /// # }
    /// ```
    pub fn raw(&self, path: &str) -> RawCall {
        RawCall {
            client: self.clone(),
            path: path.to_owned(),
            body: Vec::new(),
            timeout: self.channel().config().call_timeout,
            messages_max: MESSAGES_MAX,
        }
    }
}

/// A call of any method with any bytes; see [`Client::raw`]. **Unstable.**
#[derive(Clone)]
#[must_use = "a call is sent only once it is awaited"]
pub struct RawCall {
    client: Client,
    path: String,
    body: Vec<u8>,
    timeout: Duration,
    messages_max: usize,
}

/// What a server made of a [`RawCall`]. **Unstable.**
pub struct RawAnswer {
    /// The messages that came, without their prefixes.
    pub messages: Vec<Bytes>,
    /// How it ended.
    pub end: Result<(), Error>,
}

impl RawCall {
    /// Sends these bytes as one more message: behind a prefix that is right.
    pub fn message(mut self, bytes: impl AsRef<[u8]>) -> RawCall {
        let bytes = bytes.as_ref();
        // More than a prefix can say is cut off there, and is garbage to the server.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.body.push(0);
        self.body.extend(length.to_be_bytes());
        self.body.extend(bytes);
        self
    }

    /// Sends these bytes as they are, behind whatever was added before: prefixes that
    /// are wrong are up to the caller.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> RawCall {
        self.body.extend(bytes.as_ref());
        self
    }

    /// The time that it may take, instead of the client's.
    pub fn timeout(mut self, timeout: Duration) -> RawCall {
        self.timeout = timeout;
        self
    }

    /// The most messages that are waited for. Default: 1,024.
    pub fn messages_max(mut self, messages: usize) -> RawCall {
        self.messages_max = messages;
        self
    }

    /// Sends it, ends the stream in that direction, and collects what comes back. A
    /// stream that the server does not end, such as a watch, ends at the timeout.
    ///
    /// # Cancel safety
    ///
    /// Dropping it resets the stream. What it asked for may have happened.
    pub async fn send(self) -> RawAnswer {
        let mut messages = Vec::new();
        let end = match PathAndQuery::try_from(self.path) {
            Ok(path) => {
                let deadline = clock::now() + self.timeout;
                let body = self.body.into();
                let channel = self.client.channel();
                channel.raw(path, body, deadline, &mut messages, self.messages_max).await
            }
            Err(error) => Err(Error::invalid("this is no path").with_source(error)),
        };
        RawAnswer { messages, end }
    }
}

/// Never the bytes: they may be a password.
impl fmt::Debug for RawCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCall")
            .field("path", &self.path)
            .field("bytes", &self.body.len())
            .field("timeout", &self.timeout)
            .field("messages_max", &self.messages_max)
            .finish_non_exhaustive()
    }
}

/// Never the bytes: they may be a token.
impl fmt::Debug for RawAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.messages.iter().map(Bytes::len).sum();
        f.debug_struct("RawAnswer")
            .field("messages", &self.messages.len())
            .field("bytes", &bytes)
            .field("end", &self.end)
            .finish()
    }
}
