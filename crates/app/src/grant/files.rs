//! Host directories that a guest sees.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::GrantError;

/// One host directory that the guest sees under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// The name that the guest sees, such as `/site`; never empty.
    pub guest: String,
    /// The directory on the host; it existed when the grant was made.
    pub host: PathBuf,
    /// Whether the guest may create, change and delete; reading is always allowed.
    pub write: bool,
}

impl FileGrant {
    /// The directory `host` under the name `guest`.
    ///
    /// # Errors
    /// The guest's name is empty or holds a NUL; the host's directory does not exist or is something else.
    pub fn new(guest: &str, host: &Path, write: bool) -> Result<Self, GrantError> {
        if guest.is_empty() || guest.contains('\0') {
            return Err(GrantError::new(
                format!("{guest:?} is not a directory name for the guest"),
                "write the name that the guest opens, for example /site",
            ));
        }
        match std::fs::metadata(host) {
            Ok(found) if found.is_dir() => Ok(Self {
                guest: guest.to_owned(),
                host: host.to_owned(),
                write,
            }),
            Ok(_) => Err(GrantError::new(
                format!("\"{}\" is not a directory", host.display()),
                "grant the directory that the file is in",
            )),
            Err(error) => Err(GrantError::new(
                format!(
                    "cannot open the directory \"{}\": {}",
                    host.display(),
                    plain(&error)
                ),
                "create it, or correct the path",
            )),
        }
    }
}

impl FromStr for FileGrant {
    type Err = GrantError;

    /// Parses what `--dir` takes: `HOST`, `HOST::GUEST`, and either with `:ro` at the end for read-only. With `HOST`
    /// alone the guest sees the directory under the very name that was written.
    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (paths, write) = match text.strip_suffix(":ro") {
            Some(paths) => (paths, false),
            None => (text, true),
        };
        let (host, guest) = paths.split_once("::").unwrap_or((paths, paths));
        if host.is_empty() {
            return Err(GrantError::new(
                format!("\"{text}\" names no directory of the host"),
                "write HOST, HOST::GUEST or HOST::GUEST:ro",
            ));
        }
        Self::new(guest, Path::new(host), write)
    }
}

/// The error in words, without the operating system's number.
pub(crate) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "it does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms() {
        let dir = tempfile::tempdir().expect("a directory");
        let host = dir.path().to_str().expect("UTF-8");
        let grant = |guest: &str, write| FileGrant {
            guest: guest.to_owned(),
            host: dir.path().to_owned(),
            write,
        };
        assert_eq!(host.parse(), Ok(grant(host, true)));
        assert_eq!(format!("{host}:ro").parse(), Ok(grant(host, false)));
        assert_eq!(format!("{host}::/data").parse(), Ok(grant("/data", true)));
        assert_eq!(
            format!("{host}::/data:ro").parse(),
            Ok(grant("/data", false))
        );
    }

    #[test]
    fn what_is_refused_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("note.txt");
        std::fs::write(&file, "x").expect("a file");
        let missing = dir.path().join("missing");
        for (text, what) in [
            (
                String::new(),
                "\"\" names no directory of the host".to_owned(),
            ),
            (
                "::/data".to_owned(),
                "\"::/data\" names no directory of the host".to_owned(),
            ),
            (
                format!("{}::", dir.path().display()),
                "\"\" is not a directory name for the guest".to_owned(),
            ),
            (
                file.display().to_string(),
                format!("\"{}\" is not a directory", file.display()),
            ),
            (
                format!("{}::/x", missing.display()),
                format!(
                    "cannot open the directory \"{}\": it does not exist",
                    missing.display()
                ),
            ),
            (
                "a\0b::/x".to_owned(),
                "cannot open the directory \"a\0b\": invalid input parameter".to_owned(),
            ),
        ] {
            let error = text.parse::<FileGrant>().expect_err(&text);
            assert_eq!(error.what, what);
            assert!(!error.help.is_empty());
        }
    }
}
