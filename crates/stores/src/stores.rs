//! [`Stores`]: from a place to a driver. What drivers share in one process: the data directory, the thread that drives
//! connections to servers, the embedded engine of each app. Which driver a place means is each kind's own file below.

mod blob;
mod kv;
mod messaging;
mod sql;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

use crate::blob::Blob;
use crate::clock::Clock;
use crate::embedded::{Engine, EngineOptions};
use crate::guard::{Breaker, Guard, Guarded};
use crate::kv::Kv;
use crate::messaging::brokers::Brokers;
use crate::messaging::{Bounds, Messaging};
use crate::place::{Backend, Place, PlaceError};
use crate::server::{Secret, Servers};
use crate::sql::{Databases, Sql, SqlOptions};
use crate::{Failure, Scope};

/// What the process decides about its stores.
#[derive(Debug, Clone)]
pub struct StoresOptions {
    /// Where the embedded drivers keep their files, a folder for each app; `None` has no embedded stores.
    pub data: Option<PathBuf>,
    /// Each app's embedded engine.
    pub engine: EngineOptions,
    /// What the key-value stores without a server may hold.
    pub kv: crate::kv::Bounds,
    /// What the brokers without a server may hold.
    pub messaging: Bounds,
    /// The bounds of databases.
    pub sql: SqlOptions,
    /// The time of day.
    pub clock: Clock,
}

impl Default for StoresOptions {
    fn default() -> Self {
        Self {
            data: None,
            engine: EngineOptions::default(),
            kv: crate::kv::Bounds::default(),
            messaging: Bounds::default(),
            sql: SqlOptions::default(),
            clock: Clock::default(),
        }
    }
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
    servers: Servers,
    kv: Mutex<kv::Opened>,
    blob: Mutex<blob::Opened>,
    brokers: Brokers,
    databases: Databases,
    /// By URL: as many as the operator wrote.
    breakers: Mutex<HashMap<Secret, Arc<Breaker>>>,
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
            servers: Servers::default(),
            kv: Mutex::default(),
            blob: Mutex::default(),
            brokers: Brokers::default(),
            databases: Databases::default(),
            breakers: Mutex::default(),
        })))
    }

    /// Where tasks of drivers run: connections outlive the call, and the thread, that first needed them.
    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    pub(crate) fn options(&self) -> &StoresOptions {
        &self.0.options
    }

    /// The key-value store of a scope. Nothing is reached before it is used.
    ///
    /// # Errors
    /// The place is none for this kind, or its settings make no sense.
    pub fn kv(&self, place: &Place, scope: &Scope) -> Result<Arc<dyn Kv>, PlaceError> {
        let driver = self.open_kv(place, scope)?;
        Ok(match self.guard(place) {
            Some(guard) => Arc::new(Guarded::new(driver, guard)),
            None => driver,
        })
    }

    /// The container of a scope.
    ///
    /// # Errors
    /// As [`Self::kv`].
    pub fn blob(&self, place: &Place, scope: &Scope) -> Result<Arc<dyn Blob>, PlaceError> {
        let driver = self.open_blob(place, scope)?;
        // The driver keeps the place's time for each of its requests; clearing a container, or putting the parts of an
        // object together, takes many or a long one.
        let whole = Place {
            timeout: place.timeout * crate::blob::PATIENCE,
            ..place.clone()
        };
        Ok(match self.guard(&whole) {
            Some(guard) => Arc::new(Guarded::new(driver, guard)),
            None => driver,
        })
    }

    /// The database of a scope.
    ///
    /// # Errors
    /// As [`Self::kv`].
    pub fn sql(&self, place: &Place, scope: &Scope) -> Result<Arc<dyn Sql>, PlaceError> {
        let driver = self.open_sql(place, scope)?;
        Ok(match self.guard(place) {
            Some(guard) => Arc::new(Guarded::new(driver, guard)),
            None => driver,
        })
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
        let driver = self.open_messaging(place, scope)?;
        Ok(match self.guard(place) {
            Some(guard) => Arc::new(Guarded::new(driver, guard)),
            None => driver,
        })
    }

    /// The embedded engine of an app. Its file is opened with the first call.
    ///
    /// # Errors
    /// There is no data directory.
    pub fn engine(&self, app: &str) -> Result<Arc<Engine>, Failure> {
        let mut engines = self
            .0
            .engines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(app) {
            return Ok(engine.clone());
        }
        let engine = Arc::new(Engine::new(&self.folder(app)?, self.0.options.engine));
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

    /// What stands before drivers that need a server; all that use the same one share its breaker.
    fn guard(&self, place: &Place) -> Option<Guard> {
        let Backend::Server(url) = &place.backend else {
            return None;
        };
        let mut breakers = self
            .0
            .breakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers.entry(Secret(url.to_string())).or_default();
        let handle = self.0.handle.clone();
        Some(Guard::new(breaker.clone(), place.timeout, handle))
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

fn no_data(failure: Failure) -> PlaceError {
    PlaceError {
        what: failure.to_string(),
        help: "start with a data directory, or write memory: or the url of a server".to_owned(),
    }
}
