//! A newer revision of an app takes the place of the one that is served, between two calls.
//!
//! Everything that changed is loaded, linked and tried first, while the old guests serve; only when all of it is there are the
//! places taken, so that a revision that cannot be served changes nothing. A call keeps the guest that it began with.
//!
//! What calls the guests beside requests (`[[message]]` and so on) stays as it was when the app was deployed: its guests are
//! replaced, and a change of its own settings is told and waits for the next start.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hostel_app::route::Routes;
use hostel_app::{
    App, Component, CronTrigger, Digest, ListenOn, MessageTrigger, Resolved, ServiceTrigger,
};
use hostel_host::{Fault, Guest, LoadError, Progress, Role};

use crate::cron;
use crate::deploy::{self, DeployError, Deployed};
use crate::discovery::{self, Routing};
use crate::messages;
use crate::slot::Slot;

/// Why the revision that is served stays.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// The new one could not be served at all.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// A component loads, but no instance of it comes about.
    #[error(
        "component \"{component}\": no instance of it can be made: {fault}\n  help: mend what it does before its first call"
    )]
    Start {
        /// The component's name.
        component: String,
        /// What became of the try.
        fault: Fault,
    },
}

/// What a new revision changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Components with a new guest, in the order of their names.
    pub replaced: Vec<Replaced>,
    /// Whether anything at all changed.
    pub any: bool,
    /// What of it waits for the next start, in the words of the manifest.
    pub restart: Vec<&'static str>,
    /// What is worth a line, and was not said of the revision before.
    pub notes: Vec<String>,
}

/// A component with a new guest.
#[derive(Debug)]
pub struct Replaced {
    /// Its name.
    pub component: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Whether these are other bytes than before, not only other settings.
    pub rebuilt: bool,
    /// Whether there was none of its name before.
    pub added: bool,
    /// How long it took until it could be called.
    pub took: Duration,
    /// The compiler's part of that; `None` where the code was in the cache.
    pub compiled: Option<Duration>,
}

/// What calls guests, with their names instead of indices, which are another revision's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Triggers {
    app: String,
    listen: Option<ListenOn>,
    messages: Vec<(String, MessageTrigger)>,
    crons: Vec<(String, CronTrigger)>,
    services: Vec<(String, ServiceTrigger)>,
}

impl Triggers {
    pub(crate) fn of(app: &App) -> Self {
        let name = |index: usize| {
            let component = app.components.get(index);
            component.map_or_else(String::new, |component| component.name.clone())
        };
        let messages = app.messages.iter().cloned().map(|mut trigger| {
            let component = std::mem::take(&mut trigger.component);
            (name(component), trigger)
        });
        let crons = app.crons.iter().cloned().map(|mut trigger| {
            let component = std::mem::take(&mut trigger.component);
            (name(component), trigger)
        });
        let services = app.services.iter().cloned().map(|mut trigger| {
            let component = std::mem::take(&mut trigger.component);
            (name(component), trigger)
        });
        Self {
            app: app.name.clone(),
            listen: app.listen.clone(),
            messages: messages.collect(),
            crons: crons.collect(),
            services: services.collect(),
        }
    }

    /// Checks a guest, loaded for `role`: that it has the exports which these name.
    fn check(&self, role: Role, guest: &Guest) -> Result<(), LoadError> {
        if role != Role::Call {
            return Ok(());
        }
        let messages = self.messages.iter();
        let messages = messages.filter(|(name, _)| name == guest.name());
        messages::check(messages.map(|(_, trigger)| trigger), guest)?;
        let crons = self.crons.iter();
        let crons = crons.filter(|(name, _)| name == guest.name());
        cron::check(crons.map(|(_, trigger)| trigger), guest)
    }

    /// The sections of the manifest that are others in `newer`.
    fn changed(&self, newer: &Self) -> Vec<&'static str> {
        let all = [
            ("the app's name", self.app != newer.app),
            ("listen_address", self.listen != newer.listen),
            ("[[message]]", self.messages != newer.messages),
            ("[[cron]]", self.crons != newer.crons),
            ("[[service]]", self.services != newer.services),
        ];
        let changed = all.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(section, _)| section).collect()
    }
}

/// A guest that waits for its place.
struct Fresh {
    component: usize,
    role: Role,
    guest: Guest,
}

