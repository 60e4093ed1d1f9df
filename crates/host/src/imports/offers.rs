//! The table of what the linker implements. A test beside the linker proves that every line of it links.

use crate::interface::{env, hostobservability, wasi_experimental_http};

/// A released WASI version and the interfaces of it that the linker implements.
#[derive(Debug, PartialEq, Eq)]
pub struct Offer {
    /// The newest release that is implemented; every older one of the same track is too.
    pub version: &'static str,
    /// `package/interface`, without a version.
    pub interfaces: &'static [&'static str],
}

/// WASI 0.2, for every component.
pub const WASI_0_2: Offer = Offer {
    version: "0.2.12",
    interfaces: &[
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/stderr",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-stderr",
        "wasi:clocks/monotonic-clock",
        "wasi:clocks/wall-clock",
        "wasi:filesystem/preopens",
        "wasi:filesystem/types",
        "wasi:http/outgoing-handler",
        "wasi:http/types",
        "wasi:io/error",
        "wasi:io/poll",
        "wasi:io/streams",
        "wasi:random/insecure",
        "wasi:random/insecure-seed",
        "wasi:random/random",
        "wasi:sockets/instance-network",
        "wasi:sockets/ip-name-lookup",
        "wasi:sockets/network",
        "wasi:sockets/tcp",
        "wasi:sockets/tcp-create-socket",
        "wasi:sockets/udp",
        "wasi:sockets/udp-create-socket",
    ],
};

/// WASI 0.3, for components of the 0.3 ABIs.
pub const WASI_0_3: Offer = Offer {
    version: "0.3.0",
    interfaces: &[
        "wasi:cli/environment",
        "wasi:cli/exit",
        "wasi:cli/stdin",
        "wasi:cli/stdout",
        "wasi:cli/stderr",
        "wasi:cli/terminal-input",
        "wasi:cli/terminal-output",
        "wasi:cli/terminal-stdin",
        "wasi:cli/terminal-stdout",
        "wasi:cli/terminal-stderr",
        "wasi:clocks/monotonic-clock",
        "wasi:clocks/system-clock",
        "wasi:filesystem/preopens",
        "wasi:filesystem/types",
        "wasi:http/client",
        "wasi:http/types",
        "wasi:random/insecure",
        "wasi:random/insecure-seed",
        "wasi:random/random",
        "wasi:sockets/ip-name-lookup",
        "wasi:sockets/types",
    ],
};

/// Beyond WASI's releases, for every component: drafts and this host's own packages, each in exactly these versions. Of an
/// interface in several versions, the one to recommend comes first.
pub const DRAFTS: &[&str] = &[
    "hostel:keyvalue/store@0.1.0",
    "hostel:sql/database@0.1.0",
    "wasi:blobstore/blobstore@0.2.0-draft",
    "wasi:blobstore/container@0.2.0-draft",
    "wasi:blobstore/types@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/atomics@0.2.0-draft2",
    "wasi:keyvalue/atomics@0.2.0-draft",
    "wasi:keyvalue/batch@0.2.0-draft2",
    "wasi:keyvalue/batch@0.2.0-draft",
    "wasi:keyvalue/store@0.2.0-draft2",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:logging/logging@0.1.0-draft",
    "wasi:messaging/producer@0.2.0-draft",
    "wasi:messaging/request-reply@0.2.0-draft",
    "wasi:messaging/types@0.2.0-draft",
    "wasmcloud:messaging/consumer@0.2.0",
    "wasmcloud:messaging/types@0.2.0",
];

/// The same for components of the ABIs that have [`WASI_0_3`].
pub const DRAFTS_0_3: &[&str] = &[
    "wasmcloud:messaging/consumer@0.3.0",
    "wasmcloud:messaging/types@0.3.0",
];

/// The module of WASI preview 1.
pub const PREVIEW1: &str = "wasi_snapshot_preview1";

/// The functions of [`PREVIEW1`], for core modules.
pub const PREVIEW1_FUNCTIONS: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// What core modules may import: module and functions.
pub const MODULES: &[(&str, &[&str])] = &[
    (PREVIEW1, PREVIEW1_FUNCTIONS),
    (env::MODULE, env::FUNCTIONS),
    (hostobservability::MODULE, hostobservability::FUNCTIONS),
    (
        wasi_experimental_http::MODULE,
        wasi_experimental_http::FUNCTIONS,
    ),
];
