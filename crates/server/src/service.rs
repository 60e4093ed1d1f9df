//! The service trigger: guests that run all the time, from the start of the server to its drain.
//!
//! The host opens the sockets of a preview-1 guest and hands them over at each of its starts: they stay open while the guest
//! does not run, so that its clients wait and none is refused. A component opens its own through `wasi:sockets` and may bind
//! exactly the addresses that the manifest names.
//!
//! Here is what services there are and where they listen; `run` is the life of one guest after the other, `policy` says when
//! the next one begins.

mod policy;
pub(crate) mod run;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use hostel_app::grant::AddressGrant;
use hostel_app::{App, Component, ListenOn, ServiceTrigger, Text};
use hostel_host::{Guest, LoadError, Role};

use crate::activation::Inherited;
use crate::deploy::Deployment;
use crate::listen::{self, ListenError};
use crate::slot::Slot;

/// A component that runs all the time.
#[derive(Debug, Clone)]
pub struct Service {
    pub(crate) slot: Slot,
    pub(crate) trigger: ServiceTrigger,
    /// Places that the host listens on for it.
    places: Vec<ListenOn>,
}

/// A service with its sockets.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) service: Service,
    pub(crate) listeners: Vec<Arc<TcpListener>>,
}

/// Where a service wants to listen and cannot.
#[derive(Debug)]
pub struct ServiceListenError {
    /// The service's name.
    pub service: String,
    /// Why not.
    pub error: ListenError,
}

impl std::error::Error for ServiceListenError {}

/// As the error says it, with the way out that a manifest has.
impl fmt::Display for ServiceListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.error.to_string();
        let what = text.lines().next().unwrap_or_default();
        write!(f, "service \"{}\": {what}\n  help: ", self.service)?;
        let port = match &self.error {
            ListenError::InUse { address } => address.port(),
            other => {
                let other = other.to_string();
                let help = other.split_once("help: ").map(|(_, help)| help);
                return match (help, &self.error) {
                    (Some(help), ListenError::NotInherited { .. }) => f.write_str(help),
                    _ => f.write_str("name another address in `listen` of its [[service]]"),
                };
            }
        };
        write!(
            f,
            "another program, perhaps another hostel, holds it (`ss -ltnp 'sport = :{port}'` shows which), or this server's \
             own --listen; stop it, or name another port in `listen` of its [[service]]"
        )
    }
}

/// Whether every service can listen where it wants to, now, so that a port in use is told before anything is compiled.
/// `listen` is where the server itself will; without `inherited`, sockets of a service manager are not looked at.
///
/// # Errors
///
/// For the first place that is taken.
pub fn check(
    services: &[ServiceTrigger],
    listen: &[ListenOn],
    inherited: Option<&Inherited>,
) -> Result<(), ServiceListenError> {
    for service in services {
        for place in &service.listen {
            let own = place.is_one_place() && listen.contains(place);
            let checked = match (place, inherited) {
                (ListenOn::Address(address), _) if own => {
                    Err(ListenError::InUse { address: *address })
                }
                (ListenOn::Address(address), _) => listen::check_address(*address),
                (ListenOn::Inherited(name), Some(inherited)) => inherited.all(name).map(drop),
                (ListenOn::Inherited(_), None) => Ok(()),
            };
            checked.map_err(|error| ServiceListenError {
                service: service.name.clone(),
                error,
            })?;
        }
    }
    Ok(())
}

/// What the `[[service]]` sections of an app say.
pub(crate) fn services(deployment: &Deployment<'_>) -> Result<Vec<Service>, LoadError> {
    let mut all = Vec::with_capacity(deployment.app.services.len());
    for trigger in &deployment.app.services {
        let Some(slot) = deployment.slot(trigger.component, Role::Service) else {
            continue;
        };
        let places = places(trigger, &slot.current())?;
        all.push(Service {
            slot: slot.clone(),
            trigger: trigger.clone(),
            places,
        });
    }
    Ok(all)
}

/// Whether a component, loaded as a service, can listen where its app says.
///
/// # Errors
///
/// A place that this guest cannot have.
pub(crate) fn check_guest(app: &App, component: usize, guest: &Guest) -> Result<(), LoadError> {
    let mut services = app.services.iter();
    let service = services.find(|service| service.component == component);
    service.map_or(Ok(()), |trigger| places(trigger, guest).map(drop))
}

/// Where the host listens for this guest. A component binds by itself, and has to know where.
fn places(trigger: &ServiceTrigger, guest: &Guest) -> Result<Vec<ListenOn>, LoadError> {
    guest.check_service(trigger.export.as_deref(), trigger.listen.len())?;
    if guest.abi().is_module() {
        return Ok(trigger.listen.clone());
    }
    let error = |what: &str, help: &str| LoadError {
        component: guest.name().to_owned(),
        what: what.to_owned(),
        help: help.to_owned(),
    };
    for place in &trigger.listen {
        match place {
            ListenOn::Inherited(_) => {
                return Err(error(
                    "a component opens its sockets itself and cannot be given one",
                    "name an address in `listen` of its [[service]], or build it for wasm32-wasip1",
                ));
            }
            ListenOn::Address(address) if address.port() == 0 => {
                return Err(error(
                    "a component opens its sockets itself, so port 0 would be unknown to it and to its clients",
                    "name a port in `listen` of its [[service]] and in its arguments, or build it for wasm32-wasip1",
                ));
            }
            ListenOn::Address(_) => {}
        }
    }
    Ok(Vec::new())
}

