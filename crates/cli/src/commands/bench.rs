//! `tenure bench`: one lock, which more and more tasks of this process want.
//!
//! ```text
//!  connect --> rung: session, tasks, first lock, time over, session closed --> next rung --> table, chart
//!     |          '-- signal, or no lock at all: this rung is the last one                      ^
//!     '-- signal: nothing was measured ------------------------------------------------------->'
//! ```
//!
//! Each rung has a session of its own, and is over before the next one begins: what it had in etcd is gone by
//! then, or the next one would wait for it.

mod contest;
mod drawing;
mod rung;
mod view;

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::{Args, value_parser};
use serde_json::json;
use tenure::Session;
use tokio::sync::watch;
use tokio::time::interval;

use crate::connection::{Cluster, Connection};
use crate::duration;
use crate::failure::{FAILED, Failure, one_line};
use crate::output::Output;
use crate::signals::{Signals, signalled};
use contest::{Contest, FIRST_LOCK_MAX};
use rung::Rung;
use view::View;

/// More than anybody has in one process.
const TASKS_MAX: i64 = 100_000;
const SECONDS_MAX: Duration = Duration::from_secs(3600);
/// Between two looks of the live view.
const LOOK: Duration = Duration::from_millis(100);

/// What `bench` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
All tasks are in this process, with one client and one session: each locks, gives the lock back,
and asks for it again. How it goes is seen on a terminal; then there is a table, and with --svg a
chart. A wait is counted where it ended in time. Where nobody gets the lock within 5 s, as somebody
else has it, that is the end. On a cluster this is load, and whoever else wants that lock waits,
too; nothing is left there. Without --endpoints it is this program alone that is measured, for the
etcd in memory runs on the same thread.

Exit status: 0 measured, 1 something failed, 128 and n where signal n ended it early. What was
measured by then is printed in all cases. A second signal ends it at once, and what it had in etcd
goes with its lease.")]
pub(crate) struct Arguments {
    /// How many tasks want the lock, one number after the other.
    #[arg(
        long,
        value_name = "TASKS",
        value_delimiter = ',',
        default_value = "100,500,1000,3000,5000",
        value_parser = value_parser!(u32).range(1..=TASKS_MAX)
    )]
    rungs: Vec<u32>,
    /// For how long each number of tasks is measured, from its first lock on.
    #[arg(long, value_name = "TIME", default_value = "4", value_parser = duration::parse)]
    seconds: Duration,
    /// The name of the lock.
    #[arg(long, value_name = "NAME", default_value = "bench")]
    name: String,
    /// The lease's time to live: how long the lock is closed should this be killed.
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = duration::parse)]
    ttl: Duration,
    /// Draws locks per second and waits over the number of tasks into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

pub(crate) async fn run(arguments: &Arguments, cluster: &Cluster, output: &Output) -> Result<u8, Failure> {
    if arguments.seconds.is_zero() || arguments.seconds > SECONDS_MAX {
        return Err("--seconds is more than 0, and an hour at most".into());
    }
    let mut signals = Signals::catch()?;
    let (stop, stopping) = watch::channel(false);
    let mut rungs = Vec::new();
    let mut came = None;
    let measured = {
        let mut measuring = pin!(arguments.measure(cluster, &mut rungs, stopping));
        loop {
            tokio::select! {
                biased;
                signal = signals.end() => {
                    if came.replace(signal).is_some() {
                        break Err("ended at once: what it had in etcd goes with its lease".into());
                    }
                    stop.send_replace(true);
                }
                measured = &mut measuring => break measured,
            }
        }
    };
    if measured.is_ok() || !rungs.is_empty() {
        arguments.tell(&rungs, came.is_some(), output)?;
    }
    let drawn = match &arguments.svg {
        Some(file) if !rungs.is_empty() => draw(&arguments.name, &rungs, file),
        _ => Ok(()),
    };
    let is_clean = rungs.iter().all(|rung| rung.errors() == 0);
    let unless_signalled = |status| came.map_or(status, signalled);
    match measured.and(drawn) {
        Ok(()) => Ok(unless_signalled(if is_clean { 0 } else { FAILED })),
        Err(failure) => Err(failure.with_status(unless_signalled(FAILED))),
    }
}

