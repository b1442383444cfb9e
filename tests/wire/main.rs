//! The client against scripted peers on an in-memory pipe: deadlines, resets,
//! bursts, and what a server may send that is not what it should.

mod answers;
mod breakers;
mod bursts;
mod connections;
mod deadlines;
mod dials;
mod endpoints;
mod failover;
mod fleet;
mod health;
mod in_flight;
mod keepalive;
mod leases;
mod list_watch;
mod lock;
mod peer;
mod pings;
mod range_stream;
mod raw;
mod settings;
#[cfg(feature = "snapshot")]
mod snapshot;
mod telemetry;
mod tokens;
mod watch;
