//! The two transactions of a free lock, kept from one lock of a name to the next: all that
//! changes in them is a revision, so that nothing of them is built anew.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::requests;
use crate::client::{Call, Client, Txn, Verdict};
use crate::core::lock::Place;
use crate::pb::etcdserverpb::TxnResponse;
use crate::types::Revision;

/// See the head of this file. They are of one place.
#[derive(Default)]
pub(super) struct Templates(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    register: Option<Register>,
    release: Option<Txn>,
}

/// With what it was made of, beside the gate.
struct Register {
    value: Bytes,
    if_empty: bool,
    txn: Txn,
}

impl Templates {
    /// As [`requests::register`].
    pub(super) fn register(
        &self,
        client: &Client,
        place: &Place,
        gate: Revision,
        value: &Bytes,
        if_empty: bool,
    ) -> Call<TxnResponse> {
        let mut kept = self.lock();
        match &mut kept.register {
            Some(register) if register.if_empty == if_empty && register.value == value => {
                requests::set_gate(&mut register.txn, gate);
                register.txn.send(client)
            }
            register => {
                let txn = requests::register(client, place, gate, value, if_empty).detach();
                let value = value.clone();
                register.insert(Register { value, if_empty, txn }).txn.send(client)
            }
        }
    }

    /// As [`requests::release`] where no gate is to be closed.
    pub(super) fn release(&self, client: &Client, place: &Place, created: Revision) -> Call<Verdict> {
        let mut kept = self.lock();
        let release = match &mut kept.release {
            Some(release) => {
                requests::set_revision(release, created);
                release
            }
            release => release.insert(requests::release(client, place, created, false).detach()),
        };
        release.send(client)
    }

    /// A panic while this lock was held cannot leave it half changed.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").finish_non_exhaustive()
    }
}
