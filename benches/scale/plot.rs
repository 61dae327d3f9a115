//! Draws time and memory against the number of files, both axes logarithmic: what grows with n is a straight line
//! along the dashes.

use std::fmt::Write;

use super::Cost;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 280.0;
const MARGIN: f64 = 56.0;

/// One curve with its axes.
struct Chart {
    title: &'static str,
    unit: &'static str,
    points: Vec<(f64, f64)>,
}

/// Both charts side by side.
#[allow(clippy::cast_precision_loss, reason = "for people")]
pub(super) fn svg(costs: &[Cost]) -> String {
    let points = |of: fn(&Cost) -> f64| costs.iter().map(|cost| (cost.files as f64, of(cost))).collect();
    let charts = [
        Chart { title: "time", unit: "s", points: points(|cost| cost.seconds) },
        Chart { title: "peak memory", unit: "MB", points: points(|cost| cost.memory as f64 / 1e6) },
    ];
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * WIDTH
    );
    for (number, chart) in charts.iter().enumerate() {
        writeln!(svg, "<g transform=\"translate({} 0)\">\n{}</g>", number as f64 * WIDTH, chart.draw())
            .expect("a string");
    }
    svg + "</svg>\n"
}

impl Chart {
    fn draw(&self) -> String {
        let (x, y) = (Axis::over(self.points.iter().map(|p| p.0)), Axis::over(self.points.iter().map(|p| p.1)));
        let place = |(n, value): (f64, f64)| {
            let left = MARGIN + x.share(n) * (WIDTH - 1.5 * MARGIN);
            (left, HEIGHT - MARGIN - y.share(value) * (HEIGHT - 2.0 * MARGIN))
        };
        let mut out = String::new();
        let mut text = |(left, top): (f64, f64), anchor: &str, text: String| {
            writeln!(out, "<text x=\"{left:.1}\" y=\"{top:.1}\" text-anchor=\"{anchor}\">{text}</text>")
                .expect("a string");
        };
        text((WIDTH / 2.0, MARGIN / 2.0), "middle", format!("{} against the number of files", self.title));
        for decade in x.decades() {
            let (left, top) = place((decade, y.first));
            text((left, top + 16.0), "middle", number(decade));
        }
        for decade in y.decades() {
            let (left, top) = place((x.first, decade));
            text((left - 6.0, top + 4.0), "end", format!("{} {}", number(decade), self.unit));
        }
        for &(n, value) in &self.points {
            let (left, top) = place((n, value));
            text((left, top - 8.0), "middle", format!("{value:.1}"));
        }
        let frame = [(x.first, y.last), (x.first, y.first), (x.last, y.first)].map(place);
        out += &line(&frame, "stroke=\"#888\"");
        if let Some(&(n, value)) = self.points.last() {
            // As much a file as at the end, all the way down.
            let start = (n / value * y.first).max(x.first);
            let guide = [(start, start * value / n), (n, value)].map(place);
            out += &line(&guide, "stroke=\"#888\" stroke-dasharray=\"4 4\"");
        }
        let curve: Vec<_> = self.points.iter().map(|&point| place(point)).collect();
        out + &line(&curve, "stroke=\"#0969da\" stroke-width=\"2\"")
    }
}

/// Whole decades of a logarithmic axis.
struct Axis {
    first: f64,
    last: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        Self { first: 10_f64.powf(least.log10().floor()), last: 10_f64.powf(most.log10().ceil()) }
    }

    /// Where on the axis a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value / self.first).log10() / (self.last / self.first).log10()
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        let last = self.last * 1.001;
        std::iter::successors(Some(self.first), |at| Some(at * 10.0)).take_while(move |at| *at <= last)
    }
}

fn line(points: &[(f64, f64)], style: &str) -> String {
    let points: Vec<String> = points.iter().map(|(left, top)| format!("{left:.1},{top:.1}")).collect();
    format!("<polyline points=\"{}\" fill=\"none\" {style}/>\n", points.join(" "))
}

fn number(value: f64) -> String {
    if value < 1.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}
