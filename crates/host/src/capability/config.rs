//! Configuration values and secrets of guests, as they are at this moment.
//!
//! `config` and secrets are fetched anew each time a guest asks for one. Arguments and environment are part of an instance: one
//! that began with other values than those of now is not used again ([`Settings::generation`]). What a component may ask for
//! was decided when the app was resolved: a name that is neither in its `config` nor among its secrets does not exist for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex};

use hostel_app::{Component, FillError, Secret, Text, limits};

use crate::capability::variables::{NoValue, Variables};
use crate::lock::lock;

/// The values of one component.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    written: Arc<Written>,
    variables: Arc<Variables>,
    /// What the first instance begins with, and every one where nothing of it may change.
    first: Arc<Start>,
    /// What the last one began with, where something may: requests of all threads would meet at this lock.
    last: Option<Mutex<Arc<Start>>>,
}

/// What the manifest says.
#[derive(Debug, Default, Clone)]
struct Written {
    args: Vec<Text>,
    env: Vec<(String, Text)>,
    config: BTreeMap<String, Text>,
    secrets: BTreeSet<String>,
    withheld: BTreeSet<String>,
}

/// What an instance begins with and then keeps.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    generation: u64,
}

/// Without the values, which may be secret.
impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Why a guest did not get a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigError {
    /// It is a secret that the component was not granted.
    Denied(String),
    /// There is one, but not at the moment.
    NoValue(NoValue),
    /// It is longer than any value may be.
    TooLong(String),
}

/// For the operator.
impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(name) => write!(
                f,
                "the secret \"{name}\" was not granted; the line that would grant it: secrets = [\"{name}\"]"
            ),
            Self::NoValue(error) => error.fmt(f),
            Self::TooLong(name) => write!(
                f,
                "the value of \"{name}\" is longer than {}",
                limits::EXPANDED_BYTES_MAX.shown()
            ),
        }
    }
}

impl Settings {
    /// The values of a component whose arguments begin with `program`. Each has to be there now.
    pub(crate) fn new(program: String, component: &Component) -> Result<Self, NoValue> {
        let args = std::iter::once(Text::literal(program));
        let written = Written {
            args: args.chain(component.args.iter().cloned()).collect(),
            env: component.env.clone(),
            config: component.config.clone(),
            secrets: component.grants.secrets.clone(),
            withheld: component.withheld.clone(),
        };
        let variables = Variables::new(&component.variables);
        for name in component.variables.keys() {
            variables.get(name)?;
        }
        Self::started(written, Arc::new(variables))
    }

    /// The same with other arguments.
    pub(crate) fn with_args(&self, args: &[String]) -> Result<Self, NoValue> {
        let written = Written {
            args: args.iter().map(|arg| Text::literal(arg.as_str())).collect(),
            ..self.written.as_ref().clone()
        };
        Self::started(written, self.variables.clone())
    }

    /// The same for one run of a program, with other arguments behind its name and more variables in its environment.
    pub(crate) fn with_job(
        &self,
        args: Option<Vec<String>>,
        env: Vec<(String, String)>,
    ) -> Result<Self, NoValue> {
        let mut written = self.written.as_ref().clone();
        if let Some(args) = args {
            written.args.truncate(1);
            written.args.extend(args.into_iter().map(Text::literal));
        }
        for (name, value) in env {
            written.env.retain(|(other, _)| *other != name);
            written.env.push((name, Text::literal(value)));
        }
        Self::started(written, self.variables.clone())
    }

    fn started(written: Written, variables: Arc<Variables>) -> Result<Self, NoValue> {
        let texts = written.args.iter();
        let mut texts = texts.chain(written.env.iter().map(|(_, value)| value));
        let moves = texts.any(|text| text.constant().is_none());
        let first = Arc::new(written.start(&variables, 0)?);
        Ok(Self {
            written: Arc::new(written),
            variables,
            last: moves.then(|| Mutex::new(first.clone())),
            first,
        })
    }

