//! Scripts of interpreters: which file answers for the path of a request, and what its program is told of it.
//!
//! The path is followed below the site's root, name by name, until there is a file: a script, whose program gets the rest of
//! the path, or a file that clients may have as it is, which the host sends itself (`asset`). What is on disk is looked up for
//! every request, so that a change is live at once; on a thread for that, because a disk can be slow. Nothing is found that the guest
//! could not open by itself (`disk`), and nothing whose name begins with a dot.
//!
//! Running the program is the rest of `cgi`'s business.

mod asset;
mod disk;
mod path;

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hostel_app::app::Scripts;
use hostel_app::{Cgi, Component, Grants};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::WasiBody;

use self::disk::{Disk, Kind};
use self::path::Step;
use crate::abi::cgi::environment::{Variable, decoded};
use crate::abi::cgi::output;
use crate::abi::response::{self, ResponseBody};
use crate::fault::Fault;
use crate::guest::RequestBody;
use crate::pool::Permit;
use crate::state::Template;

/// Its file, in a template of arguments.
const SCRIPT_FILENAME: &str = "${SCRIPT_FILENAME}";
/// Its path below the root, there.
const SCRIPT_NAME: &str = "${SCRIPT_NAME}";

/// The files of one component.
#[derive(Debug)]
pub(crate) struct Site {
    scripts: Scripts,
    grants: Arc<Grants>,
    /// What an answer of the host may have.
    body_bytes: u64,
    /// What a look-up may take: a disk that hangs holds its request up, but not for ever.
    deadline_ms: Option<u64>,
    /// Files that may be open at once for clients that read them: as many as there may be calls, beside these.
    sending: Arc<Semaphore>,
}

/// A script that a request led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Script {
    /// The root, as the guest names it.
    root: String,
    /// Its path below that, from "/" on.
    name: String,
    /// What the path of the request has behind it, as it was sent.
    rest: String,
}

/// Where a request leads.
pub(crate) enum Led {
    /// To a program, which finds its [`Script`] among the request's extensions.
    Run(Request<RequestBody>, Permit),
    /// To this answer.
    Answered(Response<ResponseBody>),
}

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Script(Script),
    /// A file that clients may have, as the guest names it.
    Asset(String),
    /// A folder that is asked for without a slash at the end.
    Folder,
    Nothing,
}

impl Script {
    /// Its file, as the guest opens it.
    fn file(&self) -> String {
        format!("{}{}", self.root, self.name)
    }

    /// Tells its program where it is, by the variables that interpreters know a script by. `uri` is what the client asked for.
    pub(super) fn tell(&self, env: &mut Vec<Variable>, uri: &Uri, scheme: &Scheme) {
        let told = self.variables(uri, scheme);
        env.retain(|(name, _)| told.iter().all(|(known, _)| known != name));
        let told = told.into_iter();
        env.extend(told.map(|(name, value)| (Cow::Borrowed(name), value)));
    }

    fn variables(&self, uri: &Uri, scheme: &Scheme) -> Vec<(&'static str, String)> {
        let asked = uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let rest = decoded(&self.rest);
        let translated = match rest.is_empty() {
            true => String::new(),
            false => format!("{}{rest}", self.root),
        };
        let root = match self.root.is_empty() {
            true => "/".to_owned(),
            false => self.root.clone(),
        };
        let mut told = vec![
            ("DOCUMENT_ROOT", root),
            ("PATH_INFO", rest),
            ("PATH_TRANSLATED", translated),
            // Without it php-cgi takes its caller for somebody who knows nothing of scripts, and refuses to run any.
            ("REDIRECT_STATUS", "200".to_owned()),
            ("REQUEST_URI", asked.to_owned()),
            ("SCRIPT_FILENAME", self.file()),
            ("SCRIPT_NAME", self.name.clone()),
            ("X_RAW_PATH_INFO", self.rest.clone()),
        ];
        if *scheme == Scheme::HTTPS {
            told.push(("HTTPS", "on".to_owned()));
        }
        told
    }

