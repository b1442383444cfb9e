//! Calls of one kind, some at a time, each next one as soon as one has ended.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};

use crate::{Cost, Key, Method, Outcome, Peer, Unary};

const DEADLINE: Duration = Duration::from_secs(10);
const WARM_UP_CALLS: u64 = 1000;
const KEY: &[u8] = b"bench/unary/key-of-24-by";
/// With the key, and what is around them, 40 bytes and a little more.
const VALUE: &[u8] = b"sixteen bytes of";

pub(crate) fn run<P: Peer>(order: &Unary, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let peer = tasks.block_on(runtime, P::connect(&order.servers.endpoints))?;
    tasks.block_on(runtime, calls(&peer, order, WARM_UP_CALLS))?;
    let begun = Instant::now();
    let (outcome, cost) = Cost::of(|| tasks.block_on(runtime, calls(&peer, order, order.calls)));
    let elapsed = begun.elapsed();
    outcome?;
    crate::print(order.calls, elapsed, cost);
    Ok(())
}

async fn calls<P: Peer>(peer: &P, order: &Unary, count: u64) -> Result<(), String> {
    let left = Rc::new(Cell::new(count));
    let mut callers = JoinSet::new();
    for _ in 0..order.in_flight {
        let (peer, left, method) = (peer.clone(), left.clone(), order.method);
        callers.spawn_local(async move {
            while left.get() > 0 {
                left.set(left.get() - 1);
                let key = Key::Borrowed(KEY);
                let outcome = match method {
                    Method::Put => peer.put(key, VALUE, DEADLINE).await,
                    Method::Get => peer.get(key, DEADLINE).await,
                };
                if outcome != Outcome::Answered {
                    return Err("a call failed".to_owned());
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.map_err(crate::text)??;
    }
    Ok(())
}
