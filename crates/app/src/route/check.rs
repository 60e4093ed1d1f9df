//! The host and the methods of a route: what they may be, and the form in which they are compared.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use super::Route;
use super::pattern::Refusal;

/// A host as routes compare it: without port and dot at the end, in lower case.
pub(super) fn bare_host(authority: &str) -> Cow<'_, str> {
    let port = |(_, port): &(&str, &str)| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = authority
        .rsplit_once(':')
        .filter(port)
        .map_or(authority, |(host, _)| host);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Checks the host of a route and brings it to the form in which it is compared.
pub(super) fn host(route: &mut Route) -> Result<(), Refusal> {
    let Some(host) = &mut route.host else {
        return Ok(());
    };
    let bare = bare_host(host);
    let without_port = bare.len() >= host.strip_suffix('.').unwrap_or(host).len();
    let v6 = bare
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let valid = match v6 {
        Some(address) => address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv6()),
        None => bare.split('.').all(label),
    };
    if !valid || !without_port {
        let (what, help) = match (valid, without_port) {
            (true, false) => (
                format!("the host \"{host}\" has a port"),
                format!("write \"{bare}\": every port fits"),
            ),
            _ => (
                format!("\"{host}\" is not a host"),
                "write one name such as shop.example.com, or leave host out for every host"
                    .to_owned(),
            ),
        };
        return Err((what, help));
    }
    *host = bare.into_owned();
    Ok(())
}

pub(super) fn methods(methods: &[String]) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for method in methods {
        if method.is_empty()
            || !method
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            let upper = method.to_ascii_uppercase();
            let help =
                match upper.bytes().all(|byte| byte.is_ascii_uppercase()) && !upper.is_empty() {
                    true => format!("write \"{upper}\""),
                    false => "write for example [\"GET\", \"POST\"]".to_owned(),
                };
            return Err((format!("\"{method}\" is not a method"), help));
        }
        if !seen.insert(method) {
            return Err((
                format!("the method \"{method}\" is listed twice"),
                "leave one out".to_owned(),
            ));
        }
    }
    Ok(())
}
