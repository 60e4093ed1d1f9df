//! One file per row of `hostel_app::limits` that the executable can be driven over. Each shows both sides of the bound:
//! what is within it passes, what is beyond it is refused, and the next request is served.
//!
//! Rows that take a minute to show (idle connections, stalls, drains) are proved in `crates/server` with a tightened
//! bound; the row says where.

mod artifact;
mod blob_bytes;
mod body_rate;
mod call_depth;
mod compile_cpu;
mod compile_cpu_per_mib;
mod compile_memory;
mod compile_time;
mod concurrency;
mod connections_per_address;
mod cpu;
mod deadline;
mod epoch_tick;
mod h2_connection_window;
mod h2_control_frames;
mod h2_header_list;
mod h2_resets;
mod h2_send_buffer;
mod h2_stream_window;
mod h2_streams;
mod handles;
mod head;
mod head_fields;
mod head_timeout;
mod headers;
mod host_bytes;
mod host_call;
mod instances;
mod log_line;
mod log_queue;
mod log_rate;
mod memory;
mod memory_total;
mod metrics_connections;
mod metrics_timeout;
mod outbound;
mod outbound_open;
mod outbound_rate;
mod queue_depth;
mod queue_wait;
mod random;
mod read_buffer;
mod request_body;
mod resources;
mod response_body;
mod slice;
mod sql_rows;
mod sql_timeout;
mod store_batch;
mod store_bytes;
mod store_calls;
mod store_cursors;
mod store_key;
mod store_page;
mod store_timeout;
mod store_value;
mod stream_chunk;
mod table_elements;
mod variable;
mod wasm_stack;

use std::fs;
use std::path::Path;

use hostel_app::limits::ALL;
use hostel_app::{Operator, resolve_command};
use hostel_host::{CompileCaps, Compiler, CompilerProcess, LogSink, Role, Runtime, RuntimeOptions};

use crate::harness::command::{Outcome, run};
use crate::harness::root;

/// Runs a program given as WebAssembly text.
fn run_text(text: &str, flags: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program.wat");
    fs::write(&file, text).expect("a file");
    run(flags, &file, &[], b"")
}

/// What loading this command says when the real executable compiles it within these bounds.
fn compiled(binary: &[u8], caps: CompileCaps) -> Result<(), String> {
    let runtime = Runtime::new(RuntimeOptions {
        compiler: Compiler::Child(CompilerProcess {
            executable: env!("CARGO_BIN_EXE_hostel").into(),
            arguments: vec!["compile-guest".into()],
            caps,
        }),
        ..RuntimeOptions::new(LogSink::null())
    })
    .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("program.wasm");
    fs::write(&file, binary).expect("a file");
    let resolved = resolve_command(&file, &Operator::default()).expect("an app");
    let (component, code) = (&resolved.app.components[0], &resolved.code[0]);
    match runtime
        .app("test")
        .load(component, code, Role::Run, &|_| {})
    {
        Ok(_guest) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// The test of a row is where the row says, and no file here belongs to no row.
#[test]
fn every_row_names_a_test_that_exists() {
    let own = root().join("tests/limits");
    let mut files: Vec<String> = fs::read_dir(&own)
        .expect("this folder")
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name != "mod.rs")
        .collect();
    let mut missing = Vec::new();
    for limit in ALL {
        let (place, name) = limit.test.split_once("::").expect("FILE::NAME");
        let found = if place == "tests/limits" {
            files.retain(|file| *file != format!("{name}.rs"));
            contains(&own.join(format!("{name}.rs")), "#[test]")
        } else {
            contains(
                &root().join(place),
                &format!("fn {}(", name.rsplit("::").next().expect("a name")),
            )
        };
        if !found {
            missing.push(format!("{}: {}", limit.name, limit.test));
        }
    }
    assert_eq!(
        (missing, files),
        (Vec::new(), Vec::new()),
        "rows without a test, tests without a row"
    );
}

fn contains(path: &Path, what: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains(what))
}
