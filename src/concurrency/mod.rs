//! Coordination of processes through etcd, on the public client and on the pure
//! machines in `core`. A session is a lease that is kept alive; a lock, and what
//! is to come, hang on it.

mod attempt;
mod backlog;
mod election;
mod entries;
mod entry;
mod guard;
mod held;
mod multi;
mod mutex;
mod observe;
mod refusal;
mod releaser;
mod requests;
mod rwlock;
mod seat;
mod semaphore;
mod session;
mod shared;
mod short;
mod slot;
mod token;

pub use crate::core::election::Leader;
pub use election::{Election, Leadership};
pub use guard::Guard;
pub use held::Held;
pub use multi::{MultiGuard, MultiLock};
pub use mutex::Mutex;
pub use observe::Observe;
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{Permits, Semaphore};
pub use session::{Session, SessionBuilder};
pub use short::LockBuilder;
pub use token::Token;
