//! The ladder as a picture: locks per second above, waits below, both over the number of tasks.

use std::time::Duration;

use tenure_chart::{Axis, Chart, Curve};

use super::rung::Rung;

/// As SVG; `None` where nobody ever had the lock.
pub(super) fn draw(name: &str, rungs: &[Rung]) -> Option<String> {
    let tasks = || rungs.iter().map(|rung| f64::from(rung.tasks()));
    let rates = || rungs.iter().map(Rung::rate);
    let x = Axis::logarithmic("tasks, logarithmic", tasks(), |tasks| format!("{tasks:.0}"))?;
    let waits = [curve("wait, p50", rungs, 50.0), curve("wait, p99", rungs, 99.0)];
    let seconds = rungs.iter().flat_map(|rung| [rung.wait(50.0), rung.wait(99.0)]);
    let seconds = seconds.flatten().map(|wait| wait.as_secs_f64());
    let show = |seconds| format!("{:?}", Duration::from_secs_f64(seconds));
    // Only here it is seen that there is nothing.
    let logarithmic = Axis::logarithmic("wait, logarithmic", seconds, show)?;
    let locks = Curve {
        name: format!("tenure {}", env!("CARGO_PKG_VERSION")),
        points: tasks().map(f64::log10).zip(rates()).collect(),
    };
    let throughput = Chart {
        title: format!("Lock {name:?}, all tasks in one process: locks per second"),
        x: x.clone(),
        y: Axis::linear("locks per second", rates())?,
        curves: vec![locks],
    };
    let latency = Chart {
        title: "How long a task waits for it".to_owned(),
        x,
        y: logarithmic,
        curves: waits.into(),
    };
    Some(tenure_chart::draw(&[throughput, latency]))
}

/// Over the logarithm of the tasks, that of the seconds which so many of a hundred waits do not exceed.
fn curve(name: &str, rungs: &[Rung], percentile: f64) -> Curve {
    let point = |rung: &Rung| {
        let wait = rung.wait(percentile)?.as_secs_f64();
        Some((f64::from(rung.tasks()).log10(), wait.log10()))
    };
    Curve {
        name: name.to_owned(),
        points: rungs.iter().filter_map(point).collect(),
    }
}
