//! One member as its connections see it, and what all members share: the cluster
//! behind a lock, the clock, and who is to be woken.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;

use crate::clock::Time;
use crate::cluster::{Cluster, MemberId, Outcome, Wait};
use crate::error::Error;
use crate::faults::{Faults, Late};
use crate::service::Status;
use crate::watch::StreamId;

/// How long a member waits for a write to be applied; etcd's default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// The tasks of a server. Nobody but its handle keeps them.
pub(crate) type Tasks = Mutex<JoinSet<()>>;

/// What all tasks of a server share.
#[derive(Debug)]
pub(crate) struct Shared {
    cluster: Mutex<Cluster>,
    /// Who waits for answers on which watch stream.
    streams: Mutex<HashMap<(MemberId, StreamId), Arc<Notify>>>,
    /// A follower has applied something, or is to.
    moved: Notify,
    /// Who waits until a request to a path was carried out.
    carried_out: Mutex<HashMap<String, watch::Sender<()>>>,
    pub(crate) time: Time,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: MemberId,
    pub(crate) endpoint: String,
    pub(crate) faults: Faults,
    streams: Arc<AtomicUsize>,
    late_requests: Arc<AtomicUsize>,
    tasks: Weak<Tasks>,
}

/// A call that is being served.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Shared {
    pub(crate) fn new(cluster: Cluster, time: Time) -> Shared {
        Shared {
            cluster: Mutex::new(cluster),
            streams: Mutex::default(),
            moved: Notify::new(),
            carried_out: Mutex::default(),
            time,
        }
    }

    /// Does something with the state, and wakes whom it concerns.
    pub(crate) fn with<T>(&self, body: impl FnOnce(&mut Cluster, Duration) -> T) -> T {
        let mut cluster = lock(&self.cluster);
        let result = body(&mut cluster, self.time.now());
        let mut ready = Vec::new();
        for id in cluster.members() {
            ready.extend(cluster.member(id).watches().take_ready().into_iter().map(|stream| (id, stream)));
        }
        let has_moved = cluster.take_moved();
        drop(cluster);
        if has_moved {
            self.moved.notify_waiters();
        }
        if !ready.is_empty() {
            let streams = lock(&self.streams);
            for waiting in ready.iter().filter_map(|key| streams.get(key)) {
                waiting.notify_one();
            }
        }
        result
    }

    /// Does what is due, at once where time has come, for as long as it is polled.
    pub(crate) async fn tick(self: Arc<Shared>) {
        loop {
            let mut moved = pin!(self.moved.notified());
            moved.as_mut().enable();
            let due = self.with(|cluster, _| cluster.poll_timeout());
            tokio::select! {
                biased;
                () = self.time.until(due) => self.with(Cluster::handle_timeout),
                () = moved => {}
            }
        }
    }

    pub(crate) fn add_stream(&self, id: MemberId, stream: StreamId, ready: Arc<Notify>) {
        lock(&self.streams).insert((id, stream), ready);
    }

    pub(crate) fn remove_stream(&self, id: MemberId, stream: StreamId) {
        lock(&self.streams).remove(&(id, stream));
    }

    /// Tells whom it may concern that a request was carried out.
    pub(crate) fn handle_carried_out(&self, path: &str) {
        if let Some(waiting) = lock(&self.carried_out).get(path) {
            waiting.send_replace(());
        }
    }

    fn next_carried_out(&self, path: String) -> watch::Receiver<()> {
        let mut carried_out = lock(&self.carried_out);
        carried_out.entry(path).or_insert_with(|| watch::Sender::new(())).subscribe()
    }
}

impl Member {
    pub(crate) fn new(shared: Arc<Shared>, id: MemberId, endpoint: String, tasks: &Arc<Tasks>) -> Member {
        Member {
            shared,
            id,
            endpoint,
            faults: Faults::default(),
            streams: Arc::default(),
            late_requests: Arc::default(),
            tasks: Arc::downgrade(tasks),
        }
    }

    pub(crate) fn watch_count(&self) -> usize {
        self.shared.with(|cluster, _| cluster.member(self.id).watches().count())
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    pub(crate) fn count_stream(&self) -> Counted {
        Counted::new(&self.streams)
    }

    pub(crate) fn late_request_count(&self) -> usize {
        self.late_requests.load(Ordering::SeqCst)
    }

    /// Runs a task until the server is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = self.tasks.upgrade() {
            spawn(&tasks, task);
        }
    }

    /// Carries out a request to a unary method, and waits for its answer.
    pub(crate) async fn apply(&self, path: &str, body: Bytes) -> Result<Bytes, Status> {
        let outcome = self.shared.with(|cluster, now| cluster.request(self.id, now, path, &body));
        self.shared.handle_carried_out(path);
        let wait = match outcome {
            Outcome::Done(answer) => return answer,
            Outcome::Waiting(wait) => wait,
        };
        let waiting = Waiting {
            shared: &self.shared,
            wait,
        };
        if !wait.is_write {
            return waiting.answer(path, &body).await;
        }
        let timeout = self.shared.time.until(self.shared.time.now() + REQUEST_TIMEOUT);
        tokio::select! {
            biased;
            answer = waiting.answer(path, &body) => answer,
            () = timeout => Err(Error::TimedOut.into()),
        }
    }

    /// Carries out a request later, whoever waits for its answer by then.
    pub(crate) fn apply_late(
        self: &Arc<Member>,
        late: Late,
        path: &str,
        body: Bytes,
    ) -> oneshot::Receiver<Result<Bytes, Status>> {
        let (sender, receiver) = oneshot::channel();
        let (member, path, late) = (self.clone(), path.to_owned(), self.late(late));
        let counted = Counted::new(&self.late_requests);
        self.spawn(async move {
            late.await;
            let applied = member.apply(&path, body).await;
            drop(counted);
            let _ = sender.send(applied);
        });
        receiver
    }

    /// Waits for something late, counted from now and not from the first poll.
    pub(crate) fn late(&self, late: Late) -> impl Future<Output = ()> + Send + 'static {
        let shared = self.shared.clone();
        let deadline = match &late {
            Late::By(delay) => shared.time.now() + *delay,
            Late::After(_) => Duration::MAX,
        };
        let next = match late {
            Late::By(_) => None,
            Late::After(path) => Some(shared.next_carried_out(path)),
        };
        async move {
            match next {
                // The sender is in the shared state: the channel does not close.
                Some(mut next) => drop(next.changed().await),
                None => shared.time.until(deadline).await,
            }
        }
    }
}

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request that waits for its member to catch up.
struct Waiting<'a> {
    shared: &'a Shared,
    wait: Wait,
}

impl Waiting<'_> {
    async fn answer(&self, path: &str, body: &Bytes) -> Result<Bytes, Status> {
        loop {
            let mut moved = pin!(self.shared.moved.notified());
            moved.as_mut().enable();
            let resumed = self.shared.with(|cluster, now| cluster.resume(self.wait, now, path, body));
            if let Some(answer) = resumed {
                return answer;
            }
            moved.await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.with(|cluster, _| cluster.forget(self.wait));
    }
}

pub(crate) fn spawn(tasks: &Tasks, task: impl Future<Output = ()> + Send + 'static) {
    let mut tasks = lock(tasks);
    while tasks.try_join_next().is_some() {}
    tasks.spawn(task);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
