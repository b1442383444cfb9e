//! One member of a cluster: a process, its two ports, its data and its log.
//!
//! ```text
//!            start              pause
//!   stopped ───────▶ running ◀────────▶ paused
//!      ▲     kill       │      resume      │
//!      └────────────────┴──────────────────┘  kill, or a death of its own
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::error::tail;
use crate::guard::Guarded;
use crate::port::Port;
use crate::{Error, http};

/// The longest that a server may take until it serves; one takes a second, on a busy machine several.
pub(crate) const READY_MAX: Duration = Duration::from_secs(60);
/// The pause between two questions to a server that is not ready.
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// Longer than a server takes to stop, with calls and streams open.
const TERMINATED_MAX: Duration = Duration::from_secs(30);
/// The longest that one question waits for its answer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(1);

/// The longest that its metrics, which are many, may take.
const METRICS_MAX: Duration = Duration::from_secs(10);

/// A member of a [`Cluster`](crate::Cluster).
///
/// Its ports and its data stay the same over kills and restarts.
#[derive(Debug)]
pub struct Member {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    /// The guarded directory of the cluster.
    dir: PathBuf,
    client: Port,
    process: Mutex<Process>,
    /// Where else it takes clients.
    urls: Vec<String>,
    // Held so that nobody takes them while the server is down.
    _peer: Port,
    _ports: Vec<Port>,
    /// Where the other members reach it.
    peer_url: String,
}

#[derive(Debug, Default)]
struct Process {
    server: Option<Guarded>,
    paused: bool,
    /// Where in the log the present server's own begins.
    log_start: u64,
}

impl Member {
    pub(crate) fn new(
        name: String,
        program: PathBuf,
        arguments: Vec<String>,
        dir: PathBuf,
        client: Port,
        (peer, peer_url): (Port, String),
    ) -> Member {
        Member {
            name,
            program,
            arguments,
            dir,
            client,
            process: Mutex::default(),
            urls: Vec::new(),
            _peer: peer,
            _ports: Vec::new(),
            peer_url,
        }
    }

    pub(crate) fn listening_at(mut self, urls: Vec<String>, ports: Vec<Port>) -> Member {
        self.urls = urls;
        self._ports = ports;
        self
    }

