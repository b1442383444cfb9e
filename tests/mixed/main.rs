//! All recipes at once: processes whose tasks take locks of every kind on the same names,
//! on one member and on three, while members and ways fail, processes stand still, leases
//! are revoked, history is compacted, answers are lost and requests come late over another
//! way. What everybody believed is held against etcd's own history.
//!
//! ```text
//!   8 processes x 8 tasks ──▶ ways that lose and delay ──▶ proxies ──▶ members
//!      │ notes, a line each                                              │ a direct way
//!      └──────────────────────────▶ judge ◀── recorder: every revision ◀─┘
//! ```
//!
//! The same with clients on the etcd in memory, as a simulation, with the feature `unstable`.
//!
//! `TENURE_MIXED_ACQUISITIONS` makes it longer, 100,000 say, `TENURE_MIXED_CALM` times as
//! long nothing goes wrong between two faults, `TENURE_SEED` repeats its choices,
//! `--nocapture` shows what was counted:
//!
//! ```sh
//! TENURE_MIXED_ACQUISITIONS=100000 TENURE_MIXED_CALM=10 cargo test --release --test mixed storm -- --nocapture
//! ```

mod child;
mod desk;
mod evidence;
mod faults;
mod grip;
mod judge;
mod meddler;
mod note;
mod process;
mod recorder;
#[path = "../storm/seeds.rs"]
#[cfg_attr(not(feature = "unstable"), allow(dead_code, reason = "the simulation's"))]
mod seeds;
#[path = "../pause/signals.rs"]
mod signals;
#[cfg(feature = "unstable")]
mod simulation;
mod storm;
mod support;
mod way;
mod wish;
mod worker;
