//! From a resolved app to one that can be served: every component is loaded for what calls it.
//!
//! A component that is called by several kinds of triggers is as many guests, with the same code and permits of their own.
//! What a trigger makes of its guests is its own file's business: `messages`, and so on. How newer builds take their places
//! is `replace`.

use std::fmt;
use std::sync::Arc;

use hostel_app::{App, CalledBy, Resolved};
use hostel_host::{AppScope, Guest, LoadError, Progress, Role, Runtime};

use crate::cron;
use crate::discovery::{self, Routing};
use crate::live::Live;
use crate::messages;
use crate::replace::Triggers;
use crate::router::Router;
use crate::service;
use crate::slot::Slot;

/// Why an app cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A component is not what calls it needs, cannot be compiled, or wants what the host does not have.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Nothing would ever be called.
    #[error(
        "app `{app}` has no trigger, so nothing would call its components\n  \
         help: add an [[http]] section with `route = \"/...\"` and `component = \"NAME\"`"
    )]
    NoTrigger {
        /// The app's name.
        app: String,
    },
}

/// What a component is loaded for.
pub fn roles(app: &App, component: usize) -> Vec<Role> {
    let role = |by: CalledBy| match by {
        CalledBy::Http => Role::Serve,
        CalledBy::Message => Role::Handle,
        CalledBy::Cron => Role::Job,
        CalledBy::Export => Role::Call,
        CalledBy::Service => Role::Service,
    };
    let called = app.called_by(component);
    let mut roles: Vec<Role> = called.into_iter().map(role).collect();
    if app.is_neighbour(component) && !roles.contains(&Role::Serve) {
        roles.push(Role::Serve);
    }
    if app.is_bound(component) && !roles.contains(&Role::Call) {
        roles.push(Role::Call);
    }
    roles
}

/// The same; one that nothing calls has to be a server.
pub(crate) fn roles_or_server(app: &App, component: usize) -> Vec<Role> {
    let mut roles = roles(app, component);
    if roles.is_empty() {
        roles.push(Role::Serve);
    }
    roles
}

/// Checks a guest of this component, loaded for `role`, for what the app's triggers want of it.
///
/// # Errors
/// The first thing that it lacks.
pub fn check_guest(
    app: &App,
    component: usize,
    role: Role,
    guest: &Guest,
) -> Result<(), LoadError> {
    match role {
        Role::Call => {
            let messages = app.messages.iter();
            messages::check(messages.filter(|own| own.component == component), guest)?;
            let crons = app.crons.iter();
            cron::check(crons.filter(|own| own.component == component), guest)
        }
        Role::Service => service::check_guest(app, component, guest),
        Role::Serve => check_entrypoints(app, component, guest),
        _ => Ok(()),
    }
}

/// Checks that a guest has the exports that its routes name.
pub(crate) fn check_entrypoints(
    app: &App,
    component: usize,
    guest: &Guest,
) -> Result<(), LoadError> {
    let routes = app.routes.all().iter();
    let own = routes.filter(|route| route.component == component);
    let usual = guest.usual_entrypoint();
    let mut named = own.filter_map(|route| route.entrypoint.as_deref().or(usual));
    named.try_for_each(|name| guest.check_entrypoint(name))
}

/// An app without triggers is nothing to serve.
pub(crate) fn has_trigger(app: &App) -> Result<(), DeployError> {
    let called = |component| !app.called_by(component).is_empty();
    match (0..app.components.len()).any(called) {
        true => Ok(()),
        false => Err(DeployError::NoTrigger {
            app: app.name.clone(),
        }),
    }
}

/// An app that was deployed, and the places of its guests.
pub struct Deployed {
    /// What is to be served.
    pub live: Arc<Live>,
    /// Its newest revision.
    pub(crate) app: App,
    pub(crate) scope: AppScope,
    pub(crate) slots: Vec<Slot>,
    /// What calls its guests; that stays as it was at first.
    pub(crate) triggers: Triggers,
    /// What is worth a line to whoever starts it, of the newest revision.
    pub notes: Vec<String>,
    /// Routes that its components have printed.
    pub(crate) routing: Routing,
    /// Places whose guest is of an older revision, because the newest is not fit for them.
    pub(crate) outdated: Vec<(String, Role)>,
}

impl Deployed {
    /// What is served: its newest revision.
    pub fn app(&self) -> &App {
        &self.app
    }
}

impl fmt::Debug for Deployed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployed")
            .field("live", &self.live)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// Loads every component of `resolved` for what calls it. One that nothing calls has to be a server.
