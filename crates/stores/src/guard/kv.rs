//! Key-value behind the guard: each operation has the place's time.

use async_trait::async_trait;
use bytes::Bytes;

use super::Guarded;
use crate::kv::{Cursor, Entry, Kv, Page, Result, SetOptions, When};

#[async_trait]
impl<T: Kv + ?Sized> Kv for Guarded<T> {
    async fn check(&self) -> Result<()> {
        self.once(self.inner.check()).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.once(self.inner.get(key)).await
    }

    async fn set(&self, key: &str, value: Bytes, options: SetOptions) -> Result<bool> {
        self.once(self.inner.set(key, value, options)).await
    }

    async fn delete(&self, key: &str, when: When) -> Result<bool> {
        self.once(self.inner.delete(key, when)).await
    }

    async fn exists(&self, key: &str) -> Result<bool> {
        self.once(self.inner.exists(key)).await
    }

    async fn list(&self, prefix: &str, from: Option<&Cursor>, limit: usize) -> Result<Page> {
        self.once(self.inner.list(prefix, from, limit)).await
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        self.once(self.inner.increment(key, delta)).await
    }

    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        self.once(self.inner.get_many(keys)).await
    }

    async fn set_many(&self, entries: Vec<(String, Bytes)>) -> Result<()> {
        self.once(self.inner.set_many(entries)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<()> {
        self.once(self.inner.delete_many(keys)).await
    }
}