    /// Where clients reach it, such as `http://127.0.0.1:12379`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.client.url()
    }

    /// Where else clients reach it: what became of [`Options::listen`](crate::Options::listen), in its order.
    #[must_use]
    pub fn listens_at(&self) -> &[String] {
        &self.urls
    }

    /// The process id of the server, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lock().server().map(|server| server.id())
    }

    /// Whether the server's process is there; a paused one is.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Whether the server answers within this time that it is in a quorum with a leader.
    #[must_use]
    pub fn is_healthy(&self, within: Duration) -> bool {
        let answer = http::request(self.client.address(), "/health", None, within);
        answer.is_ok_and(|body| body.contains("true"))
    }

    /// Its number in the cluster, if it says so within a second.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        http::number(&self.status()?, "member_id")
    }

    /// The number of the member that it takes for the leader, if it knows one and
    /// says so within a second.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        http::number(&self.status()?, "leader").filter(|leader| *leader > 0)
    }

    /// How many watches it has, if it says so within 10 s. One that was canceled for a
    /// compaction counts until its stream ends.
    #[must_use]
    pub fn watch_count(&self) -> Option<usize> {
        let metrics = http::request(self.address(), "/metrics", None, METRICS_MAX).ok()?;
        http::gauge(&metrics, "etcd_debugging_mvcc_watcher_total")
    }

    /// How often each gRPC method was called since it was started, by the path of the method, if
    /// it says so within 10 s. Methods that nobody has called are there with 0, but for those of its
    /// lock and election services.
    #[must_use]
    pub fn calls(&self) -> Option<BTreeMap<String, u64>> {
        let metrics = http::request(self.address(), "/metrics", None, METRICS_MAX).ok()?;
        Some(http::calls(&metrics))
    }

    /// Starts the server, unless it runs, without waiting for it.
    ///
    /// # Errors
    ///
    /// The process cannot be started.
    pub fn start(&self) -> Result<(), Error> {
        let mut process = self.lock();
        if process.server().is_some() {
            return Ok(());
        }
        let at = |cause| Error::io(format_args!("starting {}", self.name), &cause);
        let log = File::options().create(true).append(true).open(self.log_path()).map_err(at)?;
        process.log_start = log.metadata().map_err(at)?.len();
        process.server = Some(Guarded::spawn(&self.dir, &self.command(), log).map_err(at)?);
        process.paused = false;
        Ok(())
    }

    /// Waits until the server is healthy, and with it a quorum.
    ///
    /// # Errors
    ///
    /// The server ended, or is not healthy within a minute; the text has the tail of its log.
    pub fn wait_ready(&self) -> Result<(), Error> {
        self.wait_ready_until(Instant::now() + READY_MAX)
    }

    /// Kills the server if it runs, starts it on its data and waits until it is healthy.
    ///
    /// Where that takes other members that are down, use [`Member::start`].
    ///
    /// # Errors
    ///
    /// As [`Member::start`] and [`Member::wait_ready`].
    pub fn restart(&self) -> Result<(), Error> {
        self.kill();
        let deadline = Instant::now() + READY_MAX;
        loop {
            self.start()?;
            match self.wait_ready_until(deadline) {
                // Somebody else has the port, perhaps for a moment.
                Err(_) if self.lost_its_port() && Instant::now() < deadline => thread::sleep(POLL),
                outcome => return outcome,
            }
        }
    }

    /// Kills the server with SIGKILL, paused or not; returns when it is gone.
    pub fn kill(&self) {
        let mut process = self.lock();
        process.server = None;
        process.paused = false;
    }

    /// Stops the server as an operator does, with SIGTERM, on which it says goodbye; returns
    /// when it is gone.
    ///
    /// # Errors
    ///
    /// The server does not run, or has not ended within 30 s; the text has the tail of its log.
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(&mut self.lock(), Signal::TERM)?;
        let deadline = Instant::now() + TERMINATED_MAX;
        while self.is_running() {
            if Instant::now() >= deadline {
                return Err(self.with_log("does not stop"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Freezes the server with SIGSTOP; returns when it stands still.
    ///
    /// Its connections stay open, and the kernel accepts new ones for it.
    ///
    /// # Errors
    ///
    /// The server does not run.
    pub fn pause(&self) -> Result<(), Error> {
        let mut process = self.lock();
        let pid = self.signal(&mut process, Signal::STOP)?;
        // Without taking the status: an exit is the standard library's to collect.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = retry_on_intr(|| waitid(WaitId::Pid(pid), options))
            .map_err(|errno| Error::io(format_args!("pausing {}", self.name), &errno.into()))?;
        if status.is_some_and(|status| status.stopped()) {
            process.paused = true;
            Ok(())
        } else {
            Err(self.not_running())
        }
    }

    /// Lets a paused server go on, with SIGCONT.
    ///
    /// # Errors
    ///
    /// The server does not run.
    pub fn resume(&self) -> Result<(), Error> {
        let mut process = self.lock();
        self.signal(&mut process, Signal::CONT)?;
        process.paused = false;
        Ok(())
    }

    /// The last lines of what the present server, or the last one, has logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// Whether the server ended because somebody else listens on one of its ports.
    pub(crate) fn lost_its_port(&self) -> bool {
        !self.is_running() && self.log().contains("address already in use")
    }

    pub(crate) fn wait_ready_until(&self, deadline: Instant) -> Result<(), Error> {
        while !self.is_healthy(ANSWER_MAX) {
            if !self.is_running() {
                return Err(self.with_log("ended"));
            }
            if Instant::now() >= deadline {
                return Err(self.with_log("is not healthy"));
            }
            thread::sleep(POLL);
        }
        // What answered was this server, unless that had ended for want of its port.
        if self.is_running() {
            Ok(())
        } else {
            Err(self.with_log("ended"))
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.client.address()
    }

    pub(crate) fn peer_url(&self) -> String {
        self.peer_url.clone()
    }

    /// The raft term of the server, if it takes itself for the leader.
    pub(crate) fn leads_in_term(&self) -> Option<u64> {
        let status = self.status()?;
        let id = http::number(&status, "member_id")?;
        if http::number(&status, "leader")? == id {
            http::number(&status, "raft_term")
        } else {
            None
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        // etcd reads every flag that it was not given from the environment.
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.as_encoded_bytes().starts_with(b"ETCD_")) {
            command.env_remove(name);
        }
        // Before 3.5, etcd refuses to run on this one unless told so.
        if cfg!(target_arch = "aarch64") {
            command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        command
    }

    fn status(&self) -> Option<String> {
        http::request(self.address(), "/v3/maintenance/status", Some("{}"), ANSWER_MAX).ok()
    }

    fn signal(&self, process: &mut Process, signal: Signal) -> Result<Pid, Error> {
        let pid = process.server().map(|server| server.pid()).ok_or_else(|| self.not_running())?;
        kill_process(pid, signal)
            .map_err(|errno| Error::io(format_args!("signalling {}", self.name), &errno.into()))?;
        Ok(pid)
    }

    fn not_running(&self) -> Error {
        Error::new(format!("{} does not run", self.name))
    }

    fn with_log(&self, what: &str) -> Error {
        let program = self.program.display();
        Error::new(format!(
            "{} ({program}) {what}; its log ends with\n{}",
            self.name,
            self.log_tail()
        ))
    }

    fn log(&self) -> String {
        let start = self.lock().log_start;
        let mut text = Vec::new();
        let read = File::open(self.log_path()).and_then(|mut log| {
            log.seek(SeekFrom::Start(start))?;
            log.read_to_end(&mut text)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&text).into_owned(),
            Err(cause) => cause.to_string(),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// The server, if it has not ended.
    fn server(&mut self) -> Option<&mut Guarded> {
        self.server
            .as_mut()
            .filter(|_| true)
            .and_then(|server| server.is_running().then_some(server))
    }
}
