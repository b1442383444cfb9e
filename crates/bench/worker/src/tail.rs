//! Small reads at a pace, whether those before are answered or not, beside whatever else the same client
//! does meanwhile: watches what others write, keeps leases alive, reads what is large. What one waits for that
//! another one holds up is seen in the last of a thousand.

use std::cell::RefCell;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::sleep;

use crate::input::Enough;
use crate::samples::Samples;
use crate::{Events, Key, Lease, Outcome, Peer, Tail};

const DEADLINE: Duration = Duration::from_secs(10);
const KEY: &[u8] = b"bench/tail/small";
const LARGE_KEY: &[u8] = b"bench/tail/large";
/// Renewed every three seconds or so: some hundreds a second of a thousand.
const TTL: Duration = Duration::from_secs(9);
/// Between two large reads.
const LARGE_PAUSE: Duration = Duration::from_millis(50);
/// Until the first renewals are under way.
const WARM_UP: Duration = Duration::from_secs(1);

/// Why what goes on beside it has ended, which it is not to.
type Ended = Rc<RefCell<Option<String>>>;

pub(crate) fn run<P: Peer>(order: &Tail, runtime: &Runtime, tasks: &LocalSet) -> Result<(), String> {
    let enough = Enough::at_end_of_input();
    let peer = tasks.block_on(runtime, P::connect(&order.servers.endpoints))?;
    tasks.block_on(runtime, put(&peer, KEY, b"x"))?;
    let ended = Ended::default();
    let leases = tasks.block_on(runtime, begin_beside(&peer, order, &ended))?;
    let samples = Rc::new(Samples::of(order.calls, &enough));
    samples.measure(runtime, tasks, calls(&peer, order, samples.clone()))?;
    if !leases.iter().all(Lease::is_kept) {
        return Err("a lease was lost".to_owned());
    }
    ended.take().map_or(Ok(()), Err)
}

/// What goes on until the process ends, and the leases.
async fn begin_beside<P: Peer>(peer: &P, order: &Tail, ended: &Ended) -> Result<Vec<P::Lease>, String> {
    let mut leases = Vec::new();
    for _ in 0..order.leases {
        leases.push(peer.lease(TTL).await?);
    }
    if let Some(prefix) = &order.watch {
        let mut events = peer.watch(prefix, 0).await?;
        let ended = ended.clone();
        spawn_local(async move {
            let cause = loop {
                if let Err(cause) = events.next().await {
                    break cause;
                }
            };
            ended.borrow_mut().get_or_insert(cause);
        });
    }
    if order.large_bytes > 0 {
        put(peer, LARGE_KEY, vec![b'x'; order.large_bytes].leak()).await?;
        let (peer, ended) = (peer.clone(), ended.clone());
        spawn_local(async move {
            while peer.get(Key::Borrowed(LARGE_KEY), DEADLINE).await == Outcome::Answered {
                sleep(LARGE_PAUSE).await;
            }
            ended.borrow_mut().get_or_insert("a large read failed".to_owned());
        });
    }
    sleep(WARM_UP).await;
    Ok(leases)
}

async fn put<P: Peer>(peer: &P, key: &'static [u8], value: &'static [u8]) -> Result<(), String> {
    match peer.put(Key::Borrowed(key), value, DEADLINE).await {
        Outcome::Answered => Ok(()),
        Outcome::Unknown | Outcome::Refused => Err("a put failed".to_owned()),
    }
}

async fn calls<P: Peer>(peer: &P, order: &Tail, samples: Rc<Samples>) -> Result<(), String> {
    let mut pace = pace(order);
    let mut callers = JoinSet::new();
    while let Some(due) = pace.recv().await {
        if !samples.take() {
            break;
        }
        let (peer, samples) = (peer.clone(), samples.clone());
        callers.spawn_local(async move {
            let outcome = peer.get(Key::Borrowed(KEY), DEADLINE).await;
            // A call that begins late because the client has this thread has waited, too.
            samples.add(due.elapsed());
            outcome
        });
        while let Some(ended) = callers.try_join_next() {
            answered(ended.map_err(crate::text)?)?;
        }
    }
    while let Some(ended) = callers.join_next().await {
        answered(ended.map_err(crate::text)?)?;
    }
    Ok(())
}

/// When each call is due, told then: never more than there are calls. By a thread, since tokio's timers are as coarse as a millisecond.
fn pace(order: &Tail) -> UnboundedReceiver<Instant> {
    let (tell, told) = unbounded_channel();
    let (calls, every) = (order.calls, order.every);
    thread::spawn(move || {
        let mut due = Instant::now();
        for _ in 0..calls {
            due += every;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if tell.send(due).is_err() {
                return;
            }
        }
    });
    told
}

fn answered(outcome: Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Answered => Ok(()),
        Outcome::Unknown | Outcome::Refused => Err("a read failed".to_owned()),
    }
}
