//! The variables of a manifest: what is known of each now, and what is only known where it comes from.
//!
//! A value that was given (on the command line, in `server.toml`, as the manifest's default) and is no secret is filled in
//! and done with. One that may change stays a name in the text, and so does a secret, which is then in no text at all.
//! Precedence: the command line, then `server.toml`, then the default.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Assembly, some_of};
use crate::error::Kind;
use crate::fields::At;
use crate::grant::GrantArg;
use crate::limits;
use crate::manifest::Variable as Declared;
use crate::nearest::nearest;
use crate::resolve::Operator;
use crate::secret::Secret;
use crate::text::{Known, Text, TextError};
use crate::variable::{Origin, Variable};

/// What is known of a variable when the app is resolved.
#[derive(Debug)]
pub(super) enum Value {
    /// All of it, and who gave it.
    Known(String, Giver),
    /// Where it comes from.
    Later(Variable),
    /// That nobody gave it one, which was reported.
    Missing {
        /// Whether it is a secret.
        secret: bool,
    },
}

/// Who gave a variable its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Giver {
    /// The command line: the operator, for this app.
    CommandLine,
    /// The operator's file, which is for all apps, or the manifest, as the default.
    Elsewhere,
}

impl Value {
    fn is_secret(&self) -> bool {
        match self {
            Self::Known(..) => false,
            Self::Later(variable) => variable.secret,
            Self::Missing { secret } => *secret,
        }
    }
}

/// The secrets that every component may have.
pub(super) fn secrets_of(operator: &Operator) -> BTreeSet<String> {
    let secret = |grant: &GrantArg| match grant {
        GrantArg::Secret(name) => Some(name.clone()),
        _ => None,
    };
    operator.grants.iter().filter_map(secret).collect()
}

impl Assembly<'_, '_> {
    /// Looks for a value, or a place of it, for each variable. One that has none is reported here, and not at each of its
    /// uses.
    pub(super) fn values(&mut self, declared: &BTreeMap<String, Declared>) {
        let of_operator = secrets_of(self.operator);
        for (name, variable) in declared {
            let secret = variable.secret || of_operator.contains(name);
            let value = self.value(name, variable.default.as_deref(), secret);
            if variable.required && matches!(value, Value::Missing { .. }) {
                self.missing(name, secret, Some(variable.span.clone()));
            }
            if self.operator.server.uses(name) {
                let what = format!(
                    "the variable \"{name}\" is the operator's own: server.toml uses it in a url"
                );
                let help = "call the guest's variable by another name";
                self.report
                    .at(Kind::BadValue, variable.span.clone(), what, help);
            }
            self.values.insert(name.clone(), value);
        }
        // Whoever grants a secret on the command line declares it, too: a component without a manifest has no other way.
        for name in of_operator {
            if declared.contains_key(&name) {
                continue;
            }
            let value = self.value(&name, None, true);
            if matches!(value, Value::Missing { .. }) {
                self.missing(&name, true, None);
            }
            self.values.insert(name, value);
        }
        for name in self.operator.vars.keys() {
            if self.values.contains_key(name) || self.operator.server.uses(name) {
                continue;
            }
            let what = format!("the manifest declares no variable \"{name}\"");
            let help = variable_help(name, declared.keys());
            // The value may be a secret, so the option is named without it.
            let option = format!("--var {name}=...");
            self.report
                .option(Kind::UnknownVariable, option, &what, &help);
        }
    }

    fn value(&self, name: &str, default: Option<&str>, secret: bool) -> Value {
        let server = &self.operator.server;
        let given = self.operator.vars.get(name);
        let mut origins = match given {
            Some(value) => vec![Origin::Given(Secret::new(value.as_str()))],
            None => server.origins(name),
        };
        // Whoever named a place does not expect another value from elsewhere when it is empty.
        let named = given.is_some() || server.variables.contains_key(name);
        // A value of the operator's file may be meant for another app, whose author did not have to guess its name.
        let giver = match given {
            Some(_) => Giver::CommandLine,
            None => Giver::Elsewhere,
        };
        if let Some(default) = default.filter(|_| !named) {
            origins.push(Origin::Given(Secret::new(default)));
        }
        match origins.as_slice() {
            [] => Value::Missing { secret },
            [Origin::Given(value)] if !secret => Value::Known(value.expose().to_owned(), giver),
            _ => Value::Later(Variable { secret, origins }),
        }
    }

