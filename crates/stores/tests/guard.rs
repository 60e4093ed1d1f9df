//! Drivers of all four kinds that fail as planned, behind the guard: a typed error in time, whatever happens, and healthy
//! again soon after the trouble is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use hostel_stores::faulty::{Fault, Faulty, Plan};
use hostel_stores::guard::{Breaker, Guard, Guarded, breaker};
use hostel_stores::place::Kind;
use hostel_stores::{Failure, Place, Scope, Stores, StoresOptions, blob, kv, messaging, sql};
use tokio::runtime::{Builder, Runtime};

const TIMEOUT: Duration = Duration::from_millis(60);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// One driver of each kind, failing as planned, behind one guard.
struct Subject {
    plan: Plan,
    breaker: Arc<Breaker>,
    kv: Arc<dyn kv::Kv>,
    blob: Arc<dyn blob::Blob>,
    sql: Arc<dyn sql::Sql>,
    messaging: Arc<dyn messaging::Messaging>,
    _stores: Stores,
}

impl Subject {
    fn new() -> Self {
        let stores = Stores::new(StoresOptions::default()).unwrap();
        let scope = Scope::new("shop", "default").unwrap();
        let (plan, breaker) = (Plan::default(), Arc::<Breaker>::default());
        let guard = Guard::new(breaker.clone(), TIMEOUT, stores.handle().clone());
        let memory = |kind| Place::parse(kind, "memory:").unwrap();
        let kv = stores.kv(&memory(Kind::KeyValue), &scope).unwrap();
        let blob = stores.blob(&memory(Kind::Blob), &scope).unwrap();
        let messaging = stores.messaging(&memory(Kind::Messaging), &scope);
        let sql: Arc<dyn sql::Sql> = Arc::new(Numbers);
        macro_rules! guarded {
            ($driver:expr) => {
                Arc::new(Guarded::new(
                    Arc::new(Faulty::new($driver, plan.clone())),
                    guard.clone(),
                ))
            };
        }
        Self {
            kv: guarded!(kv),
            blob: guarded!(blob),
            sql: guarded!(sql),
            messaging: guarded!(messaging.unwrap()),
            plan,
            breaker,
            _stores: stores,
        }
    }

    /// Operations of every kind, each with what became of the backend.
    fn operations(&self) -> Vec<(&'static str, BoxFuture<'_, Result<(), Failure>>)> {
        vec![
            (
                "kv get",
                async { kv_failure(self.kv.get("a").await) }.boxed(),
            ),
            (
                "kv set",
                async {
                    let options = kv::SetOptions::default();
                    kv_failure(self.kv.set("a", "1".into(), options).await)
                }
                .boxed(),
            ),
            (
                "kv list",
                async { kv_failure(self.kv.list("", None, 10).await) }.boxed(),
            ),
            (
                "kv increment",
                async { kv_failure(self.kv.increment("n", 1).await) }.boxed(),
            ),
            (
                "kv check",
                async { kv_failure(self.kv.check().await) }.boxed(),
            ),
            (
                "blob create",
                async { blob_failure(self.blob.create().await) }.boxed(),
            ),
            (
                "blob put",
                async { blob_failure(self.blob.put("a", body(3)).await) }.boxed(),
            ),
            (
                "blob get",
                async { blob_failure(self.blob.get("a", blob::Span::ALL).await) }.boxed(),
            ),
            (
                "blob list",
                async { blob_failure(self.blob.list(None, 10).await) }.boxed(),
            ),
            (
                "sql query",
                async { sql_failure(self.sql.query(statement()).await) }.boxed(),
            ),
            (
                "sql execute",
                async { sql_failure(self.sql.execute(statement()).await) }.boxed(),
            ),
            (
                "sql begin",
                async { sql_failure(self.sql.begin().await) }.boxed(),
            ),
            (
                "messaging publish",
                async { messaging_failure(self.messaging.publish(message()).await) }.boxed(),
            ),
            (
                "messaging subscribe",
                async { messaging_failure(self.messaging.subscribe(subscription()).await) }.boxed(),
            ),
            (
                "messaging check",
                async { messaging_failure(self.messaging.check().await) }.boxed(),
            ),
        ]
    }

    /// Until calls pass again.
    async fn healed(&self) {
        let began = Instant::now();
        while self.kv.get("a").await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "never healthy");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!self.breaker.is_open());
    }
}

macro_rules! failure_of {
    ($($name:ident $kind:ident)*) => {
        $(fn $name<T>(result: $kind::Result<T>) -> Result<(), Failure> {
            match result {
                Ok(_) => Ok(()),
                Err($kind::Error::Failed(failure)) => Err(failure),
                Err(other) => panic!("{other:?}"),
            }
        })*
    };
}

failure_of!(kv_failure kv blob_failure blob sql_failure sql messaging_failure messaging);

