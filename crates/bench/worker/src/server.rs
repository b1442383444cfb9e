//! What a server takes of the processor meanwhile: all threads of its process, and the processes
//! that it has started, be they still there or not, as `/proc` tells it in hundredths of a second.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::text;

/// A server at work, from when this was made.
#[derive(Debug)]
pub(crate) struct Server {
    pid: Option<u32>,
    ticks: u64,
}

impl Server {
    /// The one with this process, or none that is measured.
    pub(crate) fn of(pid: Option<u32>) -> Result<Server, String> {
        let ticks = pid.map_or(Ok(0), ticks)?;
        Ok(Server { pid, ticks })
    }

    /// This much, from 0 to 1, of what it has taken since then, in a line.
    pub(crate) fn print(&self, share: f64) -> Result<(), String> {
        let Some(pid) = self.pid else { return Ok(()) };
        let ticks = ticks(pid)?.saturating_sub(self.ticks);
        let per_second = sysconf(SysconfVar::CLK_TCK).map_err(text)?.unwrap_or(100);
        let taken = Duration::from_secs(1).mul_f64(share * ticks as f64 / per_second as f64);
        println!("server {}", taken.as_nanos());
        Ok(())
    }
}

fn ticks(pid: u32) -> Result<u64, String> {
    let text_of = |pid: u32| fs::read_to_string(format!("/proc/{pid}/stat"));
    let server = text_of(pid).map_err(|cause| format!("the server's process {pid}: {cause}"))?;
    let server = Stat::read(&server).ok_or("an unknown form of /proc/PID/stat")?;
    let pids = fs::read_dir("/proc").map_err(text)?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that has ended meanwhile counts for its parent.
    let others = pids.filter_map(|pid| Stat::read(&text_of(pid).ok()?));
    Ok(server.ticks + others.filter(|other| other.parent == pid).map(|child| child.ticks).sum::<u64>())
}

/// What is known of a process.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Its own, and those of its children that have ended.
    ticks: u64,
}

impl Stat {
    /// `pid (name) state ppid .. utime stime cutime cstime ..`, and the name may have anything in it.
    fn read(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11..15)?.iter().map(|field| field.parse::<u64>());
        Some(Stat {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks.sum::<Result<u64, _>>().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let stat = "42 (a (b) c) S 7 42 42 0 -1 4194560 100 200 0 0 30 4 500 6000 20 0 1 0 99 1 1";
        let read = Stat {
            parent: 7,
            ticks: 6534,
        };
        assert_eq!(Stat::read(stat), Some(read));
        assert_eq!(Stat::read("42 (cut) S 7"), None);
    }

    #[test]
    fn what_a_process_and_its_children_take_is_counted() {
        let this = std::process::id();
        let before = ticks(this).expect("this process is there");
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("a shell");
        let of_child = loop {
            match ticks(child.id()) {
                Ok(ticks) if ticks < 20 => std::thread::sleep(Duration::from_millis(10)),
                taken => break taken,
            }
        };
        let while_it_runs = ticks(this).expect("this process is there");
        child.kill().and_then(|()| child.wait()).expect("it was there");
        let after = ticks(this).expect("this process is there");
        let least = before + of_child.expect("the child was there");
        assert!(
            while_it_runs >= least && after >= least,
            "{before} {while_it_runs} {after}"
        );
        assert!(ticks(u32::MAX).is_err());
    }
}
