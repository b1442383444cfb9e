//! A table of words and numbers that are measured once.

use serde_json::{Value, json};

use crate::report::{Finding, markdown};

#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub(super) title: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) notes: Vec<String>,
    /// How many cells are empty because something failed.
    pub(super) failures: usize,
}

impl Sheet {
    /// What came of a measurement. A failure is told below the table.
    pub(super) fn cell<T>(
        &mut self,
        what: &str,
        measured: Result<T, crate::Failure>,
        show: impl Fn(T) -> String,
    ) -> String {
        let told = measured.map(show);
        eprintln!(
            "  {what}: {}",
            told.as_ref().map_or_else(ToString::to_string, Clone::clone)
        );
        told.unwrap_or_else(|cause| {
            self.failures += 1;
            self.notes.push(format!("{what}: {cause}"));
            "-".to_owned()
        })
    }
}

impl Finding for Sheet {
    fn draw(&self) -> String {
        let head: Vec<String> = self.head.iter().copied().map(str::to_owned).collect();
        markdown(&self.title, &head, &self.rows, &self.notes)
    }

    fn to_json(&self) -> Value {
        json!({ "title": self.title, "head": self.head, "rows": self.rows, "notes": self.notes })
    }

    fn failures(&self) -> usize {
        self.failures
    }
}
