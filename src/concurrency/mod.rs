//! Coordination of processes through etcd, on the public client and on the pure
//! machines in `core`. A session is a lease that is kept alive; what is held or taken
//! part in hangs on it.

mod attempt;
mod backlog;
mod barrier;
mod definite;
mod double_barrier;
mod election;
mod entries;
mod entry;
mod following;
mod guard;
mod held;
mod job;
mod latch;
mod multi;
mod mutex;
mod observe;
mod presence;
mod queue;
mod recipe;
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
mod stm;
mod token;
mod transaction;

pub use crate::core::election::Leader;
pub use barrier::{Barrier, Hold};
pub use double_barrier::{DoubleBarrier, Inside};
pub use election::{Election, Leadership};
pub use guard::Guard;
pub use held::Held;
pub use job::Job;
pub use latch::Latch;
pub use multi::{MultiGuard, MultiLock};
pub use mutex::Mutex;
pub use observe::Observe;
pub use queue::{Consumer, Queue};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
pub use semaphore::{Permits, Semaphore};
pub use session::{Session, SessionBuilder};
pub use short::LockBuilder;
pub use stm::{Committed, Isolation, Stm};
pub use token::Token;
pub use transaction::Transaction;