fn statement() -> sql::Statement {
    sql::Statement {
        text: "3".to_owned(),
        parameters: Vec::new(),
        timeout: TIMEOUT,
    }
}

fn message() -> messaging::Message {
    messaging::Message {
        topic: "orders".to_owned(),
        ..messaging::Message::default()
    }
}

fn subscription() -> messaging::Subscription {
    messaging::Subscription {
        pattern: "orders".to_owned(),
        group: "workers".to_owned(),
        in_flight: 1,
        ack_wait: Duration::from_secs(30),
        deliveries: 3,
        back_off: Duration::from_millis(1),
        back_off_max: Duration::from_millis(1),
        dead_letter: None,
    }
}

fn body(pieces: usize) -> blob::Incoming {
    stream::iter(0..pieces)
        .map(|_| Ok(Bytes::from_static(b"piece")))
        .boxed()
}

/// A database of which a statement is a number: so many rows.
#[derive(Debug)]
struct Numbers;

#[async_trait]
impl sql::Sql for Numbers {
    async fn check(&self) -> sql::Result<()> {
        Ok(())
    }

    async fn query(&self, statement: sql::Statement) -> sql::Result<sql::Rows> {
        let count: i64 = statement.text.parse().unwrap();
        let rows = stream::iter(0..count).map(|number| Ok(vec![sql::Value::Integer(number)]));
        Ok(sql::Rows {
            columns: Vec::new(),
            rows: rows.boxed(),
        })
    }

    async fn execute(&self, _: sql::Statement) -> sql::Result<u64> {
        Ok(0)
    }

    async fn begin(&self) -> sql::Result<Box<dyn sql::Transaction>> {
        Ok(Box::new(Numbers))
    }
}

#[async_trait]
impl sql::Transaction for Numbers {
    async fn query(&mut self, statement: sql::Statement) -> sql::Result<sql::Rows> {
        sql::Sql::query(self, statement).await
    }

    async fn execute(&mut self, _: sql::Statement) -> sql::Result<u64> {
        Ok(0)
    }

    async fn commit(self: Box<Self>) -> sql::Result<()> {
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> sql::Result<()> {
        Ok(())
    }
}

#[test]
fn all_is_well_without_faults() {
    let subject = Subject::new();
    runtime().block_on(async {
        for _ in 0..3 {
            for (name, operation) in subject.operations() {
                assert_eq!(operation.await, Ok(()), "{name}");
            }
        }
    });
}

/// Refused, ten seconds late, never answered: every operation of every kind.
#[test]
fn every_fault_is_a_typed_error_in_time() {
    let refused = Failure::Unavailable("connection refused".to_owned());
    let late = Failure::TimedOut(TIMEOUT);
    let modes = [
        (Fault::Fail(refused.clone()), refused),
        (Fault::Delay(Duration::from_secs(10)), late.clone()),
        (Fault::Drop, late),
    ];
    runtime().block_on(async {
        for (fault, failure) in modes {
            for number in 0..Subject::new().operations().len() {
                let subject = Subject::new();
                subject.blob.create().await.unwrap();
                subject.blob.put("a", body(3)).await.unwrap();
                subject.plan.plan(.., fault.clone());
                let (name, operation) = subject.operations().swap_remove(number);
                let began = Instant::now();
                let answer = operation.await.unwrap_err();
                assert!(
                    began.elapsed() < Duration::from_secs(8),
                    "{name}: {fault:?}"
                );
                match &answer {
                    // A statement has its own time on top.
                    Failure::TimedOut(time) if name.starts_with("sql") => {
                        assert!(*time == TIMEOUT || *time == 2 * TIMEOUT, "{name}");
                    }
                    answer => assert_eq!(*answer, failure, "{name}: {fault:?}"),
                }
            }
        }
    });
}

#[test]
fn after_outages_in_a_row_nothing_is_sent_and_it_is_healthy_soon_after() {
    let subject = Subject::new();
    runtime().block_on(async {
        for fault in [
            Fault::Fail(Failure::Unavailable("connection refused".to_owned())),
            Fault::Drop,
        ] {
            subject.plan.plan(.., fault);
            for _ in 0..breaker::OUTAGES {
                subject.kv.get("a").await.unwrap_err();
            }
            // All kinds of the same backend rest, and at once.
            let calls = subject.plan.calls();
            let mut resting = 0;
            for (name, operation) in subject.operations() {
                match operation.now_or_never() {
                    Some(Err(Failure::Resting(rest))) => {
                        assert!(rest <= breaker::REST_MAX, "{name}");
                        resting += 1;
                    }
                    // One that passed when a rest was over.
                    other => assert!(!matches!(other, Some(Ok(()))), "{name}"),
                }
            }
            assert!(resting >= 8, "{resting}");
            assert!(subject.plan.calls() - calls <= 7);
            subject.plan.heal();
            subject.healed().await;
        }
    });
}

#[test]
fn errors_that_are_answers_do_not_open_it() {
    let subject = Subject::new();
    runtime().block_on(async {
        subject
            .plan
            .plan(.., Fault::Fail(Failure::Refused("not you".to_owned())));
        for _ in 0..3 * breaker::OUTAGES {
            let refused = kv_failure(subject.kv.get("a").await);
            assert_eq!(refused, Err(Failure::Refused("not you".to_owned())));
        }
        assert!(!subject.breaker.is_open());
    });
}

#[test]
fn a_piece_that_is_late_ends_an_object_and_a_result() {
    let subject = Subject::new();
    runtime().block_on(async {
        subject.blob.create().await.unwrap();
        subject.blob.put("a", body(1)).await.unwrap();
        let next = subject.plan.calls() + 1;
        // The call itself passes, the first piece of the body does not.
        subject.plan.plan(next + 1.., Fault::Drop);
        let object = subject.blob.get("a", blob::Span::ALL).await.unwrap();
        let pieces: Vec<_> = object.body.collect().await;
        let late = blob::Error::Failed(Failure::TimedOut(TIMEOUT));
        assert_eq!(pieces, [Err(late)]);

        subject.plan.heal();
        let next = subject.plan.calls() + 1;
        subject
            .plan
            .plan(next + 3.., Fault::Delay(Duration::from_secs(10)));
        let rows = subject.sql.query(statement()).await.unwrap();
        let rows: Vec<_> = rows.rows.collect().await;
        let late = sql::Error::Failed(Failure::TimedOut(2 * TIMEOUT));
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[2], Err(late));
    });
}

