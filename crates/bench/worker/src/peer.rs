//! A client as the measurements see it.

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

/// A key: one of many, or always the same.
pub type Key = Cow<'static, [u8]>;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// It may have been applied.
    Unknown,
    /// It was not applied.
    Refused,
}

/// A client under measurement that locks, of etcd or of another store.
pub trait Locker: Clone + 'static {
    /// What its locks are.
    type Lock: Lock;

    /// One client of all these servers.
    fn connect(endpoints: &[String]) -> impl Future<Output = Result<Self, String>>;

    /// A lock by this name, with whatever a client needs before the first time.
    fn mutex(&self, name: &str) -> impl Future<Output = Result<Self::Lock, String>>;
}

/// A client of etcd under measurement.
pub trait Peer: Locker {
    /// What its watches are.
    type Events: Events;
    /// What its leases are.
    type Lease: Lease;

    /// Writes a key.
    fn put(&self, key: Key, value: &'static [u8], deadline: Duration) -> impl Future<Output = Outcome>;

    /// Reads a key, linearizably.
    fn get(&self, key: Key, deadline: Duration) -> impl Future<Output = Outcome>;

    /// Writes a key if it was written before, and reads it otherwise.
    fn txn(&self, key: Key, value: &'static [u8], deadline: Duration) -> impl Future<Output = Outcome>;

    /// Watches all keys that begin so, from a revision; 0 is now. It returns when
    /// the server has created the watch.
    fn watch(&self, prefix: &str, from: i64) -> impl Future<Output = Result<Self::Events, String>>;

    /// A lease that the client keeps alive.
    fn lease(&self, ttl: Duration) -> impl Future<Output = Result<Self::Lease, String>>;
}

/// The events of a watch.
pub trait Events {
    /// How many came with the next message.
    fn next(&mut self) -> impl Future<Output = Result<u64, String>>;

    /// The values that were put, of the next message.
    fn next_values(&mut self, each: impl FnMut(&[u8])) -> impl Future<Output = Result<(), String>>;
}

/// A lease that its client keeps alive.
pub trait Lease: 'static {
    /// How often it was renewed since it was granted. To be asked several times from one renewal to
    /// the next: not every client counts.
    fn renewals(&self) -> u64;

    /// Whether the client still has it.
    fn is_kept(&self) -> bool;
}

/// One who locks and unlocks.
pub trait Lock: 'static {
    /// Returns when it has the lock.
    fn lock(&mut self) -> impl Future<Output = Result<(), String>>;

    /// Gives it back, and returns when that is certain.
    fn unlock(&mut self) -> impl Future<Output = Result<(), String>>;
}

/// Of a client that has none of these.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

impl Events for Never {
    async fn next(&mut self) -> Result<u64, String> {
        match *self {}
    }

    async fn next_values(&mut self, _: impl FnMut(&[u8])) -> Result<(), String> {
        match *self {}
    }
}

impl Lease for Never {
    fn renewals(&self) -> u64 {
        match *self {}
    }

    fn is_kept(&self) -> bool {
        match *self {}
    }
}