fn draw(name: &str, rungs: &[Rung], file: &Path) -> Result<(), Failure> {
    let svg = drawing::draw(&one_line(name), rungs);
    let svg = svg.ok_or("nobody had the lock: there is nothing to draw")?;
    Ok(fs::write(file, svg).map_err(|cause| format!("cannot write {}: {cause}", file.display()))?)
}

impl Arguments {
    /// One rung after the other, until `stopping` is true. What was measured is in `rungs`, however it ends.
    async fn measure(
        &self,
        cluster: &Cluster,
        rungs: &mut Vec<Rung>,
        mut stopping: watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        let etcd = tokio::select! {
            biased;
            _ = stopping.wait_for(|stops| *stops) => return Ok(()),
            etcd = cluster.connect() => etcd?,
        };
        let mut view = View::new(self.rungs.len(), self.seconds);
        for &tasks in &self.rungs {
            if *stopping.borrow() {
                break;
            }
            self.climb(tasks, &etcd, rungs, &mut view, &mut stopping).await?;
        }
        Ok(())
    }

    /// One rung, after which nothing of it is left in etcd.
    async fn climb(
        &self,
        tasks: u32,
        etcd: &Connection,
        rungs: &mut Vec<Rung>,
        view: &mut View,
        stopping: &mut watch::Receiver<bool>,
    ) -> Result<(), Failure> {
        // It is not dropped at a signal, for that would leave a lease.
        let session = etcd.session().ttl(self.ttl).await?;
        let mut is_taken = false;
        if !*stopping.borrow() {
            let rung = self.contest(tasks, &session, view, stopping).await;
            // What failed, and what was interrupted, is told as that.
            is_taken = rung.locks() == 0 && rung.errors() == 0 && !*stopping.borrow();
            view.keep(&rung);
            rungs.push(rung);
        }
        let is_lost = !session.is_valid();
        let closed = session.close().await;
        if is_lost {
            return Err(format!("{tasks} tasks: the session was lost").into());
        }
        closed.map_err(|error| {
            let left = "what they had in etcd is gone only once its lease has run out";
            format!("{tasks} tasks: {left}: {error}")
        })?;
        match is_taken {
            true => Err(format!("{tasks} tasks: nobody had the lock within {FIRST_LOCK_MAX:?}").into()),
            false => Ok(()),
        }
    }

    async fn contest(
        &self,
        tasks: u32,
        session: &Session,
        view: &View,
        stopping: &mut watch::Receiver<bool>,
    ) -> Rung {
        let mut contest = Contest::start(session, &self.name, tasks, self.seconds);
        let mut looks = interval(LOOK);
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stops| *stops) => break,
                // Before the end, so that each rung is seen, also where all of its time went by at once.
                _ = looks.tick(), if view.is_seen() => contest.look(|rung| view.show(rung)),
                () = contest.over() => break,
            }
        }
        contest.end().await
    }

    fn tell(&self, rungs: &[Rung], is_interrupted: bool, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            return Ok(output.json(&json!({
                "name": self.name,
                "ttl_seconds": self.ttl.as_secs_f64(),
                "interrupted": is_interrupted,
                "rungs": rungs.iter().map(Rung::to_json).collect::<Vec<_>>(),
            }))?);
        }
        output.table(&rung::HEAD, rungs.iter().map(Rung::row).collect())?;
        for rung in rungs {
            if let Some(error) = rung.first_error() {
                let (tasks, errors) = (rung.tasks(), rung.errors());
                eprintln!(
                    "tenure: {tasks} tasks: {errors} errors, the first: {}",
                    one_line(error)
                );
            }
        }
        Ok(())
    }
}
