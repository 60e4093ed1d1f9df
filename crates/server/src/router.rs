//! Which guest answers which request, and how that changes under the threads that ask.
//!
//! A [`Table`] never changes. A new revision of an app is a new table, which every thread is handed at once; a request keeps
//! the guest that it was led to. Each thread looks into a copy behind a lock of its own, which nobody else takes but for the
//! moment of a change: looking is not contended, and a table that was replaced is gone at once, on idle threads too.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hostel_app::route::{Match, Route, Routes, normal_path};
use http::request::Parts;
use http::{Method, header};

/// Routes, and the guests that they lead to.
#[derive(Debug)]
struct Table<C> {
    routes: Routes,
    /// The path of the health check, which is answered before every route.
    health: Option<String>,
    /// In the order of the app's components; `None` for one that other things call.
    guests: Vec<Option<C>>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Router<C>(Mutex<Inner<C>>);

#[derive(Debug)]
struct Inner<C> {
    table: Arc<Table<C>>,
    readers: Vec<Weak<Mutex<Arc<Table<C>>>>>,
}

/// Where one thread looks.
#[derive(Debug)]
pub(crate) struct Reader<C>(Arc<Mutex<Arc<Table<C>>>>);

/// Where a request leads.
#[derive(Debug)]
pub(crate) enum Routed<C> {
    /// To this guest, by this route.
    Guest(C, Arc<Route>),
    /// Nowhere by this method; the value of `Allow`.
    MethodNotAllowed(String),
    /// Nowhere, but the client asks which methods there are; the value of `Allow`.
    Methods(String),
    /// To the health check.
    Health,
    /// Nowhere.
    NotFound,
}

impl<C> Router<C> {
    /// Routes and what they lead to, and the path of the health check.
    pub(crate) fn new(routes: Routes, health: Option<String>, guests: Vec<Option<C>>) -> Self {
        let table = Table {
            routes,
            health,
            guests,
        };
        Self(Mutex::new(Inner {
            table: Arc::new(table),
            readers: Vec::new(),
        }))
    }

    /// For one more thread.
    pub(crate) fn reader(&self) -> Reader<C> {
        let mut inner = lock(&self.0);
        let reader = Arc::new(Mutex::new(inner.table.clone()));
        inner.readers.push(Arc::downgrade(&reader));
        Reader(reader)
    }

    /// From now on requests are led by these routes to these guests.
    pub(crate) fn replace(&self, routes: Routes, health: Option<String>, guests: Vec<Option<C>>) {
        let table = Arc::new(Table {
            routes,
            health,
            guests,
        });
        let mut inner = lock(&self.0);
        // What is dropped here is not dropped under a reader's lock.
        let mut old = vec![std::mem::replace(&mut inner.table, table.clone())];
        inner.readers.retain(|reader| {
            let Some(reader) = reader.upgrade() else {
                return false;
            };
            old.push(std::mem::replace(&mut *lock(&reader), table.clone()));
            true
        });
        drop(inner);
        drop(old);
    }
}

impl<C: Clone> Reader<C> {
    /// The guest for a request that `request::admit` has let pass.
    pub(crate) fn route(&self, parts: &Parts) -> Routed<C> {
        let host = match parts.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok()),
        };
        let table = lock(&self.0);
        let (method, path) = (&parts.method, parts.uri.path());
        if let Some(health) = &table.health
            && *health == normal_path(path)
        {
            return health_check(method);
        }
        match table.routes.find(host, method.as_str(), path) {
            Match::Found(route) => match table.guests.get(route.component) {
                Some(Some(guest)) => Routed::Guest(guest.clone(), route.clone()),
                Some(None) | None => Routed::NotFound,
            },
            Match::MethodNotAllowed(methods) => without_method(method, &methods),
            Match::NotFound => Routed::NotFound,
        }
    }
}

/// The health check is there to be read.
fn health_check<C>(method: &Method) -> Routed<C> {
    match *method {
        Method::GET | Method::HEAD => Routed::Health,
        _ => without_method(method, &["GET", "HEAD"]),
    }
}

