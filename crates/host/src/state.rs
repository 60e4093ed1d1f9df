//! [`Host`]: everything that one store holds, one field per capability and nothing else.
//!
//! A [`Template`] is what can be prepared once per component; a `Host` is made from it for every instance. WASI's own
//! context is built when the guest first asks for it: many short requests never do.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use hostel_app::limits::Limits;
use hostel_app::{Cgi, Grants, Reuse};
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Result, Store, UpdateDeadline};
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::abi::service::Life;
use crate::abi::start::OnStart;
use crate::bind::Answering;
use crate::capability::blob;
use crate::capability::charge::Charge;
use crate::capability::config::{Settings, Start};
use crate::capability::granted::Granted;
use crate::capability::inbox::Inboxes;
use crate::capability::log::{AppLog, Channel};
use crate::capability::messaging::Answer;
use crate::capability::stdio::{LineStream, Origin};
use crate::capability::until_stop::UntilStop;
use crate::chain::Chain;
use crate::guest::{CurrentRequest, RequestId};
use crate::interface::env::Exchange;
use crate::interface::wasi_experimental_http::Sessions;
use crate::memory::Share;
use crate::meter::{Meter, Refill};
use crate::metrics::Component;
use crate::net;
use crate::p1::Descriptors;

/// Where a guest's standard streams lead.
#[derive(Debug, Clone)]
pub(crate) enum Stdio {
    /// Output to the log, line by line; no input.
    Log(AppLog),
    /// The process's own, byte for byte: `hostel run`.
    Inherit,
}

/// What every instance of one component starts from.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) component: Arc<str>,
    pub(crate) metrics: Arc<Component>,
    /// Arguments, environment, configuration values.
    pub(crate) settings: Arc<Settings>,
    pub(crate) grants: Arc<Grants>,
    pub(crate) limits: Limits,
    /// False only to measure what budgets cost.
    pub(crate) metered: bool,
    pub(crate) memory: Arc<Share>,
    pub(crate) reuse: Reuse,
    pub(crate) stdio: Stdio,
    /// Shared with the other components of the app.
    pub(crate) network: Arc<net::AppNetwork>,
    /// The stores that its grants name.
    pub(crate) granted: Arc<Granted>,
    /// What a fresh instance is started with.
    pub(crate) on_start: Option<Arc<OnStart>>,
    /// What a service has and calls have not.
    pub(crate) life: Option<Life>,
    /// How it answers requests as a program.
    pub(crate) cgi: Arc<Cgi>,
}

/// What one store holds.
pub(crate) struct Host {
    template: Arc<Template>,
    /// What the instance began with.
    start: Arc<Start>,
    request: CurrentRequest,
    wasi: Option<WasiCtx>,
    p1: Option<WasiP1Ctx>,
    /// A service's table of descriptors in front of that.
    descriptors: Option<Box<Descriptors>>,
    table: ResourceTable,
    http: WasiHttpCtx,
    outgoing: net::Outgoing,
    answering: Answering,
    blobs_held: blob::Held,
    /// Messages that it fetches itself.
    pub(crate) inboxes: Inboxes,
    /// Answers to requests of its own, for core modules.
    pub(crate) http_sessions: Sessions,
    /// What a module of serverless-wasm is asked and says.
    exchange: Option<Box<Exchange>>,
    charge: Charge,
    /// How the message that it works on is answered; named by `capability::messaging`.
    pub(crate) answer: Option<Answer>,
    /// Those that are open; named by `net`.
    pub(crate) sockets: net::Sockets,
    pub(crate) meter: Meter,
}

/// Which of WASI's contexts a program asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A core module: that of preview 1.
    Module,
    /// A component: that of its release.
    Component,
}

/// What one run of a program begins with, in place of what its component has.
pub(crate) struct Given {
    /// All of them, the program's name first.
    pub(crate) args: Vec<String>,
    /// Besides the component's own variables; where a name is in both, this is the one.
    pub(crate) env: Vec<(Cow<'static, str>, String)>,
    pub(crate) stdin: Arc<dyn StdinStream + Sync>,
    pub(crate) stdout: Arc<dyn StdoutStream + Sync>,
    /// `None` is the log.
    pub(crate) stderr: Option<Arc<dyn StdoutStream + Sync>>,
}

impl Host {
    /// A store whose instance may use what the template grants. Fails when a granted directory cannot be opened.
    pub(crate) fn store(
        engine: &Engine,
        template: &Arc<Template>,
        request: RequestId,
    ) -> Result<Store<Host>> {
        let mut host = Self::new(template, request);
        // A directory that cannot be opened must be an error of the call, so it is opened before the call.
        if !template.grants.files.is_empty() {
            host.wasi = Some(host.context(None)?.build());
        }
        Ok(host.into_store(engine))
    }

