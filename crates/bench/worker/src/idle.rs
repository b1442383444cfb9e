//! What memory things take that do nothing: on the heap what this thread has asked for and
//! not given back, and of the machine what the process has of its memory (RSS).
//!
//! What one takes is what many take, divided. Of the client there is one.

use std::cell::RefCell;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::input::Enough;
use crate::{Idle, Key, Lock, Outcome, Peer, Thing, text};

/// Until all of them are where they stay: asked for, answered, and whatever follows done.
const SETTLED: Duration = Duration::from_secs(2);
const TTL: Duration = Duration::from_secs(60);
const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) fn run<P: Peer>(order: &Idle, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let enough = Enough::at_end_of_input();
    let mut kept = None;
    let mut before = rss_bytes();
    let client = allocation_counter::measure(|| kept = Some(tasks.block_on(runtime, connect::<P>(order))));
    let peer = kept.ok_or("nothing was run")??;
    let (heap, count) = if order.what == Thing::Client {
        (client.bytes_current, 1)
    } else {
        let mut lain = Ok(());
        before = rss_bytes();
        let things = allocation_counter::measure(|| lain = tasks.block_on(runtime, lie(&peer, order)));
        lain?;
        (things.bytes_current, order.count)
    };
    if enough.is_it() {
        return Err("stopped".to_owned());
    }
    println!("count {count}");
    println!("heap {}", heap.max(0));
    println!("rss {}", rss_bytes().saturating_sub(before));
    println!("process {}", rss_bytes());
    Ok(())
}

async fn connect<P: Peer>(order: &Idle) -> Result<P, String> {
    let peer = P::connect(&order.servers.endpoints).await?;
    let key = Key::Borrowed(b"bench/idle");
    if peer.put(key, b"x", DEADLINE).await != Outcome::Answered {
        return Err("a put failed".to_owned());
    }
    sleep(SETTLED).await;
    Ok(peer)
}

/// They lie about until the process ends.
async fn lie<P: Peer>(peer: &P, order: &Idle) -> Result<(), String> {
    let failures = Rc::new(RefCell::new(None));
    for number in 0..order.count {
        let name = format!("bench/idle/{number}");
        match order.what {
            Thing::Client => {}
            Thing::Watch => std::mem::forget(peer.watch(&name, 0).await?),
            Thing::Lease => std::mem::forget(peer.lease(TTL).await?),
            Thing::Lock => {
                let mut mutex = peer.mutex(&name).await?;
                let failures = failures.clone();
                tokio::task::spawn_local(async move {
                    let waited = mutex.lock().await;
                    let failure = waited.err().unwrap_or_else(|| "it was not held by another".to_owned());
                    failures.borrow_mut().get_or_insert(failure);
                });
            }
        }
    }
    sleep(SETTLED).await;
    let failure = failures.borrow_mut().take();
    failure.map_or(Ok(()), Err)
}

/// Of this process.
fn rss_bytes() -> u64 {
    let kibibytes = || -> Result<u64, String> {
        let status = fs::read_to_string("/proc/self/status").map_err(text)?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        line.split_whitespace().nth(1).ok_or("no number")?.parse().map_err(text)
    };
    kibibytes().unwrap_or_default() * 1024
}
