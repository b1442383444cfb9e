//! One process in one round of a double barrier: when to enter, when to say that all are in, when all
//! have left, and what to clear up. It looks at views of the barrier's keys and sends nothing.
//!
//! ```text
//!             no marker: Enter              N are in, no marker: Complete
//!   Outside ───────────────────▶ Waiting ◀────────────────────────────────┐
//!    │  ▲ a marker: wait          │  │ └── own key gone: Lost             │ looked at again
//!    │  └─ without entrants: Sweep│  └────────────────────────────────────┘
//!    │                            ▼ marker in view: Entered
//!    │                          Inside ──handle_leave──▶ Leaving ──▶ this marker is gone: Left
//!    │                                                      └─ nobody is in: Sweep
//! ```
//!
//! A marker that is seen after the own key was put is of this round: the key was put where there was
//! none. While a marker is there nobody enters, so one without entrants is of a round that is over.

use std::mem;

use bytes::Bytes;

use super::view::View;
use crate::types::Revision;

/// Where the keys of a double barrier lie.
#[derive(Clone, Debug)]
pub struct Place {
    /// What the keys of all who are in begin with.
    pub entrants: Bytes,
    /// The key that says that all are in.
    pub marker: Bytes,
    /// The own key, among the entrants.
    pub own: Bytes,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Round {
    place: Place,
    parties: usize,
    phase: Phase,
    action: Option<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Outside,
    Waiting { own: Revision },
    Inside { marker: Revision },
    Leaving { marker: Revision },
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put the own key, if there is no marker.
    Enter,
    /// Put the marker, if there is none and these are still in: the own key and the oldest others, each
    /// with its create_revision.
    Complete(Vec<(Bytes, Revision)>),
    /// Delete the marker, if nobody is in.
    Sweep,
    /// All are in.
    Entered,
    /// All have left.
    Left,
    /// The own key is gone: by hand, or with its lease.
    Lost,
}

impl Round {
    /// Outside, with so many parties to wait for.
    #[must_use]
    pub fn new(place: Place, parties: usize) -> Round {
        Round {
            place,
            parties,
            phase: Phase::Outside,
            action: None,
        }
    }

    /// The own key was put at this revision.
    pub fn handle_entered(&mut self, own: Revision) {
        self.phase = Phase::Waiting { own };
    }

    /// The own key is deleted, or about to be.
    pub fn handle_leave(&mut self) {
        if let Phase::Inside { marker } = self.phase {
            self.phase = Phase::Leaving { marker };
        }
    }

    /// The keys as they are by now. What there is to do is done or void once they are others.
    pub fn handle_view(&mut self, view: &View) {
        let marker = view.created(&self.place.marker);
        let is_empty = view.below(&self.place.entrants).next().is_none();
        self.action = match (self.phase, marker) {
            (Phase::Outside, None) => Some(Action::Enter),
            (Phase::Outside, Some(_)) if is_empty => Some(Action::Sweep),
            (Phase::Outside, Some(_)) => None,
            (Phase::Waiting { own }, marker) => self.wait(view, own, marker),
            (Phase::Inside { .. }, _) => None,
            (Phase::Leaving { marker }, there) if there != Some(marker) => Some(Action::Left),
            (Phase::Leaving { .. }, _) => is_empty.then_some(Action::Sweep),
        };
    }

    /// What to do now.
    pub fn poll_action(&mut self) -> Option<Action> {
        mem::take(&mut self.action)
    }

    fn wait(&mut self, view: &View, own: Revision, marker: Option<Revision>) -> Option<Action> {
        if view.revision() < own {
            return None;
        }
        if view.created(&self.place.own) != Some(own) {
            return Some(Action::Lost);
        }
        if let Some(marker) = marker {
            self.phase = Phase::Inside { marker };
            return Some(Action::Entered);
        }
        let mut entrants: Vec<_> =
            view.below(&self.place.entrants).map(|(key, created)| (key.clone(), created)).collect();
        // The own key first: a late copy must find it.
        entrants.sort_by_key(|(key, created)| (*key != self.place.own, *created));
        (entrants.len() >= self.parties).then(|| {
            entrants.truncate(self.parties.max(1));
            Action::Complete(entrants)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::mvccpb::KeyValue;

    fn round() -> Round {
        let place = Place {
            entrants: "in/".into(),
            marker: "ready".into(),
            own: "in/own".into(),
        };
        Round::new(place, 2)
    }

    fn shown(round: &mut Round, revision: i64, keys: &[(&'static str, i64)]) -> Option<Action> {
        let kv = |&(key, created): &(&'static str, i64)| KeyValue {
            key: key.into(),
            create_revision: created,
            ..KeyValue::default()
        };
        let kvs: Vec<_> = keys.iter().map(kv).collect();
        round.handle_view(&View::new(Revision(revision), &kvs));
        round.poll_action()
    }

    #[test]
    fn goes_in_when_all_are_there_and_out_when_all_are_gone() {
        let mut round = round();
        assert_eq!(shown(&mut round, 9, &[]), Some(Action::Enter));
        round.handle_entered(Revision(10));
        assert_eq!(
            shown(&mut round, 9, &[]),
            None,
            "the view does not have the own key yet"
        );
        assert_eq!(shown(&mut round, 10, &[("in/own", 10)]), None);
        let both = vec![("in/own".into(), Revision(10)), ("in/other".into(), Revision(11))];
        let in_view = [("in/other", 11), ("in/own", 10), ("in/third", 12)];
        assert_eq!(shown(&mut round, 12, &in_view), Some(Action::Complete(both)));
        // It was refused, since one has died.
        assert_eq!(shown(&mut round, 13, &[("in/own", 10)]), None);
        let ready = [("in/own", 10), ("in/other", 11), ("ready", 14)];
        assert_eq!(shown(&mut round, 14, &ready), Some(Action::Entered));
        round.handle_leave();
        assert_eq!(shown(&mut round, 15, &[("in/other", 11), ("ready", 14)]), None);
        assert_eq!(shown(&mut round, 16, &[("ready", 14)]), Some(Action::Sweep));
        assert_eq!(shown(&mut round, 17, &[]), Some(Action::Left));
    }

    #[test]
    fn another_round_is_waited_for_and_swept_when_it_has_died() {
        let mut round = round();
        assert_eq!(shown(&mut round, 9, &[("in/other", 5), ("ready", 7)]), None);
        assert_eq!(shown(&mut round, 10, &[("ready", 7)]), Some(Action::Sweep));
        assert_eq!(shown(&mut round, 11, &[]), Some(Action::Enter));
    }

    #[test]
    fn who_leaves_does_not_wait_for_the_next_round() {
        let mut round = round();
        round.handle_entered(Revision(10));
        let ready = [("in/own", 10), ("in/other", 11), ("ready", 14)];
        assert_eq!(shown(&mut round, 14, &ready), Some(Action::Entered));
        round.handle_leave();
        assert_eq!(
            shown(&mut round, 30, &[("in/other", 25), ("ready", 28)]),
            Some(Action::Left)
        );
    }

    #[test]
    fn a_key_that_is_another_one_by_now_is_lost() {
        let mut round = round();
        round.handle_entered(Revision(10));
        assert_eq!(
            shown(&mut round, 12, &[("in/own", 12), ("ready", 11)]),
            Some(Action::Lost)
        );
    }
}
