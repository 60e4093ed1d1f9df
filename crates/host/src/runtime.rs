//! [`Runtime`]: the process-wide part. Engines, linkers, the cache of compiled code, the clock tick and the log.
//!
//! Each engine is made when the first guest needs it, so that a server of WASI 0.2 guests never pays for the other.

mod counted;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use hostel_app::{Component, ServerConfig};
use hostel_stores::Stores;
use hostel_stores::kv::Kv;
use hostel_stores::messaging::Messaging;
use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime::{Engine, Result};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::io;

use crate::abi::cgi::scripts::Site;
use crate::abi::shared::Crew;
use crate::abi::start::OnStart;
use crate::cache::{Cache, CacheStats};
use crate::capability::config::Settings;
use crate::capability::granted::{Granted, Places};
use crate::capability::log::{AppLog, LogSink};
use crate::compile::{self, Compiler, Job, LoadError};
use crate::engine::{self, Allocation, Flavor};
use crate::guest::{Guest, Guests, Inner};
use crate::interface;
use crate::kept;
use crate::lanes::{self, Account, Lanes};
use crate::lookup;
use crate::memory::Budget;
use crate::metrics::{Family, Metrics};
use crate::net::{self, AppNetwork, Network, NetworkError};
use crate::p1;
use crate::pool::{Idle, Pool};
use crate::state::{Host, Stdio, Template};
use crate::ticker::Ticker;

/// What the process decides about its guests.
#[derive(Debug)]
pub struct RuntimeOptions {
    /// Folder of the compiled code; `None` compiles at every start.
    pub cache_dir: Option<PathBuf>,
    /// Where guest output goes.
    pub log: LogSink,
    /// Memory of all guests together in bytes; `None` as the table of limits says.
    pub memory: Option<u64>,
    /// Whether guests have budgets. Without them a guest can stop the process: only to measure what they cost.
    pub metered: bool,
    /// Where guests are compiled.
    pub compiler: Compiler,
    /// Where data of guests is kept; `None` has no stores, and grants of them are refused.
    pub stores: Option<Stores>,
    /// What the operator's file says.
    pub config: Arc<ServerConfig>,
}

impl RuntimeOptions {
    /// No cache, budgets as the table of limits says, and compilation in this process.
    pub fn new(log: LogSink) -> Self {
        Self {
            cache_dir: None,
            log,
            memory: None,
            metered: true,
            compiler: Compiler::InProcess,
            stores: None,
            config: Arc::default(),
        }
    }
}

/// What a guest is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To answer requests; its output goes to the log.
    Serve,
    /// To handle messages; its output goes to the log.
    Handle,
    /// To run to its end whenever it is told to; its output goes to the log.
    Job,
    /// To run all the time; its output goes to the log.
    Service,
    /// To be called by the names of its exports; its output goes to the log.
    Call,
    /// To run once in the foreground, with the process's own standard streams.
    Run,
}

/// Slow steps of loading, for whoever waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The compiler starts on this many bytes.
    Compiling {
        /// The component's name.
        component: String,
        /// Size of its binary.
        bytes: usize,
    },
    /// The compiler is done.
    Compiled {
        /// The component's name.
        component: String,
        /// How long it took.
        millis: u64,
    },
    /// Its code was in the cache.
    Cached {
        /// The component's name.
        component: String,
    },
    /// The machine's address space does not hold the pool of instances: each gets its own mapping, which is slower.
    OnDemand,
    /// Its code could not be kept; the next start compiles again.
    NotCached {
        /// The component's name.
        component: String,
        /// Why.
        cause: String,
    },
}

/// The host of all guests of this process. Clones are the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) cache: Option<Cache>,
    pub(crate) compiler: Compiler,
    /// Held while the compiler runs: one at a time, so that its bounds are those of the process.
    pub(crate) compiling: Mutex<()>,
    log: LogSink,
    metered: bool,
    places: Option<Places>,
    network: Arc<Network>,
    sync: OnceLock<Half>,
    asynchronous: OnceLock<Half>,
    guests: Arc<Guests>,
    lanes: Lanes,
    pool: Arc<Pool>,
    memory: Arc<Budget>,
    metrics: Metrics,
}

