//! What the machine gives its driver to do.

use crate::error::EtcdError;
use crate::types::{Revision, WatchId};

use super::WatchKey;
use super::end::WatchEnd;
use super::event::Batch;

/// What the driver has to do.
#[derive(Debug)]
pub enum Action<R> {
    /// Tell the reader that its watch exists, and at which revision it was created.
    Created {
        /// Whose watch it is.
        reader: R,
        /// The server's name for it.
        id: WatchId,
        /// The store's revision as the server said it.
        revision: Revision,
    },
    /// The watch exists again.
    Resumed {
        /// Whose watch it is.
        reader: R,
        /// Its reader had fallen behind; no stream was lost.
        caught_up: bool,
    },
    /// The server refused to create the watch now. It is asked for again.
    Refused {
        /// Whose watch it is.
        reader: R,
        /// What the server said.
        reason: String,
    },
    /// Queue the batch for the reader, or call [`handle_refused`](super::Watches::handle_refused).
    Deliver {
        /// The watch.
        key: WatchKey,
        /// Whose watch it is.
        reader: R,
        /// What happened.
        batch: Batch,
    },
    /// Tell the reader the end. The machine has forgotten the watch.
    End {
        /// Whose watch it was.
        reader: R,
        /// Why it ended.
        end: WatchEnd,
    },
    /// The server does not take the stream's token any more: the next stream needs
    /// another. Only where [`renewing_tokens`](super::Watches::renewing_tokens) says so.
    TokenRefused(EtcdError),
    /// The stream is over: close it.
    Close,
}
