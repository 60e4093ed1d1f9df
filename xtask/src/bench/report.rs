//! What the run found: medians and ratios per row, the table for people, the JSON that is committed.
//!
//! A ratio is taken within each round, between runs a few seconds apart, and the median of these is quoted: drift of a
//! shared machine then hits both sides of a ratio alike. It can differ slightly from the quotient of two quoted medians.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::contender::Contender;

/// One measured run of one contender.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) requests_per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU microseconds of the server's process tree per answered request.
    pub(super) cpu_us: f64,
    /// CPU time of the server per time passed: 1.0 keeps one core busy.
    pub(super) busy: f64,
    /// Time the server's threads waited for the core per time passed; other work on that core shows here.
    pub(super) wait: f64,
    /// From the start of the process to its first right answer.
    pub(super) first_answer_ms: f64,
    /// Most memory resident, in MiB: up to the ready line, and over the whole life.
    pub(super) memory_start_mib: f64,
    pub(super) memory_peak_mib: f64,
}

/// Every round of one contender on one kind and connection count.
pub(super) struct Row {
    pub(super) kind: &'static str,
    pub(super) connections: u32,
    pub(super) contender: Contender,
    /// One per round, in the order of the rounds.
    pub(super) samples: Vec<Sample>,
    /// Why the row must not be used. One error in one round is enough.
    pub(super) invalid: Option<String>,
}

impl Row {
    fn median(&self, part: fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(part).collect())
    }

    fn extreme(&self, pick: fn(f64, f64) -> f64, part: fn(&Sample) -> f64) -> f64 {
        let values = self.samples.iter().map(part);
        values.reduce(pick).unwrap_or_default()
    }

    fn same_load(&self, other: &Row) -> bool {
        self.kind == other.kind && self.connections == other.connections
    }

    /// The reason without what a server printed behind it: that may be long and name paths of the machine.
    fn invalid_line(&self) -> Option<&str> {
        let reason = self.invalid.as_deref()?;
        Some(reason.lines().next().unwrap_or_default())
    }
}

/// How a row stands to another contender's row of the same kind and connection count; 1.0 is level, more is better.
#[derive(Debug, PartialEq)]
struct Ratio {
    /// Requests per CPU-second.
    cpu: f64,
    /// Requests per second.
    rate: f64,
}

/// The ratio of `row` to `base`, which must not be invalid either. The control is compared with nobody.
fn ratio(rows: &[Row], row: &Row, base: Contender) -> Option<Ratio> {
    if row.contender == Contender::Native || row.contender == base {
        return None;
    }
    let found = rows
        .iter()
        .find(|other| other.contender == base && other.same_load(row))?;
    if row.invalid.is_some() || found.invalid.is_some() || row.samples.is_empty() {
        return None;
    }
    let pairs = || row.samples.iter().zip(&found.samples);
    Some(Ratio {
        cpu: median(
            pairs()
                .map(|(own, base)| base.cpu_us / own.cpu_us)
                .collect(),
        ),
        rate: median(
            pairs()
                .map(|(own, base)| own.requests_per_second / base.requests_per_second)
                .collect(),
        ),
    })
}

/// The middle value, or the mean of the two middle ones; 0 for none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or_default();
    if values.len() % 2 == 1 {
        return upper;
    }
    let lower = values.len().checked_sub(2).map(|last| last / 2);
    let lower = lower.and_then(|index| values.get(index).copied());
    (lower.unwrap_or_default() + upper) / 2.0
}

/// The table for people. Columns are explained in `bench/README.md`.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<12}{:>6}  {:<9}{:>9}{:>10}{:>10}{:>9}{:>6}{:>6}{:>9}{:>10}{:>10}{:>11}\n",
        "kind",
        "conns",
        "server",
        "req/s",
        "p50 us",
        "p99 us",
        "CPU us",
        "busy",
        "wait",
        "peak MiB",
        "CPU/ctrl",
        "rate/ctrl",
        "CPU/wtime"
    );
    let mut last: Option<&Row> = None;
    for row in rows {
        if last.is_some_and(|last| !last.same_load(row)) {
            text.push('\n');
        }
        last = Some(row);
        text.push_str(&line(rows, row));
    }
    text
}

/// The least share of the requests per CPU-second of the build without budgets that is to be left with them.
const BUDGETS_RATIO_MIN: f64 = 0.90;