/// One engine with its linkers.
pub(crate) struct Half {
    pub(crate) flavor: Flavor,
    pub(crate) engine: Engine,
    pub(crate) components: Linker<Host>,
    pub(crate) modules: wasmtime::Linker<Host>,
    /// The same with sockets.
    pub(crate) services: wasmtime::Linker<Host>,
    allocation: Allocation,
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// Starts the runtime. A cache folder that cannot be used is an error: it was asked for.
    ///
    /// # Errors
    /// The cache folder cannot be made or is not this user's own.
    pub fn new(options: RuntimeOptions) -> std::result::Result<Self, LoadError> {
        let cache = options.cache_dir.map(|folder| {
            Cache::open(&folder).map_err(|cause| LoadError {
                component: String::new(),
                what: format!(
                    "the folder for compiled code {} cannot be used: {cause}",
                    folder.display()
                ),
                help: "name another one with `--data DIR`, or do without: `--no-cache`".into(),
            })
        });
        let network = Network::new(&options.config.network);
        let guests = Arc::<Guests>::default();
        let memory = Budget::new(options.memory);
        let idle = Arc::downgrade(&guests);
        memory.when_short(move || {
            if let Some(guests) = idle.upgrade() {
                guests.drop_idle();
            }
        });
        let places = options.stores.map(|stores| {
            Places::new(stores, &options.config).map_err(|error| LoadError {
                component: String::new(),
                what: error.what,
                help: error.help,
            })
        });
        Ok(Self(Arc::new(Shared {
            cache: cache.transpose()?,
            compiler: options.compiler,
            compiling: Mutex::new(()),
            log: options.log,
            metered: options.metered,
            places: places.transpose()?,
            network: Arc::new(network.map_err(network_error)?),
            sync: OnceLock::new(),
            asynchronous: OnceLock::new(),
            guests,
            lanes: Lanes::new(),
            pool: Pool::new(),
            memory,
            metrics: Metrics::default(),
        })))
    }

    /// A place for the guests of one app: they share the app's part of the CPU, of the queue and of the log. Two scopes
    /// are two apps, whatever their names.
    pub fn app(&self, name: &str) -> AppScope {
        let name = name.into();
        AppScope {
            shared: self.0.clone(),
            log: self.0.log.app(&name),
            network: Arc::new(AppNetwork::new(&self.0.network)),
            number: lanes::number(),
            name,
        }
    }

    /// How often the cache of compiled code helped.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.cache.as_ref().map(Cache::stats).unwrap_or_default()
    }

    /// What was counted since the start.
    pub fn metrics(&self) -> Vec<Family> {
        self.0.metrics.families(self.0.families(self.cache_stats()))
    }

    /// Where guest output goes.
    pub fn log(&self) -> &LogSink {
        &self.0.log
    }
}

/// One app in this host. Clones are the same app.
#[derive(Clone)]
pub struct AppScope {
    shared: Arc<Shared>,
    name: Arc<str>,
    /// Unlike its name, no other scope's.
    number: u64,
    log: AppLog,
    network: Arc<AppNetwork>,
}

impl AppScope {
    /// Loads one component: detects its ABI, checks its imports, compiles it or takes its code from the cache, links it.
    ///
    /// # Errors
    /// What is wrong with the component and the way out.
    pub fn load(
        &self,
        component: &Component,
        code: &[u8],
        role: Role,
        progress: &dyn Fn(Progress),
    ) -> std::result::Result<Guest, LoadError> {
        let bound = self.network.callees.bound(component)?;
        let job = Job {
            name: &component.name,
            code,
            limits: &component.limits,
            role,
            bound: &bound,
            progress,
        };
        let named = |error: LoadError| LoadError {
            component: component.name.clone(),
            ..error
        };
        let loaded = compile::load(&self.shared, &job).map_err(named)?;
        let half = self
            .shared
            .half(loaded.flavor)
            .map_err(|cause| named(compile::host_error(&cause)))?;
        if half.allocation == Allocation::OnDemand {
            progress(Progress::OnDemand);
        }
        let account = Account::new(self.number);
        let held = (self.granted(component)?, self.settings(component)?);
        let on_start = component.on_start.as_deref().map(|name| {
            let callable = (&loaded.callable, loaded.flavor);
            OnStart::find(callable, name, &held.1).map_err(named)
        });
        let on_start = on_start.transpose()?.map(Arc::new);
        let template = Arc::new(Template {
            on_start,
            ..self.template(component, role, held)
        });
        let (owner, metrics) = (account.owner(), template.metrics.clone());
        let permits = self.shared.pool.permits(owner, &component.limits, metrics);
        let guest = Arc::new(Inner {
            site: Site::of(component, &template),
            template,
            abi: loaded.abi,
            callable: loaded.callable,
            flavor: loaded.flavor,
            engine: loaded.engine,
            permits,
            idle: Idle::new(&component.limits),
            peers: self.shared.guests.clone(),
            crew: Crew::default(),
            reuse: component.reuse,
            ticker: half.ticker.clone(),
            lanes: self.shared.lanes.clone(),
            account,
            sweeping: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        });
        self.shared.guests.add(&guest);
        if role == Role::Call {
            let callees = &self.network.callees;
            callees.loaded(&guest.template.component, &guest);
        }
        Ok(Guest(guest))
    }

