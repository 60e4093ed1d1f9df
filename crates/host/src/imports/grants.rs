//! Which grants a guest would make use of, judged by what it imports; for `hostel inspect`.

use hostel_app::Grants;

use crate::detect::{Detected, Need};

/// A grant that a guest would make use of, judged by its imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantNeed {
    /// The grant's name, a key of the manifest's table; or `env`, `args`, which are settings of a component.
    pub grant: &'static str,
    /// The import that shows it.
    pub import: String,
    /// The manifest's table that the line belongs to, without the component's name.
    pub table: &'static str,
    /// An example of the line to write.
    pub manifest: &'static str,
    /// The same on the command line.
    pub flag: &'static str,
}

/// grant, table, line of the manifest, flag of the command line.
const EXAMPLES: &[(&str, &str, &str, &str)] = &[
    (
        "http",
        "grants",
        "http = [\"https://api.example.com\"]",
        "--grant http=https://api.example.com",
    ),
    (
        "tcp",
        "grants",
        "tcp = [\"10.0.0.5:5432\"]",
        "--grant tcp=10.0.0.5:5432",
    ),
    (
        "udp",
        "grants",
        "udp = [\"10.0.0.5:53\"]",
        "--grant udp=10.0.0.5:53",
    ),
    (
        "listen",
        "grants",
        "listen = [\"127.0.0.1:9000\"]",
        "--grant listen=127.0.0.1:9000",
    ),
    (
        "files",
        "grants",
        "files = { \"/site\" = { host = \"site\", write = false } }",
        "--dir site::/site",
    ),
    (
        "keyvalue",
        "grants",
        "keyvalue = [\"default\"]",
        "--grant keyvalue=default",
    ),
    (
        "blobstore",
        "grants",
        "blobstore = [\"default\"]",
        "--grant blobstore=default",
    ),
    ("sql", "grants", "sql = [\"main\"]", "--grant sql=main"),
    (
        "messaging",
        "grants",
        "messaging = { publish = [\"orders.*\"] }",
        "--grant publish=orders.*",
    ),
    (
        "secrets",
        "grants",
        "secrets = [\"api-key\"]",
        "--grant secrets=api-key",
    ),
    ("env", "", "env = { LANG = \"en\" }", "--env LANG=en"),
    (
        "args",
        "",
        "args = [\"--verbose\"]",
        "hostel run FILE --verbose",
    ),
];

/// What a guest would make use of, in the order of the manifest's grants. Reading the environment, the arguments and
/// the file system is what most runtimes do at start, wanted or not: that a guest imports them does not mean that it
/// fails without.
pub fn grants_needed(detected: &Detected) -> Vec<GrantNeed> {
    EXAMPLES
        .iter()
        .filter_map(|&(grant, table, manifest, flag)| {
            let need = detected.needs.iter().find(|need| uses(grant, need))?;
            Some(GrantNeed {
                grant,
                import: need.name.clone(),
                table,
                manifest,
                flag,
            })
        })
        .collect()
}

/// The stores that a guest imports and was granted nothing of, each with the way to grant it. No language's runtime imports
/// one of itself, as they do sockets and files: a guest that does means to use it.
pub fn stores_not_granted(detected: &Detected, grants: &Grants) -> Vec<GrantNeed> {
    let mut needed = grants_needed(detected);
    needed.retain(|need| match need.grant {
        "keyvalue" => grants.keyvalue.is_empty(),
        "blobstore" => grants.blobstore.is_empty(),
        "sql" => grants.sql.is_empty(),
        "messaging" => {
            let messaging = &grants.messaging;
            messaging.clients.is_empty()
                && messaging.publish.is_empty()
                && messaging.request.is_empty()
        }
        _ => false,
    });
    needed
}

