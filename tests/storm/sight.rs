//! What a watcher asks to see, and what it then has to see of a history.

use tenure::client::CreateWatch;
use tenure::{Client, KeyRange, Revision};

use crate::chance::Chance;
use crate::change::Change;
use crate::history::History;

/// Two groups of small keys, and large ones.
pub(crate) const KEYS: [&str; 10] = [
    "s/a/0", "s/a/1", "s/a/2", "s/a/3", "s/a/4", "s/b/0", "s/b/1", "s/b/2", "s/b/3", "s/b/4",
];
pub(crate) const KEYS_BIG: [&str; 4] = ["t/big/0", "t/big/1", "t/big/2", "t/big/3"];

/// How many kinds of sights there are.
pub(crate) const KINDS: usize = 8;

/// A slow reader's room where it does not see the large keys: of a few revisions.
const ROOM_BYTES: usize = 16 << 10;
/// No reader with this much room is to lag.
pub(crate) const BUFFER_BYTES: usize = 256 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) keys: KeyRange,
    pub(crate) no_put: bool,
    pub(crate) no_delete: bool,
    pub(crate) prev_kv: bool,
    pub(crate) fragment: bool,
    pub(crate) progress: bool,
    pub(crate) reconnects: bool,
    /// Its reader is slow, and has no more room than this.
    pub(crate) slow: Option<usize>,
    pub(crate) catch_up: bool,
}

impl Sight {
    /// One of the kinds that every storm has.
    pub(crate) fn of(kind: usize) -> Sight {
        let plain = |keys: KeyRange| Sight {
            keys,
            no_put: false,
            no_delete: false,
            prev_kv: false,
            fragment: true,
            progress: false,
            reconnects: false,
            slow: None,
            catch_up: false,
        };
        let (all, small) = (plain(KeyRange::all()), plain(KeyRange::prefix("s/")));
        match kind % KINDS {
            0 => plain(KeyRange::key("s/a/0")),
            1 => Sight {
                progress: true,
                ..plain(KeyRange::prefix("s/a/"))
            },
            2 => Sight {
                reconnects: true,
                ..plain(KeyRange::range("s/a/2", "s/b/3"))
            },
            3 => Sight {
                no_put: true,
                prev_kv: true,
                ..small
            },
            4 => Sight {
                no_delete: true,
                ..small
            },
            5 => Sight {
                prev_kv: true,
                progress: true,
                fragment: false,
                ..small
            },
            6 => Sight { prev_kv: true, ..all },
            _ => Sight {
                prev_kv: true,
                slow: Some(ROOM_BYTES),
                catch_up: true,
                ..small
            },
        }
    }

    /// Any; slow readers of large keys have this much room.
    pub(crate) fn any(chance: &mut Chance, room: usize) -> Sight {
        let kind = Sight::of(chance.index(KINDS));
        let room = if kind.is_of(KEYS_BIG[0]) { room } else { ROOM_BYTES };
        Sight {
            keys: kind.keys,
            no_put: chance.one_in(4),
            no_delete: chance.one_in(4),
            prev_kv: chance.one_in(2),
            fragment: !chance.one_in(3),
            progress: chance.one_in(2),
            reconnects: chance.one_in(2),
            slow: chance.one_in(3).then_some(room),
            catch_up: chance.one_in(2),
        }
    }

    pub(crate) fn watch<'a>(&self, client: &'a Client, start: i64) -> CreateWatch<'a> {
        type Wish<'a> = (bool, fn(CreateWatch<'a>) -> CreateWatch<'a>);
        let watch = client.watch(self.keys.clone()).start_revision(Revision(start)).fragment(self.fragment);
        let watch = watch.buffer_bytes(self.slow.unwrap_or(BUFFER_BYTES)).catch_up(self.catch_up);
        let wishes: [Wish<'a>; 5] = [
            (self.no_put, CreateWatch::no_put),
            (self.no_delete, CreateWatch::no_delete),
            (self.prev_kv, CreateWatch::prev_kv),
            (self.progress, CreateWatch::progress_notify),
            (self.reconnects, CreateWatch::reconnect_notify),
        ];
        let wished = wishes.into_iter().filter(|(wished, _)| *wished);
        wished.fold(watch, |watch, (_, wish)| wish(watch))
    }

    /// What of a history it shows from a revision on.
    pub(crate) fn of_history(&self, history: &History, start: i64) -> Vec<Change> {
        let from = history.changes.partition_point(|change| change.revision() < start);
        let seen = history.changes[from..].iter().filter(|change| self.shows(change));
        seen.map(|change| match self.prev_kv {
            true => change.clone(),
            false => change.without_prev(),
        })
        .collect()
    }

    pub(crate) fn shows(&self, change: &Change) -> bool {
        let filtered = if change.is_put {
            self.no_put
        } else {
            self.no_delete
        };
        self.is_of(change.key()) && !filtered
    }

    pub(crate) fn is_of(&self, key: &str) -> bool {
        let (first, end) = (&self.keys.key[..], &self.keys.range_end[..]);
        match end {
            b"" => key.as_bytes() == first,
            b"\0" => key.as_bytes() >= first,
            _ => (first..end).contains(&key.as_bytes()),
        }
    }
}
