//! tenure under measurement, with its defaults, or with a thread of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tenure::{
    Client, Compare, Config, Error, Event, Guard, KeyRange, Lease, Mutex, Op, Revision, Session, Watch,
};
use tenure_bench_worker::{Events, Key, Lock, Locker, Outcome, Peer};
use tokio::sync::OnceCell;

/// What the key of a lock has for a value: the floor's too, so that both send the same.
pub(crate) const LOCK_VALUE: &[u8] = b"bench";

#[derive(Clone, Debug)]
pub(crate) struct Tenure<const OWN_THREAD: bool> {
    client: Client,
    /// Of all its locks; there once the first is wanted.
    session: Rc<OnceCell<Session>>,
}

#[derive(Debug)]
pub(crate) struct Stream(Watch);

/// A lease, and what was seen of its renewals: that it was valid for longer than before.
#[derive(Debug)]
pub(crate) struct Kept {
    lease: Lease,
    until: Cell<Instant>,
    renewals: Cell<u64>,
}

#[derive(Debug)]
pub(crate) struct TenureLock {
    mutex: Mutex,
    guard: Option<Guard>,
}

impl<const OWN_THREAD: bool> Locker for Tenure<OWN_THREAD> {
    type Lock = TenureLock;

    async fn connect(endpoints: &[String]) -> Result<Tenure<OWN_THREAD>, String> {
        let client = Client::connect_with(endpoints, Config::new().own_thread(OWN_THREAD)).await;
        Ok(Tenure {
            client: client.map_err(text)?,
            session: Rc::default(),
        })
    }

    async fn mutex(&self, name: &str) -> Result<TenureLock, String> {
        let session = self.session.get_or_try_init(async || self.client.session().await);
        let mutex = session.await.map_err(text)?.mutex(name).value(LOCK_VALUE);
        Ok(TenureLock { mutex, guard: None })
    }
}

impl<const OWN_THREAD: bool> Peer for Tenure<OWN_THREAD> {
    type Events = Stream;
    type Lease = Kept;

    async fn put(&self, key: Key, value: &'static [u8], deadline: Duration) -> Outcome {
        let value = Bytes::from_static(value);
        outcome(self.client.put(shared(key), value).timeout(deadline).await)
    }

    async fn get(&self, key: Key, deadline: Duration) -> Outcome {
        outcome(self.client.get(shared(key)).timeout(deadline).await)
    }

    async fn txn(&self, key: Key, value: &'static [u8], deadline: Duration) -> Outcome {
        let (key, value) = (shared(key), Bytes::from_static(value));
        let is_there = Compare::mod_revision(key.clone()).greater(Revision::ZERO);
        let txn = self.client.txn().when(is_there).then(Op::put(key.clone(), value)).or_else(Op::get(key));
        outcome(txn.timeout(deadline).await)
    }

    async fn watch(&self, prefix: &str, from: i64) -> Result<Stream, String> {
        let keys = KeyRange::prefix(prefix.to_owned());
        let watch = self.client.watch(keys).start_revision(Revision(from)).await;
        watch.map(Stream).map_err(text)
    }

    async fn lease(&self, ttl: Duration) -> Result<Kept, String> {
        let lease = self.client.lease(ttl).await.map_err(text)?;
        Ok(Kept {
            until: Cell::new(Instant::now() + lease.valid_for()),
            renewals: Cell::new(0),
            lease,
        })
    }
}

impl tenure_bench_worker::Lease for Kept {
    fn renewals(&self) -> u64 {
        let until = Instant::now() + self.lease.valid_for();
        // More than two readings of the clock are apart, and less than a renewal brings.
        if until > self.until.get() + self.lease.ttl() / 10 {
            self.until.set(until);
            self.renewals.set(self.renewals.get() + 1);
        }
        self.renewals.get()
    }

    fn is_kept(&self) -> bool {
        self.lease.is_valid()
    }
}

impl Events for Stream {
    async fn next(&mut self) -> Result<u64, String> {
        let batch = self.0.next().await.map_err(|end| end.to_string())?;
        Ok(batch.events.len() as u64)
    }

    async fn next_values(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), String> {
        let batch = self.0.next().await.map_err(text)?;
        for event in &batch.events {
            if let Event::Put { kv, .. } = event {
                each(&kv.value);
            }
        }
        Ok(())
    }
}

impl Lock for TenureLock {
    async fn lock(&mut self) -> Result<(), String> {
        self.guard = Some(self.mutex.lock().await.map_err(text)?);
        Ok(())
    }

    async fn unlock(&mut self) -> Result<(), String> {
        let guard = self.guard.take().ok_or("it is not locked")?;
        guard.release().await.map(drop).map_err(text)
    }
}

fn text(cause: impl ToString) -> String {
    cause.to_string()
}

fn shared(key: Key) -> Bytes {
    match key {
        Key::Borrowed(key) => Bytes::from_static(key),
        Key::Owned(key) => Bytes::from(key),
    }
}

fn outcome<T>(answer: Result<T, Error>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Answered,
        Err(error) if error.may_be_applied() => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}