fn uses(grant: &str, need: &Need) -> bool {
    let interface = need
        .name
        .split_once('@')
        .map_or(need.name.as_str(), |(interface, _)| interface);
    let item = |names: &[&str]| {
        need.items
            .iter()
            .any(|item| names.iter().any(|name| item.ends_with(name)))
    };
    match (grant, interface) {
        ("http", "wasi:http/outgoing-handler" | "wasi:http/client") => true,
        ("tcp", "wasi:sockets/tcp") => item(&["tcp-socket.start-connect"]),
        ("tcp", "wasi:sockets/types") => item(&["tcp-socket.connect"]),
        ("udp", "wasi:sockets/udp") => item(&["udp-socket.start-bind", "udp-socket.stream"]),
        ("udp", "wasi:sockets/types") => {
            item(&["udp-socket.bind", "udp-socket.connect", "udp-socket.send"])
        }
        ("listen", "wasi:sockets/tcp") => item(&["tcp-socket.start-listen"]),
        ("listen", "wasi:sockets/types") => item(&["tcp-socket.listen"]),
        ("keyvalue", "wasi:keyvalue/store" | "hostel:keyvalue/store") => true,
        ("blobstore", "wasi:blobstore/blobstore") => true,
        (
            "messaging",
            "wasi:messaging/producer"
            | "wasi:messaging/request-reply"
            | "wasmcloud:messaging/consumer",
        ) => true,
        ("secrets", "wasi:config/store") => true,
        ("sql", "hostel:sql/database") => true,
        ("files", "wasi:filesystem/preopens") => true,
        ("env", "wasi:cli/environment") => item(&["get-environment"]),
        ("args", "wasi:cli/environment") => item(&["get-arguments"]),
        ("files", "wasi_snapshot_preview1.fd_prestat_get" | "wasi_snapshot_preview1.path_open") => {
            true
        }
        ("listen", "wasi_snapshot_preview1.sock_accept") => true,
        ("tcp", "env.tcp_connect") | ("keyvalue", "env.db_set") | ("files", "env.file_open") => {
            true
        }
        ("env", "wasi_snapshot_preview1.environ_get") => true,
        ("args", "wasi_snapshot_preview1.args_get") => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needing(name: &str, item: &str) -> Vec<&'static str> {
        let needs = vec![Need {
            name: name.to_owned(),
            items: vec![item.to_owned()],
        }];
        grants_needed(&Detected {
            needs,
            ..Detected::default()
        })
        .into_iter()
        .map(|need| need.grant)
        .collect()
    }

    #[test]
    fn modules_of_serverless_wasm_have_needs_too() {
        for (function, grants) in [
            ("tcp_connect", &["tcp"][..]),
            ("db_set", &["keyvalue"]),
            ("file_open", &["files"]),
            ("db_get", &[]),
        ] {
            assert_eq!(needing(&format!("env.{function}"), function), grants);
        }
    }

    #[test]
    fn grants_follow_from_what_is_imported() {
        for (name, item, grants) in [
            ("wasi:http/outgoing-handler@0.2.3", "handle", &["http"][..]),
            ("wasi:http/client@0.3.0", "send", &["http"]),
            ("wasi:http/types@0.2.3", "[constructor]fields", &[]),
            (
                "wasi:sockets/tcp@0.2.3",
                "[method]tcp-socket.start-connect",
                &["tcp"],
            ),
            (
                "wasi:sockets/tcp@0.2.3",
                "[method]tcp-socket.start-listen",
                &["listen"],
            ),
            (
                "wasi:sockets/udp@0.2.3",
                "[method]udp-socket.stream",
                &["udp"],
            ),
            (
                "wasi:sockets/types@0.3.0",
                "[method]tcp-socket.connect",
                &["tcp"],
            ),
            (
                "wasi:sockets/types@0.3.0",
                "[method]tcp-socket.listen",
                &["listen"],
            ),
            (
                "wasi:sockets/types@0.3.0",
                "[method]udp-socket.send",
                &["udp"],
            ),
            (
                "wasi:filesystem/preopens@0.3.0",
                "get-directories",
                &["files"],
            ),
            ("wasi:keyvalue/store@0.2.0-draft2", "open", &["keyvalue"]),
            (
                "hostel:keyvalue/store@0.1.0",
                "[static]bucket.open",
                &["keyvalue"],
            ),
            (
                "wasi:blobstore/blobstore@0.2.0-draft",
                "get-container",
                &["blobstore"],
            ),
            ("hostel:sql/database@0.1.0", "open", &["sql"]),
            (
                "wasi:messaging/producer@0.2.0-draft",
                "send",
                &["messaging"],
            ),
            ("wasi:config/store@0.2.0-rc.1", "get", &["secrets"]),
            ("wasi:logging/logging@0.1.0-draft", "log", &[]),
            ("wasi:cli/environment@0.2.0", "get-environment", &["env"]),
            ("wasi:cli/environment@0.2.0", "get-arguments", &["args"]),
            ("wasi_snapshot_preview1.path_open", "path_open", &["files"]),
            ("wasi_snapshot_preview1.args_get", "args_get", &["args"]),
            ("wasi_snapshot_preview1.fd_write", "fd_write", &[]),
            ("wasi:io/poll@0.2.0", "poll", &[]),
        ] {
            assert_eq!(needing(name, item), grants, "{name} {item}");
        }
    }

    #[test]
    fn a_store_that_is_imported_and_not_granted_is_found() {
        let needs = [
            ("wasi:keyvalue/store@0.2.0-draft", "open"),
            ("wasi:blobstore/blobstore@0.2.0-draft", "get-container"),
            ("wasi:messaging/producer@0.2.0-draft", "send"),
            ("wasi:http/outgoing-handler@0.2.3", "handle"),
        ];
        let detected = Detected {
            needs: needs
                .map(|(name, item)| Need {
                    name: name.to_owned(),
                    items: vec![item.to_owned()],
                })
                .into(),
            ..Detected::default()
        };
        let missing = |grants: &Grants| -> Vec<&'static str> {
            let missing = stores_not_granted(&detected, grants);
            missing.into_iter().map(|need| need.grant).collect()
        };
        let mut grants = Grants::default();
        assert_eq!(missing(&grants), ["keyvalue", "blobstore", "messaging"]);
        grants.keyvalue.insert("sessions".to_owned());
        grants.messaging.request.push(">".to_owned());
        assert_eq!(missing(&grants), ["blobstore"]);
        grants.blobstore.insert("default".to_owned());
        assert_eq!(missing(&grants), [""; 0]);
    }
}
