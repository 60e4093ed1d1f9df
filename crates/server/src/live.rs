//! The app that is being served: its routes and its guests, compiled and ready.

use crate::messages::Consumer;
use hostel_app::App;
use hostel_app::Resolved;
use hostel_app::route::Match;
use hostel_host::{Guest, LoadError, Progress, Role, Runtime};
use http::header;
use http::request::Parts;

/// A deployed app. Immutable; a new revision is a new value.
#[derive(Debug)]
pub struct Live<C = Guest> {
    /// What was deployed.
    pub app: App,
    /// One guest per component, in the order of `app.components`.
    pub guests: Vec<C>,
    /// What calls them with messages.
    pub consumers: Vec<Consumer>,
}

/// Why an app cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A component is no server, cannot be compiled, or wants what the host does not have.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Nothing would ever be called.
    #[error(
        "app `{app}` has no route and gets no messages, so nothing would call it\n  \
         help: add an [[http]] section with `route = \"/...\"` and `component = \"NAME\"`"
    )]
    NoRoute {
        /// The app's name.
        app: String,
    },
}

/// Loads every component of `resolved`, for what calls it: requests, messages, or both, which are then two guests with the
/// same code. One that nothing calls has to be a server.
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
    if app.routes.all().is_empty() && app.messages.is_empty() {
        return Err(DeployError::NoRoute { app: app.name });
    }
    let scope = runtime.app(&app.name);
    let mut guests = Vec::with_capacity(app.components.len());
    let mut consumers = Vec::new();
    for (index, (component, code)) in app.components.iter().zip(&code).enumerate() {
        let load = |role| scope.load(component, code, role, progress);
        let triggers = app.messages.iter();
        let mut triggers = triggers
            .filter(|trigger| trigger.component == index)
            .peekable();
        let routes = app.routes.all().iter();
        let has_routes = routes.into_iter().any(|route| route.component == index);
        if triggers.peek().is_none() {
            guests.push(load(Role::Serve)?);
            continue;
        }
        let handler = load(Role::Handle)?;
        for trigger in triggers {
            let broker = scope.broker(&trigger.client).map_err(|error| LoadError {
                component: component.name.clone(),
                ..error
            })?;
            consumers.push(Consumer::new(handler.clone(), broker, trigger));
        }
        guests.push(match has_routes {
            true => load(Role::Serve)?,
            false => handler,
        });
    }
    Ok(Live {
        app,
        guests,
        consumers,
    })
}

/// Where a request leads.
#[derive(Debug)]
pub(crate) enum Routed<'a, C> {
    /// To this guest, with its index in [`Live::guests`].
    Guest(usize, &'a C),
    /// Nowhere by this method; the value of `Allow`.
    MethodNotAllowed(String),
    /// Nowhere.
    NotFound,
}

impl<C> Live<C> {
    /// The guest for a request that `request::admit` has let pass.
    pub(crate) fn route(&self, parts: &Parts) -> Routed<'_, C> {
        let host = match parts.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok()),
        };
        match self
            .app
            .routes
            .find(host, parts.method.as_str(), parts.uri.path())
        {
            Match::Found(route) => match self.guests.get(route.component) {
                Some(guest) => Routed::Guest(route.component, guest),
                None => Routed::NotFound,
            },
            Match::MethodNotAllowed(methods) => Routed::MethodNotAllowed(methods.join(", ")),
            Match::NotFound => Routed::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::{Fake, app};
    use hostel_host::{LogSink, RuntimeOptions};
    use http::{Method, Request};

    fn parts(method: Method, target: &str, host: &str) -> Parts {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", host);
        request.body(()).unwrap().into_parts().0
    }

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
    fn an_app_without_routes_says_what_to_add() {
        let message = deployed(&[], COMMAND).unwrap_err().to_string();
        assert!(
            message.contains("`test`") && message.contains("[[http]]"),
            "{message}"
        );
    }

    #[test]
    fn requests_are_routed_by_path_and_method() {
        let live = Live {
            app: app(&[("/a", &["GET", "PUT"])]),
            guests: vec![Fake::new()],
            consumers: Vec::new(),
        };
        assert!(matches!(
            live.route(&parts(Method::GET, "/a?b", "h")),
            Routed::Guest(0, _)
        ));
        assert!(matches!(
            live.route(&parts(Method::GET, "/b", "h")),
            Routed::NotFound
        ));
        let Routed::MethodNotAllowed(allow) = live.route(&parts(Method::POST, "/a", "h")) else {
            panic!("POST was routed");
        };
        assert_eq!(allow, "GET, PUT");
    }
}