    /// The broker that the operator keeps under this label for the app.
    ///
    /// # Errors
    /// There are no stores, or the operator's place for it makes no sense.
    pub fn broker(&self, label: &str) -> std::result::Result<Arc<dyn Messaging>, LoadError> {
        let error = |what, help| LoadError {
            component: String::new(),
            what,
            help,
        };
        match &self.shared.places {
            Some(places) => places
                .broker(&self.name, label)
                .map_err(|cause| error(cause.what, cause.help)),
            None => Err(error(
                "this host keeps no messages".to_owned(),
                "start it with a data directory".to_owned(),
            )),
        }
    }

    /// What a part of the host itself keeps for the app, by a name that no manifest can name: on this machine's disk, as durably as
    /// the app's own data.
    ///
    /// # Errors
    /// There is no data directory.
    pub fn own_notes(&self, of: &str) -> std::result::Result<Arc<dyn Kv>, LoadError> {
        let error = |what: String| LoadError {
            component: String::new(),
            what,
            help: "start it with a data directory: `--data DIR`".to_owned(),
        };
        match &self.shared.places {
            Some(places) => places
                .own_notes(&self.name, of)
                .map_err(|cause| error(cause.what)),
            None => Err(error("this host keeps nothing on disk".to_owned())),
        }
    }

    /// The stores that the component was granted.
    fn granted(&self, component: &Component) -> std::result::Result<Granted, LoadError> {
        let refused = |what, help| LoadError {
            component: component.name.clone(),
            what,
            help,
        };
        match &self.shared.places {
            Some(places) => places
                .granted(&self.name, &component.grants)
                .map_err(|error| refused(error.what, error.help)),
            None => Ok(Granted::default()),
        }
    }

    /// Its values, all of which have to be there.
    fn settings(&self, component: &Component) -> std::result::Result<Settings, LoadError> {
        let program = format!("{}.wasm", component.name);
        Settings::new(program, component).map_err(|error| LoadError {
            component: component.name.clone(),
            what: error.to_string(),
            help: error.help(),
        })
    }

    fn template(
        &self,
        component: &Component,
        role: Role,
        (granted, settings): (Granted, Settings),
    ) -> Template {
        let name: Arc<str> = component.name.as_str().into();
        Template {
            metrics: self.shared.metrics.component(&self.name, &name),
            component: name,
            settings: Arc::new(settings),
            grants: Arc::new(component.grants.clone()),
            limits: component.limits.clone(),
            metered: self.shared.metered,
            memory: self.shared.memory.share(),
            reuse: component.reuse,
            stdio: match role {
                Role::Serve | Role::Handle | Role::Job | Role::Service | Role::Call => {
                    Stdio::Log(self.log.clone())
                }
                Role::Run => Stdio::Inherit,
            },
            network: self.network.clone(),
            granted: Arc::new(granted),
            on_start: None,
            life: None,
            cgi: Arc::new(component.cgi.clone()),
        }
    }
}

fn network_error(NetworkError { what, help }: NetworkError) -> LoadError {
    LoadError {
        component: String::new(),
        what,
        help,
    }
}

impl Shared {
    /// The engine of this flavour, made on first use.
    pub(crate) fn half(&self, flavor: Flavor) -> Result<&Half> {
        let cell = match flavor {
            Flavor::Sync => &self.sync,
            Flavor::Async => &self.asynchronous,
        };
        if let Some(half) = cell.get() {
            return Ok(half);
        }
        let fresh = Half::new(flavor, self.metered)?; // two threads at once: one of them is dropped unused
        Ok(cell.get_or_init(|| fresh))
    }
}

