//! A cluster of etcd servers on loopback that lives as long as its value.

use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::guard::Guard;
use crate::member::{Member, POLL, READY_MAX};
use crate::port::Port;
use crate::{Binary, Error, Line, http};

/// How often a start is tried with new ports when somebody else took one of them.
const STARTS_MAX: u32 = 5;
/// The longest that a member takes to answer a wish to change the cluster.
const RECONFIGURED_MAX: Duration = Duration::from_secs(10);
/// The most members that a cluster may have; etcd itself advises against more.
const MEMBERS_MAX: usize = 7;
/// A directory in memory, on Linux.
const MEMORY_DIR: &str = "/dev/shm";

/// How the servers of a [`Cluster`] run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether writes reach the disk before they are acknowledged. Off by
    /// default, since tests kill processes and not machines: servers then run
    /// with `--unsafe-no-fsync`, those of 3.4 with their data in memory.
    pub fsync: bool,
    /// `--heartbeat-interval`, in whole milliseconds; etcd's default is 100 ms.
    pub heartbeat: Option<Duration>,
    /// `--election-timeout`, in whole milliseconds, at least five heartbeats; etcd's default is 1 s.
    pub election: Option<Duration>,
    /// More URLs that each server takes clients at, such as `https://127.0.0.1:0` or
    /// `unix:///path`; a port of 0 stands for one of its own. [`Member::listens_at`]
    /// has what came of them.
    pub listen: Vec<String>,
    /// More arguments for each server, after all others.
    pub arguments: Vec<String>,
}

/// Servers that form one etcd, each a process of its own.
///
/// Dropping it kills them and removes their data. They also go when this
/// process ends without dropping it, whichever way that happens, so it may
/// live in a static.
#[derive(Debug)]
pub struct Cluster {
    // Before the guard, since servers are to end before their directory goes.
    members: Vec<Member>,
    /// Their ports are kept: nobody else is to answer there while clients still dial.
    removed: Vec<Member>,
    binary: Binary,
    options: Options,
    guard: Guard,
}

impl Cluster {
    /// Starts a cluster with this many members, 1 or 3 as a rule, and waits
    /// until each is healthy.
    ///
    /// # Errors
    ///
    /// A server cannot be started, ends, or is not healthy within a minute;
    /// the text has the tail of its log.
    pub fn start(binary: &Binary, members: usize, options: Options) -> Result<Cluster, Error> {
        Cluster::start_by_ways(binary, members, options, |_, address| Ok(address))
    }

    /// The same, and the members reach each other by ways of the caller's: `way` is told the index of each
    /// and where it listens to the others, and says where these are to look for it. Where a port was lost it is
    /// asked again, for all of them.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`], or there is no such way.
    pub fn start_by_ways(
        binary: &Binary,
        members: usize,
        options: Options,
        mut way: impl FnMut(usize, SocketAddr) -> io::Result<SocketAddr>,
    ) -> Result<Cluster, Error> {
        if !(1..=MEMBERS_MAX).contains(&members) {
            return Err(Error::new(format!(
                "a cluster has 1 to {MEMBERS_MAX} members, not {members}"
            )));
        }
        let mut starts = 1;
        loop {
            let cluster = Cluster::new(binary, members, &options, &mut way)?;
            match cluster.start_members() {
                Ok(()) => return Ok(cluster),
                Err(_) if starts < STARTS_MAX && cluster.members.iter().any(Member::lost_its_port) => {}
                Err(cause) => return Err(cause),
            }
            starts += 1;
        }
    }

