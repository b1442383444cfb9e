//! The options of a client, each default with its reason.

mod auth;
#[cfg(feature = "tls")]
mod tls;

use std::time::Duration;

pub use auth::Auth;
pub(crate) use auth::Kind as AuthKind;
#[cfg(feature = "tls")]
pub(crate) use tls::Pem;
#[cfg(feature = "tls")]
pub use tls::Tls;

/// RFC 9113, section 6.9.1.
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// One frame. With a window of nothing no answer would ever come.
const WINDOW_BYTES_MIN: u32 = 16 << 10;

/// A call that waits looks around twice in each silence, and is not to do nothing else.
const SILENCE_MIN: Duration = Duration::from_millis(1);

/// A ping takes time whoever answers it: with none at all every ping would end its connection.
const PING_TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// The list of members is a read by consensus, and is not to be asked for in a loop.
const SYNC_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// With none at all, every call would be a probe.
const BREAKER_PAUSE_MIN: Duration = Duration::from_millis(1);

/// How a client connects and what it tolerates. Every option has a default.
///
/// ```
/// use std::time::Duration;
/// use tenure::Config;
///
/// let config = Config::new().call_timeout(Duration::from_secs(2));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    pub(crate) connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) send_timeout_header: bool,
    pub(crate) require_leader: bool,
    pub(crate) request_bytes_max: usize,
    pub(crate) response_bytes_max: usize,
    pub(crate) stream_window_bytes: u32,
    pub(crate) connection_window_bytes: u32,
    pub(crate) auth: Option<Auth>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Tls,
    pub(crate) connections_max: usize,
    pub(crate) streams_full: usize,
    pub(crate) silence: Duration,
    pub(crate) ping_interval: Option<Duration>,
    pub(crate) ping_timeout: Duration,
    pub(crate) hedge_after: Option<Duration>,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) own_thread: bool,
    pub(crate) calls_max: Option<usize>,
    pub(crate) breaker_failures: Option<u32>,
    pub(crate) breaker_pause: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // Three SYNs of a TCP that doubles its patience: 1, 2, 4 seconds.
            connect_timeout: Duration::from_secs(5),
            // A server gives up after 7 seconds, and its answer says more than ours.
            call_timeout: Duration::from_secs(8),
            // A reset tells the server as much when the deadline passes, for free.
            send_timeout_header: false,
            // A stream at a member that lost its leader would be silent otherwise.
            require_leader: true,
            // What a server takes by default: 1.5 MiB and 512 KiB for the rest.
            request_bytes_max: 2 << 20,
            // Room for a large range, and still a bound on what a server can cost.
            response_bytes_max: 64 << 20,
            // h2 charges small unread frames against half the connection's window
            // and hangs up at zero: its default of 64 KiB breaks healthy bursts.
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 4 << 20,
            auth: None,
            #[cfg(feature = "tls")]
            tls: Tls::new(),
            // The task of one connection serves some ten thousand calls a second on
            // one core; a few of them fill a server.
            connections_max: 4,
            // A connection is busy, not just shared, from about there on.
            streams_full: 128,
            // Longer than a slow commit or a pause of the garbage collection, and
            // well below the second that an election takes at least.
            silence: Duration::from_millis(300),
            // Twice what the server bears, and less than what a NAT forgets in.
            ping_interval: Some(Duration::from_secs(10)),
            // A server answers pings beside its work. What takes this long is
            // longer than any pause, and calls there fail before their deadline.
            ping_timeout: Duration::from_secs(3),
            // A second question for every slow read would be load when it hurts most.
            hedge_after: None,
            // The endpoints are the caller's to know.
            sync_interval: None,
            // A thread of every client would be a surprise, and two more hand-overs a call.
            own_thread: false,
            // How many are too many depends on what they ask and on who waits. Without a bound
            // they wait for a stream, and end at their deadline.
            calls_max: None,
            // A member that is down, silent or without a leader is left without it. What else fails
            // again and again does so at all members as a rule.
            breaker_failures: None,
            // As long as an election takes, or a short stall of a disk.
            breaker_pause: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new() -> Config {
        Config::default()
    }

    /// The time that dialling an endpoint may take, the HTTP/2 handshake included.
    /// Default: 5 seconds.
    pub fn connect_timeout(mut self, timeout: Duration) -> Config {
        self.connect_timeout = timeout;
        self
    }

    /// The time that a unary call may take from the moment it is awaited: waiting
    /// for a connection and for a free stream, sending, and receiving. A call can
    /// have a timeout of its own. Default: 8 seconds.
    pub fn call_timeout(mut self, timeout: Duration) -> Config {
        self.call_timeout = timeout;
        self
    }

    /// Whether calls tell the server their timeout in a `grpc-timeout` header, so
    /// that it stops work on its own even where our reset does not reach it. Costs
    /// two allocations a call. Default: no.
    pub fn send_timeout_header(mut self, send: bool) -> Config {
        self.send_timeout_header = send;
        self
    }

    /// Whether a leader is asked for (etcd's `hasleader` metadata). A member that sees none
    /// then refuses a call at once, which goes to another member, instead of keeping it
    /// for seconds; and it ends watch and keepalive streams once it has seen none for a
    /// while. Serializable reads and questions to a single member do without. Default: yes.
    pub fn require_leader(mut self, require: bool) -> Config {
        self.require_leader = require;
        self
    }

    /// The size of the largest request, in bytes; a larger one is refused before
    /// it is sent. Raise it with the server's `--max-request-bytes`. Default: 2 MiB.
    pub fn request_bytes_max(mut self, bytes: usize) -> Config {
        self.request_bytes_max = bytes;
        self
    }

    /// The size of the largest response message, in bytes; a larger one ends its
    /// call with [`Code::ResourceExhausted`](crate::Code::ResourceExhausted).
    /// Default: 64 MiB.
    ///
    /// It bounds the memory, too, that a hostile server can have an answer take: an entry
    /// that is two bytes of message may be two hundred once it is decoded, and a message
    /// may decode to 20 times its bytes and 64 KiB more. With 256 KiB here and one call at a
    /// time, no server can have its connection take over 8 MiB more than a good one does.
    pub fn response_bytes_max(mut self, bytes: usize) -> Config {
        self.response_bytes_max = bytes;
        self
    }

    /// The HTTP/2 flow-control window of each stream, in bytes: what the server may
    /// send of one response ahead of its reader. Default: 1 MiB.
    ///
    /// HTTP/2 has windows of up to 2 GiB less one byte; more is taken as that, and less
    /// than 16 KiB as 16 KiB.
    pub fn stream_window_bytes(mut self, bytes: u32) -> Config {
        self.stream_window_bytes = bytes.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        self
    }

    /// The HTTP/2 flow-control window of the whole connection, in bytes. Below
    /// 1 MiB a burst of small answers can end the connection. Default: 4 MiB.
    ///
    /// HTTP/2 has windows of up to 2 GiB less one byte; more is taken as that, and less
    /// than 16 KiB as 16 KiB.
    pub fn connection_window_bytes(mut self, bytes: u32) -> Config {
        self.connection_window_bytes = bytes.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        self
    }

    /// Who the client says it is. Default: nobody in particular, which is right where
    /// etcd has authentication disabled.
    pub fn auth(mut self, auth: Auth) -> Config {
        self.auth = Some(auth);
        self
    }

    /// How `https` and `unixs` endpoints are encrypted and proven. Default: the
    /// system's roots, no certificate of ours.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Config {
        self.tls = tls;
        self
    }

    /// How many connections for calls there may be to one endpoint; one for leases,
    /// watches and locks comes on top once there are both. At least one.
    /// Default: 4.
    pub fn connections_max(mut self, connections: usize) -> Config {
        self.connections_max = connections;
        self
    }

    /// How many calls in flight make a connection full, so that another one is
    /// dialled beside it. Default: 128.
    pub fn streams_full(mut self, streams: usize) -> Config {
        self.streams_full = streams;
        self
    }

    /// How long the calls on a connection may wait without a sign of the member
    /// until others are asked first, and reads that wait there are asked of another
    /// one too. It costs the member its turn and nothing else. Default: 300 ms.
    ///
    /// Less than a millisecond is taken as that.
    pub fn silence(mut self, silence: Duration) -> Config {
        self.silence = silence.max(SILENCE_MIN);
        self
    }

    /// The time between HTTP/2 pings while anything is open, or `None` for no pings
    /// at all. A silent member is pinged sooner. Servers bear one in five seconds:
    /// none is sent within 5.5 seconds of another. Default: 10 seconds.
    pub fn ping_interval(mut self, interval: impl Into<Option<Duration>>) -> Config {
        self.ping_interval = interval.into();
        self
    }

    /// How long the answer to a ping may take. Then the connection is given up,
    /// with all that is open on it. Default: 3 seconds.
    ///
    /// Less than a millisecond is taken as that.
    pub fn ping_timeout(mut self, timeout: Duration) -> Config {
        self.ping_timeout = timeout.max(PING_TIMEOUT_MIN);
        self
    }

    /// After what time a read that is not answered is asked of another member in
    /// addition; the first answer counts. Default: never, but for members that are
    /// [silent](Config::silence).
    pub fn hedge_after(mut self, after: impl Into<Option<Duration>>) -> Config {
        self.hedge_after = after.into();
        self
    }

    /// How often the endpoints are renewed from the cluster's list of members, as
    /// [`Endpoints::sync`](crate::client::Endpoints::sync) does. Each interval is up to a
    /// quarter longer, so that clients do not ask together. Default: never.
    ///
    /// Less than 100 milliseconds is taken as that.
    pub fn sync_interval(mut self, interval: impl Into<Option<Duration>>) -> Config {
        self.sync_interval = interval.into().map(|interval| interval.max(SYNC_INTERVAL_MIN));
        self
    }

    /// Whether the client's own tasks run on a thread of its own: those of its
    /// connections, leases, watches and tokens, and those that give locks back. The
    /// thread ends with the last handle of the client and of what was made from it.
    /// Default: no, they run on the runtime that they begin on.
    ///
    /// Use it where the runtime may be kept busy by something else, such as long
    /// computations or blocking calls in async code: leases are renewed all the same,
    /// and locks are not lost. What it costs is the thread, and that every call is
    /// handed to the thread and its answer back. On two busy cores a put alone took 100
    /// microseconds longer by that, and 50 to 80 more of a processor; of 64 at a time each took
    /// 5 to 8 more (`tenure-bench unary`).
    ///
    /// The futures of calls still run where they are polled, and tokio need not be there:
    /// a client with a thread of its own is made and used on any executor. Only
    /// locks need a tokio runtime with time enabled. Where
    /// a caller's own byte stream is handed in, [`Client::over`](crate::Client::over), what
    /// that is registered with has to go on.
    pub fn own_thread(mut self, own: bool) -> Config {
        self.own_thread = own;
        self
    }

    /// How many calls may be in flight at a time, over all clones and views of the client and over all
    /// members: one more is refused at once, before it is encoded or waits for anything
    /// ([`Error::is_shed`](crate::Error::is_shed), [`Delivery::NotSent`](crate::Delivery::NotSent)).
    /// At least one. Default: as many as there are.
    ///
    /// Where more comes in than the cluster can do, calls queue up until all of them
    /// end at their deadline, and nothing is done any more in time. With a bound what is begun is
    /// done, and the rest knows at once. A good one is what is in flight at the
    /// highest load that is still answered fast enough, and some more: calls per second times seconds
    /// per call.
    ///
    /// A call counts from the making of its future to its end, or until that is dropped; so does each
    /// stream of a [`RangeStream`](crate::client::RangeStream). Never refused, nor counted,
    /// is what would make an overload worse where it is refused: renewals and whatever else is
    /// about leases, watches, sessions, locks and the other recipes, so that what is held is kept
    /// and given back; tokens; [`Client::health`](crate::Client::health) and calls to one member;
    /// and what is marked with [`control`](crate::client::Put::control). What is written with a
    /// fence, software transactions, and the question who leads an election are calls of yours.
    /// Raw calls stand outside of all this.
    pub fn calls_max(mut self, calls: impl Into<Option<usize>>) -> Config {
        self.calls_max = calls.into().map(|calls| calls.max(1));
        self
    }

    /// After how many failed calls in a row a member is left alone for a [while](Config::breaker_pause),
    /// although its connection and its pings are good: a disk that stands still, a member that
    /// is cut off from the others, a proxy with nothing behind it. At least one. Default: never.
    ///
    /// A failure is what says that the member cannot do what it is asked: `Unavailable`, `Internal`,
    /// `DataLoss` and etcd's timeouts, an answer that is no gRPC, a stream that is reset; and a
    /// call whose time ends, or which another member answers meanwhile, where this one had it for
    /// at least a [silence](Config::silence). A refusal is a sign of health: a comparison that
    /// failed, a lease that is not there, a permission, a quota. Elections, connections that are
    /// lost and calls that are dropped count neither way.
    ///
    /// After the pause one call goes there, whichever comes next, is no stream and waits for nobody else, as one for
    /// etcd's own [lock service](crate::Client::lock_service) does. If it succeeds
    /// the member has its turn again, if it fails there is a longer pause. It is an order and no
    /// wall: where no other member can be asked, calls go to those that fail all the same, so that
    /// no call is refused for it, and with one endpoint nothing changes. Calls for one member, as those of
    /// [`Client::maintenance`](crate::Client::maintenance) and [`Client::health`](crate::Client::health),
    /// go there in any case and say nothing of it. Those that wait for somebody else do not count where their
    /// time ends. A client that has nothing but streams finds nothing out: they go to the others, and there where
    /// no other can be asked.
    pub fn breaker_failures(mut self, failures: impl Into<Option<u32>>) -> Config {
        self.breaker_failures = failures.into().map(|failures| failures.max(1));
        self
    }

    /// How long a member is left alone first, after so many
    /// [failures](Config::breaker_failures): between half of that and the whole. Each further pause
    /// is twice as long, up to 32 times the first. Default: 1 second.
    ///
    /// Less than a millisecond is taken as that.
    pub fn breaker_pause(mut self, pause: Duration) -> Config {
        self.breaker_pause = pause.max(BREAKER_PAUSE_MIN);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_spin_or_wait_for_ever_has_a_least_value() {
        let config = Config::new()
            .sync_interval(Duration::ZERO)
            .silence(Duration::ZERO)
            .ping_timeout(Duration::ZERO)
            .stream_window_bytes(0)
            .connection_window_bytes(0)
            .calls_max(0)
            .breaker_failures(0)
            .breaker_pause(Duration::ZERO);
        assert_eq!(config.sync_interval, Some(SYNC_INTERVAL_MIN));
        assert_eq!(config.silence, SILENCE_MIN);
        assert_eq!(config.ping_timeout, PING_TIMEOUT_MIN);
        let windows = (config.stream_window_bytes, config.connection_window_bytes);
        assert_eq!(windows, (WINDOW_BYTES_MIN, WINDOW_BYTES_MIN));
        assert_eq!((config.calls_max, config.breaker_failures), (Some(1), Some(1)));
        assert_eq!(config.breaker_pause, BREAKER_PAUSE_MIN);
        assert_eq!(config.sync_interval(None).sync_interval, None);
    }
}
