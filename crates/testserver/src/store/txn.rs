//! Writes: put, delete and transactions. All that one request writes becomes one
//! revision, and it reads what it wrote itself.
//!
//! A transaction goes through three passes, as in etcd: every comparison, nested
//! ones too, is decided on the state before it; then what the taken branches ask
//! for is checked on that same state; then it is done, and cannot fail any more.

use std::collections::VecDeque;

use bytes::Bytes;

use super::range::{header, to_i64};
use super::{KeyRange, Store, deletion};
use crate::error::Error;
use crate::pb::{
    Compare, DeleteRequest, DeleteResponse, Event, Header, KeyValue, Operand, Operation, Outcome, PutRequest,
    PutResponse, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse, compare, event,
};

/// Whether there is a lease of this id.
type Known<'a> = &'a dyn Fn(i64) -> bool;

/// One write under way. It is a revision once it is committed.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    store: &'a mut Store,
    events: Vec<Event>,
}

impl<'a> Write<'a> {
    pub(crate) fn new(store: &'a mut Store) -> Write<'a> {
        let events = Vec::new();
        Write { store, events }
    }

    /// Ends the write and gives back its events, in the order of their making.
    pub(crate) fn commit(self) -> Vec<Event> {
        self.store.commit(self.events.clone());
        self.events
    }

    /// # Errors
    ///
    /// `LeaseNotFound`; `KeyNotFound` where something of the present key is to be kept.
    pub(crate) fn put(&mut self, request: &PutRequest, known: Known<'_>) -> Result<PutResponse, Error> {
        check_lease(request, known)?;
        check_present(self.store, request)?;
        Ok(self.apply_put(request))
    }

    pub(crate) fn delete(&mut self, request: &DeleteRequest) -> DeleteResponse {
        let next = self.store.revision + 1;
        let range = KeyRange::new(&request.key, &request.range_end);
        let gone: Vec<KeyValue> = self.store.scan(&range, next).cloned().collect();
        for kv in &gone {
            self.store.record(next, &kv.key, None);
            self.events.push(deletion(&kv.key, next));
        }
        DeleteResponse {
            header: Some(header(self.current())),
            deleted: to_i64(gone.len()),
            prev_kvs: if request.prev_kv { gone } else { Vec::new() },
        }
    }

    /// Deletes one key, for a lease that ends.
    pub(crate) fn delete_key(&mut self, key: &Bytes) {
        self.delete(&DeleteRequest {
            key: key.clone(),
            ..DeleteRequest::default()
        });
    }

    /// # Errors
    ///
    /// What [`Write::put`] and [`Store::range`] say; then nothing is written.
    pub(crate) fn txn(&mut self, request: &TxnRequest, known: Known<'_>) -> Result<TxnResponse, Error> {
        let mut path = VecDeque::new();
        choose(self.store, request, &mut path);
        check_branch(self.store, request, known, &mut path.clone())?;
        let mut response = self.apply_txn(request, &mut path);
        response.header = Some(header(self.current()));
        Ok(response)
    }

    /// The revision that a read sees now.
    fn current(&self) -> i64 {
        self.store.revision + i64::from(!self.events.is_empty())
    }

    fn apply_put(&mut self, request: &PutRequest) -> PutResponse {
        let next = self.store.revision + 1;
        let before = self.store.at(&request.key, next).cloned();
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(next, |before| before.create_revision),
            mod_revision: next,
            version: before.as_ref().map_or(0, |before| before.version) + 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        // It was there before the transaction, and may be gone by now where a
        // deletion of all keys from one on came first; then there is nothing to keep.
        if let Some(before) = &before {
            if request.ignore_value {
                kv.value = before.value.clone();
            }
            if request.ignore_lease {
                kv.lease = before.lease;
            }
        }
        self.store.record(next, &request.key, Some(kv.clone()));
        self.events.push(Event {
            kind: event::PUT,
            kv: Some(kv),
            prev_kv: None,
        });
        PutResponse {
            header: Some(header(next)),
            prev_kv: before.filter(|_| request.prev_kv),
        }
    }

    fn apply_txn(&mut self, request: &TxnRequest, path: &mut VecDeque<bool>) -> TxnResponse {
        let succeeded = path.pop_front().unwrap_or_default();
        let mut responses = Vec::new();
        for operation in branch(request, succeeded) {
            let outcome = operation.operation.as_ref().map(|operation| match operation {
                Operation::Range(range) => {
                    // Its revision was checked before anything was written.
                    Outcome::Range(self.store.range_at(range, self.current()).unwrap_or_default())
                }
                Operation::Put(put) => Outcome::Put(self.apply_put(put)),
                Operation::Delete(delete) => Outcome::Delete(self.delete(delete)),
                Operation::Txn(txn) => Outcome::Txn(self.apply_txn(txn, path)),
            });
            responses.push(ResponseOp { outcome });
        }
        TxnResponse {
            // That of a nested one stays empty, as in etcd.
            header: Some(Header::default()),
            succeeded,
            responses,
        }
    }
}

impl TxnRequest {
    /// Whether it only reads, by etcd's count: a nested transaction is a write, whatever is in it.
    pub(crate) fn is_read_only(&self) -> bool {
        self.operations().all(|operation| matches!(operation, Some(Operation::Range(_))))
    }