impl Deployed {
    /// Takes over what `resolved` says. Blocks for as long as loading takes; the app is served meanwhile.
    ///
    /// # Errors
    /// What keeps the new revision from being served; then nothing has changed.
    pub fn replace(
        &mut self,
        resolved: Resolved,
        progress: &dyn Fn(Progress),
    ) -> Result<Changes, ReplaceError> {
        let app = &resolved.app;
        deploy::has_trigger(app)?;
        let changed = changed(&self.app, app);
        let outdated = &self.outdated;
        let mut still_outdated = Vec::new();
        let mut fresh = Vec::new();
        let mut replaced = Vec::new();
        // Callers are checked against the callees of now.
        for index in app.callees_first() {
            let Some(component) = app.components.get(index) else {
                continue;
            };
            let begin = Instant::now();
            let before = fresh.len();
            let compiled = Compiled::default();
            let progress = |event: Progress| {
                compiled.note(&event);
                progress(event);
            };
            let wanted = deploy::roles_or_server(app, index);
            for role in self.roles(&wanted, &component.name) {
                let place = (component.name.clone(), role);
                let is_same = !changed.contains(&component.name) && !outdated.contains(&place);
                if is_same && self.stays(app, (index, role), &component.name)? {
                    continue;
                }
                let guest = match deploy::load(&self.scope, &resolved, (index, role), &progress) {
                    Ok(Some(guest)) => guest,
                    Ok(None) => continue,
                    // It need not be fit for a trigger that the next start will not have.
                    Err(_) if !wanted.contains(&role) => {
                        still_outdated.push(place);
                        continue;
                    }
                    Err(error) => return Err(DeployError::from(error).into()),
                };
                if !self.is_fit(app, (index, role), &guest)? {
                    still_outdated.push(place);
                    continue;
                }
                fresh.push(Fresh {
                    component: index,
                    role,
                    guest,
                });
            }
            if fresh.len() > before {
                replaced.push(self.replaced(component, begin.elapsed(), &compiled));
            }
        }
        replaced.sort_by(|one, other| one.component.cmp(&other.component));
        let routing = self.routing(app, &fresh)?;
        let (routes, notes) = discovery::routes(app, &routing).map_err(DeployError::from)?;
        let restart = self.triggers.changed(&Triggers::of(app));
        let any = !replaced.is_empty() || self.app.digest != app.digest;
        let new = notes.iter().filter(|note| !self.notes.contains(note));
        let new = new.cloned().collect();
        self.notes = notes;
        self.outdated = still_outdated;
        self.routing = routing;
        self.take_places(resolved.app, routes, fresh);
        Ok(Changes {
            replaced,
            any,
            restart,
            notes: new,
        })
    }

    /// Whether there is a guest that goes on as it is; an error where it lacks what the new revision's routes name.
    fn stays(
        &self,
        app: &App,
        (index, role): (usize, Role),
        name: &str,
    ) -> Result<bool, ReplaceError> {
        let Some(slot) = self.slot(name, role) else {
            return Ok(false);
        };
        if role == Role::Serve {
            let checked = deploy::check_entrypoints(app, index, &slot.current());
            checked.map_err(DeployError::from)?;
        }
        Ok(true)
    }

    /// What is told of a component with a new guest.
    fn replaced(&self, component: &Component, took: Duration, compiled: &Compiled) -> Replaced {
        let old = self.app.component(&component.name);
        Replaced {
            component: component.name.clone(),
            digest: component.digest,
            rebuilt: old.is_some_and(|old| old.digest != component.digest),
            added: old.is_none(),
            took,
            compiled: compiled.0.get(),
        }
    }

    /// The routes that components print: those of new guests, and those that the others have printed before.
    fn routing(&self, app: &App, fresh: &[Fresh]) -> Result<Routing, ReplaceError> {
        let mut routing = Routing::new();
        for (index, component) in app.components.iter().enumerate() {
            let mut fresh = fresh.iter();
            let asked = fresh.find(|one| one.component == index && one.role == Role::Serve);
            let before = || self.slot(&component.name, Role::Serve).map(Slot::current);
            let printed = match (asked, self.routing.get(&component.name)) {
                (Some(new), _) => discovery::ask(app, index, &new.guest),
                (None, Some(printed)) if !printed.is_empty() => Ok(printed.clone()),
                // It may not have had a route before.
                (None, _) => {
                    before().map_or(Ok(Vec::new()), |guest| discovery::ask(app, index, &guest))
                }
            };
            let printed = printed.map_err(DeployError::from)?;
            routing.insert(component.name.clone(), printed);
        }
        Ok(routing)
    }

