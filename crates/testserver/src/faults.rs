//! Faults on demand: what a test tells a member to do wrong. The server asks here;
//! nothing happens that nobody asked for.
//!
//! ```text
//!             requests                           answers
//!   client ---[on_request]---> carried out ---[on_answer]---> client       one message, by its path
//!   client ==[set_link, cut_after]============================= member     the bytes of connections
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What goes wrong with one message: a request, or an answer. On a stream a message
/// is one of many, and what is behind it keeps its place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is lost.
    Drop,
    /// It is lost, and all that follows in its direction of its stream.
    Silence,
    /// It comes later, and with it what is behind it in its direction of its stream.
    Delay(Late),
    /// It comes, and later comes again: a request is carried out once more without an
    /// answer, an answer of a stream sent once more. The answer of a unary call is its only one.
    Again(Late),
    /// The call ends with this status in its place. A request is not carried out then.
    End {
        /// gRPC's number for it.
        code: u16,
        /// The text.
        message: String,
    },
}

/// When something comes that is late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Late {
    /// So much later, by the server's clock.
    By(Duration),
    /// Once the next request to this path was carried out, at whichever member.
    After(String),
}

/// How a member's connections are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// They work.
    #[default]
    Up,
    /// They stand still, as those of a process that is stopped: what clients send is
    /// taken into the buffers and not read, and nothing is answered, no ping either.
    /// With [`Link::Up`] all goes on where it was. The clock, and with it leases, does
    /// not stand still: the rest of a cluster goes on without such a member.
    Frozen,
    /// They are cut, and each new one is. What was stored stays.
    Down,
}

/// Tells a member to do something wrong. A clone tells the same member.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    requests: HashMap<String, VecDeque<Fault>>,
    answers: HashMap<String, VecDeque<Fault>>,
    bytes_until_cut: Option<usize>,
    link: Link,
    next_connection: u64,
    connections: BTreeMap<u64, Connection>,
}

#[derive(Debug, Default)]
struct Connection {
    is_cut: bool,
    /// Who drives it, to be told of a change.
    waker: Option<Waker>,
}

impl Faults {
    /// The next request to `path`, such as `/etcdserverpb.KV/Put`, that has no fault
    /// yet gets this one. To the path of a stream, each of its messages is a request.
    pub fn on_request(&self, path: impl Into<String>, fault: Fault) {
        self.plan().requests.entry(path.into()).or_default().push_back(fault);
    }

    /// The next answer of `path` that has no fault yet gets this one. The request was
    /// carried out by then. On a stream of watches `created` and `canceled` are answers
    /// as events are.
    pub fn on_answer(&self, path: impl Into<String>, fault: Fault) {
        self.plan().answers.entry(path.into()).or_default().push_back(fault);
    }

    /// Takes back all faults of messages, and a cut, that have not happened yet.
    pub fn clear(&self) {
        let mut plan = self.plan();
        plan.requests.clear();
        plan.answers.clear();
        plan.bytes_until_cut = None;
    }

