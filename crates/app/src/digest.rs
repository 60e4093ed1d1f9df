//! The digest of an app: one number for everything that decides what runs.
//!
//! The same content gives the same digest wherever its folder lies and in whatever order its tables and grants were
//! written; any other change gives another. Files in granted directories are not part of it: they may change while
//! the app runs; so may variables whose values the operator keeps elsewhere, which count by their names. Each structure is taken apart field by field, so a new field that is forgotten here does not compile.

use std::path::Path;

use crate::app::{
    App, Cgi, Component, CronRun, CronTrigger, Digest, Grants, MessageTrigger, MessagingGrants,
    Missed, OperatorGrants, OrderedBy, Overlap, Ready, Reuse, Scripts, ServiceTrigger,
};
use crate::grant::FileGrant;
use crate::limits::Limits;
use crate::route::{Route, Spelling};
use crate::text::{Part, Text};
use crate::variable::{Origin, Variable};

/// The digest of `app`, whose own `digest` is not looked at. Directories below `folder` count by their path inside it.
pub(crate) fn of_app(app: &App, folder: &Path) -> Digest {
    let App {
        name,
        version,
        digest: _,
        components,
        routes,
        messages,
        crons,
        services,
        listen,
        health,
        notes: _,
    } = app;
    let mut out = Canonical::default();
    out.text("hostel app 1");
    out.text(name);
    out.option(version.as_deref());
    out.set(
        components
            .iter()
            .map(|component| canonical(|out| write_component(out, component, folder))),
    );
    out.set(
        routes
            .all()
            .iter()
            .map(|route| canonical(|out| write_route(out, route, components))),
    );
    out.set(
        messages
            .iter()
            .map(|trigger| canonical(|out| write_message(out, trigger, components))),
    );
    out.set(
        crons
            .iter()
            .map(|trigger| canonical(|out| write_cron(out, trigger, components))),
    );
    out.set(
        services
            .iter()
            .map(|trigger| canonical(|out| write_service(out, trigger, components))),
    );
    let listen = listen.as_ref().map(ToString::to_string);
    out.option(listen.as_deref());
    out.option(health.as_deref());
    out.number(match routes.spelling() {
        Spelling::Named => 0,
        Spelling::Rest => 1,
        Spelling::Literal => 2,
    });
    Digest::of(&out.0)
}

/// Whether the component of this name is the same in both, to its guests: the bytes, every setting, and what is known of its
/// variables. What its bindings lead to counts by name.
pub(crate) fn same_component(one: &App, other: &App, name: &str) -> bool {
    let (Some(a), Some(b)) = (one.component(name), other.component(name)) else {
        return false;
    };
    let written = |component| canonical(|out| write_component(out, component, Path::new("")));
    // The digest leaves out values that are secret or not the app's.
    let same_values = a.variables == b.variables && a.withheld == b.withheld;
    same_values && written(a) == written(b)
}

fn write_component(out: &mut Canonical, component: &Component, folder: &Path) {
    let Component {
        name,
        source: _,
        digest,
        args,
        env,
        config,
        variables,
        withheld: _,
        grants,
        limits,
        reuse,
        on_start,
        bind,
        cgi,
    } = component;
    out.text(name);
    out.bytes(&digest.0);
    out.number(args.len() as u64);
    args.iter().for_each(|arg| write_text(out, arg));
    out.set(
        env.iter()
            .map(|pair| canonical(|out| write_pair(out, (&pair.0, &pair.1)))),
    );
    out.set(
        config
            .iter()
            .map(|pair| canonical(|out| write_pair(out, pair))),
    );
    out.set(
        variables
            .iter()
            .map(|pair| canonical(|out| write_variable(out, pair))),
    );
    write_grants(out, grants, folder);
    write_limits(out, limits);
    let Reuse {
        requests,
        concurrent,
    } = reuse;
    out.number(u64::from(*requests));
    out.number(u64::from(*concurrent));
    out.option(on_start.as_deref());
    out.number(bind.len() as u64);
    for (import, callee) in bind {
        out.text(import);
        out.text(callee);
    }
    write_cgi(out, cgi);
}

