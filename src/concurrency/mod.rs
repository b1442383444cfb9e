//! Coordination of processes through etcd, on the public client and on the pure
//! machines in `core`. A session is a lease that is kept alive; a lock, and what
//! is to come, hang on it.

mod attempt;
mod backlog;
mod guard;
mod mutex;
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

pub use guard::Guard;
pub use mutex::Mutex;
pub use session::{Session, SessionBuilder};
pub use short::LockBuilder;
pub use stm::{Committed, Isolation, Stm};
pub use token::Token;
pub use transaction::Transaction;
