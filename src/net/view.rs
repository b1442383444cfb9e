//! What lies between a client and the cluster: which part of the key space it sees, and how old it may be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::monotonic::{Floor, Monotonic, Seen};
use crate::core::namespace::{Answer, Namespace};
use crate::error::{Code, Delivery, Error, Origin, Stale};
use crate::types::Revision;

/// Shared by all clones of a client that see alike. A client without one sees everything as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) namespace: Option<Namespace>,
    pub(crate) monotonic: Option<Arc<Mutex<Monotonic>>>,
    /// Of one call.
    pub(crate) floor: Floor,
}

impl View {
    /// For a call that begins now.
    pub(crate) fn begin(self: &Arc<View>) -> Arc<View> {
        let Some(monotonic) = self.monotonic() else {
            return self.clone();
        };
        let floor = monotonic.floor();
        drop(monotonic);
        Arc::new(View {
            floor,
            ..View::clone(self)
        })
    }

    /// What of an answer is seen. `is_local` says that its member gave it from what it has.
    ///
    /// # Errors
    ///
    /// It is older than what was seen, or the server sent what was not asked for.
    pub(crate) fn show(&self, answer: &mut impl Answer, is_local: bool) -> Result<(), Error> {
        if let (Some(mut monotonic), Some(header)) = (self.monotonic(), answer.header()) {
            let found = Seen {
                cluster_id: header.cluster_id,
                revision: Revision(header.revision),
            };
            monotonic.handle_answer(&self.floor, found, is_local).map_err(Stale::into_error)?;
        }
        let Some(namespace) = &self.namespace else {
            return Ok(());
        };
        answer.leave(namespace).map_err(|outside| {
            let message = "the server answered with keys that were not asked for";
            Error::new(Code::Internal, Origin::Transport, Delivery::Unknown, message).with_source(outside)
        })
    }

    /// A watch has told what happened up to this revision.
    pub(crate) fn told(&self, revision: Revision) {
        if let Some(mut monotonic) = self.monotonic() {
            monotonic.handle_told(revision);
        }
    }

    pub(crate) fn seen(&self) -> Option<Seen> {
        Some(self.monotonic()?.seen())
    }

    pub(crate) fn accept(&self, stale: &Stale) {
        if let Some(mut monotonic) = self.monotonic() {
            monotonic.accept(stale);
        }
    }

    fn monotonic(&self) -> Option<MutexGuard<'_, Monotonic>> {
        let monotonic = self.monotonic.as_ref()?;
        Some(monotonic.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
