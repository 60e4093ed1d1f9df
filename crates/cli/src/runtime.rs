//! Starts the host's runtime with its folder: compiled code in `compiled`, what guests store in `state`.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hostel_app::{ServerConfig, limits};
use hostel_host::{
    CompileCaps, Compiler, CompilerProcess, LoadError, LogSink, Runtime, RuntimeOptions,
};
use hostel_stores::embedded::EngineOptions;
use hostel_stores::sql::SqlOptions;
use hostel_stores::{Stores, StoresOptions, kv, messaging};

use crate::args::DataFlags;
use crate::compile_guest;
use crate::failure::Failure;
use crate::output::Meanwhile;

/// Starts the runtime. A folder that was asked for must work; without one the user's own is taken, else one among the
/// temporary files, else none, each with a notice. Nothing that guests store is made before one stores something.
pub(crate) fn start(
    flags: &DataFlags,
    config: &Arc<ServerConfig>,
    log: &LogSink,
    meanwhile: &Meanwhile,
) -> Result<Runtime, Failure> {
    let start = Start { flags, config, log };
    let own = own_folder(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"));
    match &flags.data {
        Some(folder) => Ok(start.with(Some(folder))?),
        // There is nothing to be tried: without a cache, nothing is made at the start.
        None if flags.no_cache => Ok(start.with(own.as_deref())?),
        None => start.in_first_of((own.as_deref(), &temporary_folder()), meanwhile),
    }
}

/// The folder of data that [`start`] begins with, if there is one.
pub(crate) fn folder(flags: &DataFlags) -> Option<PathBuf> {
    let own = || own_folder(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"));
    flags.data.clone().or_else(own)
}

/// Where guests keep their data; without a folder there are no embedded stores.
pub(crate) fn stores(data: Option<&Path>) -> Result<Stores, LoadError> {
    let data = data.map(|data| data.join("state"));
    let options = StoresOptions {
        data,
        engine: EngineOptions {
            writes_waiting: limits::STORE_WRITES_WAITING.size(),
            reads_waiting: limits::STORE_READS_WAITING.size(),
            group: limits::STORE_GROUP.size(),
            readers: limits::STORE_READERS.size(),
            file_bytes: limits::STORE_FILE_BYTES_MAX.default,
        },
        kv: kv::Bounds {
            key_bytes: limits::KEYVALUE_KEY_BYTES_MAX.size(),
            value_bytes: limits::KEYVALUE_VALUE_BYTES_MAX.size(),
            cache_bytes: limits::KEYVALUE_CACHE_BYTES.size(),
            memory_bytes: limits::KEYVALUE_MEMORY_BYTES.size(),
        },
        messaging: messaging::Bounds {
            message_bytes: limits::MESSAGE_BYTES_MAX.size(),
            backlog: limits::MESSAGE_BACKLOG.size(),
            backlog_bytes: limits::MESSAGE_BACKLOG_BYTES.size(),
            forget: limits::MESSAGE_FORGET_MS.duration(),
            group_topics: limits::MESSAGE_GROUP_TOPICS.size(),
        },
        sql: databases(),
        ..StoresOptions::default()
    };
    Stores::new(options).map_err(|cause| LoadError {
        component: String::new(),
        what: format!("the thread of the stores cannot be started: {cause}"),
        help: "raise the limit of processes, or stop others".into(),
    })
}

/// What the runtime is started with, whatever the folder.
struct Start<'a> {
    flags: &'a DataFlags,
    config: &'a Arc<ServerConfig>,
    log: &'a LogSink,
}

impl Start<'_> {
    fn with(&self, data: Option<&Path>) -> Result<Runtime, LoadError> {
        let Self { flags, config, log } = *self;
        let cache_dir = data.filter(|_| !flags.no_cache);
        Runtime::new(RuntimeOptions {
            cache_dir: cache_dir.map(|data| data.join("compiled")),
            log: log.clone(),
            memory: flags.memory,
            metered: !flags.unmetered,
            compiler: compiler(flags),
            stores: Some(stores(data)?),
            config: config.clone(),
        })
    }

    fn in_first_of(
        &self,
        (own, temporary): (Option<&Path>, &Path),
        meanwhile: &Meanwhile,
    ) -> Result<Runtime, Failure> {
        let cause = match own.map(|folder| self.with(Some(folder))) {
            Some(Ok(runtime)) => return Ok(runtime),
            Some(Err(error)) => error.what,
            None => "neither XDG_DATA_HOME nor HOME names a folder".to_owned(),
        };
        match self.with(Some(temporary)) {
            Ok(runtime) => {
                let place = temporary.display();
                meanwhile.later(format!(
                    "{cause}; compiled code, and what guests store, is kept in {place} instead"
                ));
                Ok(runtime)
            }
            Err(error) => {
                meanwhile.later(format!(
                    "{cause}; {}; compiled code is not kept",
                    error.what
                ));
                Ok(self.with(None)?)
            }
        }
    }
}

