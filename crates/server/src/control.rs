//! The control socket of a running app: what `hostel call --running` speaks to.
//!
//! It is a unix socket in the data folder that only the server's own user can open. Who connects sends one JSON object on one
//! line and gets one back. A call runs on a fresh instance, beside those that serve: the app's broker and stores are the same,
//! also those in memory. A thread of its own does all that; what waits here waits for nobody else.
//!
//! A component is loaded when it is first called, from the file that the app was started with, or that `up --watch` took over
//! last; a file that has changed since is refused. It is loaded in the scope of the app that is served: it shares its CPU and
//! its connections, and calls the same neighbours.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hostel_app::{App, Component, Digest, Resolved, Reuse, Source, limits, nearest};
use hostel_host::{AppScope, Argument, Arguments, Guest, LoadError, RequestId, Returned, Role};
use serde_json::{Value as Json, json};

use crate::deploy::Deployed;
use crate::worker;

/// How long to wait where no connection can be accepted.
const REST: Duration = Duration::from_millis(100);

/// A control socket; removed with this.
pub struct Control {
    path: PathBuf,
    callee: Arc<Callee>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // One that is gone is as good.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Where the control socket of an app is, in this data folder.
pub fn control_socket(data: &Path, app: &str) -> PathBuf {
    data.join("run").join(format!("{app}.sock"))
}

/// The app as whoever calls it by this socket sees it.
struct Callee {
    scope: AppScope,
    revision: Mutex<Revision>,
}

/// A revision of an app, and what was loaded of it to be called.
#[derive(Debug)]
pub struct Revision {
    app: App,
    /// Code that is in no file.
    inline: Vec<Option<Vec<u8>>>,
    guests: HashMap<usize, Guest>,
}

impl Revision {
    /// Nothing is loaded yet.
    pub fn of(resolved: &Resolved) -> Self {
        let code = resolved.app.components.iter().zip(&resolved.code);
        let inline = code.map(|(component, code)| match component.source {
            Source::InlineWat => Some(code.clone()),
            Source::File(_) => None,
        });
        Self {
            app: resolved.app.clone(),
            inline: inline.collect(),
            guests: HashMap::new(),
        }
    }
}

/// The way to tell a control socket of newer revisions.
#[derive(Clone)]
pub struct Revisions(Arc<Callee>);

impl fmt::Debug for Revisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revisions").finish_non_exhaustive()
    }
}

impl Revisions {
    /// Has `take_over` serve the newer revision; if it does, calls that come from then on are calls of that one. Meanwhile
    /// nothing of the older one is loaded, so that no caller is linked with what is about to go.
    ///
    /// # Errors
    /// What `take_over` returns; then nothing has changed.
    pub fn follow<T, E>(
        &self,
        newer: Revision,
        take_over: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let mut revision = self.0.revision();
        let taken = take_over()?;
        *revision = newer;
        Ok(taken)
    }
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another process serves the same app on the same data folder, and answers there.
    #[error("another server of this app answers at {0}")]
    Taken(PathBuf),
    /// The folder or the socket cannot be made.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Control {
    /// Opens the socket of an app that was deployed and answers on it until the process ends.
    ///
    /// # Errors
    /// The folder or the socket cannot be made, or another process answers there.
    pub fn open(
        data: &Path,
        deployed: &Deployed,
        revision: Revision,
    ) -> Result<Self, ControlError> {
        let path = control_socket(data, &revision.app.name);
        let listener = bind(&path)?;
        let callee = Arc::new(Callee {
            scope: deployed.scope.clone(),
            revision: Mutex::new(revision),
        });
        let control = Self { path, callee };
        let callee = control.callee.clone();
        let thread = std::thread::Builder::new().name("control".into());
        thread.spawn(move || answer_all(&listener, &callee))?;
        Ok(control)
    }

    /// For whoever replaces what is served.
    pub fn revisions(&self) -> Revisions {
        Revisions(self.callee.clone())
    }
}

/// A socket that a process left behind is replaced; one that somebody answers at is not.
fn bind(path: &Path) -> Result<UnixListener, ControlError> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => return Err(ControlError::Taken(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn answer_all(listener: &UnixListener, callee: &Arc<Callee>) {
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // Without descriptors there is nothing to do but to wait for some.
            std::thread::park_timeout(REST);
            continue;
        };
        let seat = Seat::take(&busy);
        let theirs = callee.clone();
        let answer = move |seat: Seat| {
            // Whoever left needs no answer.
            let _left = converse(stream, &theirs);
            drop(seat);
        };
        if busy.load(Ordering::SeqCst) > limits::CONTROL_CONNECTIONS.size() {
            answer(seat);
        } else {
            let thread = std::thread::Builder::new().name("control".into());
            // Without a thread the caller learns of it by the end of the connection.
            let _refused = thread.spawn(move || answer(seat));
        }
    }
}

