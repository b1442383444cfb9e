//! The same with the Go client, whose program takes the order `keepalive`.

use std::time::Duration;

use super::{Kept, Task};
use crate::Failure;
use crate::child::{Child, unexpected};
use crate::contest::Setting;
use crate::peer::Peer;

pub(super) fn keep(task: &Task<'_>, setting: &Setting) -> Result<Kept, Failure> {
    let child = Child::start(
        Peer::Go
            .command()?
            .arg("keepalive")
            .arg(format!("--endpoints={}", task.endpoint))
            .arg(format!("--leases={}", task.leases))
            .arg(format!("--ttl={}s", task.ttl.as_secs()))
            .arg(format!("--keep={}s", task.time.as_secs())),
    )?;
    let mut kept = Kept::default();
    child.read(&setting.stop, |line| {
        let (what, number) = line.split_once(' ').unwrap_or((line, ""));
        let number: u64 = number.parse().map_err(|_| unexpected(line))?;
        match what {
            "lost" => kept.lost = usize::try_from(number)?,
            "granted" => kept.granted = Duration::from_nanos(number),
            "elapsed" => kept.elapsed = Duration::from_nanos(number),
            "cpu" => kept.cpu = Duration::from_nanos(number),
            _ => return Err(unexpected(line)),
        }
        Ok(())
    })?;
    Ok(kept)
}
