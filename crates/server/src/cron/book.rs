//! [`Book`]: what is on disk about the schedules of an app: one note for each, by its name.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use hostel_host::kv::{self, Kv};
use serde_json::Value;

/// Notes that are read or written at once.
const PAGE: usize = 1000;

/// See the module's documentation. What was written is on disk.
pub(super) trait Book: Send + Sync {
    /// The notes of these names; those that make no sense are left out.
    fn read(&self, names: Vec<String>) -> BoxFuture<'_, kv::Result<HashMap<String, Value>>>;
    /// Writes these notes: all, or none.
    fn write(&self, notes: Vec<(String, String)>) -> BoxFuture<'_, kv::Result<()>>;
}

impl Book for Arc<dyn Kv> {
    fn read(&self, names: Vec<String>) -> BoxFuture<'_, kv::Result<HashMap<String, Value>>> {
        async move {
            let mut notes = HashMap::new();
            for page in names.chunks(PAGE) {
                let found = self.get_many(page).await?;
                let found = page.iter().zip(found);
                notes.extend(found.filter_map(|(name, entry)| {
                    let note = serde_json::from_slice(&entry?.value).ok()?;
                    Some((name.clone(), note))
                }));
            }
            Ok(notes)
        }
        .boxed()
    }

    fn write(&self, notes: Vec<(String, String)>) -> BoxFuture<'_, kv::Result<()>> {
        let notes = notes.into_iter();
        let notes = notes.map(|(name, note)| (name, Bytes::from(note)));
        self.set_many(notes.collect())
    }
}
