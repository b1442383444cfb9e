//! Curves as SVG, written by hand: a frame, lines with their labels, a colour for each
//! competitor that is the same in all charts, and a legend.
//!
//! ```
//! use tenure_chart::{Axis, Chart, Curve, draw};
//!
//! let points = vec![(1.0, 20.0), (2.0, 35.0)];
//! let chart = Chart {
//!     title: "Two calls".to_owned(),
//!     x: Axis::linear("calls", [1.0, 2.0].into_iter()).ok_or("no values")?,
//!     y: Axis::linear("microseconds", [20.0, 35.0].into_iter()).ok_or("no values")?,
//!     curves: vec![Curve { name: "tenure".to_owned(), points }],
//! };
//! assert!(draw(&[chart]).contains("<polyline"));
//! # Ok::<(), &str>(())
//! ```

#![forbid(unsafe_code)]

use std::fmt::Write;

const WIDTH: f64 = 780.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 210.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 58.0;
/// Between two lines of the legend.
const LINE: f64 = 20.0;
/// How many lines a linear axis has, about.
const LINES: f64 = 5.0;

/// By how a name begins, the longer ones first. Told apart by people who see few colours, too.
const COLOURS: [(&str, &str); 6] = [
    ("h2 by hand, a timer set", "#b8a500"),
    ("h2 by hand", "#7f7f7f"),
    ("Go ", "#d55e00"),
    ("etcd-client ", "#009e73"),
    ("tenure, own thread", "#56b4e9"),
    ("tenure", "#0072b2"),
];
/// Of whoever else there is, in turn.
const OTHER_COLOURS: [&str; 4] = ["#cc79a7", "#e69f00", "#000000", "#8c564b"];

/// Curves in one frame.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What it shows, above it.
    pub title: String,
    /// From left to right.
    pub x: Axis,
    /// From below to above.
    pub y: Axis,
    /// In the order of the legend.
    pub curves: Vec<Curve>,
}

/// From one end to the other, in the units in which points are told.
#[derive(Clone, Debug)]
pub struct Axis {
    /// With its unit.
    pub label: String,
    /// Where it begins.
    pub from: f64,
    /// Where it ends, above `from`.
    pub to: f64,
    /// Where there is a line, and what it is called.
    pub lines: Vec<(f64, String)>,
}

/// What one competitor did.
#[derive(Clone, Debug)]
pub struct Curve {
    /// As the legend has it; it says the colour, too.
    pub name: String,
    /// From the first to the last, in the units of the two axes.
    pub points: Vec<(f64, f64)>,
}

impl Axis {
    /// Of logarithms to the base 10, around these values, lines at 1, 2 and 5. `None` without any
    /// above 0.
    pub fn logarithmic(
        label: &str,
        values: impl Iterator<Item = f64>,
        show: impl Fn(f64) -> String,
    ) -> Option<Axis> {
        let (least, most) = bounds(values.filter(|value| *value > 0.0))?;
        let all = (least.log10().floor() as i32..=most.log10().ceil() as i32)
            .flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(decade)));
        let all: Vec<f64> = all.collect();
        let from = all.iter().copied().rfind(|line| *line <= least)?;
        let to = all.iter().copied().find(|line| *line >= most && *line > from)?;
        let lines = all.into_iter().filter(|line| (from..=to).contains(line));
        Some(Axis {
            label: label.to_owned(),
            from: from.log10(),
            to: to.log10(),
            lines: lines.map(|line| (line.log10(), show(line))).collect(),
        })
    }

    /// From nothing to beyond these values. `None` without any.
    pub fn linear(label: &str, values: impl Iterator<Item = f64>) -> Option<Axis> {
        let (_, most) = bounds(values)?;
        let rough = most.max(f64::MIN_POSITIVE) / LINES;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| *step >= rough)?;
        let count = (most / step).ceil().max(1.0);
        Some(Axis {
            label: label.to_owned(),
            from: 0.0,
            to: count * step,
            lines: (0..=count as u32)
                .map(|line| (f64::from(line) * step, number(f64::from(line) * step)))
                .collect(),
        })
    }

    /// Of percentiles, each nine as long as the one before: where `percentile` lies.
    #[must_use]
    pub fn at_percentile(percentile: f64) -> f64 {
        -(1.0 - percentile / 100.0).log10()
    }

    /// Up to the percentile that one of so many is beyond.
    #[must_use]
    pub fn percentiles(label: &str, count: u64) -> Axis {
        let to = (count.max(10) as f64).log10();
        let lines = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
        let lines = lines.map(|percentile| (Axis::at_percentile(percentile), format!("{percentile} %")));
        Axis {
            label: label.to_owned(),
            from: 0.0,
            to,
            lines: lines.into_iter().filter(|(at, _)| *at <= to).collect(),
        }
    }

    fn part(&self, value: f64) -> f64 {
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }
}