    /// What an instance that is made now begins with. Where a value cannot be had at the moment that is what the last one
    /// began with, and `report` is told why.
    pub(crate) fn start(&self, report: impl FnOnce(&NoValue)) -> Arc<Start> {
        let Some(last) = &self.last else {
            return self.first.clone();
        };
        let mut last = lock(last);
        match self.written.start(&self.variables, last.generation) {
            Ok(now) if now == **last => {}
            Ok(now) => {
                let generation = last.generation.wrapping_add(1);
                *last = Arc::new(Start { generation, ..now });
            }
            Err(error) => report(&error),
        }
        last.clone()
    }

    /// Changes whenever arguments or environment do; an instance of another generation is not to be used again.
    pub(crate) fn generation(&self) -> u64 {
        match self.last {
            Some(_) => self.start(|_| {}).generation,
            None => 0,
        }
    }

    /// The value of a configuration key, or of a secret; `None` if there is neither.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Secret>, ConfigError> {
        if let Some(text) = self.written.config.get(key) {
            return self.filled(key, text).map(Some);
        }
        if self.written.secrets.contains(key) {
            return self
                .variables
                .get(key)
                .map(Some)
                .map_err(ConfigError::NoValue);
        }
        match self.written.withheld.contains(key) {
            true => Err(ConfigError::Denied(key.to_owned())),
            false => Ok(None),
        }
    }

    /// All configuration values with their keys, without those that hold a secret.
    pub(crate) fn all(&self) -> Result<Vec<(String, Secret)>, ConfigError> {
        let open = |text: &Text| {
            let mut names = text.variables();
            !names.any(|name| self.written.secrets.contains(name))
        };
        let listed = self.written.config.iter().filter(|(_, text)| open(text));
        let value = |(key, text): (&String, &Text)| Ok((key.clone(), self.filled(key, text)?));
        listed.map(value).collect()
    }

    fn filled(&self, key: &str, text: &Text) -> Result<Secret, ConfigError> {
        let most = limits::EXPANDED_BYTES_MAX.size();
        match text.fill(most, |name| Value::of(&self.variables, name)) {
            Ok(value) => Ok(Secret::new(value)),
            Err(FillError::NoValue(error)) => Err(ConfigError::NoValue(error)),
            Err(FillError::TooLong) => Err(ConfigError::TooLong(key.to_owned())),
        }
    }
}

impl Start {
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }
}

impl Written {
    fn start(&self, variables: &Variables, generation: u64) -> Result<Start, NoValue> {
        let filled = |text: &Text| {
            let most = limits::EXPANDED_BYTES_MAX.size();
            let filled = text.fill(most, |name| Value::of(variables, name));
            filled.map_err(|error| match error {
                FillError::NoValue(error) => error,
                FillError::TooLong => NoValue {
                    name: text.variables().next().unwrap_or_default().to_owned(),
                    why: format!(
                        "with it a value is longer than {}",
                        limits::EXPANDED_BYTES_MAX.shown()
                    ),
                },
            })
        };
        let env = self.env.iter();
        let env = env.map(|(name, text)| Ok((name.clone(), filled(text)?)));
        Ok(Start {
            args: self.args.iter().map(filled).collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
            generation,
        })
    }
}

/// A variable's value on its way into a text.
pub(crate) struct Value(Secret);

impl Value {
    pub(crate) fn of(variables: &Variables, name: &str) -> Result<Self, NoValue> {
        variables.get(name).map(Self)
    }
}

