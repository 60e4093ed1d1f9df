//! The immutable result of resolving a manifest: what every other room works from.
//!
//! An [`App`] never changes. A change of the manifest or of a component's bytes is a new revision with a new digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::digest;
use crate::grant::{AddressGrant, FileGrant, HttpGrant};
use crate::limits::Limits;
use crate::listen_on::ListenOn;
use crate::route::Routes;
use crate::schedule::Schedule;
use crate::text::Text;
use crate::variable::Variable;

/// BLAKE3 of some content; printed as `blake3:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("blake3:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is deployed: components, routes, grants, limits.
#[derive(Debug, Clone)]
pub struct App {
    /// The app's name; unique in a server.
    pub name: String,
    /// The author's version, if any; informational.
    pub version: Option<String>,
    /// Digest over everything that decides what runs: settings and the content of every component.
    pub digest: Digest,
    /// Components sorted by name; a route names one by its index here.
    pub components: Vec<Component>,
    /// Which component answers which HTTP request.
    pub routes: Routes,
    /// Which component gets which messages.
    pub messages: Vec<MessageTrigger>,
    /// Which component is called at which times.
    pub crons: Vec<CronTrigger>,
    /// Which components run all the time.
    pub services: Vec<ServiceTrigger>,
    /// Where it is served unless the operator says otherwise.
    pub listen: Option<ListenOn>,
    /// A path that answers `OK` as long as the app is served, before every route; in the spelling in which paths are compared.
    pub health: Option<String>,
    /// What is not wrong with the manifest, but worth a line to whoever starts it.
    pub notes: Vec<String>,
}

/// What calls a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CalledBy {
    /// Requests: by a route, or by a schedule that names a path.
    Http,
    /// Messages.
    Message,
    /// A schedule, as a program.
    Cron,
    /// A schedule or messages, by the name of an export.
    Export,
    /// Nobody: it is started and runs on.
    Service,
}

impl App {
    /// The component of this name.
    pub fn component(&self, name: &str) -> Option<&Component> {
        let named = |component: &&Component| component.name == name;
        self.components.iter().find(named)
    }

    /// Whether `other`, another revision of this app, has the same component of this name: the same bytes, and everything
    /// that is said about it. What its bindings lead to is looked at by name only.
    pub fn has_same_component(&self, other: &Self, name: &str) -> bool {
        digest::same_component(self, other, name)
    }

    /// Everything that calls the component with this index, in the order of [`CalledBy`]; empty if nothing does.
    pub fn called_by(&self, component: usize) -> Vec<CalledBy> {
        let message = |by_name: bool| {
            let mut messages = self.messages.iter();
            messages.any(|trigger| {
                trigger.component == component && trigger.export.is_some() == by_name
            })
        };
        let cron = |is: fn(&CronRun) -> bool| {
            let mut crons = self.crons.iter();
            crons.any(|trigger| trigger.component == component && is(&trigger.run))
        };
        let routed = || {
            let mut routes = self.routes.all().iter();
            routes.any(|route| route.component == component)
                || cron(|run| matches!(run, CronRun::Path(_)))
        };
        let named = || message(true) || cron(|run| matches!(run, CronRun::Export(_)));
        let serves = || {
            let mut services = self.services.iter();
            services.any(|trigger| trigger.component == component)
        };
        let all = [
            (CalledBy::Http, routed()),
            (CalledBy::Message, message(false)),
            (
                CalledBy::Cron,
                cron(|run| matches!(run, CronRun::Job { .. })),
            ),
            (CalledBy::Export, named()),
            (CalledBy::Service, serves()),
        ];
        let called = all.into_iter().filter(|(_, is)| *is);
        called.map(|(by, _)| by).collect()
    }
}

/// How components of an app call each other.
impl App {
    /// Whether a grant names the component with this index: then others may send it requests.
    pub fn is_neighbour(&self, component: usize) -> bool {
        let Some(callee) = self.components.get(component) else {
            return false;
        };
        let mut grants = self.components.iter().flat_map(|one| &one.grants.http);
        grants.any(|grant| {
            let named = grant.neighbour();
            named.is_some_and(|name| name.eq_ignore_ascii_case(&callee.name))
        })
    }

    /// Whether the component with this index answers imports of others.
    pub fn is_bound(&self, component: usize) -> bool {
        let Some(callee) = self.components.get(component) else {
            return false;
        };
        let mut bound = self.components.iter().flat_map(|one| one.bind.values());
        bound.any(|name| *name == callee.name)
    }