/// What the budgets cost: Hostel beside the same build without them, a line for each load that ran both; empty without.
pub(super) fn budgets(rows: &[Row]) -> String {
    let metered = rows.iter().filter(|row| row.contender == Contender::Hostel);
    let mut text = String::new();
    for row in metered {
        let Some(ratio) = ratio(rows, row, Contender::Unmetered) else {
            continue;
        };
        let judged = if ratio.cpu >= BUDGETS_RATIO_MIN {
            "holds"
        } else {
            "MISSED"
        };
        text.push_str(&format!(
            "budgets: {} at {} connections leaves {:.3} of the requests per CPU-second without them \
             (goal {BUDGETS_RATIO_MIN:.2}: {judged})\n",
            row.kind, row.connections, ratio.cpu
        ));
    }
    text
}

fn line(rows: &[Row], row: &Row) -> String {
    let name = row.contender.name();
    let head = format!("{:<12}{:>6}  {name:<9}", row.kind, row.connections);
    if let Some(reason) = row.invalid_line() {
        return format!("{head}  INVALID: {reason}\n");
    }
    let control = ratio(rows, row, Contender::Native);
    let wasmtime = ratio(rows, row, Contender::Wasmtime);
    let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    format!(
        "{head}{:>9.0}{:>10.0}{:>10.0}{:>9.2}{:>6.2}{:>6.2}{:>9.1}{:>10}{:>10}{:>11}\n",
        row.median(|sample| sample.requests_per_second),
        row.median(|sample| sample.p50_us),
        row.median(|sample| sample.p99_us),
        row.median(|sample| sample.cpu_us),
        row.median(|sample| sample.busy),
        row.median(|sample| sample.wait),
        row.extreme(f64::max, |sample| sample.memory_peak_mib),
        show(control.as_ref().map(|ratio| ratio.cpu)),
        show(control.as_ref().map(|ratio| ratio.rate)),
        show(wasmtime.as_ref().map(|ratio| ratio.cpu)),
    )
}

/// The committed form: `head` (what was measured where), then one line per row, so that a diff compares two results.
pub(super) fn json(head: &Value, rows: &[Row]) -> Result<String> {
    let head = serde_json::to_string_pretty(head)?;
    let head = head
        .strip_suffix("\n}")
        .context("the head of a report is an object with entries")?;
    let lines: Vec<String> = rows.iter().map(|row| row_json(rows, row)).collect();
    let lines = lines.join(",\n    ");
    Ok(format!("{head},\n  \"rows\": [\n    {lines}\n  ]\n}}\n"))
}

