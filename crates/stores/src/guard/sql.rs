//! Databases behind the guard. A statement has a time of its own, in which the backend stops it; the place's time comes on top,
//! for the way there and back. So it is with each row. A transaction that was begun is not refused its statements while
//! others rest: it has its connection.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;

use super::timed::Timed;
use super::{Guard, Guarded};
use crate::sql::{Result, Rows, Sql, Statement, Transaction};

#[async_trait]
impl<T: Sql + ?Sized> Sql for Guarded<T> {
    async fn check(&self) -> Result<()> {
        self.once(self.inner.check()).await
    }

    async fn query(&self, statement: Statement) -> Result<Rows> {
        let limit = self.guard.statement(&statement);
        let rows = self.guard.call(limit, self.inner.query(statement)).await?;
        Ok(self.guard.rows(rows, limit))
    }

    async fn execute(&self, statement: Statement) -> Result<u64> {
        let limit = self.guard.statement(&statement);
        self.guard.call(limit, self.inner.execute(statement)).await
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>> {
        let inner = self.once(self.inner.begin()).await?;
        let guard = self.guard.clone();
        Ok(Box::new(GuardedTransaction { inner, guard }))
    }
}

impl Guard {
    fn statement(&self, statement: &Statement) -> Duration {
        statement.timeout.saturating_add(self.timeout)
    }

    fn rows(&self, rows: Rows, limit: Duration) -> Rows {
        let Rows { columns, rows } = rows;
        let rows = Timed::new(rows, self.clone(), limit).boxed();
        Rows { columns, rows }
    }
}

#[derive(Debug)]
struct GuardedTransaction {
    inner: Box<dyn Transaction>,
    guard: Guard,
}

#[async_trait]
impl Transaction for GuardedTransaction {
    async fn query(&mut self, statement: Statement) -> Result<Rows> {
        let limit = self.guard.statement(&statement);
        let rows = self.guard.step(limit, self.inner.query(statement)).await?;
        Ok(self.guard.rows(rows, limit))
    }

    async fn execute(&mut self, statement: Statement) -> Result<u64> {
        let limit = self.guard.statement(&statement);
        self.guard.step(limit, self.inner.execute(statement)).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.guard
            .step(self.guard.timeout, self.inner.commit())
            .await
    }

    async fn rollback(self: Box<Self>) -> Result<()> {
        self.guard
            .step(self.guard.timeout, self.inner.rollback())
            .await
    }
}
