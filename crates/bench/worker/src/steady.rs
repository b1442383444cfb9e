//! The load that goes on whatever happens to the servers: a put of a unique key and
//! a get begin every so often, whether those before are answered or not. A server
//! loses the proposals of an election and does not say so; with a fixed number of
//! callers, all would soon wait for lost ones, and nobody would ask the new leader.
//!
//! Nothing is printed meanwhile but that it goes on, and at the end a line for each call:
//!
//! ```text
//! put 1764000000123456789 1234567 ok        when it began (Unix time), and what it took, in nanoseconds
//! get 1764000000123456789 5001234567 unknown
//! ```
//!
//! A call that has not returned long after its deadline is `open`. Before them,
//! `late 1234567` is the most by which this program's own timer was late: what
//! the machine adds to any figure.

use std::cell::RefCell;
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

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
    clock: Instant,
    /// None while it is open.
    ended: Option<(Duration, Outcome)>,
}

type Ledger = Rc<RefCell<Vec<Call>>>;

pub(crate) async fn run<P: Peer>(order: &Steady) -> Result<(), String> {
    let mut input_ended = input::ended();
    let peer = P::connect(&order.servers.endpoints).await?;
    start(&peer, order).await?;
    let (ledger, mut calls) = (Ledger::default(), JoinSet::new());
    let mut pace = interval(order.every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut due, mut late) = (None, Duration::ZERO);
    println!("ready");
    for number in 0.. {
        tokio::select! {
            _ = &mut input_ended => break,
            _ = pace.tick() => {}
        }
        let now = Instant::now();
        let due = due.replace(now + order.every).unwrap_or(now);
        late = late.max(now.saturating_duration_since(due));
        for kind in [Kind::Put, Kind::Get] {
            calls.spawn_local(call(peer.clone(), kind, number, order.clone(), ledger.clone()));
        }
        while calls.try_join_next().is_some() {}
    }
    let all = async { while calls.join_next().await.is_some() {} };
    // Whoever is still there then is open.
    let _ = timeout(order.deadline + OVERRUN_MAX, all).await;
    println!("late {}", late.as_nanos());
    print(&ledger.borrow()).map_err(text)
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
            sleep(order.every).await;
        }
    }
    Ok(())
}

async fn call<P: Peer>(peer: P, kind: Kind, number: u64, order: Steady, ledger: Ledger) {
    let clock = Instant::now();
    let at = ledger.borrow().len();
    ledger.borrow_mut().push(Call {
        kind,
        begun: SystemTime::now(),
        clock,
        ended: None,
    });
    let outcome = match kind {
        Kind::Put => {
            let key = format!("{}/put/{number}", order.prefix);
            peer.put(key.into_bytes().into(), VALUE, order.deadline).await
        }
        Kind::Get => peer.get(read_key(&order, number), order.deadline).await,
    };
    ledger.borrow_mut()[at].ended = Some((clock.elapsed(), outcome));
}

fn read_key(order: &Steady, number: u64) -> crate::Key {
    format!("{}/get/{}", order.prefix, number % READ_KEYS).into_bytes().into()
}

fn print(ledger: &[Call]) -> std::io::Result<()> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for call in ledger {
        let kind = match call.kind {
            Kind::Put => "put",
            Kind::Get => "get",
        };
        let (took, outcome) = match call.ended {
            Some((took, Outcome::Answered)) => (took, "ok"),
            Some((took, Outcome::Unknown)) => (took, "unknown"),
            Some((took, Outcome::Refused)) => (took, "refused"),
            None => (call.clock.elapsed(), "open"),
        };
        let begun = call.begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        writeln!(
            output,
            "{kind} {} {} {outcome}",
            begun.as_nanos(),
            took.as_nanos()
        )?;
    }
    output.flush()
}
