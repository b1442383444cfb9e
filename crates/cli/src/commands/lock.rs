//! `tenure lock`: runs a command under a lock, or holds the lock until a signal.
//!
//! ```text
//!  signal: gives its place up       signal: the command's           lock lost: TERM, KILL
//!        ^                                ^                               ^
//!    waiting ----------------------> command runs -----------------> command ended --> released
//!        '--wait is over: 75                                           its status, or 123
//! ```

mod granted;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;
use tenure::{Error, Guard, Mutex, Session};

use crate::child::Child;
use crate::connection::{Cluster, Connection};
use crate::duration;
use crate::failure::{Failure, LOST, NOT_OURS, OWN};
use crate::holder;
use crate::output::Output;
use crate::signals::{Signals, is_from_keyboard, signalled};
use granted::Granted;

/// The least that a lease can live and be renewed in time.
const TTL_MIN: Duration = Duration::from_secs(2);

/// What `lock` is told.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Exit status: that of CMD, or 128 and the number of the signal that ended it; and
   0  without CMD: held, and given back at a signal
   2  the arguments are wrong
  75  not ours within --wait, or another with -E
 123  the lock was lost; CMD was ended, and what it had begun
 125  tenure itself failed, before CMD began or after it ended
 126  CMD cannot be run
 127  CMD was not found
 128 and n  signal n came while the lock was waited for

INT, TERM, HUP, QUIT, USR1 and USR2 are passed on to CMD; but for INT and QUIT in the foreground
of a terminal, which sends them to CMD itself.

When the lock is lost CMD and all that descends from it get TERM, and what is left of them after
--grace gets KILL; what a script begins in its trap for TERM has that time, too. What has made
itself a daemon goes on, and what is another user's, which is said. On other systems than Linux it
is CMD alone: there a script ends in its trap what it has begun.
When tenure is killed, so is CMD alone (on Linux), and the lock is free once its lease has run out.

CMD finds in its environment
  TENURE_LOCK_TOKEN    the fencing token, which rises with every grant of the lock (--token-env)
  TENURE_LOCK_KEY      the lock's key in etcd; also as ETCD_LOCK_KEY, as with etcdctl
  TENURE_LOCK_CREATED  its create_revision: with `create(\"KEY\") = \"CREATED\"` in a
                       transaction nothing is written once the lock is lost
  TENURE_LOCK_LEASE    its lease
  ETCD_LOCK_REV        a revision at which the lock was held")]
pub(crate) struct Arguments {
    /// The name of the lock, shared with etcdctl, Go's concurrency.Mutex and this library.
    name: String,
    /// The lease's time to live: how long a holder that crashed blocks the others.
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = duration::parse)]
    ttl: Duration,
    /// How long to wait for the lock; 0 only tries. Default: for ever.
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    wait: Option<Duration>,
    /// Only tries, as `--wait 0`.
    #[arg(short, long = "nonblock", conflicts_with = "wait")]
    nonblock: bool,
    /// The exit status where the lock was not ours in time.
    #[arg(short = 'E', long, value_name = "STATUS", default_value_t = NOT_OURS)]
    conflict_exit_code: u8,
    /// How long CMD and what it has begun have between TERM and KILL when the lock is lost. Nobody else has the lock
    /// meanwhile, if it was lost because it could not be renewed: this is a part of the TTL.
    #[arg(long, value_name = "TIME", default_value = "1", value_parser = duration::parse)]
    grace: Duration,
    /// The environment variable with the fencing token.
    #[arg(long, value_name = "NAME", default_value = "TENURE_LOCK_TOKEN", value_parser = variable)]
    token_env: String,
    /// What others see of the holder. Default: machine, process, command, and since when it waits, or has the lock.
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    /// What runs under the lock. Without it the key is printed, and the lock is held until a signal.
    #[arg(value_name = "CMD", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// The name of a variable that a process can have.
fn variable(name: &str) -> Result<String, &'static str> {
    match name.is_empty() || name.contains(['=', '\0']) {
        true => Err("no name of an environment variable"),
        false => Ok(name.to_owned()),
    }
}

/// How waiting for the lock ended.
enum Waited {
    Ours(Guard),
    TooLong,
    Signalled(Signal),
}