/// The whole file: these, one below the other.
#[must_use]
pub fn draw(charts: &[Chart]) -> String {
    let height = HEIGHT * charts.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate(0 {})\">", HEIGHT * index as f64);
        chart.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Chart {
    fn draw(&self, svg: &mut String) {
        text(
            svg,
            (LEFT, 26.0),
            "start",
            "font-size=\"14\" font-weight=\"bold\"",
            &self.title,
        );
        self.draw_axes(svg);
        for (index, curve) in self.curves.iter().enumerate() {
            self.draw_curve(svg, index, curve);
        }
    }

    fn draw_axes(&self, svg: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (at, name) in &self.x.lines {
            let x = self.x_of(*at);
            line(svg, (x, TOP), (x, bottom));
            text(svg, (x, bottom + 18.0), "middle", "", name);
        }
        for (at, name) in &self.y.lines {
            let y = self.y_of(*at);
            line(svg, (LEFT, y), (right, y));
            text(svg, (LEFT - 8.0, y + 4.0), "end", "", name);
        }
        text(
            svg,
            ((LEFT + right) / 2.0, HEIGHT - 14.0),
            "middle",
            "",
            &self.x.label,
        );
        let middle = (TOP + bottom) / 2.0;
        let turned = format!("transform=\"rotate(-90 18 {middle:.1})\"");
        text(svg, (18.0, middle), "middle", &turned, &self.y.label);
    }

    fn draw_curve(&self, svg: &mut String, index: usize, curve: &Curve) {
        let colour = colour(&curve.name, index);
        let points: Vec<_> = curve
            .points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", self.x_of(*x), self.y_of(*y)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.join(" ")
        );
        // A line from a point to itself is not seen.
        if let [(x, y)] = curve.points.as_slice() {
            let (x, y) = (self.x_of(*x), self.y_of(*y));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 10.0 + index as f64 * LINE);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"16\" height=\"4\" fill=\"{colour}\"/>",
            y - 6.0
        );
        text(svg, (x + 22.0, y), "start", "", &curve.name);
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.part(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.part(value) * (HEIGHT - TOP - BOTTOM)
    }
}

/// What a chart's file is called: its title, in what every file system takes.
#[must_use]
pub fn file_name(title: &str) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_lowercase()
        } else {
            ' '
        }
    };
    let plain: String = title.chars().map(plain).collect();
    let words: Vec<_> = plain.split_whitespace().collect();
    format!("{}.svg", words.join("-"))
}

/// With the versions left out: they change, and the colour does not.
fn colour(name: &str, index: usize) -> &'static str {
    let is_own_thread = name.starts_with("tenure") && name.ends_with("own thread");
    let name = if is_own_thread { "tenure, own thread" } else { name };
    let known = COLOURS.iter().find(|(begin, _)| name.starts_with(begin));
    known.map_or(OTHER_COLOURS[index % OTHER_COLOURS.len()], |(_, colour)| colour)
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, style: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" {style}>{text}</text>",
        at.0, at.1
    );
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |bounds, value| match bounds {
        None => Some((value, value)),
        Some((least, most)) => Some((value.min(least), value.max(most))),
    })
}

/// With commas, or with what is behind the point where it is small.
fn number(value: f64) -> String {
    if value != 0.0 && value < 10.0 {
        return format!("{value}");
    }
    let digits = format!("{value:.0}");
    let mut number = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            number.push(',');
        }
        number.push(digit);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let points = vec![(0.0, 1.0), (2.0, 3.0)];
        let curve = |name: &str| Curve {
            name: name.to_owned(),
            points: points.clone(),
        };
        Chart {
            title: "Calls & locks".to_owned(),
            x: Axis::percentiles("calls", 100),
            y: Axis::linear("milliseconds", [1.0, 3.0].into_iter()).unwrap(),
            curves: vec![
                curve("tenure 0.1.0"),
                curve("tenure 0.1.0, own thread"),
                curve("Go 1"),
            ],
        }
    }

    #[test]
    fn a_chart_names_its_axes_and_each_curve_in_its_colour() {
        let svg = draw(&[chart()]);
        for part in [
            "Calls &amp; locks",
            ">calls<",
            ">milliseconds<",
            ">99 %<",
            ">tenure 0.1.0<",
        ] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        for colour in ["#0072b2", "#56b4e9", "#d55e00"] {
            assert_eq!(
                svg.matches(colour).count(),
                2,
                "a line, and one in the legend: {svg}"
            );
        }
    }

    #[test]
    fn charts_are_below_one_another_in_one_file() {
        let svg = draw(&[chart(), chart()]);
        assert_eq!(svg.matches("<svg ").count(), 1);
        assert_eq!(svg.matches("<polyline").count(), 6);
        for part in ["viewBox=\"0 0 780 840\"", "translate(0 0)", "translate(0 420)"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }

    #[test]
    fn a_curve_of_one_point_is_seen() {
        let mut chart = chart();
        assert!(!draw(&[chart.clone()]).contains("<circle"));
        chart.curves[0].points.truncate(1);
        assert_eq!(draw(&[chart]).matches("<circle").count(), 1);
    }

    #[test]
    fn the_first_point_is_left_and_the_greatest_value_is_high() {
        let chart = chart();
        assert_eq!((chart.x_of(0.0), chart.x_of(2.0)), (LEFT, WIDTH - RIGHT));
        assert_eq!((chart.y_of(0.0), chart.y_of(3.0)), (HEIGHT - BOTTOM, TOP));
    }

    #[test]
    fn axes_have_round_numbers() {
        let names = |axis: &Axis| axis.lines.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
        let linear = Axis::linear("", [1_100_000.0].into_iter()).unwrap();
        assert_eq!(names(&linear), ["0", "500,000", "1,000,000", "1,500,000"]);
        let logarithmic = Axis::logarithmic("", [30.0, 180.0].into_iter(), number).unwrap();
        assert_eq!(names(&logarithmic), ["20", "50", "100", "200"]);
        assert!(Axis::linear("", std::iter::empty()).is_none());
    }

    #[test]
    fn a_file_is_called_like_its_chart() {
        assert_eq!(
            file_name("Put, 64 in flight, on etcd 3.7.3"),
            "put-64-in-flight-on-etcd-3-7-3.svg"
        );
    }
}
