//! The lock service that servers run themselves, call by call. This crate's own locks
//! ([`Client::lock`](crate::Client::lock)) are safer and faster, and share the queue with it.

use bytes::Bytes;

use super::Client;
use super::unary::Unary;
use crate::net::call_options::CallOptions;
use crate::pb::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::types::LeaseId;
use crate::wire::method::lock as method;

/// The server's own lock service, as [`Client::lock_service`] gives it.
///
/// For programs that have to do as others do that use it. It gives no fencing token but the
/// `create_revision` of its key, and tells nobody that the lease has ended.
///
/// ```no_run
/// # async fn example(client: tenure::Client) -> Result<(), tenure::Error> {
/// use std::time::Duration;
///
/// let lease = client.lease(Duration::from_secs(30)).await?;
/// let lock = client.lock_service().lock("jobs/nightly", lease.id());
/// let key = lock.timeout(Duration::from_secs(60)).await?.key;
/// client.lock_service().unlock(key).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LockService<'a> {
    client: &'a Client,
}

/// A lock to take, as [`LockService::lock`] makes it.
pub type ServiceLock<'a> = Unary<'a, LockRequest, LockResponse>;
/// A lock to give back, as [`LockService::unlock`] makes it.
pub type ServiceUnlock<'a> = Unary<'a, UnlockRequest, UnlockResponse>;

impl Client {
    /// The lock service that the server runs.
    #[must_use]
    pub fn lock_service(&self) -> LockService<'_> {
        LockService { client: self }
    }
}

impl<'a> LockService<'a> {
    /// Waits for the lock of this name, in line with whoever wants it, and holds it until it is
    /// unlocked or the lease ends. With [`LeaseId::NONE`] the server grants a lease of 60
    /// seconds, which nobody renews. The answer has the key that is the holder's.
    ///
    /// It waits no longer than the [timeout](Unary::timeout), which is the client's for a call where
    /// none is given. After that, and when it is dropped, the server takes the place in the queue
    /// back; where it does not get to that, the lease's end does.
    ///
    /// # Errors
    ///
    /// [`LeaseNotFound`](crate::EtcdError::LeaseNotFound), and "mutex: session is expired" where the
    /// lease ended while it waited. Where an error
    /// [may be applied](crate::Error::may_be_applied), the lock may be held until the lease
    /// ends.
    pub fn lock(&self, name: impl Into<Bytes>, lease: LeaseId) -> ServiceLock<'a> {
        let request = LockRequest {
            name: name.into(),
            lease: lease.0,
        };
        Unary::new(self.client, &method::LOCK, request, CallOptions::control())
    }

    /// Gives the lock back: it deletes this key, whoever's it is. It is no error where there is none.
    pub fn unlock(&self, key: impl Into<Bytes>) -> ServiceUnlock<'a> {
        let request = UnlockRequest { key: key.into() };
        Unary::new(self.client, &method::UNLOCK, request, CallOptions::control())
    }
}
