//! What is kept beside each view of a client, found again by what it sees: two views of one
//! namespace share their locks' session.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::beside::Beside;
use crate::core::namespace::Namespace;

/// See the head of this file. It keeps nothing alive.
#[derive(Default)]
pub(super) struct Views(Mutex<HashMap<Namespace, Beside>>);

impl Views {
    /// What is kept beside all views of this namespace, for one more of them.
    pub(super) fn beside(&self, namespace: &Namespace) -> Beside {
        let mut views = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = views.get(namespace).and_then(Beside::counted) {
            return found;
        }
        views.retain(|_, beside| beside.counted().is_some());
        let beside = Beside::new();
        views.insert(namespace.clone(), beside.uncounted());
        beside
    }
}
