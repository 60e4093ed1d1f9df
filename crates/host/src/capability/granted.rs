//! [`Granted`]: the stores of one component, by the labels that its grants name.
//!
//! It is made once, when the component is loaded: a label that is not in it was not granted, and there is no other way from
//! a guest to a store.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostel_app::{Grants, MessagingGrants, ServerConfig};
use hostel_stores::blob::Blob;
use hostel_stores::kv::Kv;
use hostel_stores::messaging::Messaging;
use hostel_stores::place::{Kind, Place, PlaceError};
use hostel_stores::sql::Sql;
use hostel_stores::{Scope, Stores};

use super::denied::Told;
use crate::capability::places::places;

/// The stores of one component.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) kv: BTreeMap<String, Arc<dyn Kv>>,
    pub(crate) blob: BTreeMap<String, Arc<dyn Blob>>,
    pub(crate) sql: BTreeMap<String, Arc<dyn Sql>>,
    pub(crate) messaging: BTreeMap<String, Arc<dyn Messaging>>,
    /// What may be said there.
    pub(crate) topics: MessagingGrants,
    /// What the log was told that is not in it.
    pub(super) told: Told,
    /// Drivers live on the thread of the stores, which ends with the last of these: a guest keeps it.
    _stores: Option<Stores>,
}

/// Where the stores of this process are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) stores: Stores,
    /// What the operator's file names; everything else is embedded.
    named: BTreeMap<(Kind, String), Place>,
}

impl Places {
    /// The places that the operator's file names, which all have to make sense. Nothing is reached yet.
    pub(crate) fn new(stores: Stores, config: &ServerConfig) -> Result<Self, PlaceError> {
        let named = places(config).into_iter().map(|labelled| {
            let (kind, label) = (labelled.kind, labelled.label);
            let place = labelled.place.map_err(|error| PlaceError {
                what: format!(
                    "{}:{}: [{}.{label}]: {}",
                    config.file,
                    labelled.line,
                    kind.name(),
                    error.what
                ),
                help: error.help,
            })?;
            Ok(((kind, label), place))
        });
        Ok(Self {
            stores,
            named: named.collect::<Result<_, _>>()?,
        })
    }

    /// The stores that these grants of this app name. Nothing is reached yet.
    pub(crate) fn granted(&self, app: &str, grants: &Grants) -> Result<Granted, PlaceError> {
        let stores = &self.stores;
        Ok(Granted {
            kv: self.all(Kind::KeyValue, app, grants, |place, scope| {
                stores.kv(place, scope)
            })?,
            blob: self.all(Kind::Blob, app, grants, |place, scope| {
                stores.blob(place, scope)
            })?,
            sql: self.all(Kind::Sql, app, grants, |place, scope| {
                stores.sql(place, scope)
            })?,
            messaging: self.all(Kind::Messaging, app, grants, |place, scope| {
                stores.messaging(place, scope)
            })?,
            topics: grants.messaging.clone(),
            told: Told::default(),
            _stores: Some(stores.clone()),
        })
    }

    /// The broker of a label, whoever subscribes there.
    pub(crate) fn broker(&self, app: &str, label: &str) -> Result<Arc<dyn Messaging>, PlaceError> {
        let scope = Scope::new(app, label).ok_or_else(|| bad_name(app, label))?;
        self.stores
            .messaging(&self.place(Kind::Messaging, label), &scope)
    }

    /// The host's own: a label of an app never begins with `_`.
    pub(crate) fn own_notes(&self, app: &str, of: &str) -> Result<Arc<dyn Kv>, PlaceError> {
        let label = format!("_{of}");
        let scope = Scope::new(app, &label).ok_or_else(|| bad_name(app, &label))?;
        self.stores.kv(&Place::embedded(Kind::KeyValue), &scope)
    }

    fn place(&self, kind: Kind, label: &str) -> Place {
        let named = self.named.get(&(kind, label.to_owned()));
        named.cloned().unwrap_or(Place::embedded(kind))
    }

    fn all<T>(
        &self,
        kind: Kind,
        app: &str,
        grants: &Grants,
        open: impl Fn(&Place, &Scope) -> Result<T, PlaceError>,
    ) -> Result<BTreeMap<String, T>, PlaceError> {
        let labels = match kind {
            Kind::KeyValue => &grants.keyvalue,
            Kind::Blob => &grants.blobstore,
            Kind::Sql => &grants.sql,
            Kind::Messaging => &grants.messaging.clients,
        };
        let opened = labels.iter().map(|label| {
            let scope = Scope::new(app, label).ok_or_else(|| bad_name(app, label))?;
            Ok((label.clone(), open(&self.place(kind, label), &scope)?))
        });
        opened.collect()
    }
}

fn bad_name(app: &str, label: &str) -> PlaceError {
    PlaceError {
        what: format!("`{app}` or `{label}` is no plain name"),
        help: "use up to 64 letters, digits, `-` and `_`".to_owned(),
    }
}
