//! Coordination of processes through etcd, on the public client and on the pure
//! machines in `core`. A session is a lease that is kept alive; a lock, and what
//! is to come, hang on it.

mod atomics;
mod attempt;
mod backlog;
mod guard;
mod linger;
mod mutex;
mod recall;
mod releaser;
mod requests;
mod seat;
mod session;
mod shared;
mod short;
mod slot;
mod token;
mod who;
mod word;

pub use guard::Guard;
pub use mutex::Mutex;
pub use session::{Session, SessionBuilder};
pub use short::LockBuilder;
pub use token::Token;
pub use who::LockEntry;
