//! [`Stores`]: from a place to a driver. What drivers share in one process: the data directory, the thread that drives
//! connections to servers, the embedded engine of each app.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use crate::blob::Blob;
use crate::embedded::Engine;
use crate::kv::Kv;
use crate::messaging::Messaging;
use crate::place::{Backend, Place, PlaceError};
use crate::sql::{Opened, Sql, SqlOptions};
use crate::{Failure, Scope};

/// What the process decides about its stores.
#[derive(Debug, Clone, Default)]
pub struct StoresOptions {
    /// Where the embedded drivers keep their files, a folder for each app; `None` has no embedded stores.
    pub data: Option<PathBuf>,
    /// The bounds of databases.
    pub sql: SqlOptions,
}

/// All stores of this process. Clones are the same stores.
#[derive(Debug, Clone)]
pub struct Stores(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: StoresOptions,
    handle: Handle,
    /// Ends the thread when the last clone is gone.
    _end: oneshot::Sender<()>,
    engines: Mutex<HashMap<String, Arc<Engine>>>,
    databases: Opened,
}

impl Stores {
    /// Starts the thread that drives connections. Nothing is opened or reached before it is used.
    ///
    /// # Errors
    /// The thread or its event loop cannot be started.
    pub fn new(options: StoresOptions) -> std::io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        std::thread::Builder::new()
            .name("stores".to_owned())
            .spawn(move || runtime.block_on(ended))?;
        Ok(Self(Arc::new(Shared {
            options,
            handle,
            _end: end,
            engines: Mutex::default(),
            databases: Opened::default(),
        })))
    }

    /// Where tasks of drivers run: connections outlive the call, and the thread, that first needed them.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// The key-value store of a scope. Nothing is reached before it is used.
    ///
    /// # Errors
    /// The place is none for this kind, or its settings make no sense.
    pub fn kv(&self, place: &Place, scope: &Scope) -> Result<Arc<dyn Kv>, PlaceError> {
        Err(self.unknown(place, scope))
    }

    /// The container of a scope.
    ///
    /// # Errors
    /// As [`Self::kv`].
    pub fn blob(&self, place: &Place, scope: &Scope) -> Result<Arc<dyn Blob>, PlaceError> {
        Err(self.unknown(place, scope))
    }

    /// The database of a scope.
    ///
    /// # Errors
    /// As [`Self::kv`].
    pub fn sql(&self, place: &Place, scope: &Scope) -> Result<Arc<dyn Sql>, PlaceError> {
        let Shared {
            databases, options, ..
        } = &*self.0;
        let database = databases.open(self, place, scope, &options.sql)?;
        database.ok_or_else(|| self.unknown(place, scope))
    }

    /// The broker of a scope.
    ///
    /// # Errors
    /// As [`Self::kv`].
    pub fn messaging(
        &self,
        place: &Place,
        scope: &Scope,
    ) -> Result<Arc<dyn Messaging>, PlaceError> {
        Err(self.unknown(place, scope))
    }

    /// The embedded engine of an app, opened on first use.
    ///
    /// # Errors
    /// There is no data directory, or it cannot be used; another process may have it.
    pub fn engine(&self, app: &str) -> Result<Arc<Engine>, Failure> {
        let mut engines = self
            .0
            .engines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(app) {
            return Ok(engine.clone());
        }
        let engine = Arc::new(Engine::open(&self.folder(app)?)?);
        engines.insert(app.to_owned(), engine.clone());
        Ok(engine)
    }

    /// The folder of an app's embedded stores.
    ///
    /// # Errors
    /// There is no data directory.
    pub fn folder(&self, app: &str) -> Result<PathBuf, Failure> {
        let data = self.0.options.data.as_ref();
        let data =
            data.ok_or_else(|| Failure::Unavailable("there is no data directory".to_owned()))?;
        Ok(data.join(app))
    }

    fn unknown(&self, place: &Place, scope: &Scope) -> PlaceError {
        let scheme = match &place.backend {
            Backend::Embedded { .. } => "embedded",
            Backend::Memory => "memory",
            Backend::Server(url) => url.scheme(),
        };
        PlaceError {
            what: format!(
                "{} of {scope} cannot be kept at `{scheme}:`",
                place.kind.name()
            ),
            help: "use another url".to_owned(),
        }
    }
}
