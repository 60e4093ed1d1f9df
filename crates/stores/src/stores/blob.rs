//! Which blob driver a place means.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::{Stores, no_data};
use crate::Scope;
use crate::blob::{Blob, Directory, Memory, S3};
use crate::place::{Backend, Place, PlaceError};

/// Containers in memory: every component that is granted one gets the same.
pub(super) type Opened = HashMap<Scope, Arc<Memory>>;

impl Stores {
    pub(super) fn open_blob(
        &self,
        place: &Place,
        scope: &Scope,
    ) -> Result<Arc<dyn Blob>, PlaceError> {
        let handle = self.handle().clone();
        match &place.backend {
            Backend::Memory => {
                let mut opened = self.0.blob.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(opened.entry(scope.clone()).or_default().clone())
            }
            Backend::Embedded { durable } => {
                let folder = self.folder(scope.app()).map_err(no_data)?;
                let label = scope.label();
                Ok(Arc::new(Directory::new(&folder, label, *durable, handle)))
            }
            Backend::Server(url) if url.scheme() == "s3" => {
                Ok(Arc::new(S3::new(url, scope, place.timeout, handle)?))
            }
            Backend::Server(_) => Err(self.unknown(place, scope)),
        }
    }
}
