//! `hostel check --config server.toml`: reaches every backend that the file names, and changes nothing there.
//!
//! All are reached at once, each with its own time. What the host keeps itself (`embedded:`, `memory:`) is not opened: a server
//! that is running has it.

use std::time::Duration;

use hostel_app::ServerConfig;
use hostel_host::{LabelledPlace, places};
use hostel_stores::place::{Backend, Kind, Place, PlaceError};
use hostel_stores::{Scope, Stores, blob, kv, messaging, sql};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::{Failure, Kind as Who, Problem};

/// What a driver may take beyond the time of the label, to say what is wrong in its own words.
const GRACE: Duration = Duration::from_secs(1);

/// What became of one label of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Checked {
    /// `keyvalue`, `blobstore`, `sql` or `messaging`.
    pub(crate) kind: &'static str,
    pub(crate) label: String,
    /// Its line in the file.
    pub(crate) line: usize,
    /// Where it is, without user and password; missing where the URL was not understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) backend: Option<String>,
    /// What is wrong, and how to mend it; printed as the command's error.
    #[serde(skip)]
    wrong: Option<(String, String)>,
}

/// Reaches them all, in the order of the file.
pub(crate) fn check(
    config: &ServerConfig,
    app: &str,
    stores: &Stores,
) -> Result<Vec<Checked>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        let what = format!("no event loop: {error}");
        Failure::new(Who::Host, what, "check `ulimit -n` and `ulimit -u`")
    })?;
    let mut checked = runtime.block_on(async {
        let mut all = JoinSet::new();
        for labelled in places(config) {
            let (stores, scope) = (stores.clone(), Scope::new(app, &labelled.label));
            all.spawn(async move { one(labelled, scope, &stores).await });
        }
        all.join_all().await
    });
    checked.sort_by_key(|checked| checked.line);
    // A driver may still wait for a server that does not answer.
    runtime.shutdown_background();
    Ok(checked)
}

/// The labels with which something is wrong, as an error of the command.
pub(crate) fn failure(file: &str, checked: &[Checked]) -> Option<Failure> {
    let problems = checked.iter().filter_map(|checked| problem(file, checked));
    let problems: Vec<Problem> = problems.collect();
    (!problems.is_empty()).then(|| Failure::of(Who::Backend, problems))
}

fn problem(file: &str, checked: &Checked) -> Option<Problem> {
    let (what, help) = checked.wrong.as_ref()?;
    let place = checked.backend.as_deref();
    let place = place.map_or(String::new(), |place| format!(" at {place}"));
    Some(Problem {
        file: Some(file.to_owned()),
        line: Some(checked.line),
        what: format!("[{}.{}]{place}: {what}", checked.kind, checked.label),
        help: Some(help.clone()),
        ..Problem::default()
    })
}

async fn one(labelled: LabelledPlace, scope: Option<Scope>, stores: &Stores) -> Checked {
    let LabelledPlace {
        kind,
        label,
        line,
        place,
    } = labelled;
    let backend = place.as_ref().ok().map(Place::to_string);
    let outcome = match (place, scope) {
        (Ok(place), Some(scope)) => reach(&place, &scope, stores).await,
        (Err(PlaceError { what, help }), _) => Err((what, help)),
        (Ok(_), None) => Err((
            "the label is no plain name".to_owned(),
            "use up to 64 letters, digits, `-` and `_`".to_owned(),
        )),
    };
    Checked {
        kind: kind.name(),
        label,
        line,
        backend,
        wrong: outcome.err(),
    }
}

/// What is wrong, and how to mend it.
type Outcome = Result<(), (String, String)>;

async fn reach(place: &Place, scope: &Scope, stores: &Stores) -> Outcome {
    if !matches!(place.backend, Backend::Server(_)) {
        return Ok(());
    }
    let opened = |error: PlaceError| (error.what, error.help);
    let asked = async {
        match place.kind {
            Kind::KeyValue => {
                let store = stores.kv(place, scope).map_err(opened)?;
                store.check().await.map_err(|error| match error {
                    kv::Error::Failed(failure) => advice(&failure),
                    other => plain(&other),
                })
            }
            Kind::Blob => {
                let store = stores.blob(place, scope).map_err(opened)?;
                match store.check().await {
                    // It is made with the first use.
                    Ok(()) | Err(blob::Error::NoContainer) => Ok(()),
                    Err(blob::Error::Failed(failure)) => Err(advice(&failure)),
                    Err(other) => Err(plain(&other)),
                }
            }
            Kind::Sql => {
                let store = stores.sql(place, scope).map_err(opened)?;
                store.check().await.map_err(|error| match error {
                    sql::Error::Failed(failure) => advice(&failure),
                    other => plain(&other),
                })
            }
            Kind::Messaging => {
                let store = stores.messaging(place, scope).map_err(opened)?;
                store.check().await.map_err(|error| match error {
                    messaging::Error::Failed(failure) => advice(&failure),
                    other => plain(&other),
                })
            }
        }
    };
    match timeout(place.timeout + GRACE, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Err(advice(&hostel_stores::Failure::TimedOut(place.timeout))),
    }
}

fn plain(error: &dyn std::error::Error) -> (String, String) {
    (
        error.to_string(),
        "check the url, and the server's own log".to_owned(),
    )
}

fn advice(failure: &hostel_stores::Failure) -> (String, String) {
    use hostel_stores::Failure as F;
    let help = match failure {
        F::Unavailable(_) => "start the server, or correct host and port in the url",
        F::TimedOut(_) => "see whether the server answers others, or raise `timeout`",
        F::Resting(_) => "try again in a moment",
        F::Refused(_) => "correct user and password in the url, or what the server allows them",
        F::Broken(_) => {
            "check that the url's scheme is that of the server, and see the server's own log"
        }
        F::Full(_) => "make room at the server",
    };
    (failure.to_string(), help.to_owned())
}
