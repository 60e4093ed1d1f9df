//! [`Guest`]: one component of one app, compiled, linked and ready to be called.
//!
//! This is the hot path's door into the room: permit, instance, call. How a call is made is each ABI's own file;
//! what it may cost is `meter`; who waits is `pool`.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use bytes::Bytes;
use hostel_app::Reuse;
use hostel_app::limits::{self, Limits};
use hostel_app::route::Route;
use hostel_stores::messaging::{Message, Messaging};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::runtime::Handle;
use wasmtime::{Engine, PoolConcurrencyLimitError};
use wasmtime_wasi::I32Exit;

use crate::abi::cgi::scripts::Site;
use crate::abi::export::{self, Argument, ExportInfo, Prepared, Returned};
use crate::abi::message::{self, Handled};
use crate::abi::response::ResponseBody;
use crate::abi::shared::Crew;
use crate::abi::start::Refused;
use crate::abi::{Callable, Warm, command, handle, http};
use crate::bind::CalleeFailed;
use crate::capability::messaging::Letter;
use crate::chain::Chain;
use crate::compile::LoadError;
use crate::detect::Abi;
use crate::engine::Flavor;
use crate::fault::Fault;
use crate::lanes::{Account, Lanes};
use crate::lock::lock;
use crate::meter::Meter;
use crate::pool::{Idle, Permit, Permits};
use crate::state::{Stdio, Template};
use crate::ticker::Ticker;

