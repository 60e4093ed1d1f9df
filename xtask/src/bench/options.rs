//! The command line of `cargo xtask bench http`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::contender::{Contender, KINDS, KINDS_DEFAULT, Kind};

/// Shown for `--help` and behind every error of the command line.
pub(super) const USAGE: &str = "\
usage: cargo xtask bench http [OPTIONS]

  --seconds N           length of one measured run (default 5)
  --rounds N            runs per contender, kind and connection count, taken in turns (default 3)
  --connections N,N     keep-alive connections (default 1,32,256)
  --kinds K,K           p2-fresh p2-reuse p3-fresh p3-reuse (default), p2std-fresh p2std-reuse; out-p2-fresh
                        out-p2-reuse out-p3-fresh out-p3-reuse (one outgoing request for each answer); cgi cgi-p2
                        (programs that print their answer, a fresh instance each); php (a form, by php-cgi)
  --subjects S,S        hostel, wasmtime (default: hostel, and wasmtime where it is on PATH), unmetered (Hostel with its
                        budgets off: `--subjects hostel,unmetered` says what the budgets cost)
  --out FILE            where the JSON goes (default bench/results/YYYY-MM-DD-http.json)
  --no-build            take the control, Hostel and the guests as they are built
  --hostel PATH         measure this binary instead of building Hostel
  --guests FOLDER       take the guests from here instead of guests/out";

/// The command line, checked.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) seconds: u32,
    pub(super) rounds: u32,
    pub(super) connections: Vec<u32>,
    pub(super) kinds: Vec<&'static Kind>,
    /// `None`: those that are there.
    pub(super) subjects: Option<Vec<Contender>>,
    pub(super) out: Option<PathBuf>,
    pub(super) build: bool,
    pub(super) hostel: Option<PathBuf>,
    pub(super) guests: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments behind `http`.
    pub(super) fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            seconds: 5,
            rounds: 3,
            connections: vec![1, 32, 256],
            kinds: KINDS.iter().take(KINDS_DEFAULT).collect(),
            subjects: None,
            out: None,
            build: true,
            hostel: None,
            guests: None,
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            if name == "--no-build" {
                options.build = false;
                continue;
            }
            let value = args
                .next()
                .with_context(|| format!("{name} needs a value\n\n{USAGE}"));
            options.set(name, value)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: Result<&String>) -> Result<()> {
        match name {
            "--seconds" => self.seconds = positive(name, value?)?,
            "--rounds" => self.rounds = positive(name, value?)?,
            "--connections" => self.connections = each(value?, |part| positive(name, part))?,
            "--kinds" => self.kinds = each(value?, Kind::find)?,
            "--subjects" => self.subjects = Some(each(value?, Contender::subject)?),
            "--out" => self.out = Some(value?.into()),
            "--hostel" => self.hostel = Some(value?.into()),
            "--guests" => self.guests = Some(value?.into()),
            _ => bail!("unknown option `{name}`\n\n{USAGE}"),
        }
        Ok(())
    }
}

fn each<T: PartialEq>(list: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let mut items = Vec::new();
    for part in list.split(',') {
        let item = parse(part.trim())?;
        ensure!(
            !items.contains(&item),
            "`{part}` is listed twice in `{list}`"
        );
        items.push(item);
    }
    Ok(items)
}

fn positive(name: &str, text: &str) -> Result<u32> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.with_context(|| format!("{name}: `{text}` is not a number above 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args)
    }

    #[test]
    fn without_options_the_defaults_of_the_usage_hold() {
        let options = parse("").unwrap();
        assert_eq!((options.seconds, options.rounds), (5, 3));
        assert_eq!(options.connections, [1, 32, 256]);
        let kinds: Vec<&str> = options.kinds.iter().map(|kind| kind.name).collect();
        assert_eq!(kinds, ["p2-fresh", "p2-reuse", "p3-fresh", "p3-reuse"]);
        assert!(options.build && options.subjects.is_none() && options.out.is_none());
    }

    #[test]
    fn every_option_is_taken() {
        let options = parse(
            "--seconds 2 --rounds 1 --connections 8,16 --kinds p3-fresh --subjects hostel --out a.json --no-build \
             --hostel h --guests g",
        )
        .unwrap();
        assert_eq!(
            (options.seconds, options.rounds, options.build),
            (2, 1, false)
        );
        assert_eq!(options.connections, [8, 16]);
        assert_eq!(options.kinds, [Kind::find("p3-fresh").unwrap()]);
        assert_eq!(options.subjects, Some(vec![Contender::Hostel]));
        assert_eq!(options.out, Some("a.json".into()));
        assert_eq!(options.hostel, Some("h".into()));
        assert_eq!(options.guests, Some("g".into()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("--second 5", "unknown option `--second`"),
            ("--fast", "unknown option `--fast`"),
            ("--seconds", "--seconds needs a value"),
            ("--seconds 0", "--seconds: `0` is not a number above 0"),
            ("--connections 1,x", "--connections: `x`"),
            ("--connections 8,8", "`8` is listed twice"),
            ("--kinds p9", "unknown kind `p9`"),
            ("--subjects spin", "unknown subject `spin`"),
        ];
        for (line, wanted) in cases {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(wanted), "{line}: {error}");
        }
    }
}
