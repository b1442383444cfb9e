//! What a lock costs on other stores that people lock with, beside tenure's on etcd: free, locked
//! and unlocked one after the other, and wanted, passed on from one contender to the next.
//!
//! Each store is one server, started here from the distribution's packages and reached by TCP over
//! loopback; each client is a process of its own with one thread for all its contenders.

mod store;
mod turns;

use std::rc::Rc;
use std::time::Duration;

use clap::Args;

use crate::Failure;
use crate::contest::{self, Competitor, Setting};
use crate::report::{Report, Table};
use crate::suite::handoff::{self, Race};
use store::{Running, Store};
use turns::Turns;

/// The options of `stores`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Locks a round that nobody else wants, for each store.
    #[arg(long, default_value_t = 5_000)]
    calls: u64,
    /// Hand-offs of each store, over all rounds.
    #[arg(long, default_value_t = 500)]
    handoffs: u32,
    /// How many contend for the lock; a table for each number.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 8])]
    contenders: Vec<u32>,
    /// Milliseconds for which a holder keeps the lock that others want; tables for each.
    #[arg(long, value_delimiter = ',', default_values_t = [0])]
    hold: Vec<u64>,
    /// Whose locks.
    #[arg(long, value_delimiter = ',', default_values = ["tenure", "redis", "zookeeper", "postgres", "mariadb"])]
    stores: Vec<Store>,
    /// Let the servers write through to the disk what they acknowledge, where they write it at all.
    #[arg(long)]
    fsync: bool,
}

/// A store that takes part: it runs, or there is a reason why not.
#[derive(Debug)]
struct Entry {
    store: Store,
    running: Result<Running, String>,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    handoff::check(&arguments.contenders)?;
    let entries: Vec<Rc<Entry>> =
        arguments.stores.iter().map(|store| start(*store, arguments.fsync)).collect();
    let locking = vec![
        "lock".to_owned(),
        "--name=bench/lock".to_owned(),
        format!("--calls={}", arguments.calls),
    ];
    warm_up(&entries, &locking, setting);
    let table = Table::new("Free lock, locked and unlocked".to_owned(), "locks");
    let competitors = turns(&entries, |entry| Turns::of_locks(entry, locking.clone()));
    report.add(&noted(contest::run(table, competitors, setting), arguments));
    for hold in &arguments.hold {
        for contenders in &arguments.contenders {
            if setting.stop.is_set() {
                return Ok(());
            }
            let race = Race {
                name: format!("bench/handoff/{contenders}/{hold}"),
                contenders: *contenders,
                handoffs: arguments.handoffs.div_ceil(setting.rounds),
                hold: Duration::from_millis(*hold),
            };
            let table = Table::new(format!("Lock hand-off, {}", race.story()), "hand-offs");
            let competitors = turns(&entries, |entry| Turns::of_handoffs(entry, race.order()));
            report.add(&noted(contest::run(table, competitors, setting), arguments));
        }
    }
    Ok(())
}

fn start(store: Store, fsync: bool) -> Rc<Entry> {
    let running = store.start(fsync).map_err(|cause| cause.to_string());
    let told = match &running {
        Ok(running) => running.story().to_owned(),
        Err(cause) => format!("{}: {cause}", store.name()),
    };
    eprintln!("{told}");
    Rc::new(Entry { store, running })
}

/// A turn that is not counted: what compiles its own code meanwhile is not what is measured.
fn warm_up(entries: &[Rc<Entry>], locking: &[String], setting: &Setting) {
    for entry in entries.iter().filter(|entry| entry.running.is_ok()) {
        if !setting.stop.is_set() {
            eprintln!("  warming up {}", entry.store.name());
            // What fails here fails again where it is reported.
            let _ = Turns::of_locks(entry.clone(), locking.to_vec()).run_round(setting);
        }
    }
}

fn turns(entries: &[Rc<Entry>], turns: impl Fn(Rc<Entry>) -> Turns) -> Vec<Box<dyn Competitor>> {
    entries
        .iter()
        .map(|entry| Box::new(turns(entry.clone())) as Box<dyn Competitor>)
        .collect()
}

fn noted(mut table: Table, arguments: &Arguments) -> Table {
    let durability = match arguments.fsync {
        false => {
            "No server waits for its disk: etcd runs with --unsafe-no-fsync, ZooKeeper with forceSync=no, Redis \
             with neither snapshots nor a log."
        }
        true => {
            "etcd, ZooKeeper and Redis (appendfsync always) write each change through to the disk before they \
             acknowledge it."
        }
    };
    table.notes.push(format!(
        "{durability} The locks of PostgreSQL and MariaDB are in memory in any case."
    ));
    let clients = arguments.stores.iter().map(|store| store.client());
    table.notes.push(format!("Clients: {}.", clients.collect::<Vec<_>>().join(", ")));
    table
}