pub(crate) async fn run(arguments: &Arguments, cluster: &Cluster, output: &Output) -> Result<u8, Failure> {
    let own = |failure: Failure| failure.with_status(OWN);
    // Before all else, so that no signal finds a lock that nobody gives back.
    let mut signals = Signals::catch().map_err(|cause| own(cause.into()))?;
    let opened = tokio::select! {
        biased;
        signal = signals.next() => return Ok(signalled(signal)),
        opened = arguments.open(cluster) => opened,
    };
    let (_etcd, session) = opened.map_err(own)?;
    let held = arguments.hold(&session, &mut signals, output).await;
    match held {
        // There is nothing left to give back, and perhaps nobody to give it to.
        Err(failure) if failure.status() == LOST => Err(failure),
        held => {
            // Whatever is still there goes with the lease, at the latest by itself.
            let _ = session.close().await;
            held.map_err(own)
        }
    }
}

/// Says which key it is, as etcdctl does, and keeps it until a signal.
async fn idle(granted: Granted, signals: &mut Signals, output: &Output) -> Result<u8, Failure> {
    match output.is_json() {
        true => output.json(&granted.to_json())?,
        false => output.bytes(granted.key())?,
    }
    tokio::select! {
        biased;
        _ = signals.end() => granted.release().await?,
        why = granted.lost() => return Err(granted.failure(&why)),
    }
    Ok(0)
}

impl Arguments {
    async fn open(&self, cluster: &Cluster) -> Result<(Connection, Session), Failure> {
        if self.ttl < TTL_MIN {
            return Err(format!("--ttl is {TTL_MIN:?} or more").into());
        }
        // Both are of whole seconds.
        let whole = |time: Duration| Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0));
        let (ttl, grace) = (whole(self.ttl), whole(self.grace));
        let believed = ttl.checked_sub(grace).filter(|left| !left.is_zero());
        let believed = believed.ok_or("--grace is less than --ttl, in whole seconds")?;
        let etcd = cluster.connect().await?;
        let session = etcd.session().ttl(believed).lock_delay(grace).await?;
        Ok((etcd, session))
    }

    /// Waits for the lock, and does under it what there is to do.
    async fn hold(&self, session: &Session, signals: &mut Signals, output: &Output) -> Result<u8, Failure> {
        let asked = Instant::now();
        let mutex = session.mutex(&self.name).one_token_per_key().value(self.value());
        let waited = tokio::select! {
            biased;
            signal = signals.next() => Waited::Signalled(signal),
            waited = self.wait_for(&mutex) => waited?,
        };
        let guard = match waited {
            Waited::Ours(guard) => guard,
            Waited::TooLong => return Ok(self.conflict_exit_code),
            Waited::Signalled(signal) => return Ok(signalled(signal)),
        };
        // Times are to the second: who has waited longer has it since another time.
        let is_late = self.value.is_none() && asked.elapsed() >= Duration::from_secs(1);
        let value = is_late.then(|| self.value());
        // The command has no part in a signal that comes before it is there.
        let granted = tokio::select! {
            biased;
            signal = signals.next() => return Ok(signalled(signal)),
            granted = Granted::new(guard, &self.name, value) => granted?,
        };
        match self.command.is_empty() {
            true => idle(granted, signals, output).await,
            false => self.work(granted, signals, output).await,
        }
    }

    async fn wait_for(&self, mutex: &Mutex) -> Result<Waited, Error> {
        let wait = if self.nonblock {
            Some(Duration::ZERO)
        } else {
            self.wait
        };
        let Some(wait) = wait else {
            return mutex.lock().await.map(Waited::Ours);
        };
        if wait.is_zero() {
            let tried = mutex.try_lock().await?;
            return Ok(tried.map_or(Waited::TooLong, Waited::Ours));
        }
        match mutex.clone().timeout(wait).lock().await {
            Err(error) if error.is_timeout() => Ok(Waited::TooLong),
            locked => locked.map(Waited::Ours),
        }
    }

    /// Runs the command for as long as the lock is ours.
    async fn work(&self, granted: Granted, signals: &mut Signals, output: &Output) -> Result<u8, Failure> {
        if !granted.is_valid() {
            return Err(granted.failure(&granted.lost().await));
        }
        let variables = granted.variables(&self.token_env);
        let mut child = Child::spawn(&self.command, &variables, output.is_json())?;
        let status = loop {
            tokio::select! {
                biased;
                ended = child.wait() => break ended?,
                why = granted.lost() => {
                    child.end(self.grace).await?;
                    return Err(granted.failure(&why));
                }
                signal = signals.next() => {
                    if !is_from_keyboard(signal) {
                        // What may not be signalled by us may be by who signals us.
                        let _ = child.send(signal);
                    }
                }
            }
        };
        granted.release().await?;
        Ok(status)
    }

    fn value(&self) -> String {
        let command = self.command.first().map(|command| command.to_string_lossy().into_owned());
        self.value.clone().unwrap_or_else(|| holder::told(command.as_deref()))
    }
}
