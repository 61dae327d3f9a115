//! The results, as a table of Markdown.

use std::time::Duration;

use super::{Row, Run};

/// Prints medians and spread, and ratios to the first row.
pub(super) fn print(rows: &[Row<'_>], hash: bool) {
    let Some(ours) = rows.first() else { return };
    let with_hash = |run: &Run| run.build + run.hash;
    let (head, rule) = if hash { (" with SHA-256 s | ratio |", "---:|---:|") } else { ("", "") };
    println!(
        "\n| | median s | least – most s | ratio | processor s | takes MB |{head}\n|---|---:|---:|---:|---:|---:|{rule}"
    );
    for Row { candidate, runs } in rows {
        let build = Spread::of(runs, |run| run.build);
        let taken = runs.iter().map(|run| run.taken).max().unwrap_or_default() / 1_000_000;
        let ratio = build.median / Spread::of(&ours.runs, |run| run.build).median;
        print!("| {} | {:.2} | {:.2} – {:.2} ", candidate.name, build.median, build.least, build.most);
        let processor = Spread::of(runs, |run| run.processor).median;
        print!("| {ratio:.2} | {processor:.2} | {taken} |");
        if hash {
            let [this, ours] = [runs, &ours.runs].map(|runs| Spread::of(runs, with_hash).median);
            print!(" {this:.2} | {:.2} |", this / ours);
        }
        println!();
    }
}

/// Some times in seconds.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    /// Of at least one run.
    fn of(runs: &[Run], time: impl Fn(&Run) -> Duration) -> Self {
        let mut times: Vec<f64> = runs.iter().map(|run| time(run).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        Self { least: times[0], median: times[times.len() / 2], most: times[times.len() - 1] }
    }
}
