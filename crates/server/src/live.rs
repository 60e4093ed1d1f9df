//! The app that is being served: its routes and its guests, compiled and ready.

use crate::messages::Consumer;
use crate::service::Service;
use hostel_app::App;
use hostel_app::route::Match;
use hostel_host::Guest;
use http::header;
use http::request::Parts;

/// A deployed app. Immutable; a new revision is a new value.
#[derive(Debug)]
pub struct Live<C = Guest> {
    /// What was deployed.
    pub app: App,
    /// What answers requests, in the order of `app.components`; `None` for a component that other things call.
    pub guests: Vec<Option<C>>,
    /// What calls them with messages.
    pub consumers: Vec<Consumer>,
    /// What runs all the time.
    pub services: Vec<Service>,
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
                Some(Some(guest)) => Routed::Guest(route.component, guest),
                Some(None) | None => Routed::NotFound,
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
    use http::{Method, Request};

    fn parts(method: Method, target: &str, host: &str) -> Parts {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", host);
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn requests_are_routed_by_path_and_method() {
        let live = Live {
            app: app(&[("/a", &["GET", "PUT"])]),
            guests: vec![Some(Fake::new())],
            consumers: Vec::new(),
            services: Vec::new(),
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
