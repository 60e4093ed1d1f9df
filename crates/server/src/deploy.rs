//! From a resolved app to one that can be served: every component is loaded for what calls it.
//!
//! A component that is called by several kinds of triggers is as many guests, with the same code and permits of their own.
//! What a trigger makes of its guests is its own file's business: `messages`, and so on.

use hostel_app::{App, CalledBy, Resolved};
use hostel_host::{AppScope, LoadError, Progress, Role, Runtime};

use crate::live::Live;
use crate::messages;
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
    roles
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
) -> Result<Live, DeployError> {
    let Resolved { app, code } = resolved;
    let called = |component| !app.called_by(component).is_empty();
    if !(0..app.components.len()).any(called) {
        return Err(DeployError::NoTrigger { app: app.name });
    }
    let scope = runtime.app(&app.name);
    let mut slots = Vec::new();
    let mut guests = Vec::with_capacity(app.components.len());
    for (index, (component, code)) in app.components.iter().zip(&code).enumerate() {
        let mut server = None;
        let mut roles = roles(&app, index);
        if roles.is_empty() {
            roles.push(Role::Serve);
        }
        for role in roles {
            let component = service::component_for(&app, (index, component), role);
            let guest = scope.load(&component, code, role, progress)?;
            if role == Role::Serve {
                server = Some(guest.clone());
            }
            slots.push(Slot::new(index, role, guest));
        }
        guests.push(server);
    }
    let deployment = Deployment {
        scope,
        app: &app,
        slots,
    };
    let consumers = messages::consumers(&deployment)?;
    let services = service::services(&deployment)?;
    Ok(Live {
        guests,
        consumers,
        services,
        app,
    })
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
    use hostel_host::{LogSink, RuntimeOptions};

    fn deployed(routes: &[(&str, &[&str])], code: &str) -> Result<Live, DeployError> {
        let runtime = Runtime::new(RuntimeOptions::new(LogSink::null())).unwrap();
        let resolved = Resolved {
            app: app(routes),
            code: vec![code.into()],
        };
        deploy(&runtime, resolved, &|_| {})
    }

    const COMMAND: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

    #[test]
    fn a_command_is_no_server_and_says_how_to_run_it() {
        let message = deployed(&[("/...", &[])], COMMAND).unwrap_err().to_string();
        for part in ["web", "command-p1", "hostel run"] {
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
