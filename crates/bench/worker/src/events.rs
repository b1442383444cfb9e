//! The events of one prefix, as fast as they come. The time runs from the wish to
//! watch for a replay, and from the first message for a watch from now on.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::{Cost, Events, Peer, Watch, input, text};

pub(crate) fn run<P: Peer>(order: &Watch, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let peer = tasks.block_on(runtime, P::connect(&order.servers.endpoints))?;
    // The connection is made before the time runs.
    let key = format!("{}none", order.prefix).into_bytes().into();
    tasks.block_on(runtime, peer.get(key, Duration::from_secs(10)));
    let input_ended = input::ended();
    let count = async {
        tokio::select! {
            biased;
            counted = count(&peer, order) => counted,
            _ = input_ended => Err("stopped".to_owned()),
        }
    };
    let (counted, cost) = Cost::of(|| tasks.block_on(runtime, count));
    let (events, elapsed) = counted.map_err(text)?;
    crate::print(events, elapsed, cost);
    Ok(())
}

async fn count<P: Peer>(peer: &P, order: &Watch) -> Result<(u64, Duration), String> {
    let mut begun = Instant::now();
    let mut watch = peer.watch(&order.prefix, order.from).await?;
    println!("ready");
    let (mut seen, mut first) = (0, 0);
    while seen < order.events {
        let count = watch.next().await?;
        if order.from == 0 && seen == 0 && count > 0 {
            begun = Instant::now();
            first = count;
        }
        seen += count;
    }
    Ok((seen - first, begun.elapsed()))
}
