//! The command line of `cargo xtask soak`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use super::rows::{ROWS, Row};

/// Shown for `--help` and behind every error of the command line.
pub(super) const USAGE: &str = "\
usage: cargo xtask soak [OPTIONS]

  --list            name the rows and their goals, and end
  --row NAME...     only these rows
  --scale F         every size and time times F, 0.01 to 1, for a try; what it finds proves nothing (default 1)
  --seed N          for what is random: orders, mutations, spoilt bits (default: another one each time)
  --out FILE        where the JSON goes (default: for a whole run at full scale, bench/results/YYYY-MM-DD-soak.json)
  --binary PATH     attack this binary instead of building the release one
  --guests FOLDER   take the guests from here instead of guests/out";

/// The command line, checked.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) list: bool,
    /// In the order of the table.
    pub(super) rows: Vec<&'static Row>,
    pub(super) scale: f64,
    pub(super) seed: u64,
    pub(super) out: Option<PathBuf>,
    pub(super) binary: Option<PathBuf>,
    pub(super) guests: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments behind `soak`.
    pub(super) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            list: false,
            rows: Vec::new(),
            scale: 1.0,
            seed: any_seed(),
            out: None,
            binary: None,
            guests: None,
        };
        let mut names = Vec::new();
        let mut args = args.iter().peekable();
        while let Some(name) = args.next() {
            match name.as_str() {
                "--list" => options.list = true,
                "--row" => {
                    while let Some(value) = args.next_if(|next| !next.starts_with("--")) {
                        names.extend(value.split(','));
                    }
                    if names.is_empty() {
                        bail!("--row needs a name\n\n{USAGE}");
                    }
                }
                _ => {
                    let value = args
                        .next()
                        .with_context(|| format!("{name} needs a value\n\n{USAGE}"));
                    options.set(name, value)?;
                }
            }
        }
        options.rows = select(&names)?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: Result<&String>) -> Result<()> {
        match name {
            "--scale" => self.scale = scale(value?)?,
            "--seed" => {
                let value = value?;
                self.seed = value
                    .parse()
                    .with_context(|| format!("--seed: `{value}` is no number"))?;
            }
            "--out" => self.out = Some(value?.into()),
            "--binary" => self.binary = Some(value?.into()),
            "--guests" => self.guests = Some(value?.into()),
            _ => bail!("unknown option `{name}`\n\n{USAGE}"),
        }
        Ok(())
    }

    /// Whether this run is the one that the specification quotes.
    pub(super) fn is_whole(&self) -> bool {
        self.rows.len() == ROWS.len() && self.scale >= 1.0
    }
}

/// The rows with these names, all of them for none.
fn select(names: &[&str]) -> Result<Vec<&'static Row>> {
    for name in names {
        if !ROWS.iter().any(|row| row.name == *name) {
            let all: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            bail!("there is no row `{name}`; there are {}", all.join(", "));
        }
    }
    let wanted = |row: &&Row| names.is_empty() || names.contains(&row.name);
    Ok(ROWS.iter().filter(wanted).collect())
}

fn scale(text: &str) -> Result<f64> {
    let number = text.parse().ok();
    let number = number.filter(|number| (0.01..=1.0).contains(number));
    number.with_context(|| format!("--scale: `{text}` is not between 0.01 and 1"))
}

/// A seed that differs from run to run; it is printed, so that a run can be repeated.
fn any_seed() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(1, |passed| passed.as_nanos() as u64 >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    fn names(options: &Options) -> Vec<&str> {
        options.rows.iter().map(|row| row.name).collect()
    }

    #[test]
    fn without_options_every_row_runs_at_full_scale() {
        let options = parse("").unwrap();
        assert_eq!(options.rows.len(), ROWS.len());
        assert!(options.is_whole() && !options.list && options.out.is_none());
    }

    #[test]
    fn every_option_is_taken() {
        let options =
            parse("--row trap,loop --scale 0.5 --seed 7 --out a.json --binary h --guests g --list")
                .unwrap();
        assert_eq!(names(&options), ["loop", "trap"]);
        assert_eq!((options.scale, options.seed), (0.5, 7));
        assert_eq!(options.out, Some("a.json".into()));
        assert_eq!(options.binary, Some("h".into()));
        assert_eq!(options.guests, Some("g".into()));
        assert!(options.list && !options.is_whole());
    }

    #[test]
    fn rows_are_named_in_every_way_and_each_runs_once() {
        let options = parse("--row loop spin --row trap --row loop").unwrap();
        assert_eq!(names(&options), ["loop", "spin", "trap"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, wanted) in [
            ("--row", "--row needs a name"),
            ("--row fire", "there is no row `fire`; there are loop, spin"),
            ("--scale 0", "`0` is not between"),
            ("--scale NaN", "`NaN` is not between"),
            ("--scale 2", "`2` is not between"),
            ("--seed x", "`x` is no number"),
            ("--seed", "--seed needs a value"),
            ("--fast 1", "unknown option `--fast`"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }
}