    /// The arguments of its program: the template's words, of which none is a client's to choose, or the component's own and the
    /// script.
    pub(super) fn arguments(&self, cgi: &Cgi, own: &[String]) -> Vec<String> {
        if let Some(template) = &cgi.argv {
            let word = |word: &str| {
                // Each is looked for in the template only: the name of a file cannot bring the other.
                let mut parts = word.split(SCRIPT_NAME);
                let parts = parts
                    .by_ref()
                    .map(|part| part.replace(SCRIPT_FILENAME, &self.file()));
                parts.collect::<Vec<_>>().join(&self.name)
            };
            return template.split_whitespace().map(word).collect();
        }
        let name = std::iter::once(self.name.clone());
        let own = own.iter().cloned();
        name.chain(own).chain([self.file()]).collect()
    }
}

impl Site {
    /// The files of a component that is an interpreter.
    pub(crate) fn of(component: &Component, template: &Template) -> Option<Arc<Self>> {
        let scripts = component.cgi.scripts.clone()?;
        let root = scripts.root.trim_end_matches('/').to_owned();
        Some(Arc::new(Self {
            scripts: Scripts { root, ..scripts },
            grants: template.grants.clone(),
            body_bytes: template.limits.response_body_bytes,
            deadline_ms: template.limits.deadline_ms,
            sending: Arc::new(Semaphore::new(template.limits.concurrency as usize)),
        }))
    }

    /// Where the request leads.
    ///
    /// # Errors
    /// The disk could not be asked, or did not answer in time.
    pub(crate) async fn lead(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        permit: Permit,
    ) -> Result<Led, Fault> {
        within(self.deadline_ms, self.look(request, permit)).await
    }

    async fn look(
        self: &Arc<Self>,
        request: Request<RequestBody>,
        permit: Permit,
    ) -> Result<Led, Fault> {
        let (mut head, body) = request.into_parts();
        let (site, asked) = (self.clone(), head.uri.path().to_owned());
        let answer = match on_thread(permit, move || site.find(&asked)).await {
            // Scripts read as much as they are told that there is, as CGI has it: told nothing, they would lose the body.
            Ok((Found::Script(_), _)) if body.size_hint().exact().is_none() => Ok(refusal(
                StatusCode::LENGTH_REQUIRED,
                "a script needs the length of the body: send content-length\n",
            )),
            Ok((Found::Script(script), permit)) => {
                head.extensions.insert(script);
                return Ok(Led::Run(Request::from_parts(head, body), permit));
            }
            Ok((Found::Asset(file), permit)) => self.send(file, &head, permit).await,
            Ok((Found::Folder, _)) => Ok(with_slash(&head.uri)),
            Ok((Found::Nothing, _)) => Ok(refusal(
                StatusCode::NOT_FOUND,
                "no script or file has this path\n",
            )),
            Err(error) => Err(error),
        };
        let failed = |error: io::Error| Fault::Host(format!("cannot look for a script: {error}"));
        let answer = answer.map_err(failed)?;
        response::of_host(answer, self.body_bytes)
            .map(Led::Answered)
            .map_err(Fault::BadGuest)
    }

    async fn send(
        self: &Arc<Self>,
        file: String,
        head: &Parts,
        permit: Permit,
    ) -> io::Result<Response<WasiBody>> {
        let Ok(seat) = self.sending.clone().try_acquire_owned() else {
            return Ok(refusal(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many files are being sent\n",
            ));
        };
        let (site, name) = (self.clone(), file.clone());
        match on_thread(permit, move || site.disk().open(&name)).await? {
            (Some(opened), _) => Ok(asset::answer(&file, opened, head, seat)),
            (None, _) => Ok(refusal(StatusCode::NOT_FOUND, "the file has gone\n")),
        }
    }

