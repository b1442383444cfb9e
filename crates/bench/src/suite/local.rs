//! Locks that need no request: passed on between the tasks of one session, and locked
//! again while they linger. One thread runs the client and all of its tasks; its processor
//! time and its allocations are counted.

use std::time::{Duration, Instant};

use clap::Args;
use tenure::{Client, Mutex, Session};
use tenure_bench_worker::Cost;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::contest::{self, Competitor, Setting};
use crate::report::{Report, Table};
use crate::server::{Server, ServerKind};
use crate::tally::Round;

/// The bounds of a hand-off and of lingering are not what is measured.
const LONG: Duration = Duration::from_secs(3600);
/// Longer than all rounds.
const LEASE: Duration = Duration::from_secs(3600);
/// When a recall watch that does not come is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options of `local`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Locks a round.
    #[arg(long, default_value_t = 200_000)]
    locks: u64,
    /// The numbers of tasks that pass the lock on.
    #[arg(long, value_delimiter = ',', default_values_t = [2_u64, 8, 100, 1_000, 5_000])]
    tasks: Vec<u64>,
    /// The server to run on.
    #[arg(long, default_value = "etcd")]
    server: ServerKind,
}

pub(crate) fn run(arguments: &Arguments, setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let server = Server::start(arguments.server)?;
    let mut competitors: Vec<Box<dyn Competitor>> =
        vec![Box::new(Local::new(server.endpoint(), None, arguments.locks)?)];
    for tasks in &arguments.tasks {
        competitors.push(Box::new(Local::new(
            server.endpoint(),
            Some(*tasks),
            arguments.locks,
        )?));
    }
    let title = format!("Locks without a request, on {}", server.story());
    report.add(&contest::run(Table::new(title, "locks"), competitors, setting));
    Ok(())
}

/// Locks in one way, on a connection and a thread of its own.
struct Local {
    /// How many pass it on; `None`: one locks it again and again while it lingers.
    tasks: Option<u64>,
    locks: u64,
    runtime: Runtime,
    session: Session,
}

impl Local {
    fn new(endpoint: &str, tasks: Option<u64>, locks: u64) -> Result<Local, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let session = runtime.block_on(async {
            let client = Client::connect([endpoint]).await?;
            // The runtime stands still while it is somebody else's turn.
            client.session().ttl(LEASE).await
        })?;
        Ok(Local {
            tasks,
            locks,
            runtime,
            session,
        })
    }

    fn mutex(&self) -> Mutex {
        self.session.mutex(&self.name()).hand_off(u32::MAX, LONG)
    }
}

impl Competitor for Local {
    fn name(&self) -> String {
        match self.tasks {
            None => "again while it lingers".to_owned(),
            Some(tasks) => format!("passed on between {tasks} tasks"),
        }
    }

    fn run_round(&mut self, _: &Setting) -> Result<Round, Failure> {
        match self.tasks {
            None => {
                let mutex = self.mutex().linger(LONG).linger_at_most(LONG);
                self.runtime.block_on(until_it_lingers(&mutex))?;
                measured(self.locks, || {
                    self.runtime.block_on(lock_again(&mutex, self.locks))
                })
            }
            Some(tasks) => {
                let (mutex, each) = (self.mutex(), self.locks.div_ceil(tasks));
                // All wait before the first is granted.
                let held = self.runtime.block_on(mutex.lock())?;
                let tasks: Vec<_> = (0..tasks)
                    .map(|_| {
                        let mutex = mutex.clone();
                        self.runtime.spawn(async move { lock_again(&mutex, each).await })
                    })
                    .collect();
                self.runtime.block_on(async { sleep(Duration::from_millis(100)).await });
                let count = each * u64::try_from(tasks.len())?;
                measured(count, || {
                    self.runtime.block_on(async {
                        drop(held);
                        for task in tasks {
                            task.await??;
                        }
                        Ok(())
                    })
                })
            }
        }
    }
}

fn measured(locks: u64, run: impl FnOnce() -> Result<(), Failure>) -> Result<Round, Failure> {
    let begun = Instant::now();
    let (done, cost) = Cost::of(run);
    done?;
    Ok(Round {
        pace: Some((locks, begun.elapsed())),
        cost: Some(cost),
        ..Round::default()
    })
}

async fn lock_again(mutex: &Mutex, times: u64) -> Result<(), Failure> {
    for _ in 0..times {
        drop(mutex.lock().await?);
    }
    Ok(())
}

/// The watch is there.
async fn until_it_lingers(mutex: &Mutex) -> Result<(), Failure> {
    let lingers = async {
        while mutex.lock().await?.token().sequence() == 0 {
            sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, Failure>(())
    };
    timeout(PATIENCE, lingers).await.map_err(|_| "the lock does not linger".to_owned())?
}
