//! [`Slot`]: the place of one guest in a served app. Triggers ask it for every call, so that a new build of the component
//! takes the place of the old one between two calls; calls in flight finish on the guest that they began with.

use std::fmt;
use std::sync::Arc;

use hostel_host::{Guest, Role};
use tokio::sync::watch;

/// See the module's documentation. Clones are the same place.
#[derive(Clone)]
pub(crate) struct Slot {
    /// The component, by its index in the app that was deployed first.
    pub(crate) component: usize,
    /// What the guest was loaded for.
    pub(crate) role: Role,
    guest: Arc<watch::Sender<Guest>>,
}

impl Slot {
    pub(crate) fn new(component: usize, role: Role, guest: Guest) -> Self {
        guest.answer_neighbours();
        Self {
            component,
            role,
            guest: Arc::new(watch::Sender::new(guest)),
        }
    }

    /// The guest of now; good for one call.
    pub(crate) fn current(&self) -> Guest {
        self.guest.borrow().clone()
    }

    /// Tells of new guests from now on (`changed().await`): for a trigger whose one call lasts, as a service's does.
    pub(crate) fn watch(&self) -> watch::Receiver<Guest> {
        self.guest.subscribe()
    }

    /// The guest of every call that begins from now on. The old one is given back.
    pub(crate) fn replace(&self, guest: Guest) -> Guest {
        guest.answer_neighbours();
        self.guest.send_replace(guest)
    }

    /// Whether this is the place of a component of this name, loaded for this.
    pub(crate) fn is_of(&self, name: &str, role: Role) -> bool {
        self.role == role && self.guest.borrow().name() == name
    }

    /// Whether a trigger has it, too.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.guest) > 1
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("component", &self.component)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