    fn disk(&self) -> Disk<'_> {
        Disk::new(&self.grants.files)
    }

    /// Follows a path as the client wrote it.
    fn find(&self, path: &str) -> io::Result<Found> {
        let mut disk = self.disk();
        let found = self.follow(&mut disk, path)?;
        match (&self.scripts.fallback, found) {
            (Some(fallback), Found::Nothing) => self.fall_back(&mut disk, fallback, path),
            (_, found) => Ok(found),
        }
    }

    fn follow(&self, disk: &mut Disk<'_>, path: &str) -> io::Result<Found> {
        let mut name = String::with_capacity(path.len());
        let mut steps = path::steps(path);
        while let Some(step) = steps.next() {
            match step {
                Step::Name(step) => {
                    name.push('/');
                    name.push_str(&step);
                }
                Step::End => {
                    name.push('/');
                    return self.index(disk, name);
                }
                Step::Nameless => return Ok(Found::Nothing),
            }
            match disk.kind(&self.full(&name))? {
                Kind::Folder => {}
                Kind::File => return Ok(self.file(name, steps.rest())),
                Kind::Other => return Ok(Found::Nothing),
            }
        }
        name.push('/');
        Ok(match self.index(disk, name)? {
            Found::Nothing => Found::Nothing,
            _ => Found::Folder,
        })
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.scripts.root)
    }

    /// A file, by its extension.
    fn file(&self, name: String, rest: &str) -> Found {
        let among = |extensions: &[String]| {
            let extension = name.rsplit_once('.').map(|(_, extension)| extension);
            extension.is_some_and(|is| extensions.iter().any(|one| one == is))
        };
        if among(&self.scripts.extensions) {
            return Found::Script(self.script(name, rest.to_owned()));
        }
        match rest.is_empty() && among(&self.scripts.assets) {
            true => Found::Asset(self.full(&name)),
            false => Found::Nothing,
        }
    }

    /// The script that answers for a folder; its name ends with a slash.
    fn index(&self, disk: &mut Disk<'_>, folder: String) -> io::Result<Found> {
        for index in &self.scripts.index {
            let name = format!("{folder}{index}");
            if disk.kind(&self.full(&name))? == Kind::File {
                return Ok(Found::Script(self.script(name, String::new())));
            }
        }
        Ok(Found::Nothing)
    }

    fn fall_back(&self, disk: &mut Disk<'_>, script: &str, path: &str) -> io::Result<Found> {
        let name = format!("/{script}");
        Ok(match disk.kind(&self.full(&name))? {
            Kind::File => Found::Script(self.script(name, path.to_owned())),
            Kind::Folder | Kind::Other => Found::Nothing,
        })
    }

    fn script(&self, name: String, rest: String) -> Script {
        Script {
            root: self.scripts.root.clone(),
            name,
            rest,
        }
    }
}

/// Asks the disk, on a thread for that. A permit is kept until the disk has answered, whoever has stopped waiting: one that hangs
/// holds no more threads than its component may have calls.
async fn on_thread<P: Send + 'static, T: Send + 'static>(
    permit: P,
    ask: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<(T, P)> {
    let asked = tokio::task::spawn_blocking(move || (ask(), permit)).await;
    let (answer, permit) = asked.map_err(io::Error::from)?;
    Ok((answer?, permit))
}

/// What comes of it, if that is within so many milliseconds.
async fn within<T>(
    deadline_ms: Option<u64>,
    look: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let Some(deadline_ms) = deadline_ms else {
        return look.await;
    };
    let looked = tokio::time::timeout(Duration::from_millis(deadline_ms), look).await;
    looked.unwrap_or(Err(Fault::Deadline(deadline_ms)))
}

/// Sends the client to the same path with a slash at its end, so that what a page names is found beside it.
fn with_slash(uri: &Uri) -> Response<WasiBody> {
    let query = uri.query().map(|query| format!("?{query}"));
    let to = format!("{}/{}", uri.path(), query.unwrap_or_default());
    let mut response = refusal(
        StatusCode::PERMANENT_REDIRECT,
        "its path ends with a slash\n",
    );
    if let Ok(to) = HeaderValue::from_str(&to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// An answer without a file.
fn refusal(status: StatusCode, why: &'static str) -> Response<WasiBody> {
    let mut response = Response::new(output::text(why));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(why.len()));
    response
}

#[cfg(test)]
mod tests;
