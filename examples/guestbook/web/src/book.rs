//! What is behind the pages: visits in a key-value store, entries in a database, pictures in blobs, and a message for each
//! entry. Which servers keep them, if any, is the operator's business.

use std::fmt;

use crate::bindings::hostel::sql::database::{self, Connection, Value};
use crate::bindings::wasi::blobstore::blobstore;
use crate::bindings::wasi::blobstore::container::Container;
use crate::bindings::wasi::blobstore::types::{IncomingValue, OutgoingValue};
use crate::bindings::wasi::config::store as config;
use crate::bindings::wasi::keyvalue::{atomics, store};
use crate::bindings::wasi::messaging::producer;
use crate::bindings::wasi::messaging::types::{self as messaging, Client, Message};
use wasip2::io::streams::InputStream;

/// The book as it is shown.
pub(crate) struct Book {
    pub(crate) title: String,
    pub(crate) visits: u64,
    /// Who signed last, as far as the herald has told.
    pub(crate) latest: Option<String>,
    /// The newest first.
    pub(crate) entries: Vec<Entry>,
}

pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) picture: Option<String>,
}

/// Entries on the page.
const SHOWN: i64 = 50;

/// Counts a visit and reads the book.
pub(crate) fn open() -> Result<Book, Error> {
    let visits = store::open("visits")?;
    let latest = store::open("news")?.get("latest")?;
    Ok(Book {
        title: config::get("title")?.unwrap_or_default(),
        visits: atomics::increment(&visits, "all", 1)?,
        latest: latest.map(|name| String::from_utf8_lossy(&name).into_owned()),
        entries: entries(&database()?)?,
    })
}

/// Adds an entry and tells about it.
pub(crate) fn sign(name: &str, text: &str, picture: Option<&str>) -> Result<(), Error> {
    let text_of = |text: &str| Value::Text(text.to_owned());
    let parameters = [
        text_of(name),
        text_of(text),
        picture.map_or(Value::Null, text_of),
    ];
    let insert = "INSERT INTO entries (name, text, picture) VALUES ($1, $2, $3)";
    database()?.execute(insert, &parameters)?;
    let broker = Client::connect("default")?;
    Ok(producer::send(
        &broker,
        "entries.signed",
        Message::new(name.as_bytes()),
    )?)
}

fn entries(database: &Connection) -> Result<Vec<Entry>, Error> {
    let select = "SELECT name, text, picture FROM entries ORDER BY id DESC LIMIT $1";
    let rows = database.query(select, &[Value::Integer(SHOWN)])?;
    let mut entries = Vec::new();
    loop {
        let page = rows.next(SHOWN as u32)?;
        if page.is_empty() {
            return Ok(entries);
        }
        entries.extend(page.into_iter().filter_map(entry));
    }
}

fn entry(row: Vec<Value>) -> Option<Entry> {
    let mut texts = row.into_iter().map(|value| match value {
        Value::Text(text) => Some(text),
        _ => None,
    });
    Some(Entry {
        name: texts.next()??,
        text: texts.next()??,
        picture: texts.next()?,
    })
}

/// The database, with its table. The statement is one that SQLite and PostgreSQL both understand.
fn database() -> Result<Connection, Error> {
    let database = Connection::open("entries")?;
    let table = "CREATE TABLE IF NOT EXISTS entries (id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT, text TEXT, picture TEXT)";
    let sqlite = "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, name TEXT, text TEXT, picture TEXT)";
    match database.execute(table, &[]) {
        Err(database::Error::BadStatement(_)) => database.execute(sqlite, &[])?,
        made => made?,
    };
    Ok(database)
}

/// Stores a picture under its name, as it comes.
pub(crate) fn upload(name: &str, bytes: &mut InputStream) -> Result<(), Error> {
    let picture = OutgoingValue::new_outgoing_value();
    let mut body = picture
        .outgoing_value_write_body()
        .map_err(|()| Error("the value has no body".to_owned()))?;
    pictures()?.write_data(name, &picture)?;
    std::io::copy(bytes, &mut body).map_err(|error| Error(error.to_string()))?;
    drop(body);
    Ok(OutgoingValue::finish(picture)?)
}

/// A picture as it comes from the store; `None` if there is none.
pub(crate) fn picture(name: &str) -> Result<Option<InputStream>, Error> {
    let pictures = pictures()?;
    if !pictures.has_object(name)? {
        return Ok(None);
    }
    let picture = pictures.get_data(name, 0, u64::MAX)?;
    Ok(Some(IncomingValue::incoming_value_consume_async(picture)?))
}

fn pictures() -> Result<Container, Error> {
    if blobstore::container_exists("pictures")? {
        return Ok(blobstore::get_container("pictures")?);
    }
    Ok(blobstore::create_container("pictures")?)
}

/// Why the book cannot be read or written now.
pub(crate) struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Blobs fail with a text.
impl From<String> for Error {
    fn from(text: String) -> Self {
        Self(format!("pictures: {text}"))
    }
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Self {
        Self(format!("config: {error:?}"))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self(format!("key-value: {error:?}"))
    }
}

impl From<database::Error> for Error {
    fn from(error: database::Error) -> Self {
        Self(format!("database: {error:?}"))
    }
}

impl From<messaging::Error> for Error {
    fn from(error: messaging::Error) -> Self {
        Self(format!("messages: {error:?}"))
    }
}
