//! Calls of one kind, some at a time, each next one as soon as one has ended.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};

use crate::input::Enough;
use crate::samples::Samples;
use crate::{Key, Method, Outcome, Peer, Unary};

const DEADLINE: Duration = Duration::from_secs(10);
const WARM_UP_CALLS: u64 = 1000;
const KEY: &[u8] = b"bench/unary/key-of-24-by";

pub(crate) fn run<P: Peer>(order: &Unary, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let enough = Enough::at_end_of_input();
    let value: &'static [u8] = vec![b'x'; order.value_bytes].leak();
    let peer = tasks.block_on(runtime, P::connect(&order.servers.endpoints))?;
    // What is read and compared is there.
    tasks.block_on(runtime, ask(&peer, Method::Put, value))?;
    let warm_up = Rc::new(Samples::of(WARM_UP_CALLS.min(order.calls), &enough));
    tasks.block_on(runtime, calls(&peer, order, value, warm_up))?;
    let samples = Rc::new(Samples::of(order.calls, &enough));
    samples.measure(runtime, tasks, calls(&peer, order, value, samples.clone()))
}

async fn calls<P: Peer>(
    peer: &P,
    order: &Unary,
    value: &'static [u8],
    samples: Rc<Samples>,
) -> Result<(), String> {
    let mut callers = JoinSet::new();
    for _ in 0..order.in_flight {
        let (peer, samples, method) = (peer.clone(), samples.clone(), order.method);
        callers.spawn_local(async move {
            while samples.take() {
                let begun = Instant::now();
                ask(&peer, method, value).await?;
                samples.add(begun.elapsed());
            }
            Ok::<_, String>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.map_err(crate::text)??;
    }
    Ok(())
}

async fn ask<P: Peer>(peer: &P, method: Method, value: &'static [u8]) -> Result<(), String> {
    let key = Key::Borrowed(KEY);
    let outcome = match method {
        Method::Put => peer.put(key, value, DEADLINE).await,
        Method::Get => peer.get(key, DEADLINE).await,
        Method::Txn => peer.txn(key, value, DEADLINE).await,
    };
    match outcome {
        Outcome::Answered => Ok(()),
        Outcome::Unknown | Outcome::Refused => Err("a call failed".to_owned()),
    }
}