///
/// # Errors
///
/// The first component that cannot be loaded, or that nothing would ever be called.
pub fn deploy(
    runtime: &Runtime,
    resolved: Resolved,
    progress: &dyn Fn(Progress),
) -> Result<Deployed, DeployError> {
    has_trigger(&resolved.app)?;
    let scope = runtime.app(&resolved.app.name);
    let mut slots = Vec::new();
    let mut guests = vec![None; resolved.app.components.len()];
    let mut routing = Routing::new();
    for index in resolved.app.callees_first() {
        for role in roles_or_server(&resolved.app, index) {
            let Some(guest) = load(&scope, &resolved, (index, role), progress)? else {
                continue;
            };
            if let (Role::Serve, Some(place)) = (role, guests.get_mut(index)) {
                check_entrypoints(&resolved.app, index, &guest)?;
                let printed = discovery::ask(&resolved.app, index, &guest)?;
                routing.insert(guest.name().to_owned(), printed);
                *place = Some(guest.clone());
            }
            slots.push(Slot::new(index, role, guest));
        }
    }
    let app = resolved.app;
    let (routes, notes) = discovery::routes(&app, &routing)?;
    let deployment = Deployment {
        scope,
        app: &app,
        slots,
    };
    let consumers = messages::consumers(&deployment)?;
    let crontab = cron::crontab(&deployment)?;
    let services = service::services(&deployment)?;
    let Deployment { scope, slots, .. } = deployment;
    Ok(Deployed {
        live: Arc::new(Live {
            router: Router::new(routes, app.health.clone(), guests),
            consumers,
            crontab,
            services,
        }),
        triggers: Triggers::of(&app),
        notes,
        routing,
        outdated: Vec::new(),
        app,
        scope,
        slots,
    })
}

/// Loads the components that imports of others are bound to. Whoever loads one of these others keeps them meanwhile.
///
/// # Errors
///
/// The first that cannot be loaded.
pub fn load_callees(
    scope: &AppScope,
    Resolved { app, code }: &Resolved,
    progress: &dyn Fn(Progress),
) -> Result<Vec<Guest>, LoadError> {
    let order = app.callees_first().into_iter();
    let bound = order.filter(|index| app.is_bound(*index));
    let parts = bound.filter_map(|index| Some((app.components.get(index)?, code.get(index)?)));
    let load = |(component, code): (_, &Vec<u8>)| scope.load(component, code, Role::Call, progress);
    parts.map(load).collect()
}

/// Loads one component for one thing that calls it; `None` if there is no such component.
pub(crate) fn load(
    scope: &AppScope,
    resolved: &Resolved,
    (index, role): (usize, Role),
    progress: &dyn Fn(Progress),
) -> Result<Option<Guest>, LoadError> {
    let Resolved { app, code } = resolved;
    let (Some(component), Some(code)) = (app.components.get(index), code.get(index)) else {
        return Ok(None);
    };
    let component = service::component_for(app, (index, component), role);
    scope.load(&component, code, role, progress).map(Some)
}

/// An app on its way: what the triggers are made from.
pub(crate) struct Deployment<'a> {
    pub(crate) scope: AppScope,
    pub(crate) app: &'a App,
    slots: Vec<Slot>,
}

impl Deployment<'_> {
    /// Where the guest of a component stands that was loaded for this.
    pub(crate) fn slot(&self, component: usize, role: Role) -> Option<&Slot> {
        let mut slots = self.slots.iter();
        slots.find(|slot| slot.component == component && slot.role == role)
    }

    /// The same error, with the component's name.
    pub(crate) fn named(&self, component: usize, error: LoadError) -> LoadError {
        let component = self.app.components.get(component);
        LoadError {
            component: component.map_or_else(String::new, |component| component.name.clone()),
            ..error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::app;
    use hostel_app::route::{Route, Routes};
    use hostel_host::{LogSink, RuntimeOptions};

    fn deployed(routes: &[(&str, &[&str])], code: &str) -> Result<Deployed, DeployError> {
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let resolved = Resolved {
            app: app(routes),
            code: vec![code.into()],
        };
        deploy(&runtime, resolved, &|_| {})
    }

    const COMMAND: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

    #[test]
    fn a_command_is_served_and_its_entrypoints_are_looked_for() {
        assert!(deployed(&[("/...", &[])], COMMAND).is_ok());
        let mut app = app(&[("/...", &[])]);
        let mut all: Vec<Route> = app
            .routes
            .all()
            .iter()
            .map(|r| r.as_ref().clone())
            .collect();
        all[0].entrypoint = Some("_strat".into());
        app.routes = Routes::new(all).unwrap();
        let code = vec![COMMAND.into()];
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let refused = deploy(&runtime, Resolved { app, code }, &|_| {}).unwrap_err();
        let message = refused.to_string();
        for part in ["web", "`_strat`", "did you mean `_start`"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn an_app_without_triggers_says_what_to_add() {
        let message = deployed(&[], COMMAND).unwrap_err().to_string();
        assert!(
            message.contains("`test`") && message.contains("[[http]]"),
            "{message}"
        );
    }
}
