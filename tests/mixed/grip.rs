//! What a task has: the guard of whichever recipe.

use tenure::{Compare, Error, Guard, Held, Leadership, MultiGuard, Permits, ReadGuard, Session, WriteGuard};
use tenure_history::Token;

pub(crate) enum Grip {
    Mutex(Guard),
    Read(ReadGuard),
    Write(WriteGuard),
    Permits(Permits),
    Several(MultiGuard),
    Lead(Leadership),
}

impl Grip {
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Grip::Mutex(guard) => guard.is_valid(),
            _ => self.held().is_some_and(Held::is_valid),
        }
    }

    pub(crate) fn token(&self) -> Token {
        let token = match self {
            Grip::Mutex(guard) => guard.token(),
            _ => self.held().expect("all others have one").token(),
        };
        Token {
            created: token.create_revision().0,
            sequence: token.sequence(),
        }
    }

    pub(crate) fn session(&self) -> &Session {
        match self {
            Grip::Mutex(guard) => guard.session(),
            _ => self.held().expect("all others have one").session(),
        }
    }

    /// What its keys say behind the name of the queue.
    pub(crate) fn entry(&self) -> String {
        let key = match self {
            Grip::Mutex(guard) => guard.key(),
            _ => self.held().expect("all others have one").key(),
        };
        let key = std::str::from_utf8(key).expect("a key of ours");
        key.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// What a transaction compares so that it writes nothing once this is over.
    pub(crate) fn fences(&self) -> Vec<Compare> {
        match self {
            Grip::Mutex(guard) => vec![guard.fence()],
            Grip::Several(guard) => guard.fences(),
            _ => self.held().map(|held| vec![held.fence()]).unwrap_or_default(),
        }
    }

    /// A fenced write may still be carried out: nobody of this session is to be next with
    /// this key. The other recipes pass nothing on.
    pub(crate) fn taint(&self) {
        if let Grip::Mutex(guard) = self {
            guard.taint();
        }
    }

    pub(crate) async fn release(self) -> Result<(), Error> {
        match self {
            Grip::Mutex(guard) => guard.release().await,
            Grip::Read(guard) => guard.release().await,
            Grip::Write(guard) => guard.release().await,
            Grip::Permits(guard) => guard.release().await,
            Grip::Several(guard) => guard.release().await,
            Grip::Lead(leadership) => leadership.resign().await,
        }
    }

    fn held(&self) -> Option<&Held> {
        Some(match self {
            Grip::Mutex(_) => return None,
            Grip::Read(guard) => guard,
            Grip::Write(guard) => guard,
            Grip::Permits(guard) => guard,
            Grip::Several(guard) => guard,
            Grip::Lead(leadership) => leadership,
        })
    }
}