    /// Whether any member may answer it, however old what it knows.
    pub(crate) fn is_serializable(&self) -> bool {
        self.operations()
            .all(|operation| matches!(operation, Some(Operation::Range(range)) if range.serializable))
    }

    fn operations(&self) -> impl Iterator<Item = Option<&Operation>> {
        self.success.iter().chain(&self.failure).map(|operation| operation.operation.as_ref())
    }
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// Decides the comparisons of the transaction and of those nested in the branch
/// taken, in the order in which they will be reached.
fn choose(store: &Store, request: &TxnRequest, path: &mut VecDeque<bool>) {
    let succeeded = request.compare.iter().all(|compare| holds(store, compare));
    path.push_back(succeeded);
    for operation in branch(request, succeeded) {
        if let Some(Operation::Txn(txn)) = &operation.operation {
            choose(store, txn, path);
        }
    }
}

/// Whether the branch taken, and those nested in it, can be done: the first
/// operation that cannot is told. Before 3.6 etcd looked at the puts first.
fn check_branch(
    store: &Store,
    request: &TxnRequest,
    known: Known<'_>,
    path: &mut VecDeque<bool>,
) -> Result<(), Error> {
    let succeeded = path.pop_front().unwrap_or_default();
    for operation in branch(request, succeeded) {
        match &operation.operation {
            Some(Operation::Range(range)) => check_revision(store, range)?,
            Some(Operation::Put(put)) => {
                check_present(store, put)?;
                check_lease(put, known)?;
            }
            Some(Operation::Txn(txn)) => check_branch(store, txn, known, path)?,
            Some(Operation::Delete(_)) | None => {}
        }
    }
    Ok(())
}

fn check_present(store: &Store, request: &PutRequest) -> Result<(), Error> {
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && store.at(&request.key, store.revision).is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

fn check_lease(request: &PutRequest, known: Known<'_>) -> Result<(), Error> {
    if request.lease != 0 && !known(request.lease) {
        return Err(Error::LeaseNotFound);
    }
    Ok(())
}

/// Within a transaction a negative revision is one that was compacted, not the present one.
fn check_revision(store: &Store, request: &RangeRequest) -> Result<(), Error> {
    match request.revision {
        0 => Ok(()),
        revision if revision > store.revision => Err(Error::FutureRevision),
        revision if revision < store.compacted => Err(Error::Compacted),
        _ => Ok(()),
    }
}

/// Whether a comparison holds for every key of its range. Where there is none it
/// is made with an empty key, except that no condition on an absent value holds.
fn holds(store: &Store, compare: &Compare) -> bool {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut keys = store.scan(&range, store.revision).peekable();
    if keys.peek().is_none() {
        return compare.target != compare::VALUE && key_holds(compare, &KeyValue::default());
    }
    keys.all(|kv| key_holds(compare, kv))
}

fn key_holds(compare: &Compare, kv: &KeyValue) -> bool {
    let operand = compare.operand.as_ref();
    // An operand of another kind than the target counts as zero, or empty.
    let ordering = match compare.target {
        compare::VERSION => kv.version.cmp(&match operand {
            Some(Operand::Version(version)) => *version,
            _ => 0,
        }),
        compare::CREATE => kv.create_revision.cmp(&match operand {
            Some(Operand::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        compare::MOD => kv.mod_revision.cmp(&match operand {
            Some(Operand::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        compare::VALUE => kv.value[..].cmp(match operand {
            Some(Operand::Value(value)) => value,
            _ => &[],
        }),
        compare::LEASE => kv.lease.cmp(&match operand {
            Some(Operand::Lease(lease)) => *lease,
            _ => 0,
        }),
        _ => std::cmp::Ordering::Equal,
    };
    match compare.result {
        compare::EQUAL => ordering.is_eq(),
        compare::NOT_EQUAL => ordering.is_ne(),
        compare::GREATER => ordering.is_gt(),
        compare::LESS => ordering.is_lt(),
        _ => true,
    }
}
