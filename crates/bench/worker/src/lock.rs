//! A lock that nobody else wants: locked and unlocked, one after the other.

use std::time::Instant;

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::input::Enough;
use crate::samples::Samples;
use crate::server::Server;
use crate::{Lock, Locker, Locking};

const WARM_UP_CALLS: u64 = 200;

pub(crate) fn run<L: Locker>(order: &Locking, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let enough = Enough::at_end_of_input();
    let locker = tasks.block_on(runtime, L::connect(&order.servers.endpoints))?;
    let mut mutex = tasks.block_on(runtime, locker.mutex(&order.name))?;
    let warm_up = Samples::of(WARM_UP_CALLS.min(order.calls), &enough);
    tasks.block_on(runtime, locks(&mut mutex, &warm_up))?;
    let samples = Samples::of(order.calls, &enough);
    let server = Server::of(order.server_pid)?;
    samples.measure(runtime, tasks, locks(&mut mutex, &samples))?;
    server.print(1.0)
}

async fn locks(mutex: &mut impl Lock, samples: &Samples) -> Result<(), String> {
    while samples.take() {
        let begun = Instant::now();
        mutex.lock().await?;
        mutex.unlock().await?;
        samples.add(begun.elapsed());
    }
    Ok(())
}
