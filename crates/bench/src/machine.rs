//! What the figures were measured on.

use std::fs;
use std::thread;

use serde_json::{Value, json};

/// This machine, as far as it matters to who reads the figures.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    kernel: String,
}

impl Machine {
    pub(crate) fn this() -> Machine {
        let uname = rustix::system::uname();
        let kernel = [uname.sysname(), uname.release(), uname.machine()].map(|part| part.to_string_lossy());
        Machine {
            processor: processor().unwrap_or_else(|| "an unknown processor".to_owned()),
            cores: thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.join(" "),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({ "processor": self.processor, "cores": self.cores, "kernel": self.kernel })
    }

    pub(crate) fn story(&self) -> String {
        format!("{}, {} cores, {}", self.processor, self.cores, self.kernel)
    }
}

/// How many tasks have run or wanted to, on average over the last minute, ours among
/// them: well above the number of cores, the figures are those of a busy machine.
pub(crate) fn load_average() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
