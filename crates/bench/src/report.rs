//! What is said about what was measured: a line for each round, a table for each
//! contest, a file for programs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::slice;
use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, ColumnConstraint, Table as Drawing};
use serde_json::{Value, json};
use tenure_chart::{Axis, Chart, Curve};

use crate::Failure;
use crate::machine::Machine;
use crate::probe::Counts;
use crate::tally::{CostEach, Round, Share, Spread, Tally};

/// All tables of a run. Each is printed when it is added.
#[derive(Debug)]
pub(crate) struct Report {
    suite: &'static str,
    machine: Machine,
    tables: Vec<Value>,
    charts: Vec<Chart>,
    failures: usize,
}

/// What a suite found out.
pub(crate) trait Finding {
    /// As Markdown, so that it can be pasted.
    fn draw(&self) -> String;

    /// For programs.
    fn to_json(&self) -> Value;

    /// How many competitors did not run to the end.
    fn failures(&self) -> usize;

    /// Its curves, where it has any.
    fn chart(&self) -> Option<Chart> {
        None
    }
}

/// The outcome of one contest.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// What was counted, in the plural.
    pub(crate) unit: &'static str,
    pub(crate) rows: Vec<Row>,
    /// What there is to say below.
    pub(crate) notes: Vec<String>,
}

/// One competitor.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) tally: Tally,
    pub(crate) counts: Counts,
    /// Why it did not run to the end.
    pub(crate) failure: Option<String>,
}

impl Report {
    pub(crate) fn new(suite: &'static str) -> Report {
        let machine = Machine::this();
        say(&format!("{suite} on {}", machine.story()));
        Report {
            suite,
            machine,
            tables: Vec::new(),
            charts: Vec::new(),
            failures: 0,
        }
    }

    pub(crate) fn add(&mut self, finding: &impl Finding) {
        say(&format!("\n{}", finding.draw()));
        self.tables.push(finding.to_json());
        self.charts.extend(finding.chart());
        self.failures += finding.failures();
    }

    /// How many competitors did not run to the end.
    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    pub(crate) fn write_to(&self, path: &Path) -> Result<(), Failure> {
        let report = json!({
            "suite": self.suite,
            "command": std::env::args().skip(1).collect::<Vec<_>>(),
            "machine": self.machine.to_json(),
            "tables": self.tables,
        });
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(path, text + "\n").map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok(())
    }

    /// A file for each chart, in a directory that is made if need be.
    pub(crate) fn draw_to(&self, directory: &Path) -> Result<(), Failure> {
        let failed = |cause| format!("{}: {cause}", directory.display());
        fs::create_dir_all(directory).map_err(failed)?;
        for chart in &self.charts {
            fs::write(
                directory.join(tenure_chart::file_name(&chart.title)),
                tenure_chart::draw(slice::from_ref(chart)),
            )
            .map_err(failed)?;
        }
        Ok(())
    }
}

