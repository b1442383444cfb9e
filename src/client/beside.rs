//! What a layer above keeps beside a client: there once for all its clones, and gone with the last of
//! them that a user has, although what is kept has clones of its own. It knows nothing of it.

use std::any::Any;
use std::sync::{Arc, OnceLock, Weak};

type Kept = OnceLock<Arc<dyn Any + Send + Sync>>;

/// A clone's part in it.
#[derive(Clone)]
pub(super) enum Beside {
    /// One of those that it lives as long as.
    Counted(Arc<Kept>),
    /// One that belongs to what is kept.
    Uncounted(Weak<Kept>),
}

impl Beside {
    pub(super) fn new() -> Beside {
        Beside::Counted(Arc::default())
    }

    pub(super) fn uncounted(&self) -> Beside {
        Beside::Uncounted(match self {
            Beside::Counted(kept) => Arc::downgrade(kept),
            Beside::Uncounted(kept) => kept.clone(),
        })
    }

    /// Another one of its users, as long as there is one.
    pub(super) fn counted(&self) -> Option<Beside> {
        match self {
            Beside::Counted(_) => Some(self.clone()),
            Beside::Uncounted(kept) => kept.upgrade().map(Beside::Counted),
        }
    }

    /// What is kept, which is made now if it is not there yet. `None` where all users are gone.
    pub(super) fn get<T: Any + Default + Send + Sync>(&self) -> Option<Arc<T>> {
        let kept = match self {
            Beside::Counted(kept) => kept.clone(),
            Beside::Uncounted(kept) => kept.upgrade()?,
        };
        kept.get_or_init(|| Arc::<T>::default()).clone().downcast().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_goes_with_the_last_user_and_not_before() {
        let first = Beside::new();
        let own = first.uncounted();
        let second = first.clone();
        let kept: Arc<String> = first.get().expect("it is made");
        assert!(own.uncounted().get::<String>().is_some_and(|found| Arc::ptr_eq(&found, &kept)));
        let found = Arc::downgrade(&kept);
        drop((first, kept));
        assert!(found.upgrade().is_some() && own.get::<String>().is_some());
        drop(second);
        assert!(found.upgrade().is_none() && own.get::<String>().is_none());
    }
}
