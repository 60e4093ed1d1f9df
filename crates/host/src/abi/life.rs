//! What runs in a shared instance: its event loop, the requests in it, and the answers that are about to leave.
//!
//! Who may bring requests, for how long, and what becomes of them is `seat`'s business.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use ::http::{Request, Response};
use futures::FutureExt;
use futures::stream::{FuturesUnordered, Stream};
use hostel_app::limits::Limits;
use tokio::sync::{mpsc, oneshot};
use wasmtime::Result;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p3::bindings::Service;

use crate::abi::broken::Broken;
use crate::abi::http::{self, Answered};
use crate::abi::response::Ahead;
use crate::abi::{Exports, Warm, http_p3};
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody, RequestId, fault_of};
use crate::lock::lock;
use crate::state::Host;

/// One request for a shared instance.
pub(super) struct Job {
    pub(super) request: Request<RequestBody>,
    pub(super) call: Call,
    pub(super) answer: oneshot::Sender<Result<Ahead, String>>,
}

/// The life of one shared instance, from instantiation until it fails or is dropped. What remains of one that failed is
/// for whoever records the fault: until then the end of a body must not look like the guest's doing.
pub(super) async fn live(
    guest: Arc<Inner>,
    mut inbox: mpsc::Receiver<Job>,
    outbox: Outbox,
    idle: Arc<AtomicBool>,
) -> Result<(), Broken> {
    let mut warm = http::instantiate(&guest, RequestId::next()).await?;
    // From here on only requests keep the guest alive, not its idle instances.
    drop(guest);
    let Warm { store, exports, .. } = &mut warm;
    let Exports::P3(service) = &*exports else {
        return Err(Fault::Host("not an http-p3 instance".into()).into());
    };
    let turning = store.run_concurrent(async |accessor| {
        serve(accessor, service, &mut inbox, (&outbox, &idle)).await
    });
    let fault = match AssertUnwindSafe(turning).catch_unwind().await {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(error)) | Err(error)) => fault_of(&error, &warm.store.data().meter),
        Err(_) => http::panicked(),
    };
    Err(Broken {
        fault,
        remains: Some(Box::new(warm)),
    })
}

/// Takes jobs and turns the event loop, for as long as anybody can send some.
async fn serve(
    accessor: &Accessor<Host>,
    service: &Service,
    inbox: &mut mpsc::Receiver<Job>,
    (outbox, idle): (&Outbox, &AtomicBool),
) -> Result<()> {
    let mut calls = pin!(FuturesUnordered::new());
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(Some(done)) = calls.as_mut().poll_next(cx) {
                match done {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            match inbox.poll_recv(cx) {
                Poll::Ready(Some(job)) => {
                    idle.store(false, Ordering::Relaxed);
                    calls.push(converse(accessor, service, job, outbox));
                    continue;
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            if calls.is_empty() && accessor.poll_no_interesting_tasks(cx).is_ready() {
                idle.store(true, Ordering::Relaxed);
            }
            return Poll::Pending;
        }
    })
    .await
}

/// One job, until the guest has answered it.
async fn converse(
    accessor: &Accessor<Host>,
    service: &Service,
    job: Job,
    outbox: &Outbox,
) -> Result<()> {
    let answer = http_p3::respond(accessor, service, job.request, &job.call).await?;
    match answer {
        Ok(response) => outbox.put(response, job.answer),
        // Nobody listens any more if the client is gone.
        Err(reason) => drop(job.answer.send(Err(reason))),
    }
    Ok(())
}

/// Answers that have not left yet: the guest may be about to complete them.
#[derive(Clone)]
pub(super) struct Outbox {
    unsent: Arc<Mutex<Vec<Unsent>>>,
    body_bytes_max: u64,
}

struct Unsent {
    ahead: Ahead,
    answer: oneshot::Sender<Result<Ahead, String>>,
}

impl Outbox {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            unsent: Arc::default(),
            body_bytes_max: limits.response_body_bytes,
        }
    }

    fn put(&self, response: Response<WasiBody>, answer: oneshot::Sender<Result<Ahead, String>>) {
        let answered = Answered {
            response,
            until_read: None,
        };
        match Ahead::new(answered, self.body_bytes_max) {
            Ok(ahead) => lock(&self.unsent).push(Unsent { ahead, answer }),
            // Nobody listens any more if the client is gone.
            Err(reason) => drop(answer.send(Err(reason))),
        }
    }

    /// Takes what is ready of the bodies; true if that may let the guest go on.
    pub(super) fn fill(&self, cx: &mut Context<'_>) -> bool {
        let mut progressed = false;
        for unsent in lock(&self.unsent).iter_mut() {
            progressed |= unsent.ahead.fill(cx) && !unsent.ahead.is_full();
        }
        progressed
    }

    /// Sends everything: the guest has nothing to add now.
    pub(super) fn send(&self) {
        for unsent in lock(&self.unsent).drain(..) {
            // Nobody listens any more if the client is gone.
            drop(unsent.answer.send(Ok(unsent.ahead)));
        }
    }

    /// Drops everything: whoever waits for it learns of the instance's end.
    pub(super) fn discard(&self) {
        lock(&self.unsent).clear();
    }
}
