//! How the machine gets back to rest: what is there is released, what may still come is withdrawn, until
//! nothing of it is on the server, nor can come there.

use super::{Action, Lock, Phase, Put};
use crate::pb::mvccpb::KeyValue;
use crate::types::Revision;

impl Lock {
    /// A release was answered. `gate_closed`: it put the gate at `revision`. `own`:
    /// the own key where it was another one, put by a register that was still under
    /// way after somebody had deleted ours.
    pub fn handle_released(&mut self, revision: Revision, gate_closed: bool, own: Option<&KeyValue>) {
        if let Phase::Release(_) = self.phase {
            if gate_closed {
                self.gate = revision;
                self.loose = false;
            }
            let left = self.left(own);
            self.undo(left);
        }
    }

    /// A withdrawal found its gate, deleted the key and put the gate.
    pub fn handle_withdrawn(&mut self, revision: Revision) {
        if let Phase::Withdraw = self.phase {
            self.gate = revision;
            self.loose = false;
            self.undo(None);
        }
    }

    /// A withdrawal found another gate: an earlier copy of it got through. To who inherits it is the one
    /// that what is under way may find, so it is moved as well.
    pub fn handle_withdraw_passed(&mut self, gate: Revision, own: Option<&KeyValue>) {
        if let Phase::Withdraw = self.phase {
            self.loose = self.inherits || self.loose && self.gate == gate;
            self.gate = gate;
            let left = if self.inherits { None } else { self.left(own) };
            self.undo(left);
        }
    }

    /// A release or a withdrawal failed, or its fate is unknown: once more.
    pub fn handle_undo_failed(&mut self) {
        match self.phase {
            Phase::Release(created) => self.undo(Some(created)),
            Phase::Withdraw => self.undo(None),
            _ => {}
        }
    }

    /// Takes the next step back to rest: the key that is known to exist is
    /// released, a register that may still land is withdrawn.
    pub(super) fn undo(&mut self, created: Option<Revision>) {
        match created {
            Some(created) => {
                self.phase = Phase::Release(created);
                self.actions.push_back(Action::Release {
                    created,
                    close_gate: self.loose,
                });
            }
            None if self.loose => {
                self.phase = Phase::Withdraw;
                self.actions.push_back(Action::Withdraw { gate: self.gate });
            }
            None => self.free(),
        }
    }

    /// What is to be released of the own key as it was found, if that is ours.
    fn left(&mut self, own: Option<&KeyValue>) -> Option<Revision> {
        self.put = Put::found(own.filter(|own| own.lease == self.place.lease.0)?);
        Some(self.mark(self.put.created))
    }
}
