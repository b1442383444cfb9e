//! Watches in a storm: writers write and watchers watch while connections break at any
//! byte and members die, on real etcd and, as a simulation that a seed replays, on the
//! etcd in memory. What each watcher saw is held against the server's own history.
//!
//! ```text
//!   writers ──▶ ways that break ──▶ members ──▶ ways that break ──▶ readers ──▶ lives ─┐
//!      │                               └──▶ a direct way ──▶ historian ──▶ history ──▶ judge
//!      └─────────────── what they were answered ──────────────────────────────────▶ ──┘
//! ```

mod body;
mod chance;
mod change;
mod compactions;
mod controls;
mod embedded;
mod historian;
mod history;
mod judge;
mod life;
mod members;
mod pipe;
mod reader;
mod seeds;
mod sight;
mod simulation;
mod weather;
mod writer;