fn write_cgi(out: &mut Canonical, Cgi { argv, scripts }: &Cgi) {
    out.option(argv.as_deref());
    out.number(u64::from(scripts.is_some()));
    if let Some(Scripts {
        root,
        extensions,
        index,
        fallback,
        assets,
    }) = scripts
    {
        out.text(root);
        out.option(fallback.as_deref());
        for names in [extensions, index, assets] {
            out.number(names.len() as u64);
            names.iter().for_each(|name| out.text(name));
        }
    }
}

fn write_pair(out: &mut Canonical, (name, value): (&String, &Text)) {
    out.text(name);
    write_text(out, value);
}

fn write_text(out: &mut Canonical, text: &Text) {
    out.number(text.parts().len() as u64);
    for part in text.parts() {
        let (kind, text) = match part {
            Part::Text(text) => (0, text),
            Part::Variable(name) => (1, name),
        };
        out.number(kind);
        out.text(text);
    }
}

/// Its name and its default. What its value is at the moment, and where the operator keeps it, is not the app's; and what is
/// secret is not even part of a hash: the digest is printed, and a short secret could be found by trying.
fn write_variable(out: &mut Canonical, (name, variable): (&String, &Variable)) {
    let Variable { secret, origins } = variable;
    out.text(name);
    out.number(u64::from(*secret));
    let default = match origins.last() {
        Some(Origin::Given(value)) if !secret => Some(value.expose()),
        _ => None,
    };
    out.option(default);
}

fn write_grants(out: &mut Canonical, grants: &Grants, folder: &Path) {
    let Grants {
        http,
        tcp,
        udp,
        listen,
        files,
        keyvalue,
        blobstore,
        sql,
        messaging,
        secrets,
        operator,
    } = grants;
    out.set(http.iter().map(|grant| grant.to_string().into_bytes()));
    for addresses in [tcp, udp, listen] {
        out.set(addresses.iter().map(|grant| grant.to_string().into_bytes()));
    }
    out.set(files.iter().map(|FileGrant { guest, host, write }| {
        canonical(|out| {
            let inside = host
                .strip_prefix(folder)
                .ok()
                .filter(|_| !folder.as_os_str().is_empty());
            out.text(guest);
            out.bytes(inside.unwrap_or(host).as_os_str().as_encoded_bytes());
            out.number(u64::from(*write));
        })
    }));
    let MessagingGrants {
        clients,
        publish,
        request,
        subscribe,
    } = messaging;
    for names in [keyvalue, blobstore, sql, secrets, clients] {
        out.set(names.iter().map(|name| name.clone().into_bytes()));
    }
    for patterns in [publish, request, subscribe] {
        out.set(patterns.iter().map(|pattern| pattern.clone().into_bytes()));
    }
    let OperatorGrants { http, tcp, udp } = operator;
    out.set(http.iter().map(|grant| grant.to_string().into_bytes()));
    for addresses in [tcp, udp] {
        out.set(addresses.iter().map(|grant| grant.to_string().into_bytes()));
    }
}

fn write_limits(out: &mut Canonical, limits: &Limits) {
    let Limits {
        memory_bytes,
        table_elements,
        deadline_ms,
        cpu_ms,
        concurrency,
        queue_wait_ms,
        queue_depth,
        host_call_bytes,
        handles,
        resources,
        header_bytes,
        host_bytes,
        blob_bytes,
        sql_timeout_ms,
        random_bytes,
        request_body_bytes,
        response_body_bytes,
        outbound,
        outbound_open,
        store_calls,
        store_bytes,
        store_key_bytes,
        store_value_bytes,
        outbound_rate,
        http_sessions,
    } = limits;
    for bound in [deadline_ms, cpu_ms, store_bytes] {
        out.number(u64::from(bound.is_some()));
        out.number(bound.unwrap_or(0));
    }
    for count in [outbound, outbound_open, store_calls, outbound_rate] {
        out.number(u64::from(count.is_some()));
        out.number(count.map_or(0, u64::from));
    }
    for number in [
        memory_bytes,
        queue_wait_ms,
        sql_timeout_ms,
        random_bytes,
        request_body_bytes,
        response_body_bytes,
    ] {
        out.number(*number);
    }
    for number in [table_elements, concurrency, queue_depth, http_sessions] {
        out.number(u64::from(*number));
    }
    for number in [
        host_call_bytes,
        handles,
        resources,
        header_bytes,
        host_bytes,
        blob_bytes,
        store_key_bytes,
        store_value_bytes,
    ] {
        out.number(*number as u64);
    }
}

