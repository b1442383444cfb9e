//! The lock while things fail: members that freeze and die, requests that arrive
//! late, runtimes that end, a server that refuses. Each test starts the servers
//! that it breaks; a fault lasts as long as it must to be noticed, no longer.

mod failover;
mod frozen;
mod lagging;
mod late;
mod names;
mod refusals;
mod restarts;
mod runtimes;
mod storm;
mod support;
mod way;
