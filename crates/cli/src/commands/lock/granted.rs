//! A lock that was granted to this process, with all that its command is told about it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use serde_json::Value;
use tenure::{Guard, Lost};

use crate::failure::{Failure, LOST};
use crate::held::Held;
use crate::json;

/// A guard, and its key as it was seen in etcd.
#[derive(Debug)]
pub(super) struct Granted {
    guard: Guard,
    held: Held,
    name: String,
}

/// How long the command waits at most for what others see of the holder; less than for the look at the key behind that.
const TELL_MAX: Duration = Duration::from_secs(3);

impl Granted {
    /// `value`: what the key is to say from now on, if not what it has said while the lock was waited for.
    pub(super) async fn new(guard: Guard, name: &str, value: Option<String>) -> Result<Granted, Failure> {
        if let Some(value) = value {
            let (key, lease) = (guard.key().to_vec(), guard.session().lease_id());
            // A write to the key leaves its place, and only its deletion moves the queue. Where it fails the key says
            // what it said before, and whether the lock is lost is seen below.
            let _ = guard.fenced().timeout(TELL_MAX).put(key, value).lease(lease).await;
        }
        let (created, name) = (guard.token().create_revision(), name.to_owned());
        match Held::see(guard.session().client(), guard.key(), created).await? {
            Some(held) => Ok(Granted { guard, held, name }),
            None => Err(lost(&name, "its key is gone")),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        self.held.key()
    }

    /// Whether it is proven to be ours at this moment.
    pub(super) fn is_valid(&self) -> bool {
        self.guard.is_valid()
    }

    /// Completes when the lock is lost: its session has ended, or its key was deleted.
    pub(super) async fn lost(&self) -> Lost {
        tokio::select! {
            biased;
            why = self.guard.lost() => why,
            () = self.held.deleted() => Lost::KeyDeleted,
        }
    }

    /// What is said of the loss.
    pub(super) fn failure(&self, why: &Lost) -> Failure {
        lost(&self.name, why)
    }

    /// Gives it back. That it could not be reached for is said, and no failure: the lease runs out.
    pub(super) async fn release(self) -> Result<(), Failure> {
        match self.guard.release().await {
            Err(error) if error.is_lost() => Err(lost(&self.name, error)),
            Err(error) => {
                eprintln!(
                    "tenure: lock {:?} is free only once its lease has run out: {error}",
                    self.name
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    pub(super) fn variables<'a>(&self, token: &'a str) -> [(&'a str, OsString); 6] {
        let key = || OsStr::from_bytes(self.key()).to_owned();
        [
            ("TENURE_LOCK_KEY", key()),
            (
                "TENURE_LOCK_CREATED",
                self.guard.token().create_revision().to_string().into(),
            ),
            (
                "TENURE_LOCK_LEASE",
                self.guard.session().lease_id().to_string().into(),
            ),
            ("ETCD_LOCK_KEY", key()),
            ("ETCD_LOCK_REV", self.held.seen.to_string().into()),
            (token, self.guard.token().to_string().into()),
        ]
    }

    pub(super) fn to_json(&self) -> Value {
        json::object([
            ("name", self.name.as_str().into()),
            json::text("key", "key_base64", self.key()),
            ("token", self.guard.token().to_string().into()),
            ("created", self.guard.token().create_revision().0.into()),
            ("lease", self.guard.session().lease_id().to_string().into()),
            ("revision", self.held.seen.0.into()),
        ])
    }
}

fn lost(name: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(LOST, format!("lock {name:?} was lost: {why}"))
}
