//! One process of the ladder: a client, a session, and tasks that lock and release one
//! lock again and again for a while. It prints how often which wait was.

use std::io::Write;
use std::ops::Range;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use hdrhistogram::Histogram;
use tenure::Client;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::table::{DIGITS, WAIT_MAX};
use crate::Failure;

/// A task that failed does not fail again at once.
const AFTER_ERROR: Duration = Duration::from_millis(10);

/// What one process is told.
#[derive(Debug, Args)]
pub(crate) struct Climb {
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    tasks: usize,
    #[arg(long)]
    seconds: u64,
}

/// What the tasks of a process did, all together.
struct Did {
    waits: Histogram<u64>,
    errors: u64,
    /// Nothing counts any more.
    is_over: bool,
}

impl Climb {
    pub(crate) fn run(&self) -> ExitCode {
        match self.measure() {
            Ok(()) => ExitCode::SUCCESS,
            Err(cause) => {
                println!("error {cause}");
                ExitCode::FAILURE
            }
        }
    }

    fn measure(&self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (did, time) = runtime.block_on(self.climb())?;
        let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_nanos());
        let (begun, ended) = (since_epoch(time.start)?, since_epoch(time.end)?);
        let mut text = format!("begun {begun}\nended {ended}\nerrors {}\n", did.errors);
        for bucket in did.waits.iter_recorded() {
            text.push_str(&format!(
                "wait {} {}\n",
                bucket.value_iterated_to(),
                bucket.count_at_value()
            ));
        }
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }

    /// For as long as it is told, or until its input ends; and from when to when that was.
    async fn climb(&self) -> Result<(Did, Range<SystemTime>), Failure> {
        let session = Client::connect([&self.endpoint]).await?.session().await?;
        let did = Arc::new(Mutex::new(Did {
            waits: Histogram::new_with_max(WAIT_MAX, DIGITS)?,
            errors: 0,
            is_over: false,
        }));
        let input_ended = tenure_bench_worker::input_ended();
        println!("ready");
        let begun = SystemTime::now();
        let mut tasks = JoinSet::new();
        for _ in 0..self.tasks {
            let (mutex, did) = (session.mutex("bench/ladder"), did.clone());
            tasks.spawn(async move {
                loop {
                    let asked = Instant::now();
                    let locked = mutex.lock().await;
                    let now = Instant::now();
                    let is_error = {
                        let mut did = did.lock().unwrap_or_else(PoisonError::into_inner);
                        let is_error = locked.is_err();
                        did.errors += u64::from(is_error);
                        if !is_error && !did.is_over {
                            did.waits.saturating_record((now - asked).as_nanos() as u64);
                        }
                        is_error
                    };
                    drop(locked);
                    if is_error {
                        sleep(AFTER_ERROR).await;
                    }
                }
            });
        }
        let _ = timeout(Duration::from_secs(self.seconds), input_ended).await;
        did.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        let ended = SystemTime::now();
        tasks.shutdown().await;
        session.close().await?;
        // The tasks are gone, and their handles with them.
        let did = Arc::into_inner(did).ok_or("a task is still there")?;
        let did = did.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((did, begun..ended))
    }
}
