//! When a live member first reports another leader. Each is asked directly, past
//! the proxies, every few milliseconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use tenure_etcd::Member;

use crate::Failure;

const POLL: Duration = Duration::from_millis(5);

/// Between these two moments the first live member came to know its leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported {
    pub(super) unled: SystemTime,
    pub(super) led: SystemTime,
}

/// Asks all members but the one that was `deposed`, whose id is that.
pub(super) fn wait_for_another(
    members: &[Member],
    deposed: usize,
    id: u64,
    within: Duration,
) -> Result<Reported, Failure> {
    let is_over = AtomicBool::new(false);
    let (report, reports) = mpsc::channel();
    thread::scope(|scope| {
        for (_, member) in members.iter().enumerate().filter(|(index, _)| *index != deposed) {
            let (report, is_over) = (report.clone(), &is_over);
            scope.spawn(move || {
                let mut unled = SystemTime::now();
                while !is_over.load(Ordering::Relaxed) {
                    let asked = SystemTime::now();
                    if member.leader().is_some_and(|leader| leader != id) {
                        let led = SystemTime::now();
                        let _ = report.send(Reported { unled, led });
                        return;
                    }
                    unled = asked;
                    thread::sleep(POLL);
                }
            });
        }
        let reported = reports.recv_timeout(within);
        is_over.store(true, Ordering::Relaxed);
        reported.map_err(|_| format!("no member had a leader within {within:?}").into())
    })
}
