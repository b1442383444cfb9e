//! A child that is stopped and let go on, by signals.

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::process::Child;

pub(crate) fn pid(child: &Child) -> Pid {
    let id = child.id().expect("a child that runs");
    Pid::from_raw(id.try_into().expect("a process id")).expect("not zero")
}

/// Freezes a child with SIGSTOP; returns when it stands still.
pub(crate) fn stop(pid: Pid) {
    kill_process(pid, Signal::STOP).expect("a signal");
    // Without taking the status, which is the runtime's to collect.
    let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let status = retry_on_intr(|| waitid(WaitId::Pid(pid), options)).expect("a status");
    assert!(status.is_some_and(|status| status.stopped()), "a child has ended");
}

pub(crate) fn go_on(pid: Pid) {
    kill_process(pid, Signal::CONT).expect("a signal");
}
