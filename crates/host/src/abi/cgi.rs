//! `cgi`: a program that answers a request, as of CGI 1.1 and of WAGI.
//!
//! The request is its arguments (`arguments`), its environment (`environment`) and its standard input (`input`); what it prints
//! is the answer (`output`, `head`). Every request has a fresh instance. The contract is docs/abi/cgi.md.

mod arguments;
mod entrypoints;
mod environment;
mod head;
mod input;
mod output;
mod place;
pub(crate) mod scripts;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Method, Request};
use http_body::Body;
use tokio::sync::oneshot;

pub(crate) use entrypoints::begins;

use crate::abi::broken::Broken;
use crate::abi::cgi::input::Input;
use crate::abi::cgi::output::{End, Output};
use crate::abi::cgi::scripts::Script;
use crate::abi::command::{Command, START};
use crate::abi::http::{Answer, Work};
use crate::abi::program::{self, Entry};
use crate::abi::{Callable, Warm};
use crate::fault::Fault;
use crate::guest::{Call, Inner, RequestBody, RequestId};
use crate::state::{Given, Host};

/// The guest's work on one request.
pub(super) fn work(
    guest: Arc<Inner>,
    request: Request<RequestBody>,
    call: Call,
    answer: oneshot::Sender<Answer>,
) -> Work {
    Box::pin(async move {
        let Callable::Cgi(command) = &guest.callable else {
            return Err(Fault::BadGuest("it is not a program".into()).into());
        };
        let (request, body) = request.into_parts();
        let length = body.size_hint().exact();
        let input = Input::new(body);
        let output = Output::new(answer, request.method == Method::HEAD);
        let own = guest.template.args();
        let (path, query) = (request.uri.path(), request.uri.query());
        let cgi = &guest.template.cgi;
        let mut env = environment::of(&request, &call, length);
        let args = match request.extensions.get::<Script>() {
            Some(script) => {
                script.tell(&mut env, &request.uri, &call.scheme);
                script.arguments(cgi, &own)
            }
            None => arguments::of(cgi, &own, path, query),
        };
        let given = Given {
            args,
            env,
            stdin: Arc::new(input.clone()),
            stdout: Arc::new(output.clone()),
            stderr: None,
        };
        let entry = entry(command, &call);
        let store = || {
            let (engine, template) = (&guest.engine, &guest.template);
            let mut store = Host::program(engine, template, call.id, command.kind(), Some(&given))?;
            store.data_mut().is_part_of(call.chain);
            Ok(store)
        };
        let ran = run_until_verdict(program::run(&guest, entry, store), &output).await;
        input.close();
        finish(&guest, call.id, ran, &output)
    })
}

/// Where the program begins: the export that the route names, or the one of every program.
fn entry<'a>(command: &'a Command, call: &'a Call) -> Entry<'a> {
    Entry {
        command,
        export: call.entrypoint().unwrap_or(START),
    }
}

/// What a program came to: its exit code, with what remains of it.
type Ran = Result<(u8, Warm), Broken>;

/// Runs it until it has ended, or what it wrote cannot become an answer; `None` then.
async fn run_until_verdict(run: impl Future<Output = Ran>, output: &Output) -> Option<Ran> {
    let mut run = pin!(run);
    poll_fn(|cx| match run.as_mut().poll(cx) {
        Poll::Ready(ran) => Poll::Ready(Some(ran)),
        Poll::Pending if output.verdict().is_some() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

fn finish(guest: &Inner, id: RequestId, ran: Option<Ran>, output: &Output) -> Result<Warm, Broken> {
    if let Some(verdict) = output.verdict() {
        let remains: Option<Box<dyn std::any::Any + Send>> = match verdict.answered {
            true => Some(Box::new(())),
            false => None,
        };
        return Err(Broken {
            fault: Fault::BadGuest(verdict.why),
            remains,
        });
    }
    let Some(ran) = ran else {
        return Err(Fault::BadGuest("it was ended".into()).into());
    };
    let (code, warm) = ran?;
    match (output.end(), code) {
        (End::Answered(left_out), code) => {
            if let Some(left_out) = left_out {
                guest.remark(id, &left_out);
            }
            if code != 0 {
                guest.remark(id, &format!("it exited with code {code} behind its answer"));
            }
            Ok(warm)
        }
        (End::NoHead, 0) => {
            output.answer_for_it();
            let why = "it ended before the empty line behind the head of its answer";
            Err(Broken::with(Fault::BadGuest(why.into()), warm))
        }
        (End::NoHead, code) => {
            let why = format!("it exited with code {code} before the head of its answer");
            Err(Broken::with(Fault::Trap(why), warm))
        }
        (End::Short(why), _) => Err(Broken::with(Fault::BadGuest(why), warm)),
    }
}

#[cfg(test)]
mod tests;
