//! The atomics that the state word is made of. `tests/word` builds the word on others,
//! which try every order in which threads can meet.

pub(super) use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
