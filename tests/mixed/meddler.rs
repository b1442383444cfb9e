//! What an operator does meanwhile: revokes leases that are in use, and compacts the
//! history up to what is recorded.

use std::time::Duration;

use fastrand::Rng;
use tenure::{Client, LeaseId, Revision};

use crate::judge::Seen;
use crate::recorder::Record;
use crate::support::calm;

/// Meddles until it is dropped.
pub(crate) async fn meddle(client: Client, record: Record, seen: Seen, mut dice: Rng) {
    loop {
        tokio::time::sleep(calm(&mut dice, 100..900)).await;
        if dice.bool() {
            let revision = Revision((record.revision() - dice.i64(0..50)).max(1));
            if client.compact(revision).timeout(Duration::from_secs(1)).await.is_ok() {
                seen.count("compactions");
            }
            continue;
        }
        let Ok(leases) = client.leases().await else {
            continue;
        };
        let leases: Vec<i64> = leases.leases.iter().map(|lease| lease.id).collect();
        if leases.is_empty() || dice.u64(..3) > 0 {
            continue;
        }
        let lease = leases[dice.usize(..leases.len())];
        // Whatever the answer is, it may happen.
        seen.lock().revoked.insert(lease);
        if client.lease_revoke(LeaseId(lease)).await.is_ok() {
            seen.count("revocations");
        }
    }
}