    /// Every component by its index, those that answer imports before those that have these imports.
    pub fn callees_first(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.components.len());
        let mut known = BTreeSet::new();
        let mut left: Vec<(usize, &Component)> = self.components.iter().enumerate().collect();
        while !left.is_empty() {
            let (before, waiting) = (left.len(), known.clone());
            left.retain(|(index, component)| {
                let ready = component
                    .bind
                    .values()
                    .all(|callee| waiting.contains(callee));
                if ready {
                    order.push(*index);
                    known.insert(&component.name);
                }
                !ready
            });
            if left.len() == before {
                // A circle, which resolving refuses.
                order.extend(left.drain(..).map(|(index, _)| index));
            }
        }
        order
    }
}

/// When a component is called by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronTrigger {
    /// Unique among the app's: what is remembered of the schedule is remembered by this name.
    pub name: String,
    /// When.
    pub schedule: Schedule,
    /// The component, by its index in [`App::components`].
    pub component: usize,
    /// How it is called.
    pub run: CronRun,
    /// What becomes of times that passed while nothing could run.
    pub missed: Missed,
    /// What becomes of a time that comes while the last run is still going.
    pub overlap: Overlap,
    /// A run begins up to so much later, by chance.
    pub jitter_ms: u64,
}

/// How a schedule calls its component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CronRun {
    /// As a program that runs to its end, with these arguments behind its name; `None` are the component's own.
    Job {
        /// See above.
        args: Option<Vec<String>>,
    },
    /// By an export that takes nothing.
    Export(String),
    /// With a POST request for this path.
    Path(String),
}

/// What becomes of times that passed while nothing could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// Nothing.
    Skip,
    /// One run for all of them, which gets the last of them as its time.
    Once,
    /// A run for each of the last ones, one after the other.
    All,
}

/// What becomes of a time that comes while the last run is still going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// Nothing runs then.
    Skip,
    /// Its run begins when the last one has ended.
    Queue,
}

/// A component that runs all the time, and is started again when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTrigger {
    /// Unique among the services of its app.
    pub name: String,
    /// The component, by its index in [`App::components`]; no other service has it.
    pub component: usize,
    /// The export to call, where it is not what the component's ABI says.
    pub export: Option<String>,
    /// Arguments behind the component's own.
    pub args: Vec<String>,
    /// Where it listens.
    pub listen: Vec<ListenOn>,
    /// When it counts as ready.
    pub ready: Ready,
    /// Whether it is started again when it ends.
    pub restart: Restart,
    /// How much of one core it may use over time, in percent; `None` is what others leave.
    pub cpu_percent: Option<u32>,
    /// How long it may take to end when it is told to.
    pub stop_timeout: Duration,
    /// Guests that run at once and share the sockets.
    pub instances: u32,
}

/// When a service is ready: the server that starts waits for it, though not for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// Once it was started.
    Start,
    /// Once it waits for its first client.
    Accept,
    /// Once it has printed a line that holds this text.
    Line(String),
}

/// Whether a service is started again when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// However it ended.
    #[default]
    Always,
    /// If it failed: a fault, or an exit code other than 0.
    OnFailure,
    /// Not at all.
    Never,
}

impl Restart {
    /// As it is written in a manifest.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        }
    }
}

/// Messages that a component is called with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageTrigger {
    /// A topic or a pattern of topics.
    pub topic: String,
    /// The component, by its index in [`App::components`].
    pub component: usize,
    /// Subscribers of one group share the messages.
    pub group: String,
    /// The broker's label.
    pub client: String,
    /// Messages that the component works on at once.
    pub concurrency: u32,
    /// How often a message is delivered at the most.
    pub deliveries: u32,
    /// Where messages go that were delivered in vain.
    pub dead_letter: Option<String>,
    /// What two messages have in common that are handled one after the other.
    pub ordered_by: Option<OrderedBy>,
    /// The export that is called, where it is not the interface of a messaging package: `FUNCTION` or `INTERFACE#FUNCTION`.
    pub export: Option<String>,
}

/// What makes messages belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderedBy {
    /// They have the same topic.
    Topic,
    /// They have the same value under this name in their metadata.
    Metadata(String),
}

/// One guest artifact of an app.
#[derive(Debug, Clone)]
pub struct Component {
    /// The name in the manifest (`[component.NAME]`).
    pub name: String,
    /// Where its bytes came from.
    pub source: Source,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Command line arguments after the program's name.
    pub args: Vec<Text>,
    /// Environment variables, in the manifest's order, the operator's last.
    pub env: Vec<(String, Text)>,
    /// Configuration values.
    pub config: BTreeMap<String, Text>,
    /// The variables that are left in these texts, and the secrets that it was granted. All others are filled in.
    pub variables: BTreeMap<String, Variable>,
    /// Secrets of the app that it was not granted.
    pub withheld: BTreeSet<String>,
    /// What it may reach; everything else is denied.
    pub grants: Grants,
    /// Its budget.
    pub limits: Limits,
    /// How often and by how many calls at once an instance is used.
    pub reuse: Reuse,
    /// The export that every instance is to be started with, before its first call.
    pub on_start: Option<String>,
    /// Imports that another component of the app answers, each with that one's name.
    pub bind: BTreeMap<String, String>,
    /// How it is called if it is a program that answers requests.
    pub cgi: Cgi,
}