    /// The same for one run of a program, whose context is made at once.
    pub(crate) fn program(
        engine: &Engine,
        template: &Arc<Template>,
        request: RequestId,
        kind: Kind,
        given: Option<&Given>,
    ) -> Result<Store<Host>> {
        let mut host = Self::new(template, request);
        let mut context = host.context(given)?;
        match kind {
            Kind::Module => host.set_p1(context.build_p1())?,
            Kind::Component => host.wasi = Some(context.build()),
        }
        Ok(host.into_store(engine))
    }

    fn new(template: &Arc<Template>, request: RequestId) -> Self {
        let limits = &template.limits;
        let request = CurrentRequest::new(request);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.resources);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits.header_bytes);
        Host {
            template: template.clone(),
            start: template.start(),
            request,
            wasi: None,
            p1: None,
            descriptors: None,
            table,
            http,
            outgoing: net::Outgoing::new(template),
            answering: Answering::default(),
            blobs_held: blob::Held::new(limits.blob_bytes),
            inboxes: Inboxes::default(),
            http_sessions: Sessions::default(),
            exchange: None,
            charge: Charge::new(template),
            answer: None,
            sockets: net::Sockets::default(),
            meter: Meter::new(limits, template.memory.open(), template.refill()),
        }
    }

    fn into_store(self, engine: &Engine) -> Store<Host> {
        let template = self.template.clone();
        let limits = &template.limits;
        let mut store = Store::new(engine, self);
        if !template.metered {
            return store;
        }
        store.limiter(|host| &mut host.meter);
        store.set_hostcall_fuel(limits.host_call_bytes);
        store.set_max_component_handles(limits.handles);
        store.set_epoch_deadline(1);
        // Not the plain yield: after this one the executor looks at sockets and timers before it resumes the guest.
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        store
    }

    /// What WASI's context is built from, with every directory that is granted.
    fn context(&self, given: Option<&Given>) -> Result<WasiCtxBuilder> {
        let (start, request) = (&self.start, &self.request);
        self.template.wasi(start, request, &self.outgoing, given)
    }

    /// Names the request that the instance now works for: its output is tagged with it, and what an earlier request was
    /// refused is not this one's fault.
    pub(crate) fn works_for(&mut self, request: RequestId) {
        self.request.set(request);
        self.meter.forget_refusal();
        self.answer = None;
        self.begin_call();
    }

    /// Another call begins, perhaps beside others: what each may start and keep is its own.
    pub(crate) fn begin_call(&mut self) {
        self.meter.begin_call();
        self.outgoing.begin();
        self.charge.begin();
    }

    /// What every instance of the component starts from.
    pub(crate) fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// What the calls of this instance may still do with stores.
    pub(crate) fn charge(&self) -> &Charge {
        &self.charge
    }

    /// The request that the instance works for.
    pub(crate) fn request(&self) -> &CurrentRequest {
        &self.request
    }

    /// Whether the instance began with the values of now: see [`Settings::generation`].
    pub(crate) fn is_current(&self) -> bool {
        self.start.generation() == self.template.settings.generation()
    }

    /// The call that begins is one of a chain of guests that call each other.
    pub(crate) fn is_part_of(&mut self, chain: Chain) {
        self.outgoing.is_part_of(chain);
    }

    /// The way out to the network.
    pub(crate) fn outgoing(&self) -> &net::Outgoing {
        &self.outgoing
    }

    /// The instances that answer this one's imports.
    pub(crate) fn answering(&mut self) -> &mut Answering {
        &mut self.answering
    }

    /// Blobs that the host holds for this instance.
    pub(crate) fn blobs_held(&self) -> &blob::Held {
        &self.blobs_held
    }

    /// The table of host objects that the guest holds.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Prepares the preview-1 context of a core module; before its first call.
    pub(crate) fn enable_p1(&mut self) -> Result<()> {
        let p1 = self.context(None)?.build_p1();
        self.set_p1(p1)
    }

    fn set_p1(&mut self, mut p1: WasiP1Ctx) -> Result<()> {
        // Its descriptors are in a table of its own.
        p1.ctx()
            .table
            .set_max_capacity(self.template.limits.resources);
        self.p1 = Some(p1);
        if let Some(life) = &self.template.life {
            self.descriptors = Some(Box::new(Descriptors::new(&self.template, life)?));
        }
        Ok(())
    }

    /// What a module of serverless-wasm is asked and says; empty before that.
    pub(crate) fn exchange(&mut self) -> &mut Exchange {
        self.exchange.get_or_insert_default()
    }

    /// A service's descriptors.
    pub(crate) fn descriptors(&mut self) -> Option<&mut Descriptors> {
        self.descriptors.as_deref_mut()
    }

    /// The preview-1 context; an empty one, which can do nothing, unless it was enabled.
    pub(crate) fn p1(&mut self) -> &mut WasiP1Ctx {
        self.p1
            .get_or_insert_with(|| WasiCtxBuilder::new().build_p1())
    }
}