fn write_route(out: &mut Canonical, route: &Route, components: &[Component]) {
    let Route {
        pattern,
        host,
        methods,
        component,
        entrypoint,
        line: _,
    } = route;
    out.text(pattern);
    out.option(host.as_deref());
    out.set(methods.iter().map(|method| method.clone().into_bytes()));
    out.option(
        components
            .get(*component)
            .map(|component| component.name.as_str()),
    );
    out.option(entrypoint.as_deref());
}

fn write_message(out: &mut Canonical, trigger: &MessageTrigger, components: &[Component]) {
    let MessageTrigger {
        topic,
        component,
        group,
        client,
        concurrency,
        deliveries,
        dead_letter,
        ordered_by,
        export,
    } = trigger;
    for text in [topic, group, client] {
        out.text(text);
    }
    for number in [concurrency, deliveries] {
        out.number(u64::from(*number));
    }
    out.option(dead_letter.as_deref());
    out.option(ordered_by.as_ref().map(|by| match by {
        OrderedBy::Topic => "topic",
        OrderedBy::Metadata(name) => name,
    }));
    out.number(u64::from(matches!(
        ordered_by,
        Some(OrderedBy::Metadata(_))
    )));
    out.option(export.as_deref());
    out.text(name_of(components, *component));
}

fn write_cron(out: &mut Canonical, trigger: &CronTrigger, components: &[Component]) {
    let CronTrigger {
        name,
        schedule,
        component,
        run,
        missed,
        overlap,
        jitter_ms,
    } = trigger;
    out.text(name);
    out.text(schedule.expression());
    out.text(schedule.zone());
    out.text(name_of(components, *component));
    match run {
        CronRun::Job { args } => {
            out.number(0);
            out.number(args.as_ref().map_or(0, |args| args.len() as u64 + 1));
            args.iter().flatten().for_each(|arg| out.text(arg));
        }
        CronRun::Export(name) => {
            out.number(1);
            out.text(name);
        }
        CronRun::Path(path) => {
            out.number(2);
            out.text(path);
        }
    }
    out.number(match missed {
        Missed::Skip => 0,
        Missed::Once => 1,
        Missed::All => 2,
    });
    out.number(match overlap {
        Overlap::Skip => 0,
        Overlap::Queue => 1,
    });
    out.number(*jitter_ms);
}

fn write_service(out: &mut Canonical, trigger: &ServiceTrigger, components: &[Component]) {
    let ServiceTrigger {
        name,
        component,
        export,
        args,
        listen,
        ready,
        restart,
        cpu_percent,
        stop_timeout,
        instances,
    } = trigger;
    out.text(name);
    out.text(name_of(components, *component));
    out.option(export.as_deref());
    out.number(args.len() as u64);
    args.iter().for_each(|arg| out.text(arg));
    out.number(listen.len() as u64);
    for place in listen {
        out.text(&place.to_string());
    }
    let (kind, line) = match ready {
        Ready::Start => ("start", ""),
        Ready::Accept => ("accept", ""),
        Ready::Line(text) => ("line", text.as_str()),
    };
    for text in [kind, line, restart.word()] {
        out.text(text);
    }
    out.number(cpu_percent.map_or(0, u64::from));
    out.bytes(&stop_timeout.as_nanos().to_le_bytes());
    out.number(u64::from(*instances));
}

/// Components count by their names: where one stands among the others says nothing.
fn name_of(components: &[Component], index: usize) -> &str {
    let component = components.get(index);
    component.map_or("", |component| component.name.as_str())
}

/// Bytes in which every piece carries its length, so that no two different values are written alike.
#[derive(Default)]
struct Canonical(Vec<u8>);

fn canonical(write: impl FnOnce(&mut Canonical)) -> Vec<u8> {
    let mut out = Canonical::default();
    write(&mut out);
    out.0
}

impl Canonical {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn option(&mut self, text: Option<&str>) {
        self.number(u64::from(text.is_some()));
        self.text(text.unwrap_or(""));
    }

    /// Pieces whose order and repetition mean nothing.
    fn set(&mut self, pieces: impl Iterator<Item = Vec<u8>>) {
        let mut pieces: Vec<Vec<u8>> = pieces.collect();
        pieces.sort_unstable();
        pieces.dedup();
        self.number(pieces.len() as u64);
        pieces.iter().for_each(|piece| self.bytes(piece));
    }
}
