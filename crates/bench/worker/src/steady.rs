//! The load that goes on whatever happens to the servers: tasks that put unique keys
//! and tasks that get them. Nothing is printed meanwhile but that it goes on, and
//! at the end a line for each call:
//!
//! ```text
//! put 1764000000123456789 1234567 ok        when it began (Unix time), and what it took, in nanoseconds
//! get 1764000000123456789 5001234567 unknown
//! ```
//!
//! A call that has not returned long after its deadline is `open`.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{Outcome, Peer, Steady, input, text};

/// Until the first answers.
const START_MAX: Duration = Duration::from_secs(20);
/// How much longer than its deadline a call is waited for.
const OVERRUN_MAX: Duration = Duration::from_secs(10);
/// The keys that are read.
const READ_KEYS: u64 = 100;
const VALUE: &[u8] = &[b'x'; 40];

#[derive(Clone, Copy)]
enum Kind {
    Put,
    Get,
}

struct Call {
    kind: Kind,
    begun: SystemTime,
    took: Duration,
    outcome: &'static str,
}

/// The calls of one task.
#[derive(Default)]
struct Ledger {
    done: Vec<Call>,
    open: Option<(SystemTime, Instant)>,
}

pub(crate) async fn run<P: Peer>(order: &Steady) -> Result<(), String> {
    let input_ended = input::ended();
    let peer = P::connect(&order.servers.endpoints).await?;
    start(&peer, order).await?;
    let (over, is_over) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut ledgers = Vec::new();
    for number in 0..2 * order.tasks {
        let kind = if number % 2 == 0 { Kind::Put } else { Kind::Get };
        let ledger = Rc::<RefCell<Ledger>>::default();
        ledgers.push((kind, ledger.clone()));
        let task = call_on(peer.clone(), kind, number, order.clone(), ledger, is_over.clone());
        tasks.spawn_local(task);
    }
    println!("ready");
    let _ = input_ended.await;
    let _ = over.send(true);
    let all = async { while tasks.join_next().await.is_some() {} };
    // Whoever is still there then is open.
    let _ = timeout(order.deadline + OVERRUN_MAX, all).await;
    print(&ledgers).map_err(text)
}

/// Waits for an answer of each kind, and for the connections that come with them.
async fn start<P: Peer>(peer: &P, order: &Steady) -> Result<(), String> {
    let begun = Instant::now();
    for number in 0..READ_KEYS {
        while peer.put(read_key(order, number), VALUE, order.deadline).await != Outcome::Answered
            || peer.get(read_key(order, number), order.deadline).await != Outcome::Answered
        {
            if begun.elapsed() > START_MAX {
                return Err(format!("no answer within {START_MAX:?}"));
            }
            sleep(order.breath).await;
        }
    }
    Ok(())
}

async fn call_on<P: Peer>(
    peer: P,
    kind: Kind,
    task: usize,
    order: Steady,
    ledger: Rc<RefCell<Ledger>>,
    mut is_over: watch::Receiver<bool>,
) {
    for number in 0.. {
        let (begun, clock) = (SystemTime::now(), Instant::now());
        ledger.borrow_mut().open = Some((begun, clock));
        let outcome = match kind {
            Kind::Put => {
                let key = format!("{}/put/{task}/{number}", order.prefix);
                peer.put(key.into_bytes().into(), VALUE, order.deadline).await
            }
            Kind::Get => peer.get(read_key(&order, number), order.deadline).await,
        };
        let mut ledger = ledger.borrow_mut();
        ledger.open = None;
        ledger.done.push(Call {
            kind,
            begun,
            took: clock.elapsed(),
            outcome: match outcome {
                Outcome::Answered => "ok",
                Outcome::Unknown => "unknown",
                Outcome::Refused => "refused",
            },
        });
        drop(ledger);
        if *is_over.borrow_and_update() {
            return;
        }
        sleep(order.breath).await;
    }
}

fn read_key(order: &Steady, number: u64) -> crate::Key {
    format!("{}/get/{}", order.prefix, number % READ_KEYS).into_bytes().into()
}

fn print(ledgers: &[(Kind, Rc<RefCell<Ledger>>)]) -> std::io::Result<()> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for (kind, ledger) in ledgers {
        let ledger = ledger.borrow();
        let open = ledger.open.map(|(begun, clock)| Call {
            kind: *kind,
            begun,
            took: clock.elapsed(),
            outcome: "open",
        });
        for call in ledger.done.iter().chain(&open) {
            let kind = match call.kind {
                Kind::Put => "put",
                Kind::Get => "get",
            };
            let begun = call.begun.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            writeln!(output, "{kind} {begun} {} {}", call.took.as_nanos(), call.outcome)?;
        }
    }
    output.flush()
}