impl AsRef<str> for Value {
    fn as_ref(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use hostel_app::{Operator, ServerConfig, resolve};

    use super::*;

    const MANIFEST: &str = r#"
        [app]
        name = "a"
        [variables]
        title = "t"
        region = { required = true }
        key = { secret = true }
        other = { secret = true }
        [component.a]
        source = "(module)"
        args = ["{{ title }}"]
        env = { WHERE = "in {{ region }}" }
        config = { where = "in {{ region }}", title = "{{ title }}", key2 = "<{{ key }}>" }
        [component.a.grants]
        secrets = ["key"]
        [[http]]
        route = "/..."
        component = "a"
    "#;

    const SERVER: &str = r#"
        [variables]
        region = { file = "region" }
        key = { file = "key" }
        other = "hunter3"
    "#;

    fn component(folder: &Path) -> Component {
        fs::write(folder.join("hostel.toml"), MANIFEST).unwrap();
        fs::write(folder.join("server.toml"), SERVER).unwrap();
        let server = ServerConfig::read(&folder.join("server.toml")).unwrap();
        let operator = Operator {
            server: Arc::new(server),
            ..Operator::default()
        };
        let mut app = resolve(folder, &operator).unwrap().app;
        app.components.remove(0)
    }

    fn get(settings: &Settings, key: &str) -> Result<Option<String>, String> {
        let value = settings.get(key).map_err(|error| error.to_string())?;
        Ok(value.map(|value| value.expose().to_owned()))
    }

    #[test]
    fn values_are_those_of_now_and_an_instance_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let component = component(dir.path());
        let missing = Settings::new("a".to_owned(), &component).unwrap_err();
        assert_eq!(missing.to_string(), "the variable \"key\" has no value");

        write("region", "eu");
        write("key", "hunter2");
        let settings = Settings::new("a".to_owned(), &component).unwrap();
        let first = settings.start(|_| {});
        assert_eq!(first.args, ["a", "t"]);
        assert_eq!(first.env, [("WHERE".to_owned(), "in eu".to_owned())]);
        assert_eq!(get(&settings, "where"), Ok(Some("in eu".to_owned())));
        assert_eq!(get(&settings, "key"), Ok(Some("hunter2".to_owned())));
        assert_eq!(first.generation(), settings.generation());

        write("key", "hunter4");
        assert_eq!(get(&settings, "key2"), Ok(Some("<hunter4>".to_owned())));
        assert_eq!(
            first.generation(),
            settings.generation(),
            "no instance has it"
        );
        write("region", "us");
        assert_eq!(get(&settings, "where"), Ok(Some("in us".to_owned())));
        assert_ne!(first.generation(), settings.generation());
        let second = settings.start(|_| {});
        assert_eq!(second.env, [("WHERE".to_owned(), "in us".to_owned())]);

        fs::remove_file(dir.path().join("region")).unwrap();
        let mut told = None;
        let third = settings.start(|error| told = Some(error.to_string()));
        assert_eq!(third, second, "better the value of before than none");
        assert_eq!(
            told.as_deref(),
            Some("the variable \"region\" has no value")
        );
        assert!(get(&settings, "where").is_err());
    }

    #[test]
    fn what_was_not_granted_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("region"), "eu").unwrap();
        fs::write(dir.path().join("key"), "hunter2").unwrap();
        let settings = Settings::new("a".to_owned(), &component(dir.path())).unwrap();
        assert_eq!(get(&settings, "nothing"), Ok(None));
        assert_eq!(get(&settings, "region"), Ok(None), "not part of config");
        let denied = get(&settings, "other").unwrap_err();
        assert!(denied.ends_with("secrets = [\"other\"]"), "{denied}");
        let keys: Vec<String> = settings
            .all()
            .unwrap()
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        assert_eq!(keys, ["title", "where"], "without what holds a secret");
        assert!(!format!("{settings:?}").contains("hunter"), "{settings:?}");
    }

    #[test]
    fn a_command_has_its_own_arguments() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("region"), "eu").unwrap();
        fs::write(dir.path().join("key"), "hunter2").unwrap();
        let settings = Settings::new("a".to_owned(), &component(dir.path())).unwrap();
        let other = settings.with_args(&["{{ x }}".to_owned()]).unwrap();
        assert_eq!(other.start(|_| {}).args, ["{{ x }}"]);
        assert_eq!(other.start(|_| {}).env.len(), 1);
    }
}
