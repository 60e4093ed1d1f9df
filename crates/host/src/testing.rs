//! What the tests of this room that run guests share: loading one of `guests/out`, and asking it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use hostel_app::Reuse;
use hostel_app::limits::Limits;
use http_body_util::{BodyExt, Full};

use crate::capability::log::LogSink;
use crate::compile::LoadError;
use crate::guest::{Call, Guest, RequestBody, RequestId};
use crate::memory::Budget;
use crate::metrics::Component;
use crate::state::{Stdio, Template};
use crate::{Role, Runtime, RuntimeOptions};

/// A file that `cargo xtask guests` makes.
pub(crate) fn code(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../guests/out/{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|_| panic!("no {}: `cargo xtask guests`", path.display()))
}

/// A runtime whose log is nobody's; with a folder it keeps compiled code there.
pub(crate) fn runtime(cache_dir: Option<&Path>) -> Runtime {
    Runtime::new(RuntimeOptions {
        cache_dir: cache_dir.map(Path::to_path_buf),
        ..RuntimeOptions::new(LogSink::null())
    })
    .unwrap()
}

/// What the instances of a component without grants start from; nothing that they print is kept.
pub(crate) fn template() -> Template {
    Template {
        component: "test".into(),
        metrics: Arc::new(Component::new("test".into(), "test".into())),
        settings: Arc::default(),
        grants: Arc::default(),
        limits: Limits::default(),
        metered: true,
        memory: Budget::new(None).share(),
        reuse: Reuse::default(),
        stdio: Stdio::Log(LogSink::null().app(&"test".into())),
        network: Arc::default(),
        granted: Arc::default(),
        on_start: None,
        life: None,
        cgi: Arc::default(),
    }
}

/// A component without grants, with the default limits.
pub(crate) fn component(code: &[u8]) -> hostel_app::Component {
    hostel_app::Component::new("guest", hostel_app::Source::InlineWat, code)
}

/// Loads it.
pub(crate) fn load(
    runtime: &Runtime,
    component: &hostel_app::Component,
    code: &[u8],
    role: Role,
) -> Result<Guest, LoadError> {
    runtime.app("test").load(component, code, role, &|_| {})
}

/// How a request ended: its status, `cut` where the body broke off, or the name of the fault.
pub(crate) async fn ask(guest: &Guest, path: &str) -> String {
    let body = Full::new(Bytes::from_static(b"a body"));
    let body = RequestBody::new(body.map_err(|never| match never {}));
    let request = ::http::Request::post(path)
        .header("host", "localhost")
        .body(body)
        .unwrap();
    let call = Call {
        id: RequestId::next(),
        scheme: ::http::uri::Scheme::HTTP,
        chain: crate::Chain::default(),
        origin: None,
    };
    match guest.handle_http(request, call).await {
        Err(fault) => fault.row().name.to_owned(),
        Ok(response) => {
            let status = response.status();
            match response.into_body().collect().await {
                Ok(_) => status.as_str().to_owned(),
                Err(_) => "cut".to_owned(),
            }
        }
    }
}

/// Runs a future to its end.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}