impl Table {
    pub(crate) fn new(title: String, unit: &'static str) -> Table {
        Table {
            title,
            unit,
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Only those that somebody here has something for.
    fn columns(&self) -> Vec<Column<'_>> {
        let percentile = |percentile: f64| move |row: &Row| duration(row.tally.percentile(percentile));
        let mut columns: Vec<Column<'_>> = vec![
            (String::new(), Box::new(|row| row.name.clone())),
            (
                self.unit.to_owned(),
                Box::new(|row| match row.tally.count() {
                    0 => row.tally.operations().to_string(),
                    count => count.to_string(),
                }),
            ),
        ];
        let has = |what: fn(&Tally) -> bool| self.rows.iter().any(|row| what(&row.tally));
        if has(|tally| tally.count() > 0) {
            columns.push(("p50".to_owned(), Box::new(percentile(50.0))));
            columns.push((
                "p50 of rounds".to_owned(),
                Box::new(|row| range(row.tally.medians(), |d| self::show(*d))),
            ));
            columns.push(("p99".to_owned(), Box::new(percentile(99.0))));
            columns.push(("p99.9".to_owned(), Box::new(percentile(99.9))));
            columns.push(("max".to_owned(), Box::new(|row| duration(row.tally.max()))));
        }
        if has(|tally| tally.rates().is_some()) {
            columns.push(("per second".to_owned(), Box::new(|row| rate(row.tally.rates()))));
            columns.push((
                "of rounds".to_owned(),
                Box::new(|row| range(row.tally.rates(), |r| format!("{r:.0}"))),
            ));
        }
        if has(|tally| tally.lost().is_some()) {
            columns.extend(lease_columns());
        }
        if has(|tally| tally.cost_each().is_some()) {
            columns.extend(cost_columns());
        }
        if has(|tally| tally.server_each().is_some()) {
            columns.push((
                "server CPU each".to_owned(),
                Box::new(|row| duration(row.tally.server_each())),
            ));
        }
        let counted: [(&str, Count); 3] = [
            ("system calls each", |counts| counts.system_calls),
            ("instructions each", |counts| counts.instructions),
            ("locks each", |counts| counts.locks),
        ];
        for (head, count) in counted {
            if self.rows.iter().any(|row| count(&row.counts).is_some()) {
                let cell = move |row: &Row| count(&row.counts).map_or_else(nothing, digits);
                columns.push((head.to_owned(), Box::new(cell)));
            }
        }
        columns
    }
}

/// What an operation takes of the client.
fn cost_columns() -> Vec<Column<'static>> {
    let each = |of: fn(CostEach) -> String| move |row: &Row| row.tally.cost_each().map_or_else(nothing, of);
    vec![
        ("user each".to_owned(), Box::new(each(|each| show(each.user)))),
        ("system each".to_owned(), Box::new(each(|each| show(each.system)))),
        (
            "allocations each".to_owned(),
            Box::new(each(|each| digits(each.allocations))),
        ),
        (
            "KB each".to_owned(),
            Box::new(each(|each| digits(each.allocated_bytes / 1000.0))),
        ),
    ]
}

/// Of leases that are kept for a while: the pace is given, and what it takes of a core is the figure.
fn lease_columns() -> Vec<Column<'static>> {
    let percent = |share: f64| format!("{} %", digits(100.0 * share));
    let share = move |of: fn(Share) -> f64| {
        move |row: &Row| row.tally.share().map_or_else(nothing, |share| percent(of(share)))
    };
    vec![
        (
            "lost".to_owned(),
            Box::new(|row| row.tally.lost().map_or_else(nothing, |lost| lost.to_string())),
        ),
        ("user, of a core".to_owned(), Box::new(share(|share| share.user))),
        (
            "system, of a core".to_owned(),
            Box::new(share(|share| share.system)),
        ),
        (
            "both, of rounds".to_owned(),
            Box::new(move |row| range(row.tally.shares(), |share| percent(*share))),
        ),
    ]
}

impl Finding for Table {
    fn draw(&self) -> String {
        let columns = self.columns();
        let head: Vec<String> = columns.iter().map(|(head, _)| head.clone()).collect();
        let cells = |row: &Row| columns.iter().map(|(_, cell)| cell(row)).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        let failures = self.rows.iter().filter_map(|row| {
            let cause = row.failure.as_ref()?;
            Some(format!("{}: {cause}", row.name))
        });
        let notes: Vec<String> = self.notes.iter().cloned().chain(failures).collect();
        markdown(&self.title, &head, &rows, &notes)
    }

    fn to_json(&self) -> Value {
        json!({
            "title": self.title,
            "unit": self.unit,
            "notes": self.notes,
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
        })
    }

    fn failures(&self) -> usize {
        self.rows.iter().filter(|row| row.failure.is_some()).count()
    }

