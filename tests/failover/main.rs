//! The proof that calls survive what happens to members and to the ways to them:
//! real members, a proxy before each, and a ledger of unique writes. Each write
//! that was acknowledged is there once, each of unknown fate once or not at all,
//! each that was refused or not sent never; and no call outlasts its deadline.
//!
//! A fault lasts until every writer and reader has got on in spite of it, so that
//! no test depends on how fast the machine is. `TENURE_FAILOVER_ROUNDS` repeats the
//! faults of each test that often.

mod dead_ends;
mod exchange;
mod leaderless;
mod ledger;
mod links;
mod load;
mod members;
mod stage;
