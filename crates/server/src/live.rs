//! The app that is being served: its guests, compiled and ready, and what calls them.

#[cfg(test)]
use hostel_app::App;
use hostel_host::Guest;

use crate::cron::Crontab;
use crate::messages::Consumer;
use crate::router::Router;
use crate::service::Service;

/// A deployed app. What calls its guests stays as it is; the guests themselves may be replaced by newer builds, each at its
/// own place.
#[derive(Debug)]
pub struct Live<C = Guest> {
    /// Which guest answers which request.
    pub router: Router<C>,
    /// What calls guests with messages.
    pub consumers: Vec<Consumer>,
    /// What calls them at their times, if anything does.
    pub crontab: Option<Crontab>,
    /// What runs all the time.
    pub services: Vec<Service>,
}

impl<C> Live<C> {
    /// An app whose guests answer requests and nothing else, in the order of its components.
    #[cfg(test)]
    pub(crate) fn answering(app: App, guests: Vec<Option<C>>) -> Self {
        Self {
            router: Router::new(app.routes, app.health, guests),
            consumers: Vec::new(),
            crontab: None,
            services: Vec::new(),
        }
    }
}