impl Component {
    /// Code about which nothing else is said: no grants, and the default limits.
    pub fn new(name: impl Into<String>, source: Source, code: &[u8]) -> Self {
        Self {
            name: name.into(),
            source,
            digest: Digest::of(code),
            args: Vec::new(),
            env: Vec::new(),
            config: BTreeMap::new(),
            variables: BTreeMap::new(),
            withheld: BTreeSet::new(),
            grants: Grants::default(),
            limits: Limits::default(),
            reuse: Reuse::default(),
            on_start: None,
            bind: BTreeMap::new(),
            cgi: Cgi::default(),
        }
    }
}

/// Where a component's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A `.wasm` or `.wat` file; absolute or relative to the working directory.
    File(PathBuf),
    /// WebAssembly text written in the manifest itself.
    InlineWat,
}

/// How an instance may be used more than once. The default is a fresh instance per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Requests that one instance answers before it is dropped; 1 = a fresh instance each.
    pub requests: u32,
    /// Requests that one instance may have in flight at once (`http-p3` only); 1 = one at a time.
    pub concurrent: u32,
}

impl Default for Reuse {
    fn default() -> Self {
        Self {
            requests: 1,
            concurrent: 1,
        }
    }
}

/// How a program answers requests, as CGI has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgi {
    /// Its arguments, as one text: `${SCRIPT_NAME}` and `${ARGS}` stand for the path and the words of the query. `None`: the path,
    /// then each part of the query.
    pub argv: Option<String>,
    /// The scripts that it runs, if it is an interpreter.
    pub scripts: Option<Scripts>,
}

/// Files that an interpreter runs, each found by the path of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scripts {
    /// The guest's name of the folder that paths are looked up in; in one of its granted directories.
    pub root: String,
    /// Ends of names that make a file a script, without the dot.
    pub extensions: Vec<String>,
    /// The scripts that answer for a folder, the first that is there.
    pub index: Vec<String>,
    /// The script that answers where a path leads to no file, by its path below `root`.
    pub fallback: Option<String>,
    /// Ends of names of the files that clients get as they are, without the dot.
    pub assets: Vec<String>,
}

/// Everything a component may reach. Empty means: nothing.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Outgoing HTTP, by scheme, host and port.
    pub http: Vec<HttpGrant>,
    /// TCP connections that the guest may open.
    pub tcp: Vec<AddressGrant>,
    /// UDP peers that the guest may send to.
    pub udp: Vec<AddressGrant>,
    /// Addresses that the guest may bind and listen on.
    pub listen: Vec<AddressGrant>,
    /// Host directories, each under a name that the guest sees.
    pub files: Vec<FileGrant>,
    /// Labels of key-value stores.
    pub keyvalue: BTreeSet<String>,
    /// Labels of blob stores: each is a container.
    pub blobstore: BTreeSet<String>,
    /// Labels of databases.
    pub sql: BTreeSet<String>,
    /// Brokers and what may be said there.
    pub messaging: MessagingGrants,
    /// Names of secrets.
    pub secrets: BTreeSet<String>,
    /// Those of `http`, `tcp` and `udp` that the operator gave on the command line.
    pub operator: OperatorGrants,
}

/// What the operator granted of the network. These are part of the component's other grants; they are told apart because
/// only the operator opens addresses outside the public internet, by naming them.
#[derive(Debug, Clone, Default)]
pub struct OperatorGrants {
    /// Outgoing HTTP.
    pub http: Vec<HttpGrant>,
    /// TCP connections.
    pub tcp: Vec<AddressGrant>,
    /// UDP peers.
    pub udp: Vec<AddressGrant>,
}

/// What a component may say to whom. Topics are words separated by dots; in a pattern `*` stands for one word and `>` at the
/// end for one or more.
#[derive(Debug, Clone, Default)]
pub struct MessagingGrants {
    /// Labels of brokers; `default` where the manifest names none.
    pub clients: BTreeSet<String>,
    /// Patterns of topics that it may publish to.
    pub publish: Vec<String>,
    /// Patterns of topics that it may send requests to.
    pub request: Vec<String>,
    /// Patterns of topics that an instance may read by itself; what a component is called with is a trigger's.
    pub subscribe: Vec<String>,
}

/// An [`App`] together with the bytes of its components, which the host compiles and then forgets.
#[derive(Debug)]
pub struct Resolved {
    /// What to run.
    pub app: App,
    /// The bytes of each component, in the order of `app.components`; `.wat` text as it was read.
    pub code: Vec<Vec<u8>>,
}
