//! A lock that its owner may take again while it has it. The owner is a value, not the
//! task that happens to run: whoever has a clone of it acts for the same owner. Nothing
//! of it is in etcd, whose lock is taken once, by the outermost.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Weak};

use tokio::sync::Mutex as Turn;

use super::guard::Guard;
use super::mutex::Mutex;
use crate::error::Error;

/// One owner of a [`Mutex`]: it may lock it again while it holds it, at no cost. Its clones are
/// the same owner; another [`Mutex::reentrant`] is another one, and waits for its turn like
/// everybody else.
///
/// ```no_run
/// # async fn example(session: tenure::Session) -> Result<(), tenure::Error> {
/// async fn audit(accounts: &tenure::Reentrant) -> Result<(), tenure::Error> {
///     let guard = accounts.lock().await?; // Ours already, where the caller has it.
///     println!("auditing with token {}", guard.token());
///     guard.release().await
/// }
///
/// let accounts = session.mutex("accounts").reentrant();
/// let guard = accounts.lock().await?;
/// audit(&accounts).await?;
/// guard.release().await
/// # }
/// ```
///
/// # Guarantees
///
/// Two owners are told apart as two users of a [`Mutex`] are. The guards of one owner are
/// one grant, with one token: they are lost together, and the lock is given back with the last
/// of them. Tasks that share an owner are not kept from each other.
#[derive(Clone)]
pub struct Reentrant {
    mutex: Mutex,
    /// Whoever asks etcd, or sees whether that is needed, has the turn of its owner.
    grant: Arc<Turn<Weak<Guard>>>,
}

/// A lock that a [`Reentrant`] owner holds, once or several times: each guard is for one of these.
/// What can be done with it is that of the [`Guard`] which they share.
#[must_use = "a lock is given back when its guards are dropped"]
pub struct ReentrantGuard {
    grant: Arc<Guard>,
}

impl Mutex {
    /// An owner of this lock, who may take it again while it has it. The options of this handle
    /// are those of its outermost lock.
    #[must_use]
    pub fn reentrant(&self) -> Reentrant {
        Reentrant {
            mutex: self.clone(),
            grant: Arc::default(),
        }
    }
}

impl Reentrant {
    /// Waits until the lock is this owner's. Where it is already, no request is sent; also where
    /// another task that acts for this owner waits for it, one place in the queue is enough.
    ///
    /// # Errors
    ///
    /// As [`Mutex::lock`]. `FailedPrecondition`: it was lost, and this owner still has a guard of it.
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`].
    pub async fn lock(&self) -> Result<ReentrantGuard, Error> {
        self.mutex.in_time(pin!(self.acquire())).await
    }

    /// Takes the lock if it is this owner's or free, and does not wait for it. `None` also where
    /// another task that acts for this owner waits for it.
    ///
    /// # Errors
    ///
    /// As [`Reentrant::lock`].
    ///
    /// # Cancel safety
    ///
    /// As [`Mutex::lock`].
    pub async fn try_lock(&self) -> Result<Option<ReentrantGuard>, Error> {
        let Ok(mut granted) = self.grant.try_lock() else {
            return Ok(None);
        };
        if let Some(again) = ReentrantGuard::again(&granted)? {
            return Ok(Some(again));
        }
        let guard = self.mutex.try_lock().await?;
        Ok(guard.map(|guard| ReentrantGuard::outermost(&mut granted, guard)))
    }

    async fn acquire(&self) -> Result<ReentrantGuard, Error> {
        let mut granted = self.grant.lock().await;
        if let Some(again) = ReentrantGuard::again(&granted)? {
            return Ok(again);
        }
        Ok(ReentrantGuard::outermost(&mut granted, self.mutex.lock().await?))
    }
}

impl ReentrantGuard {
    fn outermost(granted: &mut Weak<Guard>, guard: Guard) -> ReentrantGuard {
        let grant = Arc::new(guard);
        *granted = Arc::downgrade(&grant);
        ReentrantGuard { grant }
    }

    /// One more of what the owner has.
    fn again(granted: &Weak<Guard>) -> Result<Option<ReentrantGuard>, Error> {
        let Some(grant) = granted.upgrade() else {
            return Ok(None);
        };
        match grant.is_valid() {
            true => Ok(Some(ReentrantGuard { grant })),
            false => Err(grant.lost_before("its owner's lock was lost before it was taken again")),
        }
    }

    /// How many guards the owner has, this one included.
    #[must_use]
    pub fn depth(&self) -> usize {
        Arc::strong_count(&self.grant)
    }

    /// Gives this one up. The last one gives the lock back, and waits until that is committed.
    ///
    /// # Errors
    ///
    /// As [`Guard::release`], from the last one.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn release(self) -> Result<(), Error> {
        match Arc::into_inner(self.grant) {
            Some(outermost) => outermost.release().await,
            None => Ok(()),
        }
    }
}

impl Deref for ReentrantGuard {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.grant
    }
}

impl fmt::Debug for Reentrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reentrant").field(&self.mutex).finish()
    }
}

impl fmt::Debug for ReentrantGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReentrantGuard").field(&self.grant).finish()
    }
}