    /// Whether a guest, loaded for `role`, is what calls that now; an error where it is not what the new revision wants.
    fn is_fit(
        &self,
        app: &App,
        (index, role): (usize, Role),
        guest: &Guest,
    ) -> Result<bool, ReplaceError> {
        deploy::check_guest(app, index, role, guest).map_err(DeployError::from)?;
        // It need not have what only the triggers of now want: they go on with the guest that has it.
        if self.triggers.check(role, guest).is_err() {
            return Ok(false);
        }
        // What a service is worth only its own run can tell, which begins once it has its place.
        if role != Role::Service {
            warm_up(guest)?;
        }
        Ok(true)
    }

    /// What a component is loaded for: what is wanted of it now, and what has called it since the start.
    fn roles(&self, wanted: &[Role], name: &str) -> Vec<Role> {
        let mut roles = wanted.to_vec();
        for slot in self.slots.iter().filter(|slot| slot.is_shared()) {
            if slot.is_of(name, slot.role) && !roles.contains(&slot.role) {
                roles.push(slot.role);
            }
        }
        roles
    }

    fn slot(&self, name: &str, role: Role) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.is_of(name, role))
    }

    /// From here on nothing can fail.
    fn take_places(&mut self, app: App, routes: Routes, fresh: Vec<Fresh>) {
        let mut retired = Vec::new();
        for Fresh {
            component,
            role,
            guest,
        } in fresh
        {
            match self.slot(guest.name(), role) {
                Some(slot) => retired.push(slot.replace(guest)),
                None => self.slots.push(Slot::new(component, role, guest)),
            }
        }
        let server = |name: &str| self.slot(name, Role::Serve).map(Slot::current);
        let servers = app
            .components
            .iter()
            .map(|component| server(&component.name));
        let servers = servers.collect();
        let health = app.health.clone();
        self.live.router.replace(routes, health, servers);
        // A trigger that stays goes on with the last guest that it had.
        let wanted: Vec<(&str, Vec<Role>)> = (0..)
            .zip(&app.components)
            .map(|(index, component)| (&*component.name, deploy::roles_or_server(&app, index)))
            .collect();
        self.slots.retain(|slot| {
            let is_wanted = |(name, roles): &(&str, Vec<Role>)| {
                roles.contains(&slot.role) && slot.is_of(name, slot.role)
            };
            let stays = slot.is_shared() || wanted.iter().any(is_wanted);
            if !stays {
                retired.push(slot.current());
            }
            stays
        });
        retired.iter().for_each(Guest::retire);
        self.app = app;
    }
}

/// The names of the components that are not what they were, or that are bound to one that is not.
fn changed(old: &App, new: &App) -> BTreeSet<String> {
    let all = new.components.iter();
    let names = all.map(|component| component.name.clone());
    let mut changed: BTreeSet<String> = names
        .filter(|name| !old.has_same_component(new, name))
        .collect();
    // Each round finds callers of what the last one found, and there are only so many.
    loop {
        let before = changed.len();
        for component in &new.components {
            let mut callees = component.bind.values();
            if callees.any(|callee| changed.contains(callee)) {
                changed.insert(component.name.clone());
            }
        }
        if changed.len() == before {
            return changed;
        }
    }
}

/// How long the compiler took, over all roles of a component.
#[derive(Default)]
struct Compiled(std::cell::Cell<Option<Duration>>);

impl Compiled {
    fn note(&self, event: &Progress) {
        if let Progress::Compiled { millis, .. } = event {
            let before = self.0.get().unwrap_or_default();
            self.0.set(Some(before + Duration::from_millis(*millis)));
        }
    }
}

