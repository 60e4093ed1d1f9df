//! Routes that guests print themselves, before the app is served: what `_routes` of a program prints, as WAGI has it.
//!
//! What a line means is `hostel_app::route::discovered`'s to say. A guest is asked once, when it is loaded; what it printed stays
//! with it until another build takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use hostel_app::App;
use hostel_app::route::discovered::{self, Printed};
use hostel_app::route::{Route, Routes, normal_path};
use hostel_host::{Abi, Fault, Guest, LoadError};

use crate::worker;

/// What components have printed, by their names.
pub(crate) type Routing = BTreeMap<String, Vec<Printed>>;

/// Asks the guest of a component for its routes, if it has one of its own, and checks that it has what answers them. Empty where it has none to say.
///
/// # Errors
/// It failed, what it printed is no list of routes, or it names an export that cannot answer.
pub(crate) fn ask(app: &App, index: usize, guest: &Guest) -> Result<Vec<Printed>, LoadError> {
    let mut routes = app.routes.all().iter();
    if guest.abi() != Abi::Cgi || !routes.any(|route| route.component == index) {
        return Ok(Vec::new());
    }
    let refused = |what: String, help: &str| LoadError {
        component: guest.name().to_owned(),
        what,
        help: help.to_owned(),
    };
    let failed = |fault: Fault| {
        refused(
            format!("its export `_routes`, which prints its routes, failed: {fault}"),
            "mend it, or do not export it",
        )
    };
    let runtime = worker::runtime().map_err(|error| failed(Fault::Host(error.to_string())))?;
    let Some(text) = runtime.block_on(guest.discover_routes()).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let printed = discovered::read(&text);
    let printed = printed.map_err(|error| refused(error.what, &error.help))?;
    for line in &printed {
        guest.check_entrypoint(&line.entrypoint).map_err(|error| {
            let what = format!(
                "line {} of what `_routes` printed: {}",
                line.line, error.what
            );
            refused(what, &error.help)
        })?;
    }
    Ok(printed)
}

/// The app's routes with what its components have printed, and what is worth a line about that.
///
/// # Errors
/// There is no room for so many.
pub(crate) fn routes(app: &App, routing: &Routing) -> Result<(Routes, Vec<String>), LoadError> {
    let components = app.components.iter().enumerate();
    let printed = components.filter_map(|(index, component)| {
        let lines = routing.get(&component.name)?;
        (!lines.is_empty()).then(|| (index, lines.clone()))
    });
    let printed: BTreeMap<usize, Vec<Printed>> = printed.collect();
    if printed.is_empty() {
        return Ok((app.routes.clone(), Vec::new()));
    }
    let extended = app.routes.with_printed(&printed);
    let extended = extended.map_err(|error| {
        let component = error.component.and_then(|index| app.components.get(index));
        LoadError {
            component: component.map_or_else(String::new, |one| one.name.clone()),
            what: error.what,
            help: error.help,
        }
    })?;
    let mut notes = extended.notes;
    notes.extend(hidden(app, &extended.routes));
    Ok((extended.routes, notes))
}

/// A sentence for a printed route that the health check answers.
fn hidden(app: &App, routes: &Routes) -> Option<String> {
    let is_hidden = |route: &&Arc<Route>| {
        Some(&*normal_path(&route.pattern)) == app.health.as_deref()
            && !app.routes.all().contains(route)
    };
    let route = routes.all().iter().find(is_hidden)?;
    Some(format!(
        "of what `_routes` printed, the route \"{}\" is never called: the health check answers there",
        route.pattern
    ))
}
