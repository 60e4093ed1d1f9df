//! [`Databases`]: the databases that are in use, so that all handles of one share its connections, and so that no two apps get
//! the same one.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::postgres::{Address, Postgres};
use super::sqlite::{Settings, Sqlite};
use super::{Sql, SqlOptions};
use crate::place::{Backend, Place, PlaceError};
use crate::{Failure, Scope, Stores};

/// The databases of one process.
#[derive(Debug, Default)]
pub(crate) struct Databases(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    files: HashMap<(Scope, Place), Weak<Sqlite>>,
    servers: HashMap<Place, Weak<Postgres>>,
    /// Whose a database of a server is.
    owners: HashMap<String, (String, Weak<Postgres>)>,
}

impl Databases {
    /// The database of a scope at a place; `None` where this kind has no driver.
    pub(crate) fn open(
        &self,
        stores: &Stores,
        place: &Place,
        scope: &Scope,
        options: &SqlOptions,
    ) -> Result<Option<Arc<dyn Sql>>, PlaceError> {
        let mut databases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &place.backend {
            Backend::Embedded { durable } => {
                let folder = match stores.folder(scope.app()) {
                    Ok(folder) => folder.join("sql"),
                    Err(cause) => return Err(no_folder(&cause)),
                };
                let settings = Settings {
                    folder,
                    durable: *durable,
                    timeout: place.timeout,
                    options: options.clone(),
                    handle: stores.handle().clone(),
                };
                let key = (scope.clone(), place.clone());
                let database = shared(&mut databases.files, key, || {
                    Ok(Sqlite::new(settings, scope.label()))
                })?;
                Ok(Some(database))
            }
            Backend::Memory => Ok(None),
            Backend::Server(url) => {
                let address = Address::read(url, scope.app())?;
                let mut own = place.clone();
                own.backend = Backend::Server(address.url.clone());
                let name = address.database.clone();
                owned(&databases.owners, &name, scope.app())?;
                let handle = stores.handle().clone();
                let database = shared(&mut databases.servers, own, || {
                    Postgres::new(address, place.timeout, options, handle)
                })?;
                let owner = (scope.app().to_owned(), Arc::downgrade(&database));
                databases.owners.insert(name, owner);
                Ok(Some(database))
            }
        }
    }
}

/// What is in use under this key, or a new one.
fn shared<K: Hash + Eq, T>(
    known: &mut HashMap<K, Weak<T>>,
    key: K,
    make: impl FnOnce() -> Result<T, PlaceError>,
) -> Result<Arc<T>, PlaceError> {
    known.retain(|_, database| database.strong_count() > 0);
    if let Some(database) = known.get(&key).and_then(Weak::upgrade) {
        return Ok(database);
    }
    let database = Arc::new(make()?);
    known.insert(key, Arc::downgrade(&database));
    Ok(database)
}

/// A database that no app but this one uses.
fn owned(
    owners: &HashMap<String, (String, Weak<Postgres>)>,
    name: &str,
    app: &str,
) -> Result<(), PlaceError> {
    match owners.get(name) {
        Some((owner, used)) if owner != app && used.strong_count() > 0 => Err(PlaceError {
            what: format!("the database {name} belongs to the app `{owner}`, not to `{app}`"),
            help: "give each app a database of its own: `{app}` in the url is the app's name"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

fn no_folder(cause: &Failure) -> PlaceError {
    PlaceError {
        what: format!("an embedded database needs a folder: {cause}"),
        help: "start with a data directory, or write postgres://USER:PASSWORD@HOST:5432/DATABASE"
            .to_owned(),
    }
}
