//! Coordination of processes through etcd, on the public client and on the pure
//! machines in `core`. A session is a lease that is kept alive; a lock, and what
//! is to come, hang on it.

mod attempt;
mod backlog;
mod barrier;
mod definite;
mod double_barrier;
mod entry;
mod following;
mod guard;
mod job;
mod latch;
mod mutex;
mod queue;
mod recipe;
mod releaser;
mod requests;
mod seat;
mod session;
mod shared;
mod short;
mod slot;
mod stm;
mod token;
mod transaction;

pub use barrier::{Barrier, Hold};
pub use double_barrier::{DoubleBarrier, Inside};
pub use guard::Guard;
pub use job::Job;
pub use latch::Latch;
pub use mutex::Mutex;
pub use queue::{Consumer, Queue};
pub use session::{Session, SessionBuilder};
pub use short::LockBuilder;
pub use stm::{Committed, Isolation, Stm};
pub use token::Token;
pub use transaction::Transaction;
