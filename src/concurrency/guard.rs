//! A lock that is held.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::fenced::FencedWrites;
use super::grip::Grip;
use super::lost::Lost;
use super::refusal::lost_by;
use super::releaser;
use super::requests;
use super::seat::Seat;
use super::session::Session;
use super::token::Token;
use super::who::ask_key;
use crate::client::{Compare, Event};
use crate::error::Error;
use crate::net::race::{Either, race};
use crate::types::Revision;

/// The proof that a lock is held. Owned: it can go to another task or thread.
///
/// Dropping it gives the lock back in the background; the drop itself neither
/// allocates nor starts a task. [`Guard::release`] does it now and says how it went.
///
/// # Guarantees
///
/// What is said of [`Mutex`](super::Mutex) and [`Session`] holds. A guard's
/// validity is its session's, up to [`Mutex::hold_at_most`](super::Mutex::hold_at_most): that somebody
/// deleted the lock's key by hand is seen by [`Guard::fence`] and by [`Guard::release`] only, or where
/// it has an [owner](super::Mutex::owner).
#[must_use = "a lock is given back when its guard is dropped"]
pub struct Guard {
    grip: Grip,
    token: Token,
    /// What tells its key from others of that name.
    mark: Revision,
}

impl Guard {
    pub(super) fn new(seat: Seat, token: Token, hold_max: Option<Duration>) -> Guard {
        let mark = seat.slot().mark(token.create_revision());
        let grip = Grip::new(seat, mark, hold_max);
        Guard { grip, token, mark }
    }

    /// The fencing token of this grant.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The key of this lock in etcd.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.grip.slot().place().key
    }

    /// The session that the lock hangs on.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.grip.session()
    }

    /// Whether the lock is proven to be ours at this moment.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.grip.is_valid()
    }

    /// For how long from now the lock is ours without any further renewal.
    #[must_use]
    pub fn valid_for(&self) -> Duration {
        self.grip.valid_for()
    }

    /// Completes when the lock is lost, and says why: at the deadline at the latest and with no
    /// help from the network.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&self) -> Lost {
        self.grip.lost().await
    }

    /// A comparison that holds only while the lock is ours in etcd itself: put it
    /// before the writes of a transaction, and a holder that is late writes nothing.
    ///
    /// It tells apart who has different keys: not two tasks of one session that the lock was passed
    /// on between. So a key is passed on only where no write with it can be under way: not by a
    /// guard that has given out a fence and is *dropped*, as it is in a task that is
    /// aborted or panics. Its key is deleted. [`Guard::release`] passes the key on; whoever ends
    /// with a write whose fate it does not know calls [`Guard::taint`] before.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client, guard: tenure::Guard) -> Result<(), tenure::Error> {
    /// use tenure::Op;
    ///
    /// let answer = client.txn().when(guard.fence()).then(Op::put("report", "done")).await?;
    /// assert!(answer.succeeded, "somebody else holds the lock by now");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn fence(&self) -> Compare {
        self.grip.fence();
        self.compare()
    }

    /// Writes that take effect only while the lock is ours in etcd itself: [`Guard::fence`] and
    /// [`Guard::taint`] in one line.
    ///
    /// ```no_run
    /// # async fn example(guard: tenure::Guard) -> Result<(), tenure::Error> {
    /// guard.fenced().put("report", "done").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fenced(&self) -> FencedWrites<'_> {
        FencedWrites::new(self.session(), [self.compare()]).tainting(&self.grip)
    }

    /// This grant's key is not to be passed on to another task of the session, nor to linger: it
    /// is deleted, and nothing that is fenced with it takes effect after the next grant. To be
    /// called where a write with [`Guard::fence`] failed and may still be carried out
    /// ([`Delivery::Unknown`](crate::error::Delivery::Unknown)).
    pub fn taint(&self) {
        self.grip.taint();
    }

    /// Waits until somebody [asks](crate::Client::ask_to_release) for the lock, and says with
    /// which message. Nothing comes of it by itself: the guard is to be released or dropped.
    ///
    /// It costs a watch while it waits, and a read. What was asked before the call is heard too,
    /// also where it was asked of a task of the session that had the key before.
    ///
    /// # Errors
    ///
    /// The watch or the read ended for good.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: called again, it hears the last message again.
    pub async fn asked(&self) -> Result<Bytes, Error> {
        let (client, place) = (self.session().client(), self.grip.slot().place());
        let name = place.prefix.strip_suffix(b"/").unwrap_or_default();
        let key = ask_key(name, &place.key);
        // A request to an earlier key of ours is older than this one.
        let created = self.token.create_revision();
        let mut watch = client.watch(key.clone()).no_delete().await?;
        let asked = client.get(key).part().min_mod_revision(created).await?.kvs.into_iter().next();
        if let Some(kv) = asked {
            return Ok(kv.value);
        }
        loop {
            for event in watch.next().await?.events {
                match event {
                    Event::Put { kv, .. } if kv.mod_revision > created.0 => return Ok(kv.value),
                    _ => {}
                }
            }
        }
    }

    /// Gives the lock back, and waits until that is committed. Where the session keeps its
    /// key, because another of its tasks waits or because the lock lingers, there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition`: the lock was not ours any more; where it is passed on within the
    /// session or lingers there, that is not asked of etcd. Any other error: it is
    /// not known to be free; it is tried again in the background until the session
    /// ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn release(self) -> Result<(), Error> {
        const LOST: &str = "the lock had been lost before it was released";
        let session = self.session().clone();
        let mut seat = self.grip.into_seat().map_err(|why| lost_by(&session, Some(why), LOST))?;
        if seat.pass() {
            return Ok(());
        }
        seat.slot().handle(|lock, _| lock.handle_release());
        if releaser::undo(seat.session().shared(), seat.slot()).await? {
            return Ok(());
        }
        seat.slot().lost();
        Err(lost_by(&session, None, LOST))
    }

    /// Does `work` for as long as the lock is ours, and gives the lock back then.
    ///
    /// ```no_run
    /// # async fn example(session: tenure::Session) -> Result<(), tenure::Error> {
    /// let guard = session.mutex("jobs/nightly").lock().await?;
    /// let rows = guard.run(async |guard| {
    ///     println!("working with token {}", guard.token());
    ///     7
    /// }).await?;
    /// # assert_eq!(rows, 7);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// When the lock is lost, the future of `work` is dropped at the await where it
    /// stands. It is polled by this one, so what keeps the thread busy is not interrupted.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition`: the lock was lost before `work` was done, or its key was
    /// found deleted afterwards; the source says why the session ended, if it did. What
    /// `work` returned is dropped then, for it was not protected all the time. A release
    /// that fails for another reason is none: it is tried again in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it drops `work` and gives the lock back in the background.
    pub async fn run<T>(self, work: impl AsyncFnOnce(&Guard) -> T) -> Result<T, Error> {
        // The loss is asked for first, so that nothing is begun after it.
        let done = match race(self.lost(), work(&self)).await {
            Either::Right(done) if self.is_valid() => done,
            _ => return Err(self.lost_before("the lock was lost while it was used")),
        };
        match self.release().await {
            Err(error) if error.is_lost() => Err(error),
            _ => Ok(done),
        }
    }

    /// It is ours no more.
    pub(super) fn lost_before(&self, message: &'static str) -> Error {
        lost_by(self.session(), self.grip.why_lost(), message)
    }

    fn compare(&self) -> Compare {
        requests::is_still(self.grip.slot().place(), self.mark)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("token", &self.token).field("grip", &self.grip).finish()
    }
}
