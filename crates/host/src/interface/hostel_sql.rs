//! `hostel:sql`.

use hostel_stores::Failure;
use hostel_stores::sql::{self as driver, Column, Value};
use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTableError};

use crate::capability::denied::Absent;
use crate::capability::sql::{self, Connection, Rows, Transaction};
use crate::state::Host;

/// Puts the package's interfaces into the linker.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> Result<()> {
    database::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/hostel-sql",
        world: "hostel:sql/imports",
        imports: { default: async | trappable },
        require_store_data_send: true,
        with: {
            "hostel:sql/database.connection": crate::capability::sql::Connection,
            "hostel:sql/database.transaction": crate::capability::sql::Transaction,
            "hostel:sql/database.rows": crate::capability::sql::Rows,
        },
        trappable_error_type: { "hostel:sql/database.error" => crate::interface::hostel_sql::Failed },
    });
}

use bindings::hostel::sql::database;

/// An operation that failed, or a guest that misused a handle.
#[derive(Debug)]
#[expect(
    unreachable_pub,
    reason = "the bindings made from the WIT name it again"
)]
pub enum Failed {
    /// For the guest.
    Sql(sql::Error),
    /// A trap.
    Trap(wasmtime::Error),
}

impl From<sql::Error> for Failed {
    fn from(error: sql::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<ResourceTableError> for Failed {
    fn from(error: ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

type Answer<T> = std::result::Result<T, Failed>;

impl From<sql::Error> for database::Error {
    fn from(error: sql::Error) -> Self {
        let text = error.to_string();
        match error {
            sql::Error::Absent(Absent::Denied) => Self::AccessDenied,
            sql::Error::Absent(Absent::Unknown) => Self::NoSuchStore,
            sql::Error::Refused(_) | sql::Error::Crowded => Self::LimitReached(text),
            sql::Error::TooLarge(..) => Self::TooLarge(text),
            sql::Error::Sql(error) => match error {
                driver::Error::BadStatement(_) => Self::BadStatement(text),
                driver::Error::Constraint(_) => Self::Constraint(text),
                driver::Error::Conflict(_) => Self::Conflict(text),
                driver::Error::TooSlow(_) => Self::TooSlow(text),
                driver::Error::NoTransaction(_) => Self::NoTransaction(text),
                driver::Error::Failed(
                    Failure::Unavailable(_) | Failure::TimedOut(_) | Failure::Resting(_),
                ) => Self::Unavailable(text),
                driver::Error::Failed(
                    Failure::Refused(_) | Failure::Broken(_) | Failure::Full(_),
                ) => Self::Failed(text),
            },
        }
    }
}

impl From<database::Value> for Value {
    fn from(value: database::Value) -> Self {
        match value {
            database::Value::Null => Self::Null,
            database::Value::Boolean(value) => Self::Boolean(value),
            database::Value::Integer(value) => Self::Integer(value),
            database::Value::Float(value) => Self::Float(value),
            database::Value::Text(value) => Self::Text(value),
            database::Value::Bytes(value) => Self::Bytes(value.into()),
        }
    }
}

impl From<Value> for database::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Boolean(value) => Self::Boolean(value),
            Value::Integer(value) => Self::Integer(value),
            Value::Float(value) => Self::Float(value),
            Value::Text(value) => Self::Text(value),
            Value::Bytes(value) => Self::Bytes(value.into()),
        }
    }
}

fn values(parameters: Vec<database::Value>) -> Vec<Value> {
    parameters.into_iter().map(Value::from).collect()
}

impl database::Host for Host {
    fn convert_error(&mut self, failed: Failed) -> Result<database::Error> {
        match failed {
            Failed::Trap(error) => Err(error),
            Failed::Sql(error) => Ok(error.into()),
        }
    }
}

impl database::HostConnection for Host {
    async fn open(&mut self, label: String) -> Answer<Resource<Connection>> {
        Ok(self.open_database(&label)?)
    }

    async fn query(
        &mut self,
        this: Resource<Connection>,
        statement: String,
        parameters: Vec<database::Value>,
    ) -> Answer<Resource<Rows>> {
        let connection = self.table().get_mut(&this)?;
        let rows = connection.query(statement, values(parameters)).await?;
        Ok(self.keep_opened(rows)?)
    }

    async fn execute(
        &mut self,
        this: Resource<Connection>,
        statement: String,
        parameters: Vec<database::Value>,
    ) -> Answer<u64> {
        let connection = self.table().get_mut(&this)?;
        Ok(connection.execute(statement, values(parameters)).await?)
    }

    async fn begin(&mut self, this: Resource<Connection>) -> Answer<Resource<Transaction>> {
        let open = self.table().get_mut(&this)?.begin().await?;
        Ok(self.keep_opened(open)?)
    }

    async fn drop(&mut self, this: Resource<Connection>) -> Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}

impl database::HostTransaction for Host {
    async fn query(
        &mut self,
        this: Resource<Transaction>,
        statement: String,
        parameters: Vec<database::Value>,
    ) -> Answer<Resource<Rows>> {
        let open = self.table().get_mut(&this)?;
        let rows = open.query(statement, values(parameters)).await?;
        Ok(self.keep_opened(rows)?)
    }

    async fn execute(
        &mut self,
        this: Resource<Transaction>,
        statement: String,
        parameters: Vec<database::Value>,
    ) -> Answer<u64> {
        let open = self.table().get_mut(&this)?;
        Ok(open.execute(statement, values(parameters)).await?)
    }

    async fn commit(&mut self, this: Resource<Transaction>) -> Answer<()> {
        Ok(self.table().get_mut(&this)?.end(true).await?)
    }

    async fn rollback(&mut self, this: Resource<Transaction>) -> Answer<()> {
        Ok(self.table().get_mut(&this)?.end(false).await?)
    }

    async fn drop(&mut self, this: Resource<Transaction>) -> Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}

impl database::HostRows for Host {
    async fn columns(&mut self, this: Resource<Rows>) -> Result<Vec<database::Column>> {
        let column = |column: &Column| database::Column {
            name: column.name.clone(),
            kind: column.kind.clone(),
        };
        let rows = self.table().get(&this)?;
        Ok(rows.columns().iter().map(column).collect())
    }

    async fn next(&mut self, this: Resource<Rows>, limit: u32) -> Answer<Vec<database::Row>> {
        let rows = self.table().get_mut(&this)?.next(limit).await?;
        let row = |row: Vec<Value>| row.into_iter().map(Into::into).collect();
        Ok(rows.into_iter().map(row).collect())
    }

    async fn drop(&mut self, this: Resource<Rows>) -> Result<()> {
        self.table().delete(this)?;
        Ok(())
    }
}