impl Half {
    fn new(flavor: Flavor, metered: bool) -> Result<Self> {
        let (engine, allocation) = engine::new(flavor, metered)?;
        let mut components = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut components)?;
        add_io(&mut components)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut components)?;
        if flavor == Flavor::Async {
            wasmtime_wasi::p3::add_to_linker(&mut components)?;
            wasmtime_wasi_http::p3::add_to_linker(&mut components)?;
        }
        lookup::add_to_linker(&mut components, flavor)?;
        net::add_to_linker(&mut components, flavor)?;
        kept::add_to_linker(&mut components, flavor)?;
        interface::add_to_linker(&mut components, flavor)?;
        let mut modules = wasmtime::Linker::new(&engine);
        if flavor == Flavor::Sync {
            wasmtime_wasi::p1::add_to_linker_async(&mut modules, Host::p1)?;
            // The library's own refuses codes from 126 on, which shells and C programs use.
            modules.allow_shadowing(true);
            let exit = |code: i32| -> Result<()> { Err(I32Exit(code).into()) };
            modules.func_wrap("wasi_snapshot_preview1", "proc_exit", exit)?;
            modules.allow_shadowing(false);
            interface::add_to_modules(&mut modules)?;
        }
        let mut services = modules.clone();
        if flavor == Flavor::Sync {
            p1::shadow(&mut services)?;
        }
        let ticker = Ticker::start(vec![engine.clone()])?;
        Ok(Self {
            flavor,
            engine,
            components,
            modules,
            services,
            allocation,
            ticker,
        })
    }
}

/// Streams and pollables need the table only. The library's own reach it through the whole WASI context, which would
/// then be built for each of the many requests that need nothing else of it.
fn add_io(linker: &mut Linker<Host>) -> Result<()> {
    linker.allow_shadowing(true);
    io::error::add_to_linker::<Host, Tables>(linker, Host::table)?;
    io::poll::add_to_linker::<Host, Tables>(linker, Host::table)?;
    io::streams::add_to_linker::<Host, Tables>(linker, Host::table)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Tells the linker what [`add_io`]'s functions work on.
struct Tables;

impl HasData for Tables {
    type Data<'a> = &'a mut ResourceTable;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::RequestId;
    use crate::imports::{DRAFTS, DRAFTS_0_3, PREVIEW1, PREVIEW1_FUNCTIONS, WASI_0_2, WASI_0_3};

    /// Whether the linker has something of this name: then it cannot be defined a second time.
    fn defines(half: &mut Half, import: &str) -> bool {
        half.components
            .root()
            .func_wrap(import, |_, (): ()| Ok(()))
            .is_err()
    }

    #[test]
    fn what_the_table_of_imports_offers_is_in_the_linkers() {
        let halves = [
            (Flavor::Sync, &[WASI_0_2][..]),
            (Flavor::Async, &[WASI_0_2, WASI_0_3]),
        ];
        for (flavor, offers) in halves {
            let mut half = Half::new(flavor, true).unwrap();
            for offer in offers {
                for interface in offer.interfaces {
                    let import = format!("{interface}@{}", offer.version);
                    assert!(defines(&mut half, &import), "{import} on {flavor:?}");
                }
            }
            for import in DRAFTS {
                assert!(defines(&mut half, import), "{import} on {flavor:?}");
            }
            for import in DRAFTS_0_3 {
                let defined = defines(&mut half, import);
                assert_eq!(defined, flavor == Flavor::Async, "{import}");
            }
            assert!(!defines(&mut half, "wasi:http/types@0.4.0"));
            assert_eq!(
                defines(&mut half, "wasi:http/types@0.3.0"),
                flavor == Flavor::Async
            );
        }
    }

    #[test]
    fn every_function_of_preview_1_is_in_the_linker() {
        let half = Half::new(Flavor::Sync, true).unwrap();
        let mut store = Host::store(
            &half.engine,
            &Arc::new(crate::testing::template()),
            RequestId(0),
        )
        .unwrap();
        for function in PREVIEW1_FUNCTIONS {
            let found = half.modules.get(&mut store, PREVIEW1, function);
            assert!(found.is_ok(), "{PREVIEW1}.{function}");
        }
        assert!(half.modules.get(&mut store, PREVIEW1, "sock_open").is_err());
    }
}