    /// The latencies of all rounds, by percentile.
    fn chart(&self) -> Option<Chart> {
        let measured = || self.rows.iter().filter(|row| row.tally.count() > 0);
        let x = Axis::percentiles(
            &format!("of all {}, this many take no longer", self.unit),
            measured().map(|row| row.tally.count()).max()?,
        );
        let curves: Vec<Curve> = measured()
            .map(|row| Curve {
                name: row.name.clone(),
                points: curve_of(&row.tally),
            })
            .collect();
        let seconds = curves.iter().flat_map(|curve| &curve.points).map(|(_, log)| 10f64.powf(*log));
        let show = |seconds| self::show(Duration::from_secs_f64(seconds));
        Some(Chart {
            title: self.title.clone(),
            x,
            y: Axis::logarithmic("latency, logarithmic", seconds, show)?,
            curves,
        })
    }
}

type Count = fn(&Counts) -> Option<f64>;
type Column<'a> = (String, Box<dyn Fn(&Row) -> String + 'a>);

impl Row {
    fn to_json(&self) -> Value {
        let tally = &self.tally;
        let ns = |duration: Option<Duration>| duration.map(|duration| duration.as_nanos() as u64);
        let spread = |spread: Spread<Duration>| {
            json!({
                "median": ns(Some(spread.median)), "min": ns(Some(spread.min)), "max": ns(Some(spread.max)),
            })
        };
        json!({
            "name": self.name,
            "failure": self.failure,
            "count": tally.count(),
            "p50_ns": ns(tally.percentile(50.0)),
            "p99_ns": ns(tally.percentile(99.0)),
            "p99_9_ns": ns(tally.percentile(99.9)),
            "max_ns": ns(tally.max()),
            "p50_ns_of_rounds": tally.medians().map(spread),
            "per_second_of_rounds": tally.rates().map(|rates| json!({
                "median": rates.median, "min": rates.min, "max": rates.max,
            })),
            "lost": tally.lost(),
            "of_a_core": tally.share().map(|share| json!({
                "user": share.user, "system": share.system,
                "of_rounds": tally.shares().map(|both| json!({
                    "median": both.median, "min": both.min, "max": both.max,
                })),
            })),
            "each": tally.cost_each().map(|each| json!({
                "user_ns": ns(Some(each.user)),
                "system_ns": ns(Some(each.system)),
                "allocations": each.allocations,
                "allocated_bytes": each.allocated_bytes,
            })),
            "server_ns_each": ns(tally.server_each()),
            "system_calls_each": self.counts.system_calls,
            "instructions_each": self.counts.instructions,
            "locks_each": self.counts.locks,
        })
    }
}

/// How much of a nine there is from one point of a curve to the next.
const CURVE_STEP: f64 = 0.02;

/// From the fastest to the slowest: where the percentile lies, and the logarithm of the seconds.
fn curve_of(tally: &Tally) -> Vec<(f64, f64)> {
    let nines = (tally.count() as f64).log10();
    let steps = (nines / CURVE_STEP).ceil() as u32;
    let point = |step| {
        let at = (f64::from(step) * CURVE_STEP).min(nines);
        let latency = tally.percentile(100.0 * (1.0 - 10f64.powf(-at)))?;
        Some((at, latency.as_secs_f64().max(1e-9).log10()))
    };
    (0..=steps).filter_map(point).collect()
}