impl Given {
    fn begin<'a>(&self, start: &Start, wasi: &'a mut WasiCtxBuilder) -> &'a mut WasiCtxBuilder {
        // A program that looks a name up finds the first of its kind.
        let replaced = |name: &str| self.env.iter().any(|(other, _)| other == name);
        for (name, value) in &start.env {
            if !replaced(name) {
                wasi.env(name, value);
            }
        }
        wasi.args(&self.args)
            .envs(&self.env)
            .stdin(self.stdin.clone())
            .stdout(self.stdout.clone())
    }
}

impl Template {
    /// The arguments of an instance that is made now, without the program's name.
    pub(crate) fn args(&self) -> Vec<String> {
        self.start().args.iter().skip(1).cloned().collect()
    }

    /// How a call that does not end has its budget anew.
    pub(crate) fn refill(&self) -> Option<Refill> {
        self.life.as_ref().map(|life| Refill::new(life.refill))
    }

    fn start(&self) -> Arc<Start> {
        self.settings.start(|problem| self.trouble(problem))
    }

    /// Something of the operator's is not as the component needs it: told, but no more often than faults are.
    pub(crate) fn trouble(&self, problem: impl Display) {
        if let Stdio::Log(log) = &self.stdio {
            log.notice(&format!("component \"{}\": {problem}", self.component));
        }
    }

    fn wasi(
        &self,
        start: &Start,
        request: &CurrentRequest,
        outgoing: &net::Outgoing,
        given: Option<&Given>,
    ) -> Result<WasiCtxBuilder> {
        let mut wasi = self.wasi_without_files(start, request, outgoing, given);
        for grant in &self.grants.files {
            let access = if grant.write {
                FsPerms::ReadWrite
            } else {
                FsPerms::ReadOnly
            };
            wasi.preopened_dir(&grant.host, &grant.guest, access)?;
        }
        Ok(wasi)
    }

    fn wasi_without_files(
        &self,
        start: &Start,
        request: &CurrentRequest,
        outgoing: &net::Outgoing,
        given: Option<&Given>,
    ) -> WasiCtxBuilder {
        let mut wasi = WasiCtxBuilder::new();
        wasi.max_random_size(self.limits.random_bytes);
        match given {
            None => wasi.args(&start.args).envs(&start.env),
            Some(given) => given.begin(start, &mut wasi),
        };
        match &self.stdio {
            Stdio::Inherit => {
                wasi.inherit_stdio();
            }
            Stdio::Log(log) => {
                if let Some(life) = &self.life {
                    wasi.stdin(UntilStop::new(life.stop.clone()));
                }
                let origin = Origin {
                    component: self.metrics.clone(),
                    request: request.clone(),
                };
                if given.is_none() {
                    let out = LineStream::new(log.clone(), origin.clone(), Channel::Out);
                    let announcement = self.life.as_ref().and_then(Life::announcement);
                    wasi.stdout(out.announcing(announcement));
                }
                match given.and_then(|given| given.stderr.clone()) {
                    Some(own) => wasi.stderr(own),
                    None => wasi.stderr(LineStream::new(log.clone(), origin, Channel::Err)),
                };
            }
        }
        net::allow_sockets(&mut wasi, outgoing);
        wasi
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (template, start) = (&self.template, &self.start);
        let (request, outgoing) = (&self.request, &self.outgoing);
        let ctx = self.wasi.get_or_insert_with(|| {
            template
                .wasi_without_files(start, request, outgoing, None)
                .build()
        });
        WasiCtxView {
            ctx,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outgoing,
        }
    }
}
