//! Leases that one client keeps alive, and nothing else: how often they are renewed, what that takes,
//! and how many are lost.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use crate::input::Enough;
use crate::{Cost, Keepalive, Lease, Peer, text};

/// Grants under way at a time.
const GRANTS_MAX: usize = 64;
/// How often they are looked at within a TTL: more than once from one renewal to the next.
const LOOKS: u32 = 8;
/// The longest that a wish to stop goes unnoticed.
const NOTICED_MAX: Duration = Duration::from_millis(100);

pub(crate) fn run<P: Peer>(order: &Keepalive, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let enough = Enough::at_end_of_input();
    let peer = tasks.block_on(runtime, P::connect(&order.servers.endpoints))?;
    let leases = tasks.block_on(runtime, grant(&peer, order, &enough))?;
    // Until renewals are spread as they stay.
    tasks.block_on(runtime, keep(&leases, order.ttl, order.ttl, &enough));
    let (before, begun) = (renewals(&leases), Instant::now());
    let keep = keep(&leases, order.ttl, order.time, &enough);
    let ((), cost) = Cost::of_process(|| tasks.block_on(runtime, keep));
    crate::print(renewals(&leases) - before, begun.elapsed(), cost);
    println!("lost {}", leases.iter().filter(|lease| !lease.is_kept()).count());
    Ok(())
}

/// As many as are asked for, or until it is enough.
async fn grant<P: Peer>(peer: &P, order: &Keepalive, enough: &Enough) -> Result<Vec<P::Lease>, String> {
    let (mut granting, mut leases) = (JoinSet::new(), Vec::with_capacity(order.leases));
    for _ in 0..order.leases {
        if granting.len() >= GRANTS_MAX
            && let Some(granted) = granting.join_next().await
        {
            leases.push(granted.map_err(text)??);
        }
        if enough.is_it() {
            break;
        }
        let (peer, ttl) = (peer.clone(), order.ttl);
        granting.spawn_local(async move { peer.lease(ttl).await });
    }
    while let Some(granted) = granting.join_next().await {
        leases.push(granted.map_err(text)??);
    }
    Ok(leases)
}

/// Lets so much time pass, and looks at them now and then.
async fn keep(leases: &[impl Lease], ttl: Duration, time: Duration, enough: &Enough) {
    let begun = Instant::now();
    let mut looked = begun;
    while begun.elapsed() < time && !enough.is_it() {
        sleep(time.saturating_sub(begun.elapsed()).min(NOTICED_MAX)).await;
        if looked.elapsed() >= ttl / LOOKS {
            looked = Instant::now();
            renewals(leases);
        }
    }
}

/// Of all of them together.
fn renewals(leases: &[impl Lease]) -> u64 {
    leases.iter().map(Lease::renewals).sum()
}
