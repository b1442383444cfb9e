//! A barrier: who holds it makes all others wait.

use std::sync::Arc;

use super::following::Following;
use super::presence::{Presence, mark};
use super::recipe::prefix;
use super::refusal::lost;
use super::session::Session;
use crate::client::{Client, Compare, LeaseEnd};
use crate::error::Error;
use crate::types::KeyRange;

const RECIPE: &str = "barrier";

/// A name at which processes wait for as long as somebody holds it.
///
/// Any number may hold it at a time; each holds it with a session, and lets go of it when that ends.
///
/// # Guarantees
///
/// [`Barrier::wait`] ends only where, at one revision at or after its beginning, nobody held it; and at
/// the first such revision that its watch tells of, however short it was. When [`Barrier::hold`] has
/// returned, nobody whose wait begins from then on gets past until the hold ends.
///
/// No clock plays a part in waiting. A holder that has lost its session learns of that
/// by [`Hold::lost`], at the deadline that [`Session`] tells of and under its assumption.
#[derive(Clone, Debug)]
pub struct Barrier {
    client: Client,
    name: Arc<str>,
}

impl Client {
    /// The barrier of this name, which has no `#`. Nothing is sent until it is used. Names nest.
    ///
    /// ```no_run
    /// # async fn example(client: tenure::Client, session: tenure::Session) -> Result<(), tenure::Error> {
    /// let barrier = client.barrier("jobs/migration");
    /// let hold = barrier.hold(&session).await?;
    /// // Whoever calls `barrier.wait()` now waits.
    /// hold.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn barrier(&self, name: &str) -> Barrier {
        Barrier {
            client: self.clone(),
            name: name.into(),
        }
    }
}

impl Barrier {
    /// Makes others wait, for as long as the [`Hold`] and the session live.
    ///
    /// # Errors
    ///
    /// The session has ended, or the server refuses it. A server that cannot be reached is not an error
    /// until the session's deadline.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, it leaves no hold behind: what may be on the server is taken
    /// back in the background.
    pub async fn hold(&self, session: &Session) -> Result<Hold, Error> {
        let prefix = prefix(&self.name, RECIPE)?;
        let mark = mark(session);
        let key = format!("{prefix}hold/{mark}").into();
        let mut presence = Presence::new(session, &prefix, key, mark);
        match presence.enter(&[]).await? {
            Some(_) => Ok(Hold { presence }),
            // The key is nobody else's, so it was put and taken away.
            None => Err(lost(session, "the hold was deleted by somebody")),
        }
    }

    /// Waits until nobody holds it.
    ///
    /// # Errors
    ///
    /// The server refuses it, or could not be reached in the client's time for a call. Once it waits,
    /// it goes on through lost connections.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it leaves nothing behind.
    pub async fn wait(&self) -> Result<(), Error> {
        let holds = KeyRange::prefix(format!("{}hold/", prefix(&self.name, RECIPE)?));
        let mut following = Following::start(&self.client, holds).await?;
        while following.view().below(b"").next().is_some() {
            following.next().await?;
        }
        Ok(())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A barrier that is held. Dropping it lets go in the background, by a task of its own.
#[derive(Debug)]
#[must_use = "a barrier is let go when its hold is dropped"]
pub struct Hold {
    presence: Presence,
}

impl Hold {
    /// Whether the session is proven to be alive, and with it the hold.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.presence.session().is_valid()
    }

    /// Completes when the session is over, at the deadline at the latest.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&self) -> LeaseEnd {
        self.presence.session().ended().await
    }

    /// A comparison that holds only while this hold is there.
    #[must_use]
    pub fn fence(&self) -> Compare {
        self.presence.is_ours()
    }

    /// Lets go, and waits until that is committed.
    ///
    /// # Errors
    ///
    /// `FailedPrecondition`: it was lost before. Any other: it is tried again in the background until the
    /// session ends.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it goes on in the background.
    pub async fn release(mut self) -> Result<(), Error> {
        match self.presence.leave().await? {
            true => Ok(()),
            false => Err(lost(
                self.presence.session(),
                "the hold had been lost before it was released",
            )),
        }
    }
}
