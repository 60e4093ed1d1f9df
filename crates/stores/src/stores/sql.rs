//! Which SQL driver a place means.

use std::sync::Arc;

use super::Stores;
use crate::Scope;
use crate::place::{Place, PlaceError};
use crate::sql::Sql;

impl Stores {
    pub(super) fn open_sql(
        &self,
        place: &Place,
        scope: &Scope,
    ) -> Result<Arc<dyn Sql>, PlaceError> {
        let options = &self.0.options.sql;
        let database = self.0.databases.open(self, place, scope, options)?;
        database.ok_or_else(|| self.unknown(place, scope))
    }
}
