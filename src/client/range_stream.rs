//! A range of any size at one revision, read in pieces as its reader asks for them.
//!
//! ```text
//!   Range, a page ──more──▶ RangeStream, behind it ──▶ the end
//!        ▲                     │ ended early, or the server has none
//!        └─────────────────────'
//! ```
//!
//! The first page fixes the revision, so that whatever follows can go on behind the last key
//! that came: at another member too, and by pages alone where no server has RangeStream. A page
//! is a call with all its retries, so the stream needs none of its own.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use super::Client;
use super::answers::Answers;
use crate::error::{Code, Delivery, Error, Origin};
use crate::net::call_options::CallOptions;
use crate::net::named::named;
use crate::pb::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};
use crate::pb::mvccpb::KeyValue;
use crate::types::{KeyRange, Revision};
use crate::wire::method::kv as method;

/// As many as a list of [`Client::list_watch`] reads at a time.
const PAGE_KEYS_DEFAULT: u32 = 500;

impl Client {
    /// Reads a [`KeyRange`] of any size, in the order of its keys, all at one revision, with no more
    /// than a piece of it in memory. Nothing is sent before the first piece is asked for.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
    /// use tenure::KeyRange;
    ///
    /// let mut jobs = client.range_stream(KeyRange::prefix("jobs/"));
    /// while let Some(kvs) = jobs.next().await? {
    ///     println!("{} more keys as of revision {}", kvs.len(), jobs.revision());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn range_stream(&self, keys: impl Into<KeyRange>) -> RangeStream {
        let keys = keys.into();
        let rest = RangeRequest {
            key: keys.key,
            range_end: keys.range_end,
            ..RangeRequest::default()
        };
        RangeStream {
            client: self.clone(),
            rest,
            page_keys: PAGE_KEYS_DEFAULT,
            may_stream: true,
            stream: None,
            is_over: false,
        }
    }
}

/// A range that is being read, as [`Client::range_stream`] makes it.
///
/// # Guarantees
///
/// What it gives is the range as it was at [`RangeStream::revision`]: each key once, in order,
/// none left out, also where connections are lost and members fail on the way.
///
/// On etcd 3.7 what follows the first page is one `RangeStream` call, whose pieces the server
/// cuts; on older servers it is one `Range` for each page. A reader that stops for longer than
/// the history is kept finds it [compacted](crate::EtcdError::Compacted).
pub struct RangeStream {
    client: Client,
    /// What was not read yet. The revision is known after the first page.
    rest: RangeRequest,
    page_keys: u32,
    /// No server has said that it has no such call.
    may_stream: bool,
    stream: Option<Answers<RangeRequest, RangeStreamResponse>>,
    is_over: bool,
}

impl RangeStream {
    /// So many keys are read at a time, where the server does not cut the pieces. Default: 500. Where a
    /// page is larger than a [response may be](crate::Config::response_bytes_max) it is read
    /// in halves from then on.
    #[must_use]
    pub fn page_size(mut self, keys: u32) -> RangeStream {
        self.page_keys = keys.max(1);
        self
    }

    /// The range as it was at this revision, instead of now.
    #[must_use]
    pub fn at_revision(mut self, revision: Revision) -> RangeStream {
        self.rest.revision = revision.0;
        self
    }

    /// Without the values.
    #[must_use]
    pub fn keys_only(mut self) -> RangeStream {
        self.rest.keys_only = true;
        self
    }

    /// The revision that is read; [`Revision::ZERO`] before the first piece, if none was given.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.rest.revision)
    }

    /// The next keys, at least one; `None` at the end of the range, and from then on.
    ///
    /// # Errors
    ///
    /// As those of [`Client::get`]; [`Compacted`](crate::EtcdError::Compacted) where the revision
    /// is gone. It may be asked again: it tries to go on where it was.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, it has taken no keys, and goes on with the next call.
    pub async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, Error> {
        while !self.is_over {
            let piece = match self.stream_piece().await {
                Some(piece) => piece,
                None => self.page().await?,
            };
            let kvs = self.take(piece);
            if !kvs.is_empty() {
                return Ok(Some(kvs));
            }
        }
        Ok(None)
    }

    /// The next piece of the stream, if there is one that goes well.
    async fn stream_piece(&mut self) -> Option<RangeResponse> {
        let within = self.client.channel().config().call_timeout;
        let stream = self.stream.as_mut()?;
        match stream.next(Some(within)).await {
            Ok(Some(piece)) => {
                let mut piece = piece.range_response.unwrap_or_default();
                // Only the last one has a header, and says whether there is more.
                piece.more |= piece.header.is_none();
                let is_next = piece.kvs.first().is_none_or(|first| self.rest.key <= first.key);
                if is_next && !(piece.more && piece.kvs.is_empty()) {
                    return Some(piece);
                }
            }
            Ok(None) => {}
            Err(error) => self.may_stream &= error.code() != Code::Unimplemented,
        }
        self.stream = None;
        None
    }

    async fn page(&mut self) -> Result<RangeResponse, Error> {
        loop {
            let request = RangeRequest {
                limit: self.page_keys.into(),
                ..self.rest.clone()
            };
            let options = CallOptions::default();
            let page: Result<RangeResponse, Error> =
                self.client.unary(&method::RANGE, &request, options).await;
            match page {
                Ok(page) => {
                    self.begin(&page)?;
                    return Ok(page);
                }
                Err(error) if error.is_oversize() && self.page_keys > 1 => self.page_keys /= 2,
                Err(error) => return Err(error),
            }
        }
    }

    /// A page has come: its revision is that of the rest, which the stream may bring.
    fn begin(&mut self, page: &RangeResponse) -> Result<(), Error> {
        if self.rest.revision == 0 {
            self.rest.revision = page.revision().0;
        }
        if page.more && (page.kvs.is_empty() || self.rest.revision == 0) {
            let message = "a page of a range from which nobody can go on";
            let error = Error::new(Code::Internal, Origin::Transport, Delivery::Answered, message);
            return Err(named(error, &method::RANGE, None));
        }
        Ok(())
    }

    /// Goes on behind what has come.
    fn take(&mut self, piece: RangeResponse) -> Vec<KeyValue> {
        self.is_over = !piece.more;
        if let Some(last) = piece.kvs.last() {
            self.rest.key = successor(&last.key);
        }
        if self.is_over {
            self.stream = None;
        } else if self.may_stream && self.stream.is_none() {
            let rest = self.rest.clone();
            let options = CallOptions::default();
            self.stream = Some(Answers::new(
                self.client.clone(),
                &method::RANGE_STREAM,
                rest,
                options,
            ));
        }
        piece.kvs
    }
}

/// The least key above this one.
fn successor(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.put_u8(0);
    next.freeze()
}

impl fmt::Debug for RangeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeStream")
            .field("rest", &self.rest)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
