//! One run: the guest's part of a schedule.
//!
//! A program is told in its environment which schedule and which time it runs for, a request in two fields that no client can
//! send; an export is told nothing.

use std::fmt::Display;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use hostel_app::{CronRun, CronTrigger, limits, schedule};
use hostel_host::{
    BodyError, Call, Chain, Fault, Guest, Job, LoadError, RequestBody, RequestId, Role,
    SCHEDULE_FIELD, SCHEDULE_TIME_FIELD,
};
use http::uri::Scheme;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};

use crate::deploy::Deployment;
use crate::slot::Slot;

/// Which schedule, and which of its times, a program runs for.
const VARIABLES: [&str; 2] = ["HOSTEL_CRON", "HOSTEL_CRON_TIME"];

/// Who runs for a schedule.
pub(super) trait Runs: Send + Sync {
    /// The run of one of the schedules for one of its times; how it ended is told to the operator by whoever runs.
    fn run(&self, schedule: usize, time: i64) -> BoxFuture<'static, ()>;
    /// Something that the operator should know of a schedule.
    fn tell(&self, schedule: usize, what: &dyn Display);
}

/// What one schedule calls.
#[derive(Debug, Clone)]
pub(super) struct Target {
    slot: Slot,
    name: String,
    run: CronRun,
    /// Where a request says that it goes.
    authority: String,
}

impl Target {
    /// The guest that a trigger names, with what is to be called of it.
    pub(super) fn new(
        deployment: &Deployment<'_>,
        trigger: &CronTrigger,
    ) -> Result<Option<Self>, LoadError> {
        let role = match &trigger.run {
            CronRun::Job { .. } => Role::Job,
            CronRun::Export(_) => Role::Call,
            CronRun::Path(_) => Role::Serve,
        };
        let Some(slot) = deployment.slot(trigger.component, role) else {
            return Ok(None);
        };
        // That an export is there and takes nothing is found out now.
        super::check([trigger], &slot.current())?;
        let (component, app) = (slot.current().name().to_owned(), &deployment.app.name);
        Ok(Some(Self {
            slot: slot.clone(),
            name: trigger.name.clone(),
            run: trigger.run.clone(),
            authority: format!("{component}.{app}.internal").to_ascii_lowercase(),
        }))
    }

    async fn call(&self, guest: &Guest, time: &str, id: RequestId) -> Result<(), Ended> {
        let turn = guest.turn(limits::CRON_PATIENCE_MS.duration()).await?;
        match &self.run {
            CronRun::Job { args } => {
                let told = [self.name.as_str(), time];
                let env = VARIABLES.into_iter().zip(told);
                let job = Job {
                    args: args.clone(),
                    env: env
                        .map(|(name, value)| (name.into(), value.into()))
                        .collect(),
                };
                match guest.run_job(turn, job, id).await? {
                    0 => Ok(()),
                    code => Err(Ended::Badly(format!("it exited with code {code}"))),
                }
            }
            CronRun::Export(export) => {
                let call = guest.prepare(export, &[]);
                let call = call.map_err(|error| Fault::BadGuest(error.what))?;
                let returned = guest.call_in_turn(turn, call, id).await?;
                match returned.error() {
                    Some(error) => Err(Ended::Badly(format!("it returned the error {error}"))),
                    None => Ok(()),
                }
            }
            CronRun::Path(path) => {
                let request = self.request(path, time).map_err(|error| {
                    Fault::Host(format!("no request could be made of it: {error}"))
                })?;
                let call = Call {
                    id,
                    scheme: Scheme::HTTP,
                    chain: Chain::default(),
                    origin: None,
                };
                let answer = guest.handle_http_in_turn(turn, request, call).await?;
                let status = answer.status();
                let mut body = answer.into_body();
                while let Some(frame) = body.frame().await {
                    // A body that breaks off has been told by whoever noticed.
                    if frame.is_err() {
                        break;
                    }
                }
                match status.is_client_error() || status.is_server_error() {
                    true => Err(Ended::Badly(format!("it answered {status}"))),
                    false => Ok(()),
                }
            }
        }
    }

    fn request(&self, path: &str, time: &str) -> Result<Request<RequestBody>, http::Error> {
        let empty = Empty::<Bytes>::new().map_err(|never| -> BodyError { match never {} });
        Request::post(format!("http://{}{path}", self.authority))
            .header(header::HOST, self.authority.as_str())
            .header(header::CONTENT_LENGTH, 0)
            .header(SCHEDULE_FIELD, self.name.as_str())
            .header(SCHEDULE_TIME_FIELD, time)
            .body(RequestBody::new(empty))
    }
}

/// Why a run was no success.
enum Ended {
    /// The guest failed, or was not called.
    Fault(Fault),
    /// The guest says so.
    Badly(String),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Runs for Vec<Target> {
    fn run(&self, schedule: usize, time: i64) -> BoxFuture<'static, ()> {
        let target = self.get(schedule).cloned();
        async move {
            let Some(target) = target else { return };
            let id = RequestId::next();
            let guest = target.slot.current();
            let time = schedule::shown(time);
            let of = format!("schedule={} time={time} ", target.name);
            match target.call(&guest, &time, id).await {
                Ok(()) => {}
                Err(Ended::Fault(fault)) => guest.report_of(id, &fault, &of),
                Err(Ended::Badly(why)) => guest.notice(format_args!("request={id} {of}{why}")),
            }
        }
        .boxed()
    }

    fn tell(&self, schedule: usize, what: &dyn Display) {
        if let Some(target) = self.get(schedule) {
            let name = &target.name;
            target
                .slot
                .current()
                .notice(format_args!("schedule={name} {what}"));
        }
    }
}
