//! The ladder while it is climbed: a line for each rung, and how far it has come. On stderr, and only
//! where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::rung::Rung;

#[derive(Debug)]
pub(super) struct View {
    bar: ProgressBar,
    /// The lines of the rungs that are over, and how many those are.
    done: String,
    over: u32,
    rungs: usize,
    /// Of a rung.
    time: Duration,
}

impl View {
    pub(super) fn new(rungs: usize, time: Duration) -> View {
        let style = ProgressStyle::with_template("{msg}\n{bar:40} rung {prefix}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let whole = time * u32::try_from(rungs).unwrap_or(u32::MAX);
        View {
            bar: ProgressBar::new(milliseconds(whole)).with_style(style),
            done: String::new(),
            over: 0,
            rungs,
            time,
        }
    }

    pub(super) fn is_seen(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// A rung that is under way.
    pub(super) fn show(&self, rung: &Rung) {
        self.bar.set_prefix(format!("{} of {}", self.over + 1, self.rungs));
        self.bar.set_message(format!("{}{}", self.done, rung.line()));
        self.bar.set_position(milliseconds(self.time * self.over + rung.time()));
    }

    /// A rung that is over.
    pub(super) fn keep(&mut self, rung: &Rung) {
        self.done += &(rung.line() + "\n");
        self.over += 1;
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // In its place comes the table.
        self.bar.finish_and_clear();
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
