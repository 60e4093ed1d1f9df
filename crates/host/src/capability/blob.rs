//! Blobs of guests: grant, budget, driver.
//!
//! [`Container`] is what a guest has opened; only a label of its grants opens one. Bodies pass in both directions in pieces
//! that wait for each other: [`outgoing`] from the guest to the driver, [`incoming`] back. What the host has to hold of them
//! is counted by [`Held`], for the instance. Errors are texts, as `wasi:blobstore` has them; who must act reads it there.

mod held;
pub(crate) mod incoming;
pub(crate) mod outgoing;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use hostel_stores::blob::{Blob, Cursor, Error, GaveUp, ObjectInfo, Page, Span};

pub(crate) use self::held::Held;
use self::incoming::Incoming;
use super::charge::Charge;
use super::denied::{Absent, Wanted, plain};
use crate::state::Template;

/// What `wasi:blobstore` says when something fails.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Names of a listing that are asked for at once.
const PAGE: u64 = 1000;

/// A container that the guest has opened.
#[derive(Debug, Clone)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Container {
    name: String,
    driver: Arc<dyn Blob>,
    charge: Charge,
    template: Arc<Template>,
}

/// The container of this name, if it was granted. `charge` pays for what is done with it.
pub(crate) fn granted(template: &Arc<Template>, charge: &Charge, name: &str) -> Result<Container> {
    if let Some(driver) = template.granted.blob.get(name) {
        return Ok(Container {
            name: name.to_owned(),
            driver: driver.clone(),
            charge: charge.clone(),
            template: template.clone(),
        });
    }
    let shown = shown(name);
    Err(match template.no_store(Wanted::Blob, name) {
        Absent::Denied => {
            format!("access denied: the container `{shown}` is not granted to this component")
        }
        Absent::Unknown => format!("there is no container `{shown}`, and cannot be"),
    })
}

impl Container {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The container, made if it is missing: a grant provides it.
    pub(crate) async fn provided(self) -> Result<Self> {
        self.operation(0)?;
        match self.driver.create().await {
            Ok(_) => Ok(self),
            Err(error) => Err(self.told(error, "")),
        }
    }

    pub(crate) async fn remove(&self) -> Result<()> {
        self.operation(0)?;
        let removed = self.driver.remove().await;
        removed.map(|_| ()).map_err(|error| self.told(error, ""))
    }

    /// When it was made, in seconds since 1970.
    pub(crate) async fn created(&self) -> Result<Option<u64>> {
        self.operation(0)?;
        let created = self.driver.created_ms().await;
        let created = created.map_err(|error| self.told(error, ""))?;
        Ok(created.map(|ms| ms / 1000))
    }

    /// The same, where it has to be there.
    pub(crate) async fn info(&self) -> Result<u64> {
        self.created()
            .await?
            .ok_or_else(|| self.told(Error::NoContainer, ""))
    }

    /// Begins to read the bytes from `start` up to and including `end`.
    pub(crate) async fn read(
        &self,
        name: &str,
        start: u64,
        end: u64,
        held: &Held,
    ) -> Result<Incoming> {
        self.operation(name.len())?;
        let span = Span { start, last: end };
        let object = self.driver.get(name, span).await;
        let object = object.map_err(|error| self.told(error, name))?;
        Ok(Incoming::new(
            span.length_in(object.info.size),
            object,
            held.clone(),
            self.charge.clone(),
        ))
    }