/// How a body can fail: `wasi:http`'s error codes and what lies under them.
pub type BodyError = wasmtime_wasi_http::Error;
/// The body of a request on its way to a guest.
pub type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// Names one call in logs and responses; unique in this process and unlikely to repeat in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The next id.
    pub fn next() -> Self {
        static NEXT: OnceLock<AtomicU64> = OnceLock::new();
        // A random start keeps two runs' logs apart; without randomness they merely look alike.
        let next = NEXT
            .get_or_init(|| AtomicU64::new(getrandom::u64().unwrap_or(0) & 0xffff_ffff_0000_0000));
        Self(next.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The request that an instance works for at the moment. Clones follow it.
#[derive(Debug, Clone)]
pub(crate) struct CurrentRequest(Arc<AtomicU64>);

impl CurrentRequest {
    pub(crate) fn new(request: RequestId) -> Self {
        Self(Arc::new(AtomicU64::new(request.0)))
    }

    pub(crate) fn set(&self, request: RequestId) {
        self.0.store(request.0, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> RequestId {
        RequestId(self.0.load(Ordering::Relaxed))
    }
}

/// What a trigger knows about a call besides the request itself.
#[derive(Debug, Clone)]
pub struct Call {
    /// The id that log lines and fault answers carry.
    pub id: RequestId,
    /// How the client reached the server.
    pub scheme: ::http::uri::Scheme,
    /// Which guests' calls it is part of; the default for a trigger's.
    pub chain: Chain,
    /// Where it comes from, if it came by a route.
    pub origin: Option<Origin>,
}

impl Call {
    /// The export that its route names as the one that answers.
    pub(crate) fn entrypoint(&self) -> Option<&str> {
        self.origin.as_ref()?.route.entrypoint.as_deref()
    }
}

/// What a request's way to its guest was. A guest that is told of it has no other way to know.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address.
    pub client: IpAddr,
    /// The route.
    pub route: Arc<Route>,
}

/// One component, ready to be called. Clones are the same guest.
#[derive(Clone)]
pub struct Guest(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) template: Arc<Template>,
    /// The scripts of an interpreter.
    pub(crate) site: Option<Arc<Site>>,
    pub(crate) abi: Abi,
    pub(crate) callable: Callable,
    pub(crate) flavor: Flavor,
    pub(crate) engine: Engine,
    pub(crate) permits: Arc<Permits>,
    pub(crate) idle: Idle<Warm>,
    pub(crate) peers: Arc<Guests>,
    pub(crate) crew: Crew,
    pub(crate) reuse: Reuse,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) lanes: Lanes,
    pub(crate) account: Account,
    /// A task drops the instances that idle for too long.
    pub(crate) sweeping: AtomicBool,
    /// Another build has taken its place: its instances are not kept for further calls.
    pub(crate) retired: AtomicBool,
}

/// All guests of the process: they share the places for instances.
#[derive(Default)]
pub(crate) struct Guests(Mutex<Vec<Weak<Inner>>>);

impl Guests {
    pub(crate) fn add(&self, guest: &Arc<Inner>) {
        let mut guests = lock(&self.0);
        guests.retain(|guest| guest.strong_count() > 0);
        guests.push(Arc::downgrade(guest));
    }

    /// Drops every idle instance.
    pub(crate) fn drop_idle(&self) {
        let guests = lock(&self.0);
        let alive: Vec<_> = guests.iter().filter_map(Weak::upgrade).collect();
        drop(guests);
        for guest in alive {
            guest.idle.clear();
            guest.crew.drop_idle();
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest")
            .field("name", &self.name())
            .field("abi", &self.abi())
            .finish_non_exhaustive()
    }
}

impl Guest {
    /// The component's name in its app.
    pub fn name(&self) -> &str {
        &self.0.template.component
    }

    /// How it is called.
    pub fn abi(&self) -> Abi {
        self.0.abi
    }

    /// The export that answers where a route names none, if that is one by its name.
    pub fn usual_entrypoint(&self) -> Option<&'static str> {
        matches!(self.0.callable, Callable::Handle(_)).then_some(handle::HANDLE)
    }

    /// Its budget.
    pub fn limits(&self) -> &Limits {
        &self.0.template.limits
    }

    /// Answers one HTTP request. The future runs the guest in the caller's task; dropping it, or the response's body
    /// before its end, cancels the guest.
    ///
    /// # Errors
    /// The fault, where the guest did not answer or failed before its answer was complete.
    pub async fn handle_http(
        &self,
        request: ::http::Request<RequestBody>,
        call: Call,
    ) -> Result<::http::Response<ResponseBody>, Fault> {
        self.0.template.metrics.calls.add(1);
        let permit = self.0.permit().await?;
        http::answer(&self.0, permit, request, call).await
    }

    /// Hands it one message that came from `broker`. The future runs the guest in the caller's task; dropping it cancels the
    /// guest.
    ///
    /// # Errors
    /// The fault, where the guest did not come to a decision about the message.
    pub async fn handle_message(
        &self,
        message: Message,
        broker: &Arc<dyn Messaging>,
        id: RequestId,
    ) -> Result<Handled, Fault> {
        self.0.template.metrics.calls.add(1);
        let permit = self.0.permit().await?;
        let letter = Letter::received(message, broker);
        message::handle(&self.0, permit, letter, id).await
    }

    /// The functions that it exports, if it was loaded to be called by them (`Role::Call`); else none.
    pub fn exports(&self) -> Vec<ExportInfo> {
        let linked = export::linked(&self.0.callable);
        linked.map_or_else(
            |_| Vec::new(),
            |linked| linked.infos().into_iter().cloned().collect(),
        )
    }

    /// Checks that it exports a function of this name with one of these types (as of [`ExportInfo::types`]) and says with
    /// which: for whoever is going to call it later.
    ///
    /// # Errors
    /// There is no such export, or its type is none of these.
    pub fn check_export(&self, name: &str, types: &[&str]) -> Result<usize, LoadError> {
        let linked = export::linked(&self.0.callable);
        linked
            .and_then(|linked| linked.check(name, types))
            .map_err(|error| self.named(error))
    }

    /// Checks the name of an export and converts the arguments to its types; nothing runs.
    ///
    /// # Errors
    /// There is no such export, or an argument is not of its parameter's type.
    pub fn prepare(&self, name: &str, arguments: &[Argument]) -> Result<Prepared, LoadError> {
        let linked = export::linked(&self.0.callable);
        linked
            .and_then(|linked| linked.prepare(name, arguments))
            .map_err(|error| self.named(error))
    }

    fn named(&self, error: LoadError) -> LoadError {
        LoadError {
            component: self.name().to_owned(),
            ..error
        }
    }

    /// Calls one of its exports. The future runs the guest in the caller's task; dropping it cancels the guest.
    ///
    /// # Errors
    /// The fault, where it did not return. That it returned an error is no fault: see [`Returned::error`].
    pub async fn call_prepared(&self, call: Prepared, id: RequestId) -> Result<Returned, Fault> {
        self.0.template.metrics.calls.add(1);
        let permit = self.0.permit().await?;
        export::run(&self.0, permit, call, id).await
    }

    /// The same with an export and arguments that were not checked before.
    ///
    /// # Errors
    /// The fault, where it did not return; `bad-guest` where it has no such export, or one of other types.
    pub async fn call_export(
        &self,
        name: &str,
        arguments: &[Argument],
        id: RequestId,
    ) -> Result<Returned, Fault> {
        let call = self.prepare(name, arguments);
        let call = call.map_err(|error| Fault::BadGuest(error.what))?;
        self.call_prepared(call, id).await
    }

    /// Tells the operator why the guest did not take a message.
    pub fn report_refusal(&self, request: RequestId, why: &str) {
        let what = format!("it did not take a message: {why}");
        self.0.remark(request, &what);
    }

    /// Counts and logs a fault that the caller answers for.
    pub fn report(&self, request: RequestId, fault: &Fault) {
        self.0.report(request, fault);
    }

    /// Makes one instance and drops it: the first call then meets neither cold code nor a guest that cannot even begin. A
    /// command is not tried, because nothing but its own run can tell. A host without room for it says nothing of the guest.
    ///
    /// # Errors
    /// The fault, where no instance comes about.
    pub async fn warm_up(&self) -> Result<(), Fault> {
        if matches!(
            self.0.callable,
            Callable::Command(_) | Callable::Init(_) | Callable::Cgi(_)
        ) {
            return Ok(());
        }
        match http::warm_up(&self.0).await {
            Err(Fault::Busy(_)) => Ok(()),
            outcome => outcome,
        }
    }

    /// Another build has taken its place: instances that idle are dropped, and others once their calls have ended. Calls
    /// that are in flight, or that come all the same, are answered.
    pub fn retire(&self) {
        self.0.retired.store(true, Ordering::SeqCst);
        self.0.idle.clear();
        self.0.crew.close();
    }

    /// Runs a command to its end, with `args` as its arguments, the program's name first. Returns its exit code.
    ///
    /// # Errors
    /// The fault, where it did not end by itself.
    pub async fn run(&self, args: &[String]) -> Result<u8, Fault> {
        command::run(&self.0, args).await
    }
}

impl Inner {
    /// A place among the calls of the component, after a wait in line if it must be; without budgets there is no line.
    pub(crate) async fn permit(&self) -> Result<Permit, Fault> {
        match self.template.metered {
            true => self.permits.acquire().await,
            false => Ok(Permit::uncounted()),
        }
    }

    /// An instance that may answer again. Those that began with values which have changed since are dropped.
    pub(crate) fn idle_instance(&self) -> Option<Warm> {
        loop {
            let warm = self.idle.take()?;
            if warm.store.data().is_current() {
                return Some(warm);
            }
        }
    }

    /// Keeps an instance for the next call, but not for ever.
    pub(crate) fn keep(self: &Arc<Self>, warm: Warm) {
        self.idle.put(warm);
        // Order matters: whoever retires the guest says so before it drops the idle instances.
        if self.retired.load(Ordering::SeqCst) {
            return self.idle.clear();
        }
        let Ok(home) = Handle::try_current() else {
            return;
        };
        if self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        let guest = Arc::downgrade(self);
        home.spawn(async move {
            loop {
                tokio::time::sleep(limits::IDLE_INSTANCE_MS.duration()).await;
                let Some(guest) = guest.upgrade() else { return };
                guest.sweeping.store(false, Ordering::Relaxed);
                // One that is kept meanwhile finds either this task or none.
                if !guest.idle.sweep() || guest.sweeping.swap(true, Ordering::Relaxed) {
                    return;
                }
            }
        });
    }

    /// Counts and logs a fault, as the one of its app and component.
    pub(crate) fn report(&self, request: RequestId, fault: &Fault) {
        self.template.metrics.fault(fault);
        if let Stdio::Log(log) = &self.template.stdio {
            log.fault(&self.template.component, request, fault);
        }
    }

    /// Tells the operator something about an answer that was given all the same.
    pub(crate) fn remark(&self, request: RequestId, what: &str) {
        if let Stdio::Log(log) = &self.template.stdio {
            let component = &self.template.component;
            log.notice(&format!(
                "level=warn component={component} request={request} {what}"
            ));
        }
    }

    /// The same for an instance that has just returned: its last request is not one that it had answered before.
    pub(crate) fn blame(&self, fault: Fault, warm: &Warm) -> Fault {
        self.blame_reuse(fault, warm.answered.saturating_sub(1))
    }

    /// Names the likely cause where an instance fails that had answered before: many guests answer only once.
    pub(crate) fn blame_reuse(&self, fault: Fault, answered: u32) -> Fault {
        let (Fault::Trap(detail) | Fault::BadGuest(detail), 1..) = (&fault, answered) else {
            return fault;
        };
        let name = &self.template.component;
        let hint = format!(
            "{detail}\nthis instance had answered {answered} request(s) before; if the guest answers only once per \
             instance, set `reuse = 1` in [component.{name}]"
        );
        if matches!(fault, Fault::Trap(_)) {
            Fault::Trap(hint)
        } else {
            Fault::BadGuest(hint)
        }
    }
}

/// Turns the engine's error into the fault that it means.
pub(crate) fn fault_of(error: &wasmtime::Error, meter: &Meter) -> Fault {
    if error.is::<PoolConcurrencyLimitError>() {
        return Fault::Busy(1);
    }
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Fault::BadGuest(format!("it exited with code {code} instead of returning"));
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return Fault::BadGuest(refused.to_string());
    }
    if let Some(fault) = error.downcast_ref().and_then(CalleeFailed::fault) {
        return fault;
    }
    if meter.room_refused() {
        return Fault::Busy(1);
    }
    if meter.memory_refused() {
        return Fault::Memory(meter.memory_bytes_max());
    }
    let text = format!("{error:?}");
    // Outside the pool, an instance that the machine has no room for is not the guest's fault.
    if text.contains("mmap failed") {
        return Fault::Host(format!("the machine has no room for an instance: {text}"));
    }
    Fault::Trap(text)
}