/// The component as this role has it: a service's has arguments and addresses besides.
pub(crate) fn component_for<'c>(
    app: &App,
    (index, component): (usize, &'c Component),
    role: Role,
) -> Cow<'c, Component> {
    let mut services = app.services.iter();
    let service = services.find(|service| role == Role::Service && service.component == index);
    let Some(service) = service else {
        return Cow::Borrowed(component);
    };
    let mut component = component.clone();
    let args = service.args.iter().map(String::as_str);
    component.args.extend(args.map(Text::literal));
    for place in &service.listen {
        if let ListenOn::Address(address) = place {
            component.grants.listen.push(AddressGrant::from(*address));
        }
    }
    Cow::Owned(component)
}

impl Service {
    /// Every place that the host listens on, one service after the other.
    pub(crate) fn places(services: &[Self]) -> Vec<ListenOn> {
        let places = services.iter().flat_map(|service| &service.places);
        places.cloned().collect()
    }

    fn name(&self) -> &str {
        &self.trigger.name
    }

    /// Opens the sockets of each.
    pub(crate) fn open(
        services: &[Self],
        inherited: &Inherited,
        backlog: i32,
    ) -> Result<Vec<Open>, ServiceListenError> {
        let open = services.iter().map(|service| {
            let bound = listen::bind_each(&service.places, inherited, backlog);
            let listeners = bound.map_err(|error| ServiceListenError {
                service: service.name().to_owned(),
                error,
            });
            Ok(service.with(listeners?))
        });
        open.collect()
    }

    /// Gives each the sockets that a supervisor opened, a group for each place.
    pub(crate) fn adopt(services: &[Self], groups: Vec<Vec<TcpListener>>) -> io::Result<Vec<Open>> {
        let mut groups = groups.into_iter();
        let open = services.iter().map(|service| {
            let own: Vec<_> = groups.by_ref().take(service.places.len()).collect();
            match own.len() == service.places.len() {
                true => Ok(service.with(own.into_iter().flatten().collect())),
                false => Err(io::ErrorKind::UnexpectedEof.into()),
            }
        });
        open.collect()
    }

    fn with(&self, sockets: Vec<TcpListener>) -> Open {
        Open {
            service: self.clone(),
            listeners: sockets.into_iter().map(Arc::new).collect(),
        }
    }
}

impl Open {
    /// The guests of the service that run at once, each with its number.
    pub(crate) fn guests(&self) -> impl Iterator<Item = (Self, u32)> {
        (1..=self.service.trigger.instances).map(|number| (self.clone(), number))
    }

    /// The service's name, and where it listens: the real addresses of the host's sockets, else those that the guest will
    /// bind.
    pub(crate) fn addresses(&self) -> (String, Vec<SocketAddr>) {
        let trigger = &self.service.trigger;
        let own = trigger.listen.iter().filter_map(|place| match place {
            ListenOn::Address(address) if self.listeners.is_empty() => Some(*address),
            _ => None,
        });
        let opened = self.listeners.iter();
        let opened = opened.filter_map(|socket| socket.local_addr().ok());
        (trigger.name.clone(), own.chain(opened).collect())
    }
}

#[cfg(test)]
mod tests {
    use hostel_app::{Ready, Restart};

    use super::*;
    use crate::tests::fake::app;

    fn trigger(listen: &[&str]) -> ServiceTrigger {
        ServiceTrigger {
            name: "broker".into(),
            component: 0,
            export: None,
            args: vec!["--verbose".into()],
            listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
            ready: Ready::Start,
            restart: Restart::Always,
            cpu_percent: None,
            stop_timeout: std::time::Duration::ZERO,
            instances: 1,
        }
    }

    #[test]
    fn a_service_has_more_than_its_component_and_nobody_else_has_that() {
        let mut app = app(&[]);
        app.services = vec![trigger(&["127.0.0.1:9000", "fd:spare"])];
        let web = &app.components[0];
        let plain = component_for(&app, (0, web), Role::Serve);
        assert!(plain.args.is_empty() && plain.grants.listen.is_empty());
        let service = component_for(&app, (0, web), Role::Service);
        assert_eq!(service.args, [Text::literal("--verbose")]);
        let [grant] = &service.grants.listen[..] else {
            panic!("{:?}", service.grants.listen)
        };
        assert_eq!(grant.to_string(), "127.0.0.1:9000");
        let other = component_for(&app, (1, web), Role::Service);
        assert!(other.args.is_empty());
    }

    #[test]
    fn a_place_that_is_taken_is_told_with_the_way_out_of_a_manifest() {
        let (taken, _holder) = listen::bind("127.0.0.1:0".parse().unwrap(), 1, 1).unwrap();
        let taken = taken.to_string();
        let told = |listen: &[&str], own: &[ListenOn]| {
            let checked = check(&[trigger(listen)], own, Some(&Inherited::default()));
            checked.map_err(|error| error.to_string())
        };
        let in_use = told(&[&taken], &[]).unwrap_err();
        assert!(
            in_use.starts_with(&format!("service \"broker\": cannot listen on {taken}: "))
                && in_use.contains("in `listen` of its [[service]]"),
            "{in_use}"
        );
        let own = ["127.0.0.1:1".parse().unwrap()];
        assert!(
            told(&["127.0.0.1:1"], &own)
                .unwrap_err()
                .contains("--listen")
        );
        let elsewhere = told(&["192.0.2.1:9000"], &[]).unwrap_err();
        assert!(
            elsewhere.contains("does not have that address")
                && elsewhere.contains("name another address in `listen`"),
            "{elsewhere}"
        );
        assert!(told(&["fd:a"], &[]).unwrap_err().contains("LISTEN_FDS"));
        assert_eq!(told(&["127.0.0.1:0", "127.0.0.1:0"], &own), Ok(()));
    }
}
