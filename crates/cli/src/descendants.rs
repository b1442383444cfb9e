//! What descends from a command, as long as the chain of its parents leads there: found in /proc, and held by
//! pidfd, so that no signal goes to another process that has the same number by then.
//!
//! From the time this is made on, whatever loses its parent becomes this process's child
//! (prctl(2), PR_SET_CHILD_SUBREAPER), and is known by that. What had lost it before is not: a
//! daemon. Elsewhere than on Linux nothing is known.

use std::io;

use rustix::process::{Pid, Signal};

#[cfg(target_os = "linux")]
pub(crate) use linux::Descendants;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use rustix::process::{PidfdFlags, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper};
    use tokio::time::sleep;

    use super::{Pid, Signal, io};

    /// Between two looks at who has ended: to have tokio wait for a pidfd takes `unsafe`.
    const AGAIN: Duration = Duration::from_millis(5);

    /// All that is known to descend from the command, parents first, without itself.
    #[derive(Debug)]
    pub(crate) struct Descendants {
        /// Whether what loses its parent becomes our child, and nothing else does.
        adopts: bool,
        known: Vec<Process>,
    }

    #[derive(Debug)]
    struct Process {
        pid: Pid,
        fd: OwnedFd,
        /// We may not end it, as what sudo(8) has begun.
        is_refused: bool,
    }

    impl Descendants {
        /// Those of this child of ours, which nobody has waited for yet. None is known before they are looked for.
        pub(crate) fn of(command: Option<Pid>) -> Descendants {
            // What another program had begun before it became this one by exec is our child too, and what
            // loses its parent there would be; that of a whole container is the first process's.
            let is_other = |(pid, parent): &(Pid, Pid)| *parent == getpid() && Some(*pid) != command;
            let is_alone = getpid() != Pid::INIT && parents().is_ok_and(|all| !all.iter().any(is_other));
            Descendants {
                adopts: is_alone && set_child_subreaper(Some(getpid())).is_ok(),
                known: Vec::new(),
            }
        }

        /// Looks for more of them. Whether there is one that we can end and that has not ended.
        pub(crate) fn look(&mut self, command: Option<Pid>) -> io::Result<bool> {
            self.known.retain(Process::is_alive);
            let mut others = parents()?;
            others.retain(|(pid, _)| {
                Some(*pid) != command && !self.known.iter().any(|known| known.pid == *pid)
            });
            // Parents before their children, whatever the order of their numbers.
            loop {
                let is_next = |(_, parent): &(Pid, Pid)| self.is_parent(*parent, command);
                let (found, left): (Vec<_>, Vec<_>) = others.into_iter().partition(is_next);
                if found.is_empty() {
                    return Ok(self.known.iter().any(|process| !process.is_refused));
                }
                for (pid, _) in found {
                    self.add(pid, command)?;
                }
                others = left;
            }
        }

        /// Sends all of them a signal, parents first: a shell is not to go on with its next command
        /// because this one has ended.
        pub(crate) fn send(&mut self, signal: Signal) {
            for process in self.known.iter_mut().filter(|process| !process.is_refused) {
                match pidfd_send_signal(&process.fd, signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(cause) => {
                        eprintln!("tenure: process {} goes on: {cause}", process.pid);
                        process.is_refused = true;
                    }
                }
            }
        }

        /// Completes once all that are known have ended.
        pub(crate) async fn ended(&self) {
            while self.known.iter().any(|process| !process.is_refused && process.is_alive()) {
                sleep(AGAIN).await;
            }
        }

        /// No number is given to another process while the one that had it is there: the command and what
        /// we have adopted until we wait for it, which `command` tells of, and the others while they live.
        fn is_parent(&self, pid: Pid, command: Option<Pid>) -> bool {
            Some(pid) == command
                || self.adopts && pid == getpid()
                || self.known.iter().any(|process| process.pid == pid && process.is_alive())
        }

        /// Since it was found the number may have become another process's: it is asked for its parent once
        /// more, now that it is held.
        fn add(&mut self, pid: Pid, command: Option<Pid>) -> io::Result<()> {
            let fd = match pidfd_open(pid, PidfdFlags::empty()) {
                // Both say that it is gone: the other one of kernels that find a number whose process is not there.
                Err(Errno::SRCH | Errno::INVAL) => return Ok(()),
                fd => fd?,
            };
            let is_refused = false;
            let process = Process { pid, fd, is_refused };
            let is_descendant = parent(pid).is_some_and(|parent| self.is_parent(parent, command));
            // What we have adopted is there after its end, until ours.
            if is_descendant && process.is_alive() {
                self.known.push(process);
            }
            Ok(())
        }
    }

    impl Process {
        /// A pidfd can be read once its process has ended (pidfd_open(2)).
        fn is_alive(&self) -> bool {
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ended| ended == 0)
        }
    }

    /// Each process, and its parent.
    fn parents() -> io::Result<Vec<(Pid, Pid)>> {
        let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
        let pids =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        Ok(pids.filter_map(|pid| Some((pid, parent(pid)?))).collect())
    }

    /// `None`: it is gone, or has none.
    fn parent(pid: Pid) -> Option<Pid> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parent_in(&String::from_utf8_lossy(&stat))
    }

    /// Of `PID (NAME) STATE PARENT ..`; a name may have brackets and blanks in it (proc(5)).
    fn parent_in(stat: &str) -> Option<Pid> {
        let (_, behind) = stat.rsplit_once(')')?;
        // What is told as a zombie may have lost its first thread only.
        behind.split_ascii_whitespace().nth(1)?.parse().ok().and_then(Pid::from_raw)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_brackets_hides_no_parent() {
            for (stat, parent) in [
                ("7 (sh) S 5 7 5 0", Pid::from_raw(5)),
                ("7 (a) S 9 (b) R 5 7", Pid::from_raw(5)),
                ("7 (zombie) Z 5 7", Pid::from_raw(5)),
                ("1 (init) S 0 1", None),
                ("", None),
            ] {
                assert_eq!(parent_in(stat), parent, "{stat}");
            }
        }

        #[test]
        fn we_have_a_parent_that_has_us() {
            let ours = getpid();
            let parents = parents().expect("/proc");
            let found = parents.iter().find(|(pid, _)| *pid == ours).map(|(_, parent)| *parent);
            assert_eq!(found, rustix::process::getppid());
        }
    }
}

/// Nobody is known here.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(crate) struct Descendants;

#[cfg(not(target_os = "linux"))]
impl Descendants {
    pub(crate) fn of(_command: Option<Pid>) -> Descendants {
        Descendants
    }

    pub(crate) fn look(&mut self, _command: Option<Pid>) -> io::Result<bool> {
        Ok(false)
    }

    pub(crate) fn send(&mut self, _signal: Signal) {}

    pub(crate) async fn ended(&self) {}
}
