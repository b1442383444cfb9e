//! Holds what the clients of a lock say they had against what etcd says.
//!
//! A test collects three things, and this crate compares them:
//!
//! ```text
//!   the events of every key under `<name>/`  ──▶ History::fold ──▶ who owned the lock when
//!   what each client believes: Claim         ──▶ check_claims      against that, and one another
//!   writes to a register that keeps the greatest token: Write ──▶ check_register
//!   at the end                               ──▶ check_nothing_left
//! ```
//!
//! What an entry asks for is in its key ([`Kind`]): most are alone, readers are beside each
//! other, permits are added up.
//!
//! Each check returns all that it found as [`Violation`]s. The crate does no IO,
//! knows no client and decodes no message: a mistake of the client under test is
//! not made here a second time.
//!
//! ```
//! use tenure_history::{Change, Claim, Event, History, Token, check_claims};
//!
//! let put = |key: &str, revision| Event {
//!     key: key.into(),
//!     revision,
//!     change: Change::Put { created: revision },
//! };
//! let delete = |key: &str, revision| Event { key: key.into(), revision, change: Change::Delete };
//! let events = [put("jobs/1a", 5), put("jobs/2b", 6), delete("jobs/1a", 7), delete("jobs/2b", 9)];
//!
//! let history = History::fold("jobs", &events)?;
//! assert_eq!(history.owner_at(8).unwrap().key, b"jobs/2b");
//!
//! let claim = Claim {
//!     client: "second".into(),
//!     key: "jobs/2b".into(),
//!     token: Token { created: 6, sequence: 0 },
//!     revisions: vec![6], // It wrote at this revision, and believed to hold the lock: it did not.
//!     held: None,
//! };
//! assert_eq!(check_claims(&history, &[claim]).len(), 1);
//! # Ok::<(), tenure_history::Violation>(())
//! ```
//!
//! # Time
//!
//! Instants are nanoseconds of one clock that all clients read, which therefore run
//! on one machine; the boot clock is a good one.

#![forbid(unsafe_code)]

mod claim;
mod history;
mod kind;
mod register;
mod violation;

pub use claim::{Claim, Token, check_claims};
pub use history::{Change, Entry, Event, History, check_nothing_left};
pub use kind::Kind;
pub use register::{Outcome, Stored, Write, check_register};
pub use violation::Violation;