    /// Where clients reach the members, such as `http://127.0.0.1:12379`, by index.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// All members, by index.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member with this index.
    ///
    /// # Panics
    ///
    /// There are not that many.
    #[must_use]
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// The directory with the data and the log of each member, `m0` and `m0.log` and on.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.guard.dir()
    }

    /// The index of the leader, waiting for one to be elected if need be.
    ///
    /// A paused member is no leader here, whatever it takes itself for.
    ///
    /// # Errors
    ///
    /// No running member says within a minute that it is the leader.
    pub fn leader_index(&self) -> Result<usize, Error> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            let running = self.members.iter().enumerate().filter(|(_, member)| !member.is_paused());
            let leaders = running.filter_map(|(index, member)| Some((member.leads_in_term()?, index)));
            // One that was paused may not know yet that it was deposed.
            if let Some((_, index)) = leaders.max() {
                return Ok(index);
            }
            thread::sleep(POLL);
        }
        Err(Error::new("no member leads"))
    }

    /// Removes the member with this index from the cluster and kills it. The indices
    /// behind it become one less.
    ///
    /// # Errors
    ///
    /// It does not run, or the others do not agree within a minute.
    ///
    /// # Panics
    ///
    /// There is no such member, or no other.
    pub fn remove(&mut self, index: usize) -> Result<(), Error> {
        let id = self.members[index].id().ok_or_else(|| Error::new("it does not say who it is"))?;
        let other = usize::from(index == 0);
        self.reconfigure(other, "remove", &format!(r#"{{"ID":"{id}"}}"#))?;
        let removed = self.members.remove(index);
        removed.kill();
        self.removed.push(removed);
        Ok(())
    }

    /// Adds a member, which has the last index, and waits until it is healthy.
    ///
    /// # Errors
    ///
    /// The others do not agree within a minute, or it does not start.
    ///
    /// # Panics
    ///
    /// The cluster has lost all its members.
    pub fn add(&mut self) -> Result<(), Error> {
        self.admit(false)?;
        self.members[self.members.len() - 1].wait_ready()
    }

    /// Adds a learner, which has the last index, and starts it. It is not healthy, for it serves
    /// no reads, before somebody promotes it.
    ///
    /// # Errors
    ///
    /// The others do not agree within a minute, or its process cannot be started.
    ///
    /// # Panics
    ///
    /// The cluster has lost all its members.
    pub fn add_learner(&mut self) -> Result<(), Error> {
        self.admit(true)
    }

    /// Adds a member and starts it.
    fn admit(&mut self, is_learner: bool) -> Result<(), Error> {
        let at = |cause| Error::io("adding a member", &cause);
        let ports = Ports::take(Ok).map_err(at)?;
        let (index, url) = (self.members.len() + self.removed.len(), ports.peer_url());
        let body = format!(r#"{{"peerURLs":["{url}"],"isLearner":{is_learner}}}"#);
        self.reconfigure(0, "add", &body)?;
        let peers = self.members.iter().map(|member| format!("{}={}", member.name(), member.peer_url()));
        let peers = peers.chain([format!("m{index}={url}")]).collect::<Vec<_>>().join(",");
        let added = member(
            &self.binary,
            &self.options,
            &self.guard,
            index,
            ports,
            &peers,
            "existing",
        )?;
        added.start()?;
        self.members.push(added);
        Ok(())
    }

    /// Waits until each member that runs and is not paused is healthy.
    ///
    /// # Errors
    ///
    /// One ended, or is not healthy within a minute; the text has the tail of its log.
    pub fn wait_ready(&self) -> Result<(), Error> {
        let deadline = Instant::now() + READY_MAX;
        let mut running = self.members.iter().filter(|member| member.is_running() && !member.is_paused());
        running.try_for_each(|member| member.wait_ready_until(deadline))
    }

    fn new(
        binary: &Binary,
        members: usize,
        options: &Options,
        way: &mut impl FnMut(usize, SocketAddr) -> io::Result<SocketAddr>,
    ) -> Result<Cluster, Error> {
        let at = |cause| Error::io("starting a cluster", &cause);
        let guard = Guard::new(&parent_dir(binary.line(), options)).map_err(at)?;
        let mut ports = Vec::with_capacity(members);
        for index in 0..members {
            ports.push(Ports::take(|address| way(index, address)).map_err(at)?);
        }
        let peers = ports.iter().enumerate().map(|(index, ports)| format!("m{index}={}", ports.peer_url()));
        let peers = peers.collect::<Vec<_>>().join(",");
        let member =
            |(index, ports): (usize, Ports)| member(binary, options, &guard, index, ports, &peers, "new");
        let members = ports.into_iter().enumerate().map(member).collect::<Result<_, Error>>()?;
        Ok(Cluster {
            members,
            removed: Vec::new(),
            binary: binary.clone(),
            options: options.clone(),
            guard,
        })
    }

    /// Asks a member for a change of the cluster. It refuses for some seconds after
    /// the last change, until it has seen all others for long enough.
    fn reconfigure(&self, asked: usize, change: &str, body: &str) -> Result<(), Error> {
        let (address, path) = (
            self.members[asked].address(),
            format!("/v3/cluster/member/{change}"),
        );
        let deadline = Instant::now() + READY_MAX;
        loop {
            match http::request(address, &path, Some(body), RECONFIGURED_MAX) {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < deadline => thread::sleep(POLL),
                Err(cause) => return Err(Error::io(format_args!("the change `{change}`"), &cause)),
            }
        }
    }

    fn start_members(&self) -> Result<(), Error> {
        self.members.iter().try_for_each(Member::start)?;
        let deadline = Instant::now() + READY_MAX;
        self.members.iter().try_for_each(|member| member.wait_ready_until(deadline))
    }
}

/// Where a member listens.
struct Ports {
    client: Port,
    peer: Port,
    /// Where the others reach it.
    way: SocketAddr,
}

impl Ports {
    fn take(way: impl FnOnce(SocketAddr) -> io::Result<SocketAddr>) -> io::Result<Ports> {
        let (client, peer) = (Port::take()?, Port::take()?);
        let way = way(peer.address())?;
        Ok(Ports { client, peer, way })
    }

    fn peer_url(&self) -> String {
        format!("http://{}", self.way)
    }
}

/// The member of this index and on these ports, in a cluster with these `peers`.
fn member(
    binary: &Binary,
    options: &Options,
    guard: &Guard,
    index: usize,
    ports: Ports,
    peers: &str,
    state: &str,
) -> Result<Member, Error> {
    let name = format!("m{index}");
    let (urls, more) = more_urls(&options.listen).map_err(|cause| Error::io(&name, &cause))?;
    let mut arguments = member_arguments(&name, guard.dir(), &ports, &urls);
    arguments.push(format!("--initial-cluster={peers}"));
    arguments.push(format!("--initial-cluster-state={state}"));
    arguments.extend(option_arguments(binary.line(), options));
    let dir = guard.dir().to_owned();
    let peer_url = ports.peer_url();
    let member = Member::new(
        name,
        binary.path().to_owned(),
        arguments,
        dir,
        ports.client,
        (ports.peer, peer_url),
    );
    Ok(member.listening_at(urls, more))
}

/// The URLs with a port in the place of each 0, and these ports.
fn more_urls(listen: &[String]) -> io::Result<(Vec<String>, Vec<Port>)> {
    let (mut urls, mut ports) = (Vec::new(), Vec::new());
    for url in listen {
        match url.strip_suffix(":0") {
            Some(host) => {
                let port = Port::take()?;
                urls.push(format!("{host}:{}", port.address().port()));
                ports.push(port);
            }
            None => urls.push(url.clone()),
        }
    }
    Ok((urls, ports))
}

fn member_arguments(name: &str, dir: &Path, ports: &Ports, urls: &[String]) -> Vec<String> {
    let (client, peer) = (ports.client.url(), ports.peer.url());
    let listen = [client.as_str()].into_iter().chain(urls.iter().map(String::as_str));
    let listen = listen.collect::<Vec<_>>().join(",");
    vec![
        format!("--name={name}"),
        format!("--data-dir={}", dir.join(name).display()),
        format!("--listen-client-urls={listen}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={}", ports.peer_url()),
        // The ids of a cluster and its members are a hash of this among others.
        format!("--initial-cluster-token={}", dir.display()),
    ]
}

fn option_arguments(line: Line, options: &Options) -> Vec<String> {
    let mut arguments = Vec::new();
    if !options.fsync && has_unsafe_no_fsync(line) {
        arguments.push("--unsafe-no-fsync".to_owned());
    }
    if let Some(heartbeat) = options.heartbeat {
        arguments.push(format!("--heartbeat-interval={}", heartbeat.as_millis()));
    }
    if let Some(election) = options.election {
        arguments.push(format!("--election-timeout={}", election.as_millis()));
    }
    arguments.extend_from_slice(&options.arguments);
    arguments
}

/// Where the directory of the cluster goes.
fn parent_dir(line: Line, options: &Options) -> PathBuf {
    let memory = Path::new(MEMORY_DIR);
    if !options.fsync && !has_unsafe_no_fsync(line) && memory.is_dir() {
        memory.to_owned()
    } else {
        env::temp_dir()
    }
}

fn has_unsafe_no_fsync(line: Line) -> bool {
    line >= Line::V3_5
}