/// One who is being answered.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(busy: &Arc<AtomicUsize>) -> Self {
        busy.fetch_add(1, Ordering::SeqCst);
        Self(busy.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn converse(mut stream: UnixStream, callee: &Callee) -> io::Result<()> {
    let answer = match read_line(&mut stream)? {
        Some(line) => callee.answer(&line),
        None => refused(
            &format!(
                "the request is no line of at most {}",
                limits::CONTROL_REQUEST_BYTES.shown()
            ),
            "send fewer or shorter arguments",
        ),
    };
    stream.set_write_timeout(Some(limits::CONTROL_PATIENCE_MS.duration()))?;
    stream.write_all(format!("{answer}\n").as_bytes())
}

/// The request; `None` if it is too long.
fn read_line(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let end = Instant::now() + limits::CONTROL_PATIENCE_MS.duration();
    let mut line = Vec::new();
    let mut part = vec![0; limits::STREAM_CHUNK_BYTES.size()];
    while !line.ends_with(b"\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let read = stream.read(&mut part)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(part.get(..read).unwrap_or_default());
        if line.len() > limits::CONTROL_REQUEST_BYTES.size() {
            return Ok(None);
        }
    }
    Ok(Some(line))
}

/// The call does not fit what it names.
fn refused(what: &str, help: &str) -> Json {
    json!({ "refused": { "what": what, "help": help } })
}

impl Callee {
    fn answer(&self, line: &[u8]) -> Json {
        let Ok(request) = serde_json::from_slice::<Json>(line) else {
            return refused("the request is not JSON", "use `hostel call --running`");
        };
        let text = |key: &str| request.get(key).and_then(Json::as_str);
        let (Some(component), Some(export), Some(arguments)) =
            (text("component"), text("export"), arguments(&request))
        else {
            return refused("the request is incomplete", "use `hostel call --running`");
        };
        let guest = match self.guest(component) {
            Ok(guest) => guest,
            Err(error) => return refused(&error.what, &error.help),
        };
        let call = match guest.prepare(export, &arguments) {
            Ok(call) => call,
            Err(error) => return refused(&error.what, &error.help),
        };
        let id = RequestId::next();
        let Ok(executor) = worker::runtime() else {
            return refused(
                "the server has no event loop for it",
                "raise `ulimit -n`, or call again later",
            );
        };
        match executor.block_on(Box::pin(guest.call_prepared(call, id))) {
            Ok(returned) => returned_json(&returned),
            Err(fault) => {
                guest.report(id, &fault);
                json!({ "fault": { "what": fault.to_string(), "exit_code": fault.row().exit_code } })
            }
        }
    }

    fn revision(&self) -> MutexGuard<'_, Revision> {
        self.revision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The component's guest, loaded when it is first called. What its imports are bound to is loaded with the app.
    fn guest(&self, name: &str) -> Result<Guest, LoadError> {
        let mut revision = self.revision();
        let app = &revision.app;
        let mut components = app.components.iter();
        let Some(index) = components.position(|component| component.name == name) else {
            let mut names = app.components.iter().map(|component| &*component.name);
            return Err(LoadError {
                component: String::new(),
                what: format!("the app `{}` has no component `{name}`", app.name),
                help: match nearest(name, names.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "its first component is `{}`",
                        names.next().unwrap_or_default()
                    ),
                },
            });
        };
        if let Some(guest) = revision.guests.get(&index) {
            return Ok(guest.clone());
        }
        let (component, code) = revision.part(index)?;
        // Nothing of one call is left to the next, whatever those that serve do.
        let component = Component {
            reuse: Reuse::default(),
            ..component.clone()
        };
        let guest = self.scope.load(&component, &code, Role::Call, &|_| {})?;
        revision.guests.insert(index, guest.clone());
        Ok(guest)
    }
}

impl Revision {
    /// A component and its code, which is still what it was.
    fn part(&self, index: usize) -> Result<(&Component, Vec<u8>), LoadError> {
        let gone = |what: String| LoadError {
            component: String::new(),
            what,
            help: "start the app again".to_owned(),
        };
        let Some(component) = self.app.components.get(index) else {
            return Err(gone("there is no such component".to_owned()));
        };
        let inline = self.inline.get(index).and_then(Option::as_ref);
        let code = match (&component.source, inline) {
            (Source::File(path), _) => fs::read(path)
                .map_err(|error| gone(format!("{} cannot be read: {error}", path.display())))?,
            (Source::InlineWat, Some(code)) => code.clone(),
            (Source::InlineWat, None) => return Err(gone("its text is gone".to_owned())),
        };
        match Digest::of(&code) == component.digest {
            true => Ok((component, code)),
            false => Err(gone(format!(
                "the file of the component `{}` has changed since the app was started",
                component.name
            ))),
        }
    }
}

fn arguments(request: &Json) -> Option<Arguments> {
    let list = |key: &str| request.get(key).and_then(Json::as_array);
    if let Some(json) = list("json") {
        return Some(json.iter().cloned().map(Argument::Json).collect());
    }
    let wave = list("wave")?.iter();
    let text = |argument: &Json| Some(Argument::Wave(argument.as_str()?.to_owned()));
    wave.map(text).collect()
}

fn returned_json(returned: &Returned) -> Json {
    json!({ "returned": {
        "json": returned.to_json(),
        "wave": returned.to_wave(),
        "error": returned.error(),
    } })
}