/// A path that has these methods, and not the one that was asked for.
fn without_method<C>(method: &Method, methods: &[&str]) -> Routed<C> {
    let methods = methods.join(", ");
    match *method {
        Method::OPTIONS => Routed::Methods(methods + ", OPTIONS"),
        _ => Routed::MethodNotAllowed(methods),
    }
}

/// Nothing under these locks can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::fake::app;
    use http::{Method, Request};

    fn parts(method: Method, target: &str, host: &str) -> Parts {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", host);
        request.body(()).unwrap().into_parts().0
    }

    fn routes(patterns: &[(&str, &[&str])]) -> Routes {
        app(patterns).routes
    }

    #[test]
    fn requests_are_routed_by_path_and_method() {
        let router = Router::new(routes(&[("/a", &["GET", "PUT"])]), None, vec![Some("web")]);
        let reader = router.reader();
        let routed = |method, target| reader.route(&parts(method, target, "h"));
        assert!(matches!(
            routed(Method::GET, "/a?b"),
            Routed::Guest("web", _)
        ));
        assert!(matches!(routed(Method::GET, "/b"), Routed::NotFound));
        let Routed::MethodNotAllowed(allow) = routed(Method::POST, "/a") else {
            panic!("POST was routed");
        };
        assert_eq!(allow, "GET, PUT");
        let Routed::Methods(allow) = routed(Method::OPTIONS, "/a") else {
            panic!("OPTIONS was routed");
        };
        assert_eq!(allow, "GET, PUT, OPTIONS");
        assert!(matches!(routed(Method::OPTIONS, "/b"), Routed::NotFound));
    }

    #[test]
    fn the_health_check_comes_before_every_route() {
        let health = Some("/healthz".to_owned());
        let router = Router::new(routes(&[("/...", &[])]), health, vec![Some("web")]);
        let reader = router.reader();
        let routed = |method, target| reader.route(&parts(method, target, "h"));
        for method in [Method::GET, Method::HEAD] {
            let found = routed(method, "/health%7a?x");
            assert!(matches!(found, Routed::Health));
        }
        let Routed::MethodNotAllowed(allow) = routed(Method::POST, "/healthz") else {
            panic!("POST was routed");
        };
        assert_eq!(allow, "GET, HEAD");
        assert!(matches!(
            routed(Method::OPTIONS, "/healthz"),
            Routed::Methods(_)
        ));
        for path in ["/", "/healthz/", "/healthz/x"] {
            assert!(matches!(routed(Method::GET, path), Routed::Guest(..)));
        }
    }

    #[test]
    fn a_component_that_does_not_answer_requests_is_not_found() {
        let router: Router<()> = Router::new(routes(&[("/a", &[])]), None, vec![None]);
        let routed = router.reader().route(&parts(Method::GET, "/a", "h"));
        assert!(matches!(routed, Routed::NotFound));
    }

    #[test]
    fn every_thread_has_the_new_table_at_once_and_the_old_one_is_gone() {
        let old = Arc::new("old");
        let router = Router::new(routes(&[("/a", &[])]), None, vec![Some(old.clone())]);
        let (first, second) = (router.reader(), router.reader());
        drop(router.reader());
        let get = |target| parts(Method::GET, target, "h");
        let Routed::Guest(in_flight, _) = first.route(&get("/a")) else {
            panic!("no guest");
        };
        router.replace(routes(&[("/b", &[])]), None, vec![Some(Arc::new("new"))]);
        for reader in [&first, &second, &router.reader()] {
            assert!(matches!(reader.route(&get("/a")), Routed::NotFound));
            let Routed::Guest(guest, _) = reader.route(&get("/b")) else {
                panic!("no guest");
            };
            assert_eq!(*guest, "new");
        }
        assert_eq!(
            Arc::strong_count(&old),
            2,
            "this one and the call in flight"
        );
        assert_eq!(*in_flight, "old");
    }
}