    fn missing(&mut self, name: &str, secret: bool, span: Option<Range<usize>>) {
        let what = format!("the variable \"{name}\" has no value");
        let help = match secret {
            true => format!(
                "say in server.toml (--config) where it is: [variables] with {name} = {{ file = \"...\" }}; or --var {name}=..."
            ),
            false => format!("give it one: --var {name}=..."),
        };
        match span {
            Some(span) => self.report.at(Kind::MissingVariable, span, what, help),
            None => {
                let option = format!("--grant secrets={name}");
                self.report
                    .option(Kind::MissingVariable, option, &what, &help);
            }
        }
    }

    /// The secrets that a component may have, the operator's grants included.
    pub(super) fn secrets(&mut self, granted: &[At<String>]) -> BTreeSet<String> {
        let mut all = secrets_of(self.operator);
        for At { value: name, span } in granted {
            match self.values.get(name) {
                Some(value) if value.is_secret() => {}
                Some(_) => {
                    let what = format!("the variable \"{name}\" is not a secret");
                    let help = format!("declare it as one: {name} = {{ secret = true }}");
                    self.report.at(Kind::BadGrant, span.clone(), what, help);
                }
                None => {
                    let what = format!("there is no variable \"{name}\"");
                    let help = match nearest(name, self.values.keys().map(String::as_str)) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => {
                            format!("declare it: [variables] with {name} = {{ secret = true }}")
                        }
                    };
                    self.report
                        .at(Kind::UnknownVariable, span.clone(), what, help);
                }
            }
            all.insert(name.clone());
        }
        all
    }

    /// Secrets of the app that are not among these.
    pub(super) fn withheld(&self, secrets: &BTreeSet<String>) -> BTreeSet<String> {
        let secret = |(name, value): (&String, &Value)| {
            (value.is_secret() && !secrets.contains(name)).then(|| name.clone())
        };
        self.values.iter().filter_map(secret).collect()
    }

    /// The variables that are left in these texts, and the secrets.
    pub(super) fn variables<'t>(
        &self,
        texts: impl Iterator<Item = &'t Text>,
        secrets: &'t BTreeSet<String>,
    ) -> BTreeMap<String, Variable> {
        let names = texts.flat_map(Text::variables);
        let names = names.chain(secrets.iter().map(String::as_str));
        let variable = |name: &str| match self.values.get(name) {
            Some(Value::Later(variable)) => Some((name.to_owned(), variable.clone())),
            _ => None,
        };
        names.filter_map(variable).collect()
    }

    /// A value, with those of its variables filled in that are known.
    pub(super) fn expanded(&mut self, text: &At<String>, secrets: &BTreeSet<String>) -> Text {
        let values = &self.values;
        let known = |name: &str| match values.get(name) {
            Some(Value::Known(value, _)) => Known::Value(value),
            Some(Value::Later(_)) => Known::Later,
            Some(Value::Missing { .. }) => Known::Value(""),
            None => Known::Unknown,
        };
        let settled =
            Text::parse(&text.value).and_then(|parsed| parsed.settle(&mut self.room, known));
        let error = match settled {
            Ok(settled) => {
                self.check_secrets(&settled, &text.span, secrets);
                return settled;
            }
            Err(error) => error,
        };
        let (kind, what, help) = match error {
            TextError::Unknown(name) => (
                Kind::UnknownVariable,
                format!("there is no variable \"{name}\""),
                variable_help(&name, values.keys()),
            ),
            TextError::TooLong => (
                Kind::TooMany,
                format!(
                    "the values of this manifest take more than {}",
                    limits::EXPANDED_BYTES_MAX.shown()
                ),
                "use shorter variables, or a file".to_owned(),
            ),
            TextError::Open | TextError::NoName(_) => {
                let (what, help) = error.in_words();
                (Kind::BadTemplate, what, help.to_owned())
            }
        };
        self.report.at(kind, text.span.clone(), what, help);
        Text::default()
    }

    /// A secret is only for components that were granted it, whatever the way.
    fn check_secrets(&mut self, text: &Text, span: &Range<usize>, secrets: &BTreeSet<String>) {
        for name in text.variables() {
            let secret = self.values.get(name).is_some_and(Value::is_secret);
            if secret && !secrets.contains(name) {
                let what = format!("the secret \"{name}\" is not granted to this component");
                let help = format!("add it to its grants: secrets = [\"{name}\"]");
                self.report.at(Kind::BadGrant, span.clone(), what, help);
            }
        }
    }
}

fn variable_help<'n>(name: &str, declared: impl Iterator<Item = &'n String> + Clone) -> String {
    match nearest(name, declared.clone().map(String::as_str)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if declared.clone().next().is_none() => {
            format!("declare it: [variables] with {name} = \"...\"")
        }
        None => format!(
            "the variables are {}",
            some_of(declared.map(String::as_str))
        ),
    }
}