/// An instance is made before any call needs one.
fn warm_up(guest: &Guest) -> Result<(), ReplaceError> {
    let failed = |fault| ReplaceError::Start {
        component: guest.name().to_owned(),
        fault,
    };
    let runtime = crate::worker::runtime();
    let runtime = runtime.map_err(|error| failed(Fault::Host(error.to_string())))?;
    runtime.block_on(guest.warm_up()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::live::Live;
    use crate::tests::fake;
    use hostel_app::Source;
    use hostel_host::{LogSink, Runtime, RuntimeOptions};

    /// Components of these names and bytes.
    fn app(components: &[(&str, &[u8])]) -> App {
        let component =
            |(name, code): &(&str, &[u8])| Component::new(*name, Source::InlineWat, code);
        App {
            components: components.iter().map(component).collect(),
            ..fake::app(&[("/...", &[])])
        }
    }

    #[test]
    fn a_component_changes_with_those_that_it_is_bound_to() {
        let bound = |code: &[u8]| {
            let mut app = app(&[("a", b"a"), ("b", b"b"), ("c", code), ("d", b"d")]);
            for (caller, callee) in [(0, "b"), (1, "c")] {
                let caller = &mut app.components[caller];
                caller.bind.insert("shop:pricing/api".into(), callee.into());
            }
            app
        };
        assert!(changed(&bound(b"1"), &bound(b"1")).is_empty());
        let changed: Vec<_> = changed(&bound(b"1"), &bound(b"2")).into_iter().collect();
        assert_eq!(changed, ["a", "b", "c"]);
    }

    /// Components of these names, the last of which is called by the clock.
    fn scheduled(names: &[&str]) -> App {
        let folder = tempfile::tempdir().unwrap();
        let component = |name: &&str| format!("[component.{name}]\nsource = \"(module)\"\n");
        let components: String = names.iter().map(component).collect();
        let last = names.last().unwrap();
        let manifest = format!(
            "[app]\nname = \"test\"\n{components}\
             [[cron]]\nschedule = \"@daily\"\ncomponent = \"{last}\"\n"
        );
        std::fs::write(folder.path().join("hostel.toml"), manifest).unwrap();
        let resolved = hostel_app::resolve(folder.path(), &hostel_app::Operator::default());
        resolved.unwrap().app
    }

    #[test]
    fn triggers_are_compared_by_the_names_of_their_components() {
        let old = scheduled(&["a", "c"]);
        let changed = |newer: &App| Triggers::of(&old).changed(&Triggers::of(newer));
        let more = scheduled(&["a", "b", "c"]);
        assert!(changed(&more).is_empty(), "only the index is another");
        assert_eq!(changed(&scheduled(&["c", "a"])), ["[[cron]]"]);
        let renamed = App {
            name: "other".into(),
            ..old.clone()
        };
        assert_eq!(changed(&renamed), ["the app's name"]);
        let elsewhere = App {
            listen: Some("127.0.0.1:80".parse().unwrap()),
            ..old.clone()
        };
        assert_eq!(changed(&elsewhere), ["listen_address"]);
    }

    /// A program at a route that names an export of it.
    fn program(entrypoint: &str) -> Resolved {
        let folder = tempfile::tempdir().unwrap();
        let manifest = format!(
            "[app]\nname = \"test\"\n[component.web]\n\
             source = '(module (memory (export \"memory\") 1) (func (export \"_start\")))'\n\
             [[http]]\nroute = \"/...\"\ncomponent = \"web\"\nentrypoint = \"{entrypoint}\"\n"
        );
        std::fs::write(folder.path().join("hostel.toml"), manifest).unwrap();
        hostel_app::resolve(folder.path(), &hostel_app::Operator::default()).unwrap()
    }

    #[test]
    fn a_route_that_names_what_is_not_there_is_not_taken_over() {
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let mut deployed = deploy::deploy(&runtime, program("_start"), &|_| {}).unwrap();
        let before = deployed.app().digest;
        let refused = deployed.replace(program("_strat"), &|_| {}).unwrap_err();
        assert!(refused.to_string().contains("`_strat`"), "{refused}");
        assert_eq!(deployed.app().digest, before);
        assert!(deployed.replace(program("_start"), &|_| {}).is_ok());
    }

    /// A service that calls a function of the interface, and the component that has such a function.
    fn bound(wanted: &str, offered: &str) -> Resolved {
        let folder = tempfile::tempdir().unwrap();
        let manifest = format!(
            r#"[app]
name = "test"
[component.callee]
source = '''(component
    (core module $m (func (export "f") (result i32) i32.const 7))
    (core instance $i (instantiate $m))
    (func $f (result u32) (canon lift (core func $i "f")))
    (instance $x (export "{offered}" (func $f)))
    (export "a:b/c@1.0.0" (instance $x)))'''
[component.caller]
source = '''(component
    (import "a:b/c@1.0.0" (instance $c (export "{wanted}" (func (result u32)))))
    (core func $f (canon lower (func $c "{wanted}")))
    (core module $m (import "" "f" (func $f (result i32))) (func (export "run") call $f drop))
    (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
    (func (export "run") (canon lift (core func $i "run"))))'''
bind = {{ "a:b/c" = "callee" }}
[[service]]
component = "caller"
export = "run"
"#
        );
        std::fs::write(folder.path().join("hostel.toml"), manifest).unwrap();
        hostel_app::resolve(folder.path(), &hostel_app::Operator::default()).unwrap()
    }

    #[test]
    fn an_interface_changes_once_both_sides_of_it_have() {
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let mut deployed = deploy::deploy(&runtime, bound("one", "one"), &|_| {}).unwrap();
        for (wanted, offered) in [("one", "two"), ("two", "one")] {
            let error = deployed.replace(bound(wanted, offered), &|_| {});
            let error = error.unwrap_err().to_string();
            assert!(error.contains("has no function"), "{error}");
            let same = deployed.replace(bound("one", "one"), &|_| {}).unwrap();
            assert!(same.replaced.is_empty(), "nothing had changed: {same:?}");
        }
        let changes = deployed.replace(bound("two", "two"), &|_| {}).unwrap();
        let names: Vec<_> = changes.replaced.iter().map(|one| &*one.component).collect();
        assert_eq!(names, ["callee", "caller"]);
    }

    #[test]
    fn a_revision_without_triggers_is_refused_like_an_app_without_any() {
        let server = include_bytes!("../../../tests/fixtures/silent-server.wat");
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let resolved = |routes: &[(&str, &[&str])]| Resolved {
            app: fake::app(routes),
            code: vec![server.to_vec()],
        };
        let first = resolved(&[("/...", &[])]);
        let mut deployed = deploy::deploy(&runtime, first, &|_| {}).unwrap();
        let error = deployed.replace(resolved(&[]), &|_| {}).unwrap_err();
        assert!(error.to_string().contains("[[http]]"), "{error}");
        let same = deployed
            .replace(resolved(&[("/...", &[])]), &|_| {})
            .unwrap();
        assert!(!same.any && same.replaced.is_empty(), "{same:?}");
    }

    /// An app whose component exports a function of one name, and whose schedule calls one of another.
    fn calls(exported: &str, called: &str) -> Resolved {
        let folder = tempfile::tempdir().unwrap();
        let manifest = format!(
            "[app]\nname = \"test\"\n[component.a]\nsource = '(module (func (export \"{exported}\")))'\n\
             [[cron]]\nschedule = \"@yearly\"\ncomponent = \"a\"\nexport = \"{called}\"\n"
        );
        std::fs::write(folder.path().join("hostel.toml"), manifest).unwrap();
        hostel_app::resolve(folder.path(), &hostel_app::Operator::default()).unwrap()
    }

    /// The same with its only guest, as it is deployed where there is a disk for what the schedules remember.
    fn loaded(runtime: &Runtime, resolved: Resolved) -> Deployed {
        let scope = runtime.app("test");
        let guest = deploy::load(&scope, &resolved, (0, Role::Call), &|_| {});
        let app = resolved.app;
        Deployed {
            live: Arc::new(Live::answering(app.clone(), vec![None])),
            triggers: Triggers::of(&app),
            notes: Vec::new(),
            routing: Routing::new(),
            outdated: Vec::new(),
            app,
            scope,
            slots: vec![Slot::new(0, Role::Call, guest.unwrap().unwrap())],
        }
    }

    #[test]
    fn a_build_without_the_export_that_is_called_does_not_take_its_place() {
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let mut deployed = loaded(&runtime, calls("sweep", "sweep"));
        let has = |deployed: &Deployed, export: &str| {
            let slot = deployed.slot("a", Role::Call).unwrap();
            slot.current().prepare(export, &[]).is_ok()
        };
        let error = deployed
            .replace(calls("clean", "sweep"), &|_| {})
            .unwrap_err();
        assert!(error.to_string().contains("sweep"), "{error}");
        assert!(has(&deployed, "sweep"));
        // The manifest names the new one: until the next start the old one is called.
        let changes = deployed.replace(calls("clean", "clean"), &|_| {}).unwrap();
        assert_eq!(changes.restart, ["[[cron]]"]);
        assert!(changes.replaced.is_empty(), "{changes:?}");
        assert!(has(&deployed, "sweep"));
        let changes = deployed.replace(calls("sweep", "sweep"), &|_| {}).unwrap();
        assert!(changes.restart.is_empty() && has(&deployed, "sweep"));
    }
}