    /// What is known of an object; `None` if there is none.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.operation(name.len())?;
        self.driver
            .info(name)
            .await
            .map_err(|error| self.told(error, name))
    }

    /// The same, where it has to be there.
    pub(crate) async fn object(&self, name: &str) -> Result<ObjectInfo> {
        self.find(name)
            .await?
            .ok_or_else(|| self.told(Error::NoObject, name))
    }

    pub(crate) async fn delete(&self, names: &[String]) -> Result<()> {
        self.operation(names.iter().map(String::len).sum())?;
        let name = names.first().map_or("", String::as_str);
        self.driver
            .delete(names)
            .await
            .map_err(|error| self.told(error, name))
    }

    pub(crate) async fn clear(&self) -> Result<()> {
        self.operation(0)?;
        self.driver
            .clear()
            .await
            .map_err(|error| self.told(error, ""))
    }

    /// The names of its objects, from the first. Whether there is a container is seen at once.
    pub(crate) async fn names(&self) -> Result<Names> {
        self.info().await?;
        Ok(Names {
            container: self.clone(),
            next: Some(None),
        })
    }

    /// Copies an object to another, perhaps in another container.
    pub(crate) async fn copy(&self, from: &str, to: &Container, name: &str) -> Result<()> {
        self.operation(from.len() + name.len())?;
        if self.name == to.name {
            let copied = self.driver.copy(from, name).await;
            return copied.map_err(|error| self.told(error, from));
        }
        to.clone().provided().await?;
        let object = self.driver.get(from, Span::ALL).await;
        let object = object.map_err(|error| self.told(error, from))?;
        let body = object
            .body
            .map_err(|error| GaveUp(error.to_string()))
            .boxed();
        let put = to.driver.put(name, body.boxed()).await;
        put.map(|_| ()).map_err(|error| match error {
            Error::GaveUp(GaveUp(cause)) => format!("`{}` was not copied: {cause}", shown(from)),
            error => to.told(error, name),
        })
    }

    /// Copies an object and deletes it where it was.
    pub(crate) async fn move_to(&self, from: &str, to: &Container, name: &str) -> Result<()> {
        if self.name == to.name && from == name {
            return self.object(from).await.map(|_| ());
        }
        self.copy(from, to, name).await?;
        self.delete(&[from.to_owned()]).await
    }

    /// An error of the driver, for the guest.
    fn told(&self, error: Error, object: &str) -> String {
        match error {
            Error::NoContainer => format!("there is no container `{}`", self.name),
            Error::NoObject => format!(
                "there is no object `{}` in container `{}`",
                shown(object),
                self.name
            ),
            Error::Failed(failure) => {
                self.charge.failed(&failure);
                self.template
                    .store_failed(Wanted::Blob, &self.name, &failure);
                plain(&failure).to_owned()
            }
            error => error.to_string(),
        }
    }

    /// One more operation, which takes so many bytes in.
    fn operation(&self, bytes: usize) -> Result<()> {
        self.charge
            .call(bytes)
            .map_err(|refused| refused.to_string())
    }
}

/// The names of a container's objects, as far as they were read.
#[derive(Debug)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub struct Names {
    container: Container,
    /// Where the next page begins; `None` at the end.
    next: Option<Option<Cursor>>,
}

impl Names {
    /// Up to `most` names, and whether these were the last.
    pub(crate) async fn read(&mut self, most: u64) -> Result<(Vec<String>, bool)> {
        let Some(from) = self.next.as_ref().filter(|_| most > 0) else {
            return Ok((Vec::new(), self.next.is_none()));
        };
        let limit = most.min(PAGE) as usize;
        self.container.operation(0)?;
        let page = self.container.driver.list(from.as_ref(), limit).await;
        let Page { names, next } = page.map_err(|error| self.container.told(error, ""))?;
        let bytes = names.iter().map(String::len).sum();
        let paid = self.container.charge.bytes(bytes);
        paid.map_err(|refused| refused.to_string())?;
        self.next = next.map(Some);
        Ok((names, self.next.is_none()))
    }

    /// Leaves out up to `most` names: how many there were, and whether these were the last.
    pub(crate) async fn skip(&mut self, most: u64) -> Result<(u64, bool)> {
        let mut skipped = 0;
        while skipped < most && self.next.is_some() {
            skipped += self.read(most - skipped).await?.0.len() as u64;
        }
        Ok((skipped, self.next.is_none()))
    }
}

/// A name of a guest's making, short enough for an error.
fn shown(name: &str) -> String {
    const CHARS: usize = 100;
    match name.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}
