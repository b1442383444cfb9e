//! The server: connections, HTTP/2, tasks and the clock around one [`Cluster`].
//! It decides nothing about keys, leases or watches.
//!
//! One task accepts for each member, one ticks, one drives each connection, and each
//! call has its own. Dropping the [`Server`] ends them all.

mod call;
pub(crate) mod connections;
mod link;
pub(crate) mod member;
mod message;
mod stream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::net::TcpListener;

use crate::clock::Time;
use crate::cluster::{Cluster, LEADER};
use crate::etcd::{Clock, Options};
use crate::faults::Faults;
use crate::follower::Follower;
use member::{Member, Shared, Tasks, spawn};

/// What a member is called by that no network leads to.
const IN_MEMORY: &str = "http://embedded";

/// An etcd in memory that runs as tasks of the tokio runtime it was started on.
/// It stops when it is dropped, and all that it held is gone, its followers too.
#[derive(Debug)]
pub struct Server {
    leader: Arc<Member>,
    /// Aborted with the set, which no task holds on to.
    tasks: Arc<Tasks>,
}

impl Server {
    /// Starts an empty one on a free port of the loopback interface.
    ///
    /// # Errors
    ///
    /// There is no free port.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, nothing runs.
    pub async fn start() -> io::Result<Server> {
        Server::start_with(Options::default()).await
    }

    /// Like [`Server::start`], with options.
    ///
    /// # Errors
    ///
    /// There is no free port.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, nothing runs.
    pub async fn start_with(options: Options) -> io::Result<Server> {
        Server::start_on(bind().await?, options)
    }

    /// Starts an empty one that takes connections here.
    ///
    /// # Errors
    ///
    /// The listener does not know its address.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start_on(listener: TcpListener, options: Options) -> io::Result<Server> {
        let server = Server::new(&options, endpoint(&listener)?);
        spawn(
            &server.tasks,
            connections::listen(server.leader.clone(), listener),
        );
        Ok(server)
    }

    /// Starts an empty one that is reached by [`Server::connect`] alone: it needs
    /// no network, not even a loopback interface.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn in_memory(options: Options) -> Server {
        Server::new(&options, IN_MEMORY.to_owned())
    }

    /// Where it listens, such as `http://127.0.0.1:40123`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.leader.endpoint
    }

    /// A connection to it in memory: the client's end.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        connections::connect(&self.leader)
    }

    /// Adds a member with a free port of its own. It has all that was written, and
    /// applies what is written from here on at once, until its lag is set.
    ///
    /// # Errors
    ///
    /// There is no free port.
    ///
    /// # Cancel safety
    ///
    /// Dropped before its end, no member was added.
    pub async fn add_follower(&self) -> io::Result<Follower> {
        let listener = bind().await?;
        let follower = self.follower(endpoint(&listener)?);
        spawn(&self.tasks, connections::listen(follower.clone(), listener));
        Ok(Follower::new(follower))
    }

    /// Like [`Server::add_follower`], to be reached by [`Follower::connect`] alone.
    #[must_use]
    pub fn add_follower_in_memory(&self) -> Follower {
        let number = self.leader.shared.with(|cluster, _| cluster.members().count());
        Follower::new(self.follower(format!("{IN_MEMORY}-{number}")))
    }

    /// Moves a clock that is driven by hand. Each step of etcd's loops on the way is made
    /// at its own time and in order; when this returns, they are made. Tasks that wait
    /// for a time, such as those of a delayed message, are woken, and go on when they run.
    ///
    /// # Panics
    ///
    /// Where the clock is not [`Clock::ByHand`].
    pub fn advance(&self, by: Duration) {
        let shared = &self.leader.shared;
        assert!(
            matches!(shared.time, Time::ByHand(_)),
            "the server's clock is tokio's"
        );
        let end = shared.time.now() + by;
        loop {
            let due = shared.with(|cluster, _| cluster.poll_timeout());
            if due > end {
                break;
            }
            shared.time.set(due.max(shared.time.now()));
            shared.with(Cluster::handle_timeout);
        }
        shared.time.set(end);
    }

    /// What tells it to do something wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.leader.faults.clone()
    }

    /// How many watches there are now. One that was canceled for a compaction counts
    /// until its stream ends or its client cancels it too, as in etcd.
    #[must_use]
    pub fn watch_count(&self) -> usize {
        self.leader.watch_count()
    }

    /// How many leases there are now.
    #[must_use]
    pub fn lease_count(&self) -> usize {
        self.leader.shared.with(|cluster, _| cluster.member(LEADER).lease_count())
    }

    /// How many calls are being served now, those that stream and those that are
    /// not answered yet: each is a stream of HTTP/2.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.leader.stream_count()
    }

    /// How many unary requests are late now ([`Fault::Delay`](crate::Fault::Delay),
    /// [`Fault::Again`](crate::Fault::Again)): they have come, and are not carried out yet.
    #[must_use]
    pub fn late_request_count(&self) -> usize {
        self.leader.late_request_count()
    }

    /// How many connections there are now.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.leader.faults.connection_count()
    }

    fn new(options: &Options, endpoint: String) -> Server {
        let cluster = Cluster::new(options, &endpoint);
        let shared = Arc::new(Shared::new(cluster, Time::new(options.clock)));
        let tasks = Arc::default();
        if options.clock == Clock::Tokio {
            spawn(&tasks, shared.clone().tick());
        }
        let leader = Arc::new(Member::new(shared, LEADER, endpoint, &tasks));
        Server { leader, tasks }
    }

    fn follower(&self, endpoint: String) -> Arc<Member> {
        let shared = self.leader.shared.clone();
        let id = shared.with(|cluster, _| cluster.add_follower(&endpoint));
        Arc::new(Member::new(shared, id, endpoint, &self.tasks))
    }
}

async fn bind() -> io::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0)).await
}

fn endpoint(listener: &TcpListener) -> io::Result<String> {
    Ok(format!("http://{}", listener.local_addr()?))
}

#[cfg(test)]
mod tests;