fn row_json(rows: &[Row], row: &Row) -> String {
    let mut fields = vec![
        ("kind", json!(row.kind)),
        ("connections", json!(row.connections)),
        ("contender", json!(row.contender.name())),
    ];
    if let Some(reason) = row.invalid_line() {
        fields.push(("invalid", json!(reason)));
    } else {
        fields.extend(figures(row));
        for (base, cpu, rate) in [
            (Contender::Native, "cpu_ratio_native", "rate_ratio_native"),
            (
                Contender::Wasmtime,
                "cpu_ratio_wasmtime",
                "rate_ratio_wasmtime",
            ),
            (
                Contender::Unmetered,
                "cpu_ratio_unmetered",
                "rate_ratio_unmetered",
            ),
        ] {
            if let Some(ratio) = ratio(rows, row, base) {
                fields.push((cpu, json!(round(ratio.cpu, 3))));
                fields.push((rate, json!(round(ratio.rate, 3))));
            }
        }
    }
    // Written by hand because a JSON map would sort the keys, and a row is read from its name onwards.
    let fields: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("\"{key}\": {value}"))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn figures(row: &Row) -> [(&'static str, Value); 11] {
    [
        (
            "requests_per_second",
            whole(row.median(|sample| sample.requests_per_second)),
        ),
        ("p50_us", whole(row.median(|sample| sample.p50_us))),
        ("p99_us", whole(row.median(|sample| sample.p99_us))),
        (
            "cpu_us",
            json!(round(row.median(|sample| sample.cpu_us), 2)),
        ),
        (
            "cpu_us_min",
            json!(round(row.extreme(f64::min, |sample| sample.cpu_us), 2)),
        ),
        (
            "cpu_us_max",
            json!(round(row.extreme(f64::max, |sample| sample.cpu_us), 2)),
        ),
        ("busy", json!(round(row.median(|sample| sample.busy), 2))),
        ("wait", json!(round(row.median(|sample| sample.wait), 2))),
        (
            "first_answer_ms",
            json!(round(row.median(|sample| sample.first_answer_ms), 1)),
        ),
        (
            "memory_start_mib",
            json!(round(
                row.extreme(f64::max, |sample| sample.memory_start_mib),
                1
            )),
        ),
        (
            "memory_peak_mib",
            json!(round(
                row.extreme(f64::max, |sample| sample.memory_peak_mib),
                1
            )),
        ),
    ]
}

fn whole(value: f64) -> Value {
    json!(value.round() as u64)
}

/// Rounds to `digits` behind the point; more would be noise in a committed file.
fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_us: f64, requests_per_second: f64) -> Sample {
        Sample {
            requests_per_second,
            p50_us: 100.4,
            p99_us: 900.0,
            cpu_us,
            busy: 1.0,
            wait: 0.0,
            first_answer_ms: 40.0,
            memory_start_mib: 3.0,
            memory_peak_mib: cpu_us,
        }
    }

    fn row(contender: Contender, samples: Vec<Sample>) -> Row {
        Row {
            kind: "p2-fresh",
            connections: 32,
            contender,
            samples,
            invalid: None,
        }
    }

    fn rows() -> Vec<Row> {
        // The second round met a machine half as fast; the ratios within each round are 0.5, 0.5 and 0.25.
        vec![
            row(
                Contender::Native,
                vec![sample(5.0, 200.0), sample(10.0, 100.0), sample(5.0, 200.0)],
            ),
            row(
                Contender::Hostel,
                vec![sample(10.0, 100.0), sample(20.0, 50.0), sample(20.0, 50.0)],
            ),
        ]
    }

    #[test]
    fn medians_of_odd_even_and_no_values() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn ratios_pair_the_rounds() {
        let rows = rows();
        let found = ratio(&rows, &rows[1], Contender::Native).unwrap();
        assert_eq!(
            found,
            Ratio {
                cpu: 0.5,
                rate: 0.5
            }
        );
        assert_eq!(ratio(&rows, &rows[1], Contender::Wasmtime), None);
        assert_eq!(ratio(&rows, &rows[0], Contender::Native), None);
    }

    #[test]
    fn an_invalid_control_leaves_no_ratio() {
        let mut rows = rows();
        rows[0].invalid = Some("status 503: 3".to_owned());
        assert_eq!(ratio(&rows, &rows[1], Contender::Native), None);
    }

    #[test]
    fn ratios_stay_within_one_connection_count() {
        let mut rows = rows();
        rows[0].connections = 1;
        assert_eq!(ratio(&rows, &rows[1], Contender::Native), None);
    }

    #[test]
    fn the_table_shows_figures_ratios_and_invalid_rows() {
        let mut rows = rows();
        let mut broken = row(Contender::Wasmtime, vec![sample(1.0, 1.0)]);
        broken.invalid = Some("timeout: 2\nit said much".to_owned());
        rows.push(broken);
        let text = table(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[2].contains("hostel") && lines[2].contains("0.500"),
            "{text}"
        );
        assert!(lines[3].ends_with("INVALID: timeout: 2"), "{text}");
    }

    #[test]
    fn the_cost_of_the_budgets_is_judged_against_its_goal() {
        let mut rows = rows();
        assert_eq!(budgets(&rows), "");
        rows.push(row(
            Contender::Unmetered,
            vec![sample(9.5, 100.0), sample(19.0, 50.0), sample(19.0, 50.0)],
        ));
        let text = budgets(&rows);
        assert!(
            text.contains("p2-fresh at 32 connections leaves 0.950"),
            "{text}"
        );
        assert!(text.contains("holds"), "{text}");
        rows[2].samples = vec![sample(8.0, 100.0), sample(16.0, 50.0), sample(16.0, 50.0)];
        assert!(budgets(&rows).contains("0.800") && budgets(&rows).contains("MISSED"));
        let parsed: Value =
            serde_json::from_str(&json(&json!({"bench": "http"}), &rows).unwrap()).unwrap();
        assert_eq!(parsed["rows"][1]["cpu_ratio_unmetered"], 0.8);
    }

    #[test]
    fn the_json_is_valid_has_a_line_per_row_and_quotes_the_worst_memory() {
        let mut rows = rows();
        rows[0].samples.truncate(2);
        let mut broken = row(Contender::Wasmtime, Vec::new());
        broken.invalid = Some("ended under load\n/some/path".to_owned());
        rows.push(broken);
        let text = json(&json!({"bench": "http"}), &rows).unwrap();
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["bench"], "http");
        assert_eq!(parsed["rows"][1]["cpu_ratio_native"], 0.5);
        assert_eq!(parsed["rows"][1]["memory_peak_mib"], 20.0);
        assert_eq!(parsed["rows"][0]["p50_us"], 100);
        assert_eq!(parsed["rows"][0].get("cpu_ratio_native"), None);
        assert_eq!(parsed["rows"][2]["invalid"], "ended under load");
        assert!(!text.contains("/some/path"));
        assert_eq!(
            text.lines()
                .filter(|line| line.contains("\"kind\""))
                .count(),
            3
        );
    }

    #[test]
    fn a_report_without_a_head_is_an_error() {
        assert!(json(&json!({}), &[]).is_err());
    }
}