fn databases() -> SqlOptions {
    SqlOptions {
        database_bytes: limits::SQL_DATABASE_BYTES.default,
        value_bytes: limits::SQL_VALUE_BYTES.size(),
        temporary_bytes: limits::SQL_TEMPORARY_BYTES.default,
        readers: limits::SQL_READERS.size(),
        connections: limits::SQL_CONNECTIONS.size(),
        transaction: limits::SQL_TRANSACTION_MS.duration(),
        idle: limits::SQL_IDLE_MS.duration(),
    }
}

fn compiler(flags: &DataFlags) -> Compiler {
    if flags.unmetered {
        // The child compiles for guests with budgets.
        return Compiler::InProcess;
    }
    Compiler::Child(CompilerProcess {
        // Not the path by which it was started: this one is right also after an upgrade has put another file there.
        executable: "/proc/self/exe".into(),
        arguments: vec![compile_guest::COMMAND.into()],
        caps: CompileCaps::default(),
    })
}

/// The folder of the XDG base directory specification, which wants a relative path ignored.
fn own_folder(data_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute =
        |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(data_home)
        .or_else(|| Some(absolute(home)?.join(".local/share")))
        .map(|data| data.join("hostel"))
}

/// One folder per user; the runtime refuses it if another user made it first.
fn temporary_folder() -> PathBuf {
    let user = std::fs::metadata("/proc/self")
        .map_or_else(|_| "user".to_owned(), |own| own.uid().to_string());
    std::env::temp_dir().join(format!("hostel-{user}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_folder_follows_the_base_directory_specification() {
        let folder = |data_home: &str, home: &str| {
            let set = |value: &str| (!value.is_empty()).then(|| OsString::from(value));
            own_folder(set(data_home), set(home)).map(|path| path.display().to_string())
        };
        assert_eq!(folder("/data", "/home/a").as_deref(), Some("/data/hostel"));
        assert_eq!(
            folder("", "/home/a").as_deref(),
            Some("/home/a/.local/share/hostel")
        );
        assert_eq!(
            folder("relative", "/home/a").as_deref(),
            Some("/home/a/.local/share/hostel")
        );
        assert_eq!(folder("", ""), None);
    }

    /// The notices after starting with these folders, and whether the temporary one was made.
    fn started(own: Option<&str>, temporary: &Path) -> (Vec<String>, bool) {
        let meanwhile = Meanwhile::default();
        let folders = (own.map(Path::new), temporary);
        let start = Start {
            flags: &DataFlags::default(),
            config: &Arc::default(),
            log: &LogSink::null(),
        };
        start.in_first_of(folders, &meanwhile).expect("a runtime");
        let made = temporary.join("compiled").is_dir();
        let _absent = std::fs::remove_dir_all(temporary);
        (meanwhile.waiting(), made)
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_replaced_and_that_is_said() {
        let good = |name: &str| {
            std::env::temp_dir().join(format!("hostel-test-{}-{name}", std::process::id()))
        };
        let nowhere = Path::new("/dev/null/hostel");
        let own = good("own");
        assert_eq!(started(own.to_str(), nowhere), (Vec::new(), false));
        std::fs::remove_dir_all(own).expect("the user's own folder was made");
        let (notices, made) = started(Some("/dev/null/own"), &good("temporary"));
        assert!(
            made && notices.len() == 1 && notices[0].contains("is kept in"),
            "{notices:?}"
        );
        let (notices, _) = started(None, &good("homeless"));
        assert!(
            notices[0].starts_with("neither XDG_DATA_HOME nor HOME"),
            "{notices:?}"
        );
        let (notices, made) = started(Some("/dev/null/own"), nowhere);
        assert!(
            !made && notices[0].ends_with("compiled code is not kept"),
            "{notices:?}"
        );
    }

    #[test]
    fn a_folder_that_was_asked_for_has_to_work() {
        let flags = DataFlags {
            data: Some("/dev/null/x".into()),
            ..DataFlags::default()
        };
        let failure = start(
            &flags,
            &Arc::default(),
            &LogSink::null(),
            &Meanwhile::default(),
        )
        .err()
        .expect("refused");
        assert!(
            failure.problems[0].what.contains("/dev/null/x"),
            "{failure:?}"
        );
        let flags = DataFlags {
            no_cache: true,
            ..DataFlags::default()
        };
        assert!(
            start(
                &flags,
                &Arc::default(),
                &LogSink::null(),
                &Meanwhile::default()
            )
            .is_ok()
        );
    }
}