/// A table under its title, and what there is to say below.
pub(crate) fn markdown(title: &str, head: &[String], rows: &[Vec<String>], notes: &[String]) -> String {
    let mut drawing = Drawing::new();
    drawing.load_preset(ASCII_MARKDOWN).set_header(head).add_rows(rows);
    for column in drawing.column_iter_mut() {
        column.set_constraint(ColumnConstraint::ContentWidth);
        if column.index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!("{title}\n\n{drawing}\n");
    for note in notes {
        text.push_str(&format!("\n{note}\n"));
    }
    text
}

/// One line about one round.
pub(crate) fn summary(round: &Round, unit: &str) -> String {
    let mut tally = Tally::new();
    tally.add(round);
    let mut text = match tally.count() {
        0 => format!("{} {unit}", tally.operations()),
        count => format!("{count} {unit}, p50 {}", duration(tally.percentile(50.0))),
    };
    if let Some(rates) = tally.rates() {
        text.push_str(&format!(", {:.0} per second", rates.median));
    }
    text
}

/// A duration with three digits.
pub(crate) fn show(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos() as f64;
    let (value, unit) = match nanoseconds {
        ..1e3 => (nanoseconds, "ns"),
        1e3..1e6 => (nanoseconds / 1e3, "us"),
        1e6..1e9 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    format!("{} {unit}", digits(value))
}

/// Three of them, or all before the point.
fn digits(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn duration(duration: Option<Duration>) -> String {
    duration.map_or_else(nothing, show)
}

fn rate(rates: Option<Spread<f64>>) -> String {
    rates.map_or_else(nothing, |rates| format!("{:.0}", rates.median))
}

fn range<T>(spread: Option<Spread<T>>, show: impl Fn(&T) -> String) -> String {
    spread.map_or_else(nothing, |spread| {
        format!("{} to {}", show(&spread.min), show(&spread.max))
    })
}

pub(crate) fn nothing() -> String {
    "-".to_owned()
}

/// Like `println!`, and a reader that has gone is no reason to panic.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use tenure_bench_worker::Cost;

    use super::*;

    fn row(name: &str, milliseconds: &[u64], failure: Option<&str>) -> Row {
        let mut tally = Tally::new();
        tally.add(&Round {
            latencies: milliseconds.iter().copied().map(Duration::from_millis).collect(),
            ..Round::default()
        });
        Row {
            name: name.to_owned(),
            tally,
            counts: Counts::default(),
            failure: failure.map(str::to_owned),
        }
    }

    fn table() -> Table {
        let mut table = Table::new("a contest".to_owned(), "turns");
        table.rows = vec![row("one", &[2], None), row("the other", &[], Some("no luck"))];
        table.notes.push("a note".to_owned());
        table
    }

    #[test]
    fn a_duration_has_three_digits() {
        let cases = [
            (900, "900 ns"),
            (1_234, "1.23 us"),
            (56_789, "56.8 us"),
            (101_000_000, "101 ms"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(show(Duration::from_nanos(nanoseconds)), text);
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_and_says_who_failed() {
        let text = table().draw();
        let line = text.lines().find(|line| line.starts_with("| one ")).expect("a row");
        assert!(line.contains("2.00 ms"), "{text}");
        assert!(text.contains("| the other "), "{text}");
        assert!(
            text.contains("\na note\n") && text.contains("\nthe other: no luck\n"),
            "{text}"
        );
        assert!(!text.contains("per second") && !text.contains("CPU"), "{text}");
    }

    #[test]
    fn a_lost_lease_is_a_figure_and_no_failure() {
        let mut table = table();
        table.rows[0].tally.add(&Round {
            pace: Some((100, Duration::from_secs(10))),
            cost: Some(Cost {
                user: Duration::from_millis(30),
                system: Duration::from_millis(20),
                ..Cost::default()
            }),
            lost: Some(3),
            ..Round::default()
        });
        table.rows.truncate(1);
        let text = table.draw();
        for cell in ["| lost |", "|    3 |", "0.30 %", "0.20 %", "0.50 % to 0.50 %"] {
            assert!(text.contains(cell), "{cell} in {text}");
        }
        assert_eq!(
            (table.failures(), &table.to_json()["rows"][0]["lost"]),
            (0, &json!(3))
        );
    }

    #[test]
    fn json_has_numbers_and_null_for_what_is_not_there() {
        let rows = table().to_json()["rows"].clone();
        assert_eq!(rows[0]["count"], 1);
        assert!(
            rows[0]["p50_ns"].as_u64().is_some_and(|ns| (1_990_000..2_010_000).contains(&ns)),
            "{rows}"
        );
        assert_eq!(rows[1]["p50_ns"], Value::Null);
        assert_eq!(rows[1]["failure"], "no luck");
    }
}