#[test]
fn a_driver_that_takes_a_piece_and_hangs_is_left_and_a_slow_writer_is_not() {
    let subject = Subject::new();
    runtime().block_on(async {
        subject.blob.create().await.unwrap();
        let slow = stream::iter(0..3).then(|_| async {
            tokio::time::sleep(3 * TIMEOUT / 2).await;
            Ok(Bytes::from_static(b"piece"))
        });
        let info = subject.blob.put("slow", slow.boxed()).await.unwrap();
        assert_eq!(info.size, 15);

        let next = subject.plan.calls() + 1;
        subject.plan.plan(next + 2.., Fault::Drop);
        let stuck = subject.blob.put("stuck", body(3)).await;
        let late = blob::Error::Failed(Failure::TimedOut(TIMEOUT));
        assert_eq!(stuck, Err(late));
        subject.plan.heal();
        assert_eq!(subject.blob.info("stuck").await, Ok(None));
    });
}

#[test]
fn a_transaction_and_a_settlement_end_in_time_and_are_not_refused_while_others_rest() {
    let subject = Subject::new();
    runtime().block_on(async {
        let mut transaction = subject.sql.begin().await.unwrap();
        let mut deliveries = subject.messaging.subscribe(subscription()).await.unwrap();
        for _ in 0..2 {
            subject.messaging.publish(message()).await.unwrap();
        }
        let first = deliveries.next().await.unwrap();
        subject.plan.plan(.., Fault::Drop);
        for _ in 0..breaker::OUTAGES {
            subject.kv.get("a").await.unwrap_err();
        }
        assert!(subject.breaker.is_open());
        let late = Err(Failure::TimedOut(TIMEOUT));
        assert_eq!(messaging_failure(first.settle.ack().await), late);
        let executed = sql_failure(transaction.execute(statement()).await);
        assert_eq!(executed, Err(Failure::TimedOut(2 * TIMEOUT)));
        assert_eq!(sql_failure(transaction.rollback().await), late);

        // The first of them that is answered says that the backend is back.
        let transaction = {
            subject.plan.heal();
            subject.healed().await;
            subject.sql.begin().await.unwrap()
        };
        assert_eq!(transaction.commit().await, Ok(()));
    });
}

/// The thread of a caller may have no clock of its own.
#[test]
fn it_needs_nothing_from_the_callers_event_loop() {
    let subject = Subject::new();
    subject.plan.plan(.., Fault::Drop);
    let bare = Builder::new_current_thread().build().unwrap();
    let answer = bare.block_on(subject.kv.get("a"));
    assert_eq!(kv_failure(answer), Err(Failure::TimedOut(TIMEOUT)));
}

#[test]
fn calls_that_are_dropped_change_nothing() {
    let subject = Subject::new();
    subject.plan.plan(.., Fault::Drop);
    runtime().block_on(async {
        for _ in 0..3 * breaker::OUTAGES {
            assert!(subject.kv.get("a").now_or_never().is_none());
        }
        assert!(!subject.breaker.is_open());
        subject.plan.heal();
        assert_eq!(subject.kv.get("a").await, Ok(None));
    });
}
