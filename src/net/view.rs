//! What lies between a client and the cluster: which part of the key space it sees.

use crate::core::namespace::{Answer, Namespace};
use crate::error::{Code, Delivery, Error, Origin};

/// Shared by all clones of a client that see alike. A client without one sees everything as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub(crate) namespace: Option<Namespace>,
}

impl View {
    /// What of an answer is seen.
    ///
    /// # Errors
    ///
    /// The server sent what was not asked for.
    pub(crate) fn show(&self, answer: &mut impl Answer) -> Result<(), Error> {
        let Some(namespace) = &self.namespace else {
            return Ok(());
        };
        answer.leave(namespace).map_err(|outside| {
            let message = "the server answered with keys that were not asked for";
            Error::new(Code::Internal, Origin::Transport, Delivery::Unknown, message).with_source(outside)
        })
    }
}