    /// Freezes all connections of the member, cuts them, or lets them work again.
    pub fn set_link(&self, link: Link) {
        let mut plan = self.plan();
        plan.link = link;
        for connection in plan.connections.values_mut() {
            connection.is_cut |= link == Link::Down;
            connection.wake();
        }
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
    pub(crate) fn take_request(&self, path: &str) -> Option<Fault> {
        self.plan().requests.get_mut(path)?.pop_front()
    }

    /// The fault of an answer that is to be sent.
    pub(crate) fn take_answer(&self, path: &str) -> Option<Fault> {
        self.plan().answers.get_mut(path)?.pop_front()
    }

    /// Counts a new connection and names it.
    pub(crate) fn open(&self) -> u64 {
        let mut plan = self.plan();
        plan.next_connection += 1;
        let id = plan.next_connection;
        let connection = Connection {
            is_cut: plan.link == Link::Down,
            waker: None,
        };
        plan.connections.insert(id, connection);
        id
    }

    pub(crate) fn close(&self, id: u64) {
        self.plan().connections.remove(&id);
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.plan().connections.len()
    }

    /// Whether a connection may read and write; not before it is woken, where it stands still.
    pub(crate) fn poll(&self, id: u64, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut plan = self.plan();
        let is_frozen = plan.link == Link::Frozen;
        match plan.connections.get_mut(&id) {
            Some(connection) if !connection.is_cut => {
                connection.waker = Some(cx.waker().clone());
                if is_frozen {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                }
            }
            _ => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    /// How many of so many bytes may be written; nothing where there is no bound.
    pub(crate) fn allowance(&self) -> Option<usize> {
        self.plan().bytes_until_cut
    }

    /// Notes bytes that a connection has written, and cuts it where that was the last of them.
    pub(crate) fn handle_written(&self, id: u64, bytes: usize) {
        let mut plan = self.plan();
        let Some(left) = plan.bytes_until_cut else {
            return;
        };
        plan.bytes_until_cut = left.checked_sub(bytes).filter(|left| *left > 0);
        if plan.bytes_until_cut.is_some() {
            return;
        }
        if let Some(connection) = plan.connections.get_mut(&id) {
            connection.is_cut = true;
            connection.wake();
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(faults: &Faults, id: u64) -> Poll<Result<(), io::ErrorKind>> {
        let polled = faults.poll(id, &Context::from_waker(Waker::noop()));
        polled.map_err(|error| error.kind())
    }

    const RESET: Poll<Result<(), io::ErrorKind>> = Poll::Ready(Err(io::ErrorKind::ConnectionReset));

    #[test]
    fn a_fault_happens_once_in_order_and_in_its_direction() {
        let faults = Faults::default();
        faults.on_request("/a", Fault::Drop);
        faults.on_request("/a", Fault::Silence);
        assert_eq!(faults.take_request("/b"), None);
        assert_eq!(faults.take_answer("/a"), None);
        assert_eq!(faults.take_request("/a"), Some(Fault::Drop));
        assert_eq!(faults.take_request("/a"), Some(Fault::Silence));
        assert_eq!(faults.take_request("/a"), None);
        faults.on_answer("/a", Fault::Drop);
        faults.cut_after(1);
        faults.clear();
        assert_eq!(faults.take_answer("/a"), None);
        assert!(!faults.is_cut_pending());
    }

    #[test]
    fn a_cut_comes_with_the_last_allowed_byte() {
        let faults = Faults::default();
        let [one, other] = [faults.open(), faults.open()];
        faults.handle_written(one, 5);
        faults.cut_after(10);
        assert_eq!(faults.allowance(), Some(10));
        faults.handle_written(one, 7);
        assert!(faults.is_cut_pending());
        assert_eq!(poll(&faults, other), Poll::Ready(Ok(())));
        faults.handle_written(other, 3);
        assert!(!faults.is_cut_pending());
        assert_eq!(
            (poll(&faults, one), poll(&faults, other)),
            (Poll::Ready(Ok(())), RESET)
        );
        assert_eq!(faults.allowance(), None);
    }

    #[test]
    fn a_frozen_link_goes_on_and_a_cut_connection_does_not() {
        let faults = Faults::default();
        let old = faults.open();
        faults.set_link(Link::Frozen);
        assert_eq!(poll(&faults, old), Poll::Pending);
        faults.set_link(Link::Up);
        assert_eq!(poll(&faults, old), Poll::Ready(Ok(())));
        faults.set_link(Link::Down);
        let refused = faults.open();
        faults.set_link(Link::Up);
        let new = faults.open();
        assert_eq!((poll(&faults, old), poll(&faults, refused)), (RESET, RESET));
        assert_eq!(poll(&faults, new), Poll::Ready(Ok(())));
        faults.close(old);
        assert_eq!(faults.connection_count(), 2);
    }
}
