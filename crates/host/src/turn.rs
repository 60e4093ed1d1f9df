//! [`Turn`]: calls that nobody waits for, as a schedule makes them. They wait longer for their place than others do, and what they
//! fail of is told with what they were made for.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::abi::export::{self, Prepared, Returned};
use crate::abi::http;
use crate::abi::job::{self, Job};
use crate::abi::response::ResponseBody;
use crate::fault::Fault;
use crate::guest::{Call, Guest, RequestBody, RequestId};
use crate::pool::Permit;
use crate::state::Stdio;

/// The field of a request by which the host tells a guest which schedule calls it; nobody else may say it.
pub const SCHEDULE_FIELD: &str = "hostel-cron";
/// The field that tells for which of its times.
pub const SCHEDULE_TIME_FIELD: &str = "hostel-cron-time";

/// A place among the calls of a component; see [`Guest::turn`].
pub struct Turn(Permit);

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turn")
    }
}

/// How often a call that waits for its turn asks again.
const BUSY: Duration = Duration::from_millis(20);

impl Guest {
    /// A place among the calls of this component, as soon as there is one: for a call that nobody waits for, and which therefore
    /// can wait longer than others.
    ///
    /// # Errors
    /// `busy`, where there was none in all that time.
    pub async fn turn(&self, patience: Duration) -> Result<Turn, Fault> {
        let begin = Instant::now();
        loop {
            match self.0.permit().await {
                Err(Fault::Busy(_)) if begin.elapsed() < patience => sleep(BUSY).await,
                permit => return Ok(Turn(permit?)),
            }
        }
    }

    /// Runs a program to its end; its exit code. The future runs the guest in the caller's task; dropping it cancels the guest.
    ///
    /// # Errors
    /// The fault, where it did not end by itself.
    pub async fn run_job(&self, Turn(permit): Turn, job: Job, id: RequestId) -> Result<u8, Fault> {
        self.0.template.metrics.calls.add(1);
        job::run(&self.0, permit, job, id).await
    }

    /// [`Self::call_prepared`], in its turn.
    ///
    /// # Errors
    /// As there.
    pub async fn call_in_turn(
        &self,
        Turn(permit): Turn,
        call: Prepared,
        id: RequestId,
    ) -> Result<Returned, Fault> {
        self.0.template.metrics.calls.add(1);
        export::run(&self.0, permit, call, id).await
    }

    /// [`Self::handle_http`], in its turn.
    ///
    /// # Errors
    /// As there.
    pub async fn handle_http_in_turn(
        &self,
        Turn(permit): Turn,
        request: ::http::Request<RequestBody>,
        call: Call,
    ) -> Result<::http::Response<ResponseBody>, Fault> {
        self.0.template.metrics.calls.add(1);
        http::answer(&self.0, permit, request, call).await
    }

    /// Counts and logs a fault; `of` says what the call was for.
    pub fn report_of(&self, request: RequestId, fault: &Fault, of: &str) {
        let template = &self.0.template;
        template.metrics.fault(fault);
        if let Stdio::Log(log) = &template.stdio {
            log.fault_of(&template.component, request, fault, of);
        }
    }

    /// Tells the operator something about the component, no more often than faults are told.
    pub fn notice(&self, what: impl fmt::Display) {
        if let Stdio::Log(log) = &self.0.template.stdio {
            let component = &self.0.template.component;
            log.notice(&format!("level=warn component={component} {what}"));
        }
    }
}
