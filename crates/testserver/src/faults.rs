//! Faults on demand: what a test tells the server to do wrong, once each. The
//! server asks here; nothing happens that nobody asked for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with one request to a unary method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is lost on the way: neither carried out nor answered.
    Drop,
    /// It is carried out, and the answer is lost.
    DropAnswer,
    /// It is carried out, and answered so much later.
    Delay(Duration),
    /// It is carried out and answered, and so much later carried out again.
    Again(Duration),
}

/// Tells a [`Server`](crate::Server) what to do wrong. A clone tells the same server.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    requests: HashMap<String, VecDeque<Fault>>,
    bytes_until_cut: Option<usize>,
}

impl Faults {
    /// The next request to `path`, such as `/etcdserverpb.KV/Put`, that has no fault yet gets this one.
    pub fn inject(&self, path: impl Into<String>, fault: Fault) {
        self.plan().requests.entry(path.into()).or_default().push_back(fault);
    }

    /// After so many more bytes have been written to clients, on all connections
    /// together, the connection that wrote the last of them is closed. Only what
    /// comes before that byte arrives. A second call replaces the first.
    pub fn cut_after(&self, bytes: usize) {
        self.plan().bytes_until_cut = Some(bytes);
    }

    /// Whether a cut was asked for and has not happened yet.
    #[must_use]
    pub fn is_cut_pending(&self) -> bool {
        self.plan().bytes_until_cut.is_some()
    }

    /// The fault of a request that has come.
    pub(crate) fn take(&self, path: &str) -> Option<Fault> {
        self.plan().requests.get_mut(path)?.pop_front()
    }

    /// How many of so many bytes may be written; nothing where there is no bound.
    pub(crate) fn allowance(&self) -> Option<usize> {
        self.plan().bytes_until_cut
    }

    /// Notes bytes that were written. True if the connection is to be cut now.
    pub(crate) fn handle_written(&self, bytes: usize) -> bool {
        let mut plan = self.plan();
        let Some(left) = plan.bytes_until_cut else {
            return false;
        };
        plan.bytes_until_cut = Some(left.saturating_sub(bytes));
        if left <= bytes {
            plan.bytes_until_cut = None;
            return true;
        }
        false
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_once_and_in_order() {
        let faults = Faults::default();
        faults.inject("/a", Fault::Drop);
        faults.inject("/a", Fault::DropAnswer);
        assert_eq!(faults.take("/b"), None);
        assert_eq!(faults.take("/a"), Some(Fault::Drop));
        assert_eq!(faults.take("/a"), Some(Fault::DropAnswer));
        assert_eq!(faults.take("/a"), None);
    }

    #[test]
    fn a_cut_comes_with_the_last_allowed_byte() {
        let faults = Faults::default();
        assert!(!faults.handle_written(5));
        faults.cut_after(10);
        assert_eq!(faults.allowance(), Some(10));
        assert!(!faults.handle_written(7));
        assert!(faults.is_cut_pending());
        assert!(faults.handle_written(3));
        assert!(!faults.is_cut_pending());
        assert_eq!(faults.allowance(), None);
    }
}
